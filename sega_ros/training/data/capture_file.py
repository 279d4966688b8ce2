"""One prepared person per file: what training reads, whatever the data came from.

An .npz without pickles. Pictures are JPEG, mattes PNG, masks packed bits; the photo is the first of the pictures.
"""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from sega_ros.errors import DatasetError, HeadModelMismatchError, SegaError
from sega_ros.head.model import HeadModel
from sega_ros.io import atomic_write, decode_image, read_file
from sega_ros.types import Camera, Capture, FlameParams, Shot

FORMAT = 1
SUFFIX = '.npz'
MAX_BYTES = 256 * 1024 * 1024  # of a file
_MAX_UNPACKED = 1024 * 1024 * 1024  # of its arrays: a small file must not unpack without end
_MAX_SHOTS = 4096
_JPEG_QUALITY = 95
_NAME = re.compile(r'[A-Za-z0-9_-]{1,64}')
_PARAMS = tuple(f.name for f in fields(FlameParams))
_AGAIN = 'prepare this person again with "sega data prepare"'

Split = Literal['train', 'val', 'test', 'all']
SPLITS: tuple[Split, ...] = ('train', 'val', 'test', 'all')
_VAL_FROM, _TEST_FROM = 90, 95  # percent of the identities


@dataclass(frozen=True)
class HeadTag:
    """Which head model the parameters of a capture belong to."""

    name: str
    version: str
    fingerprint: str

    @classmethod
    def of_head(cls, head: HeadModel) -> 'HeadTag':
        """Return the tag of a loaded head model."""
        return cls(head.name, head.version, head.fingerprint)


def save_capture(path: Path | str, capture: Capture, head: HeadTag) -> None:
    """Write `capture` to `path`, atomically; its parameters belong to the head model `head`.

    Raises:
        DatasetError: a name outside `[A-Za-z0-9_-]{1,64}`, or shots whose sizes do not agree.
        StorageError: the file can't be written.
    """
    check_name(capture.name)
    shots = (capture.photo, *capture.shots)
    for i, shot in enumerate(shots):
        _check_shot(f'{capture.name}, shot {i}', shot)
    meta = {'format': FORMAT, 'name': capture.name, 'shots': len(shots), 'head': vars(head)}
    images, image_ends = _joined([_encode('.jpg', shot.image[..., ::-1]) for shot in shots])
    alphas, alpha_ends = _joined([_encode('.png', shot.alpha) for shot in shots])
    arrays = {
        'meta': np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8),
        'shape': np.asarray(capture.shape, np.float32),
        'images': images, 'image_ends': image_ends, 'alphas': alphas, 'alpha_ends': alpha_ends,
        'masks': np.packbits(np.concatenate([m.ravel() for s in shots for m in (s.head, s.face)]).astype(bool)),
        'backgrounds': np.stack([s.background for s in shots]).astype(np.float32),
        'viewmats': np.stack([s.camera.viewmat for s in shots]).astype(np.float32),
        'intrinsics': np.array([_intrinsics(s.camera) for s in shots], np.float64),
        **{name: _stacked(capture.name, name, [getattr(s.params, name) for s in shots]) for name in _PARAMS if name != 'shape'},
        'shot_shape': _stacked(capture.name, 'shape', [s.params.shape for s in shots]),
    }
    if capture.v_offset is not None:
        arrays['v_offset'] = np.asarray(capture.v_offset, np.float16)  # 5 mm to a few micrometres
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write(path, buffer.getvalue())


def load_capture(path: Path | str, head: HeadTag | None = None) -> Capture:
    """Read what `save_capture` wrote.

    Raises:
        DatasetError: no such file, damaged, truncated, of another format, or with anything in it but plain arrays.
        HeadModelMismatchError: its parameters belong to another head model than `head`.
    """
    arrays = _read_arrays(path)
    try:
        meta = json.loads(arrays['meta'].tobytes())
        if meta.get('format') != FORMAT:
            raise DatasetError(f'{path}: format {meta.get("format")!r}, this version reads {FORMAT}; {_AGAIN}')
        _check_head(path, meta['head'], head)
        return _capture(arrays, meta)
    except DatasetError as e:
        raise DatasetError(f'{path}: {str(e).removeprefix(f"{path}: ")}') from e
    except HeadModelMismatchError:
        raise
    except KeyError as e:
        raise DatasetError(f'{path}: damaged: it lacks {e}; {_AGAIN}') from e
    except (SegaError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as e:
        raise DatasetError(f'{path}: damaged: {e}; {_AGAIN}') from e


def check_name(name: str) -> None:
    """Raise DatasetError unless `name` may name a person and their file."""
    if not _NAME.fullmatch(name):
        raise DatasetError(f'person {name!r}: wanted a name of 1 to 64 characters A-Z, a-z, 0-9, _ or -; rename it')


def split_of(name: str) -> Split:
    """Split of an identity, from its name alone: 90 % train, 5 % val, 5 % test, the same on every machine."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big') % 100
    if share < _VAL_FROM:
        return 'train'
    return 'val' if share < _TEST_FROM else 'test'


class CaptureFolder:
    """The prepared people of one folder, as a sequence of captures; `split` chooses identities, never pictures.

    Example::

        for capture in CaptureFolder('prepared', HeadTag.of_head(head), split='train'):
            ...
    """

    def __init__(self, folder: Path | str, head: HeadTag, *, split: Split = 'train') -> None:
        """List the people; nothing is decoded yet.

        Raises:
            DatasetError: no such folder, no prepared person in it, or an unknown split.
        """
        if split not in SPLITS:
            raise DatasetError(f'split {split!r} is unknown; choose one of {", ".join(SPLITS)}')
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f'{folder}: no such folder; prepare people with "sega data prepare ... --out {folder}"')
        found = sorted(p.stem for p in folder.glob(f'*{SUFFIX}') if _NAME.fullmatch(p.stem))
        if not found:
            raise DatasetError(f'{folder}: no prepared person in it (*{SUFFIX}); run "sega data prepare ... --out {folder}"')
        self.folder, self.head = folder, head
        self.names = tuple(name for name in found if split in ('all', split_of(name)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Capture:
        """Read one person; errors as `load_capture`."""
        return load_capture(self.folder / f'{self.names[index]}{SUFFIX}', self.head)


def _check_head(path: Path | str, found: dict, wanted: HeadTag | None) -> None:
    tag = HeadTag(**found)
    if wanted is not None and tag != wanted:
        raise HeadModelMismatchError(
            f'{path}: its parameters belong to head {tag.name} {tag.version} ({tag.fingerprint[:12]}), loaded is '
            f'{wanted.name} {wanted.version} ({wanted.fingerprint[:12]}); load that head or prepare the person again')


def _check_shot(name: str, shot: Shot) -> None:
    size = (shot.camera.height, shot.camera.width)
    for key, wanted in (('image', (*size, 3)), ('alpha', size), ('head', size), ('face', size)):
        found = getattr(shot, key).shape
        if found != wanted:
            raise DatasetError(f'{name}: {key} has shape {list(found)}, its camera wants {list(wanted)}')


def _intrinsics(camera: Camera) -> tuple[float, ...]:
    return camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy


def _stacked(person: str, name: str, rows: list[np.ndarray]) -> np.ndarray:
    if len({row.shape for row in rows}) > 1:
        raise DatasetError(f'{person}: {name} has several lengths over the shots ({sorted({len(r) for r in rows})}); wanted one')
    return np.stack(rows).astype(np.float32)


def _encode(suffix: str, image: np.ndarray) -> np.ndarray:
    """Compressed bytes [n] uint8 of a picture (BGR or grey)."""
    import cv2

    options = [] if suffix == '.png' else [
        cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(image), options)
    if not ok:
        raise DatasetError(f'a picture {list(image.shape)} could not be encoded as {suffix}')
    return data.ravel()


def _joined(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of all parts in a row, and where each ends."""
    return np.concatenate(parts), np.cumsum([len(p) for p in parts]).astype(np.int64)


def _read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    try:
        data = read_file(path, limit=MAX_BYTES)
    except FileNotFoundError as e:
        raise DatasetError(f'{path}: no such file; {_AGAIN}') from e
    except SegaError as e:
        raise DatasetError(str(e)) from e
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MAX_UNPACKED:
            raise DatasetError(f'{path}: it unpacks to {unpacked} bytes, at most {_MAX_UNPACKED} are accepted')
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except DatasetError:
        raise
    except Exception as e:  # zip and zlib raise whatever hostile bytes provoke
        raise DatasetError(f'{path}: damaged, or not an .npz of plain arrays ({e}); {_AGAIN}') from e


def _capture(arrays: dict[str, np.ndarray], meta: dict) -> Capture:
    check_name(str(meta['name']))
    n = meta['shots']
    if type(n) is not int or not 1 <= n <= _MAX_SHOTS:
        raise DatasetError(f'damaged: {n!r} shots, wanted 1 to {_MAX_SHOTS}; {_AGAIN}')
    cameras = [_camera(row, viewmat) for row, viewmat in zip(_rows(arrays, 'intrinsics', n, 6),
                                                             _rows(arrays, 'viewmats', n, 4, 4), strict=True)]
    images, alphas = (_pictures(arrays, key, ends, n) for key, ends in (('images', 'image_ends'), ('alphas', 'alpha_ends')))
    masks = _masks(arrays['masks'], cameras)
    columns = {name: _rows(arrays, 'shot_shape' if name == 'shape' else name, n, None) for name in _PARAMS}
    backgrounds = _rows(arrays, 'backgrounds', n, 3)
    shots = []
    for i, camera in enumerate(cameras):
        params = FlameParams(**{name: column[i] for name, column in columns.items()})
        shots.append(Shot(images[i], np.ascontiguousarray(alphas[i][..., 0]), *masks[i], backgrounds[i], camera, params))
        _check_shot(f'damaged: shot {i}', shots[i])
    offset = arrays.get('v_offset')
    if offset is not None:
        if offset.ndim != 2 or offset.shape[1] != 3:
            raise DatasetError(f'damaged: v_offset has shape {list(offset.shape)}, wanted [any, 3]; {_AGAIN}')
        offset = offset.astype(np.float32)
    return Capture(str(meta['name']), arrays['shape'].astype(np.float32), offset, shots[0], tuple(shots[1:]))


def _rows(arrays: dict[str, np.ndarray], key: str, *shape: int | None) -> np.ndarray:
    found = arrays[key]
    fits = found.ndim == len(shape) and all(w in (None, f) for w, f in zip(shape, found.shape, strict=True))
    if not fits or found.dtype.kind != 'f' or not np.isfinite(found).all():
        raise DatasetError(f'damaged: {key} is {found.dtype} {list(found.shape)}, wanted finite numbers '
                           f'[{", ".join("any" if w is None else str(w) for w in shape)}]; {_AGAIN}')
    return found


def _camera(row: np.ndarray, viewmat: np.ndarray) -> Camera:
    return Camera(int(row[0]), int(row[1]), *(float(v) for v in row[2:]), viewmat)


def _pictures(arrays: dict[str, np.ndarray], key: str, ends_key: str, n: int) -> list[np.ndarray]:
    data, ends = arrays[key], arrays[ends_key]
    if data.dtype != np.uint8 or data.ndim != 1 or ends.dtype != np.int64 or ends.shape != (n,):
        raise DatasetError(f'damaged: {key} and {ends_key} are no bytes and where they end; {_AGAIN}')
    starts = np.concatenate([[0], ends[:-1]])
    if ends[-1] != len(data) or (starts < 0).any() or (ends <= starts).any():
        raise DatasetError(f'damaged: {ends_key} does not agree with {key}; {_AGAIN}')
    return [decode_image(data[a:b].tobytes(), name=f'{key} {i}') for i, (a, b) in enumerate(zip(starts, ends, strict=True))]


def _masks(packed: np.ndarray, cameras: list[Camera]) -> list[tuple[np.ndarray, np.ndarray]]:
    sizes = [camera.height * camera.width for camera in cameras]
    total = 2 * sum(sizes)
    if packed.dtype != np.uint8 or packed.shape != ((total + 7) // 8,):
        raise DatasetError(f'damaged: masks have {packed.size} bytes, the cameras want {(total + 7) // 8}; {_AGAIN}')
    bits, out, at = np.unpackbits(packed, count=total).astype(bool), [], 0
    for camera, size in zip(cameras, sizes, strict=True):
        pair = bits[at:at + 2 * size].reshape(2, camera.height, camera.width)
        out.append((pair[0], pair[1]))
        at += 2 * size
    return out
