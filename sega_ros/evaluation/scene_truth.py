"""What is known of the frames of a synthetic scene, and the file beside its bag that holds what no message has."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.camera import project
from sega_ros.errors import DatasetError
from sega_ros.raster import rasterize_triangles
from sega_ros.synthetic.film import Film, Take
from sega_ros.synthetic.hand import Hand
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.types import Camera, FlameExpression

_NEAR = 0.006  # metres that a landmark may lie behind the surface seen in its pixel: slanted skin, wide pixels
_PRESENT = 0.5  # share of the landmarks inside the picture from which a face is there
_BITS = 'face_bits'
_DATE = (1980, 1, 1, 0, 0, 0)  # of the archive's members: equal scenes are equal files


@dataclass(frozen=True)
class FrameTruth:
    """One frame's truth."""

    landmarks: np.ndarray  # [478, 2] float32 px: MediaPipe's points on the true mesh; NaN where a point has no place on it
    visible: np.ndarray  # [478] bool: in the picture, and neither behind the head itself nor behind the hand
    expression: FlameExpression


class Tracer:
    """Computes the truth of a film's frames."""

    def __init__(self, film: Film, embedding: LandmarkEmbedding, *, frame_id: str):
        self._film, self._embedding, self._frame_id = film, embedding, frame_id
        self._person = film.host.studio.person

    def __call__(self, take: Take, stamp_ns: int) -> FrameTruth:
        """Return the truth of a frame filmed at `stamp_ns`."""
        head, camera = self._film.head, take.camera
        vertices = self._person.poser.pose(take.params)
        points = self._embedding.points(vertices, head.faces)
        pixels, depth = project(points, camera)
        inside = (pixels >= 0).all(1) & (pixels < [camera.width, camera.height]).all(1) & self._embedding.valid
        nearest = _depth(vertices, head.faces, camera, self._person.hand, take.hand)
        column, row = (np.clip(pixels, 0, [camera.width - 1, camera.height - 1])).astype(int).T
        visible = inside & (depth < nearest[row, column] + _NEAR)
        present = bool(inside.sum() >= _PRESENT * self._embedding.valid.sum())
        pixels[~self._embedding.valid] = np.nan
        viewmat = camera.viewmat
        expression = FlameExpression(
            stamp_ns, self._frame_id, head.name, head.version, present, float(present), take.params, viewmat[:3, :3],
            viewmat[:3, 3], camera.fx / camera.width)
        return FrameTruth(pixels.astype(np.float32), visible, expression)


def _depth(vertices: np.ndarray, faces: np.ndarray, camera: Camera, hand: Hand | None, pose: np.ndarray | None) -> np.ndarray:
    """Camera z [H, W] of the nearest of head and hand."""
    points = [vertices @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]]
    triangles = [faces]
    if hand is not None and pose is not None:
        triangles.append(hand.faces + len(vertices))
        points.append(hand.points @ pose[:3, :3].T + pose[:3, 3])
    xyz = np.concatenate(points).astype(np.float64)
    z = np.maximum(xyz[:, 2:], 1e-3)
    xyz[:, :2] = xyz[:, :2] / z * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    return rasterize_triangles(xyz, np.concatenate(triangles), camera.height, camera.width, perspective=True).depth


class TruthWriter:
    """Writes `truth.npz`: masks frame by frame, the small arrays at the end; no pickles, equal truth gives equal bytes."""

    def __init__(self, path: Path, *, frames: int, size: tuple[int, int]):
        """Start the file for `frames` masks of `size` (H, W)."""
        self._size = size
        self._rows: list[FrameTruth] = []
        self._archive = zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED)
        self._bits = self._archive.open(_member(_BITS), 'w', force_zip64=True)
        shape = (frames, size[0], -(-size[1] // 8))
        np.lib.format.write_array_header_1_0(self._bits, {'descr': '|u1', 'fortran_order': False, 'shape': shape})

    def add(self, truth: FrameTruth, face: np.ndarray) -> None:
        """Append a frame's truth and the mask [H, W] bool of the seen face."""
        self._bits.write(np.packbits(face, axis=1).tobytes())
        self._rows.append(truth)

    def close(self, **about: np.ndarray | str | float | None) -> None:
        """Finish with the arrays of all frames and whatever is `about` the scene."""
        self._bits.close()
        messages = [row.expression for row in self._rows]
        arrays = {
            **{name: np.stack([getattr(row, name) for row in self._rows]) for name in ('landmarks', 'visible')},
            'face_present': np.array([m.face_present for m in messages]), 'stamps_ns': np.array([m.stamp_ns for m in messages]),
            'size': np.array(self._size), **{k: np.asarray(v) for k, v in about.items()}}
        for name, array in arrays.items():
            with self._archive.open(_member(name), 'w') as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        self._archive.close()

    def __enter__(self) -> 'TruthWriter':
        return self

    def __exit__(self, *_) -> None:
        self._bits.close()
        self._archive.close()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f'{name}.npy', _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


@dataclass(frozen=True)
class SceneTruth:
    """What `truth.npz` says; N frames."""

    landmarks: np.ndarray  # [N, 478, 2] float32 px
    visible: np.ndarray  # [N, 478] bool
    face: np.ndarray  # [N, H, W] bool: where the head's dynamic regions are seen
    face_present: np.ndarray  # [N] bool
    stamps_ns: np.ndarray  # [N] int64
    shape: np.ndarray  # [S] identity
    v_offset: np.ndarray  # [V, 3] metres, added to the head's template
    identity: str
    scene: str
    seed: int


def load_truth(path: Path | str) -> SceneTruth:
    """Read a scene's `truth.npz`.

    Raises:
        DatasetError: it is missing, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            bits, (_, width) = file[_BITS], file['size']
            plain = {name: file[name] for name in ('landmarks', 'visible', 'face_present', 'stamps_ns', 'shape', 'v_offset')}
            return SceneTruth(face=np.unpackbits(bits, axis=2, count=int(width)).astype(bool), identity=str(file['identity']),
                              scene=str(file['scene']), seed=int(file['seed']), **plain)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as e:
        raise DatasetError(f'{path}: no truth of a scene ({e}); make the set again in another folder') from e
