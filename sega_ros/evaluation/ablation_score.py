"""Held-out synthetic people in three settings, and what a variant makes of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.create import personal_avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.personalise import PersonaliseConfig
from sega_ros.config import option
from sega_ros.evaluation.metrics import Judge, Scores, known_landmarks, mean_scores
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.models.crop import cut_window, identity_square
from sega_ros.models.sega import Sega
from sega_ros.models.static_decoder import COARSE
from sega_ros.models.uv import UvLayout
from sega_ros.render import rasterize_arrays
from sega_ros.synthetic.capture import camera_ring, make_capture, open_studio, take_shot
from sega_ros.synthetic.expressions import draw_expression
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import Identity
from sega_ros.training.data.capture_file import HeadTag, load_capture, save_capture
from sega_ros.training.examples import capture_photo
from sega_ros.types import Camera, Capture, Shot

SETTINGS = {'both': 'novel view and expression', 'view': 'novel view', 'expression': 'novel expression'}
MODES = {'personalised': 'after fine-tuning on the photo', 'feed_forward': 'as the networks say'}
_ZOOM = 0.65  # side of the figure's second picture over that of the identity encoder's window
_WARM_UP = 2  # frames that are not timed


@dataclass(frozen=True)
class HeldOutConfig:
    """Whom the variants are measured on."""

    first_seed: int = option(900_000, 'Seed of the first held-out person', bounds=(0, 2**31 - 1))
    people: int = option(6, 'How many', bounds=(1, 10_000))
    shots: int = option(4, 'Pictures of each in each setting', bounds=(1, 16))
    size: int = option(256, 'Side of the pictures', unit='px', bounds=(32, 1024))
    photo_size: int = option(512, 'Side of the photo', unit='px', bounds=(64, 2048))
    texture_size: int = option(640, 'Side of the skin texture', unit='texels', bounds=(64, 2048))
    shown: int = option(3, 'People in the figure', bounds=(1, 12))


@dataclass(frozen=True)
class Row:
    """Figures of one person in one setting."""

    person: str
    mode: str  # of MODES
    setting: str  # of SETTINGS
    scores: Scores


@dataclass(frozen=True)
class VariantScores:
    """All that was measured of one variant."""

    rows: tuple[Row, ...]
    ms: float  # median CPU time to decode and place one frame, one thread
    draw_ms: float  # to rasterise it
    pictures: np.ndarray  # [H, W, 3] uint8: a row of the figure
    truth: np.ndarray  # [H, W, 3] uint8: what it should look like


def make_held_out(head: HeadModel, folder: Path, config: HeldOutConfig, progress: Callable[[float], None]) -> None:
    """Draw the held-out people into `folder`, one folder per setting; those that are there stay."""
    for k in range(config.people):
        progress(k / config.people)
        seed = config.first_seed + k
        paths = {s: folder / s / f'synthetic-{seed:06d}.npz' for s in SETTINGS}
        if all(p.is_file() for p in paths.values()):
            continue
        for setting, capture in held_out_captures(head, seed, config).items():
            paths[setting].parent.mkdir(parents=True, exist_ok=True)
            save_capture(paths[setting], capture, HeadTag.of_head(head))


def held_out_captures(head: HeadModel, seed: int, config: HeldOutConfig) -> dict[str, Capture]:
    """Capture one person thrice: other views and expressions, other views only, other expressions only."""
    both = make_capture(head, seed, shots=config.shots, size=config.size, photo_size=config.photo_size,
                        texture_size=config.texture_size)
    studio = open_studio(head, seed, texture_size=config.texture_size)
    rng = np.random.default_rng([seed, 1031])
    ring = camera_ring(size=config.size)
    cameras = [ring[k] for k in rng.permutation(len(ring))[:config.shots]]
    photo = both.photo
    views = tuple(take_shot(studio, photo.params, camera, rng) for camera in cameras)
    own = _resized(photo.camera, config.size)
    expressions = tuple(take_shot(studio, draw_expression(head, both.shape, rng), own, rng) for _ in cameras)
    return {'both': both, 'view': replace(both, shots=views), 'expression': replace(both, shots=expressions)}


def _resized(camera: Camera, size: int) -> Camera:
    k = size / camera.width
    return replace(camera, width=size, height=size, fx=camera.fx * k, fy=camera.fy * k, cx=camera.cx * k, cy=camera.cy * k)


class WholeHeadDriver(AvatarDriver):
    """Driver of the variant 'all dynamic': every texel is decoded in every frame."""

    _all_dynamic = True

    def _frame_decoder(self):
        decoder = super()._frame_decoder()
        # The mesh's displacement acts where there are expressions, as in training; a coarse texel more for its look-ups.
        near = torch.from_numpy(binary_dilation(build_atlas(self.head, COARSE).dynamic, np.ones((3, 3))))
        return decoder.limited(near)


def open_driver(avatar: Avatar, head: HeadModel, regions: str) -> AvatarDriver:
    """Driver of an avatar whose dynamic decoder is in charge of `regions`: 'face', 'all' or 'none'."""
    if regions == 'none':
        return AvatarDriver(replace(avatar, branch=None), head)
    return (WholeHeadDriver if regions == 'all' else AvatarDriver)(avatar, head)


class Renderer:
    """Draws an avatar as a shot shows its person, and keeps the times."""

    def __init__(self, driver: AvatarDriver):
        self._driver, self._neutral = driver, driver.neutral()
        self.ms: list[float] = []  # CPU time of decoding and placing; one thread does all of it
        self.draw_ms: list[float] = []

    def __call__(self, shot: Shot) -> np.ndarray:
        """Picture uint8 RGB [H, W, 3] over the shot's background."""
        view = View('free', size=(shot.camera.height, shot.camera.width))  # the torso stays with the head, as in captures
        start = time.thread_time()
        splats = self._driver.splats(replace(self._neutral, params=shot.params), view, shot.camera)
        placed = time.thread_time()
        image = rasterize_arrays(*splats, shot.camera, background=np.asarray(shot.background, np.float32))
        self.ms.append(1e3 * (placed - start))
        self.draw_ms.append(1e3 * (time.thread_time() - placed))
        return image


class VariantScorer:
    """Measures networks on the held-out people of a folder."""

    def __init__(self, layout: UvLayout, embedding: LandmarkEmbedding, folder: Path, config: HeldOutConfig, judge: Judge):
        self._layout, self._embedding, self._folder, self._config, self._judge = layout, embedding, folder, config, judge

    def __call__(self, model: Sega, *, regions: str, steps: tuple[int, int], progress: Callable[[float], None]) -> VariantScores:
        """Score `model`, feed-forward and after fine-tuning of `steps` (on decoders, on texels); (0, 0) leaves that out."""
        rows, columns, ms, draw_ms = [], [], [], []
        modes = {'feed_forward': (0, 0)} | ({'personalised': steps} if any(steps) else {})
        for k in range(self._config.people):
            captures = self._captures(k)
            for mode, (decoder_steps, residual_steps) in modes.items():
                progress(k / self._config.people)
                config = PersonaliseConfig(decoder_steps=decoder_steps, steps=residual_steps)
                avatar = self.avatar(model, captures['both'], config)
                renderer = Renderer(open_driver(avatar, self._layout.head, regions))
                for setting, capture in captures.items():
                    rows.append(self._score(renderer, capture, mode, setting))
                ms += renderer.ms[_WARM_UP:]
                draw_ms += renderer.draw_ms[_WARM_UP:]
            if k < self._config.shown:
                columns.append(self._shown(renderer, captures['both']))
        truth, pictures = (np.concatenate(x, 1) for x in zip(*columns, strict=True))
        return VariantScores(tuple(rows), float(np.median(ms)), float(np.median(draw_ms)), pictures, truth)

    def avatar(self, model: Sega, capture: Capture, config: PersonaliseConfig) -> Avatar:
        """Avatar of a capture's photo, its geometry being known."""
        photo, camera = capture_photo(self._layout, self._embedding, capture)
        params = replace(capture.photo.params, shape=capture.shape)
        identity = Identity(capture.shape, capture.v_offset, eyelids=params.eyelids)
        torch.manual_seed(0)
        return personal_avatar(self._layout, identity, params, photo, camera, model=model, config=config).avatar

    def _captures(self, k: int) -> dict[str, Capture]:
        name = f'synthetic-{self._config.first_seed + k:06d}.npz'
        tag = HeadTag.of_head(self._layout.head)
        found = {s: load_capture(self._folder / s / name, tag) for s in SETTINGS}
        return {s: replace(c, shots=c.shots[:self._config.shots]) for s, c in found.items()}

    def _score(self, renderer: Renderer, capture: Capture, mode: str, setting: str) -> Row:
        scores = [self._judge(renderer(shot), capture, shot, key=(capture.name, setting, str(i)))
                  for i, shot in enumerate(capture.shots)]
        return Row(capture.name, mode, setting, mean_scores(scores))

    def _shown(self, renderer: Renderer, capture: Capture) -> tuple[np.ndarray, np.ndarray]:
        """Truth and rendering of the first shot, each [H, 2 H, 3]: whole, and the face."""
        shot = capture.shots[0]
        centre, side = identity_square(known_landmarks(self._embedding, self._layout.head, capture, shot))
        pair = [np.concatenate([x, cut_window(x, centre, _ZOOM * side, len(x))], 1) for x in (shot.image, renderer(shot))]
        return pair[0], pair[1]
