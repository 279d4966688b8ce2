"""The benchmark set: one bag per scene, each of a synthetic person whom the shipped weights never saw, with exact truth.

::

    OUT/set.yaml             how it was made
    OUT/talking/bag/         /camera/image[/compressed], /camera/camera_info, /truth/expression
    OUT/talking/truth.npz    see `scene_truth.SceneTruth`
    OUT/talking/contact.png  twelve of its frames
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.avatar.create import MAX_FIT_PX
from sega_ros.config import dump_yaml, option
from sega_ros.errors import RequestError, StorageError
from sega_ros.evaluation.layouts import Entry
from sega_ros.evaluation.scene_truth import FrameTruth, Tracer, TruthWriter
from sega_ros.head.model import HeadModel
from sega_ros.io import atomic_write, write_png
from sega_ros.io.bag_writer import COMPRESSIONS, STORAGES, BagWriter
from sega_ros.io.files import TEMPORARY_PREFIX
from sega_ros.synthetic.film import Film, Take
from sega_ros.synthetic.scenes import SCENES
from sega_ros.tracking.embedding import LandmarkEmbedding, landmark_embedding
from sega_ros.tracking.fit import fit_identity
from sega_ros.tracking.landmarks import LandmarkDetector

Progress = Callable[[str, float], None]
FIRST_PERSON = 1_000_000  # seed; training takes 0 to 1,483, the ablation 600,000 and 900,000 onwards
_PEOPLE = 100  # seeds set apart for one set
_CANDIDATES = 5  # people for a scene
_START_NS = 1_750_000_000_000_000_000  # stamp of the first frame of every scene
_FRAME_ID = 'camera_optical'
_SHOWN = 12  # frames on a contact sheet, four side by side
TOPICS = {'jpeg': '/camera/image/compressed', 'rgb8': '/camera/image'}
_INFO, _TRUTH = '/camera/camera_info', '/truth/expression'


@dataclass(frozen=True)
class SetConfig:
    """How a set is made."""

    seed: int = option(0, 'Whom it shows: every number is another set of people', bounds=(0, 9999))
    seconds: float = option(6.0, 'Length of each scene; what happens repeats about every six', unit='s', bounds=(0.1, 600.0))
    rate: float = option(30.0, 'Frames per second', unit='Hz', bounds=(1.0, 240.0))
    height: int = option(480, 'Of the pictures, even', unit='px', bounds=(64, 2160))
    width: int = option(640, 'Of the pictures, even', unit='px', bounds=(64, 3840))
    texture_size: int = option(1024, 'Of the skin', unit='texels', bounds=(64, 4096))
    encoding: str = option('jpeg', 'Of the pictures in the bags', choices=tuple(TOPICS))
    quality: int = option(92, 'Of JPEG', bounds=(1, 100))
    storage: str = option('mcap', 'Of the bags', choices=STORAGES)
    compression: str = option('none', 'Of the bags', choices=COMPRESSIONS)

    @property
    def frames(self) -> int:
        """Frames of each scene."""
        return max(1, round(self.seconds * self.rate))


def check_scenes(names: Sequence[str]) -> list[str]:
    """Return the names in the order of the set.

    Raises:
        RequestError: an unknown name, or none.
    """
    if not names or (unknown := [n for n in names if n not in SCENES]):
        found = ', '.join(map(repr, unknown)) if names else 'none'
        raise RequestError(f'scenes: found {found}, wanted some of {", ".join(SCENES)}')
    return [n for n in SCENES if n in names]


def make_set(
    out: Path, config: SetConfig, *, scenes: Sequence[str] = tuple(SCENES), jobs: int | None = None,
    progress: Progress = lambda stage, share: None,
) -> list[Entry]:
    """Make the scenes that `out` does not hold yet and return all that were asked for.

    Args:
        out: folder of the set; finished scenes in it stay, unfinished ones are made again.
        config: how it is made.
        scenes: names of `SCENES`.
        jobs: processes (default: one per core, at most one per scene); 1 makes them in this one.
        progress: called with what is done and the share of the whole.

    Raises:
        RequestError: an unknown scene, an odd size, or `out` holds a set that was made otherwise.
    """
    names = check_scenes(scenes)
    if config.height % 2 or config.width % 2:
        raise RequestError(f'size: found {config.width} x {config.height} px, wanted even numbers (a Bayer sensor has them)')
    _claim(out, config)
    todo = [n for n in names if not (out / n).is_dir()]
    jobs = min(jobs or os.cpu_count() or 1, max(len(todo), 1))
    if jobs == 1:
        for k, name in enumerate(todo):
            def report(share: float, k: int = k, name: str = name) -> None:
                progress(name, (k + share) / len(todo))

            make_scene(name, config, out, report)
    else:
        _make_in_processes(todo, config, out, jobs, progress)
    return [entry_of(out / n, config) for n in names]


def entry_of(folder: Path, config: SetConfig) -> Entry:
    """The scene in `folder` as something to evaluate on; its first frame is the photo."""
    return Entry(folder.name, 'bag', folder / 'bag', topic=TOPICS[config.encoding], truth=folder / 'truth.npz')


def person_of(name: str, seed: int, candidate: int = 0) -> int:
    """Seed of the person in scene `name` of set `seed`, or of one of those who stand in; a guest has the next one."""
    return FIRST_PERSON + _PEOPLE * seed + 2 * (list(SCENES).index(name) + candidate * len(SCENES))


def cast(name: str, config: SetConfig, head: HeadModel, embedding: LandmarkEmbedding) -> Film:
    """Set up a scene with the first candidate whose face fits the head model in the first frame; the first of all when none does.

    Who is refused as a photo, because MediaPipe's landmarks of a drawn face are off, would test nothing.
    """
    films = (Film(head, SCENES[name], person_of(name, config.seed, candidate), size=(config.height, config.width),
                  texture_size=config.texture_size) for candidate in range(_CANDIDATES))
    first = next(films)
    return next((f for f in chain([first], films) if fits(f.take(0, config.rate).image, head, embedding)), first)


def fits(image: np.ndarray, head: HeadModel, embedding: LandmarkEmbedding) -> bool:
    """Whether the largest face in uint8 RGB [H, W, 3] has a human head's shape, as the creation of avatars wants it."""
    with LandmarkDetector(static_image_mode=True) as detector:
        faces = detector.detect(image)
    return bool(faces) and fit_identity(head, embedding, faces[0]).rms_px <= MAX_FIT_PX


def make_scene(name: str, config: SetConfig, out: Path, progress: Callable[[float], None]) -> None:
    """Film one scene into `out / name`; the folder appears when it is whole."""
    from sega_ros.head import load_head

    head, temporary = load_head(), out / f'{TEMPORARY_PREFIX}{name}'
    embedding = landmark_embedding(head)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        film = cast(name, config, head, embedding)
        _film_into(temporary, film, Tracer(film, embedding, frame_id=_FRAME_ID), config, progress)
        temporary.rename(out / name)
    except OSError as e:
        raise StorageError(f'cannot write the scene {out / name}: {e.strerror or e}; choose another folder or free space') from e


def _film_into(folder: Path, film: Film, tracer: Tracer, config: SetConfig, progress: Callable[[float], None]) -> None:
    person, shown = film.host.studio.person, _Sheet(config.frames)
    with TruthWriter(folder / 'truth.npz', frames=config.frames, size=film.size) as truths, \
            BagWriter(folder / 'bag', storage=config.storage, compression=config.compression) as bag:
        for index in range(config.frames):
            take = film.take(index, config.rate)
            truth = tracer(take, _START_NS + round(index * 1e9 / config.rate))
            _write(bag, take, truth, config)
            truths.add(truth, take.face)
            shown.add(index, take.image)
            progress((index + 1) / config.frames)
        truths.close(scene=film.spec.name, identity=f'synthetic-{film.seed:07d}', seed=film.seed, rate=config.rate,
                     shape=person.shape, v_offset=person.v_offset)
    write_png(folder / 'contact.png', shown.image())


def _write(bag: BagWriter, take: Take, truth: FrameTruth, config: SetConfig) -> None:
    stamp = truth.expression.stamp_ns
    if config.encoding == 'jpeg':
        bag.write_jpeg(TOPICS['jpeg'], take.image, stamp_ns=stamp, frame_id=_FRAME_ID, quality=config.quality)
    else:
        bag.write_image(TOPICS['rgb8'], take.image, stamp_ns=stamp, frame_id=_FRAME_ID)
    bag.write_camera(_INFO, take.camera, stamp_ns=stamp, frame_id=_FRAME_ID)
    bag.write_expression(_TRUTH, truth.expression)


class _Sheet:
    """A contact sheet of some frames, at half size."""

    def __init__(self, frames: int):
        self._chosen = {round(k * (frames - 1) / (_SHOWN - 1)) for k in range(_SHOWN)}
        self._tiles: list[np.ndarray] = []

    def add(self, index: int, image: np.ndarray) -> None:
        import cv2

        if index in self._chosen:
            self._tiles.append(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))

    def image(self) -> np.ndarray:
        tiles = self._tiles + [np.full_like(self._tiles[0], 255)] * (-len(self._tiles) % 4)
        return np.vstack([np.hstack(tiles[k : k + 4]) for k in range(0, len(tiles), 4)])


def _claim(out: Path, config: SetConfig) -> None:
    """Raise RequestError if the set in `out` was made otherwise; else note how it is made."""
    path, text = out / 'set.yaml', dump_yaml(config)
    if path.is_file() and path.read_text(encoding='utf-8') != text:
        raise RequestError(f'{out}: the set in it was made with other settings ({path}); use these, or another folder')
    atomic_write(path, text.encode())


def _make_in_processes(names: Sequence[str], config: SetConfig, out: Path, jobs: int, progress: Progress) -> None:
    # Not forked: numba and PyTorch keep threads.
    context = multiprocessing.get_context('spawn')
    shares = context.Array('d', len(names))
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_keep, initargs=(shares,)) as pool:
        waiting = {pool.submit(_make_one, k, name, config, out) for k, name in enumerate(names)}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                progress('making scenes', sum(shares[:]) / len(names))
        finally:
            for future in waiting:
                future.cancel()


_shares: Any = None  # of a worker: how far each scene is


def _keep(shares: Any) -> None:
    global _shares  # noqa: PLW0603 - a process pool hands shared memory to its workers in no other way
    _shares = shares


def _make_one(index: int, name: str, config: SetConfig, out: Path) -> None:
    def report(share: float) -> None:
        _shares[index] = share

    make_scene(name, config, out, report)
