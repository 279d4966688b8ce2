"""Submissions to the NeRSemble benchmark's task "Monocular FLAME Avatar": the given tracking drives avatars before its cameras.

::

    ROOT/393/calibration/camera_params.json                    {"world_2_cam": {SERIAL: 4x4}, "intrinsics": {SERIAL: 3x3}}
    ROOT/393/sequences/EXP-1-head/images/cam_222200037.mp4     the training camera; its first frame is the photo
    ROOT/393/sequences/FREE/tracking/flame2023_tracking.npz    of the four test sequences, whose pictures nobody has
    ZIP: 393/FREE/cam_222200037.mp4                            512 x 512, 24.3 Hz; 5 people x 4 sequences x 4 cameras

Source: github.com/tobias-kirschstein/nersemble-benchmark (README 4.2, constants.py, submission_data.py, models/flame.py).
"""

import secrets
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.errors import DatasetError, RequestError, StorageError
from sega_ros.evaluation.layouts import FRONT_CAMERA
from sega_ros.head.model import HeadModel
from sega_ros.io import VideoWriter
from sega_ros.io.files import TEMPORARY_PREFIX
from sega_ros.render import rasterize_arrays
from sega_ros.training.data.clips import read_frames
from sega_ros.training.data.views import check_intrinsics, check_pose, read_json, read_matrix
from sega_ros.types import Camera, FlameParams

PEOPLE = ('393', '404', '461', '477', '486')
TEST_SEQUENCES = ('FREE', 'EMO-1-shout+laugh', 'SEN-09-frown_events_bad', 'SEN-10-port_strong_smokey')
PHOTO_SEQUENCE = 'EXP-1-head'  # starts with a neutral, frontal face
CAMERAS = (FRONT_CAMERA, '222200046', '220700191', '222200039')
SIDE, RATE = 512, Fraction(243, 10)  # px, frames/s
_WANTED = '{"world_2_cam": {SERIAL: 4x4}, "intrinsics": {SERIAL: 3x3}}'
_FETCH = 'fetch it with "nersemble-benchmark-download FOLDER mono_flame_avatar"'
_ARRAYS = {'expression': 2, 'jaw': 2, 'eyes': 2, 'rotation_matrices': 3, 'translation': 2, 'scale': 2}  # name -> dimensions


@dataclass(frozen=True)
class Tracking:
    """The benchmark's FLAME parameters of a sequence; T frames."""

    expression: np.ndarray  # [T, 100]
    jaw: np.ndarray  # [T, 3] axis-angle
    eyes: np.ndarray  # [T, 6] axis-angle, left then right
    rotation_matrices: np.ndarray  # [T, 3, 3] head to world
    translation: np.ndarray  # [T, 3] metres
    scale: np.ndarray  # [1, 1]

    def __len__(self) -> int:
        return len(self.expression)

    def params(self, index: int, head: HeadModel) -> FlameParams:
        """Frame `index` as parameters of `head`; the neck is the rendering's."""
        expression = np.zeros(head.n_expression, np.float32)
        count = min(head.n_expression, self.expression.shape[1])
        expression[:count] = self.expression[index, :count]
        left, right = self.eyes[index].reshape(2, 3).astype(np.float32)
        return FlameParams(np.zeros(0, np.float32), expression, jaw_pose=self.jaw[index].astype(np.float32), left_eye_pose=left,
                           right_eye_pose=right)

    def camera(self, index: int, camera: Camera) -> Camera:
        """`camera` (viewmat: world to camera) with the head's pose in frame `index`; the world is scaled, not the head."""
        view, scale = camera.viewmat.astype(np.float64), float(self.scale.reshape(-1)[0])
        pose = np.eye(4)
        pose[:3, :3] = view[:3, :3] @ self.rotation_matrices[index]
        pose[:3, 3] = (view[:3, :3] @ self.translation[index] + view[:3, 3]) / scale
        return replace(camera, viewmat=pose.astype(np.float32))


def write_submission(
    root: Path | str, out: Path | str, head: HeadModel, make_avatar: Callable[[np.ndarray], Avatar], *,
    people: Sequence[str] = PEOPLE, sequences: Sequence[str] = TEST_SEQUENCES,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> int:
    """Render all test sequences from all cameras into the archive `out`; returns the number of videos.

    Args:
        root: the benchmark's folder `mono_flame_avatar`.
        out: a .zip file; replaced.
        head: the FLAME 2023 head that the tracking is for.
        make_avatar: makes an avatar of a photo, uint8 RGB [H, W, 3], for `head`.
        people, sequences: what is rendered (the benchmark takes nothing less than all).
        progress: called with what is done and the share of the whole.

    Raises:
        RequestError: not a FLAME head, or not a .zip file.
        DatasetError: something is missing (all of it is named) or damaged.
        StorageError: `out` can't be written.
    """
    root, out = Path(root), Path(out)
    if head.name.startswith('open'):
        raise RequestError(f'submission: found head model {head.name!r}, the tracking is for FLAME 2023: name it by --head')
    if out.suffix != '.zip':
        raise RequestError(f'{out}: wanted a file name ending in .zip')
    _check_complete(root, people, sequences)
    temporary = out.parent / f'{TEMPORARY_PREFIX}{secrets.token_hex(4)}.zip'
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(temporary, 'w') as archive:
            for k, person in enumerate(people):
                photo = read_frames(_clip(root, person), [0])[0]
                driver = AvatarDriver(make_avatar(photo), head)
                for j, sequence in enumerate(sequences):
                    progress(f'{person} {sequence}', (k + j / len(sequences)) / len(people))
                    _add_sequence(archive, driver, root, person, sequence)
        temporary.replace(out)
    except OSError as e:
        raise StorageError(f'cannot write {out}: {e.strerror or e}') from e
    finally:
        temporary.unlink(missing_ok=True)
    return len(people) * len(sequences) * len(CAMERAS)


def _add_sequence(archive: zipfile.ZipFile, driver: AvatarDriver, root: Path, person: str, sequence: str) -> None:
    tracking = load_tracking(_tracking(root, person, sequence), driver.head)
    for serial, camera in load_cameras(root, person).items():
        with TemporaryDirectory() as folder:
            clip = Path(folder) / 'clip.mp4'
            with VideoWriter(clip, size=(SIDE, SIDE), fps=RATE, crf=14) as writer:
                for index in range(len(tracking)):
                    writer.write(_draw(driver, tracking.params(index, driver.head), tracking.camera(index, camera)))
            archive.write(clip, f'{person}/{sequence}/cam_{serial}.mp4')


def _draw(driver: AvatarDriver, params: FlameParams, camera: Camera) -> np.ndarray:
    # As in captures, the torso goes with the head: where it really is the tracking doesn't say.
    splats = driver.splats(replace(driver.neutral(), params=params), View('free', size=(SIDE, SIDE)), camera)
    return rasterize_arrays(*splats, camera, background=np.asarray(driver.avatar.background, np.float32))


def load_tracking(path: Path, head: HeadModel) -> Tracking:
    """Read a sequence's tracking for `head`.

    Raises:
        DatasetError: damaged, or arrays of other shapes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in _ARRAYS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise DatasetError(f'{path}: no FLAME tracking of the benchmark ({e}); {_FETCH}') from e
    lengths = {len(a) for name, a in arrays.items() if name != 'scale'}
    if len(lengths) != 1 or any(arrays[n].ndim != d or not np.isfinite(arrays[n]).all() for n, d in _ARRAYS.items()):
        shapes = ', '.join(f'{n} {list(a.shape)}' for n, a in arrays.items())
        raise DatasetError(f'{path}: found {shapes}; wanted finite arrays of one length T (scale [1, 1]); {_FETCH}')
    return Tracking(**arrays)


def load_cameras(root: Path, person: str) -> dict[str, Camera]:
    """Cameras of `CAMERAS` by serial; viewmats take world to camera coordinates, metres.

    Raises:
        DatasetError: the calibration is damaged or lacks one.
    """
    path = root / person / 'calibration' / 'camera_params.json'
    raw, cameras = read_json(path, wanted=_WANTED), {}
    for serial in CAMERAS:
        where = f'{path}: camera {serial}'
        try:
            K, view = raw['intrinsics'][serial], raw['world_2_cam'][serial]
        except (KeyError, TypeError) as e:
            raise DatasetError(f'{where}: is missing; wanted {_WANTED}; {_FETCH}') from e
        K = check_intrinsics(read_matrix(K, 3, name=where), name=where)
        viewmat = check_pose(read_matrix(view, 4, name=where), name=where)
        fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        cameras[serial] = Camera(SIDE, SIDE, fx, fy, cx, cy, viewmat)
    return cameras


def _check_complete(root: Path, people: Sequence[str], sequences: Sequence[str]) -> None:
    """Raise DatasetError that names all that is missing."""
    wanted = [_clip(root, p) for p in people] + [root / p / 'calibration' / 'camera_params.json' for p in people]
    wanted += [_tracking(root, p, s) for p in people for s in sequences]
    if missing := [str(path.relative_to(root)) for path in wanted if not path.is_file()]:
        raise DatasetError(f'{root}: {len(missing)} of {len(wanted)} files are missing: {", ".join(missing[:4])}'
                           f'{" ..." if len(missing) > 4 else ""}; {_FETCH}')


def _clip(root: Path, person: str) -> Path:
    return root / person / 'sequences' / PHOTO_SEQUENCE / 'images' / f'cam_{FRONT_CAMERA}.mp4'


def _tracking(root: Path, person: str, sequence: str) -> Path:
    return root / person / 'sequences' / sequence / 'tracking' / 'flame2023_tracking.npz'
