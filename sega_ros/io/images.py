"""Pictures as uint8 RGB [H, W, 3], with every limit checked on the header before a pixel is decoded."""

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import ImageError, StorageError
from sega_ros.io.files import atomic_write, read_file

MAX_SIDE = 16384  # px
MAX_PIXELS = 80_000_000  # a quarter of a gigabyte once decoded; phones take 12 to 50 million
MAX_BYTES = 128 * 1024 * 1024
# Passes over the picture that a JPEG may take: cameras write one, programs about ten, a hostile file as many as it has bytes for.
MAX_SCANS = 100
_SCAN = b'\xff\xda'  # within a scan's own data every ff is followed by 00 or a restart marker

# At its finest level Pillow logs what EXIF says, people's names and places included.
logging.getLogger('PIL').setLevel(logging.INFO)

# Pillow also opens formats that start other programs (EPS) or that nobody's camera writes.
_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF')
_WANTED = 'wanted a JPEG, PNG, WebP, BMP, TIFF, PPM or GIF picture'
_FILM_DIAGONAL = 43.267  # mm of a 36 x 24 mm frame: "35 mm equivalent" compares diagonals (CIPA DCG-001)
_EXIF_IFD, _FOCAL_LENGTH_35MM = 0x8769, 0xA405


@dataclass(frozen=True)
class Photo:
    """A decoded photograph and what its EXIF data say about the lens."""

    image: np.ndarray  # [H, W, 3] uint8 RGB, upright
    focal_length: float | None  # focal length over image width; None: not stated


def check_image_size(height: int, width: int, *, name: str = 'image', max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError unless a picture of this size may be allocated."""
    if height < 1 or width < 1:
        raise ImageError(f'{name}: empty, found {width} x {height} px; send a picture with a face in it')
    if max(height, width) > MAX_SIDE or height * width > max_pixels:
        raise ImageError(
            f'{name}: found {width} x {height} px, accepted are at most {MAX_SIDE} px a side and '
            f'{max_pixels / 1e6:g} million px; scale it down (2000 px a side are plenty)')


def decode_image(data: bytes, *, name: str = 'image', max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a compressed picture to uint8 RGB [H, W, 3]; see `decode_photo`."""
    return decode_photo(data, name=name, max_pixels=max_pixels).image


def read_image(path: Path | str, *, name: str = '', max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a picture file as uint8 RGB [H, W, 3]; see `read_photo`."""
    return read_photo(path, name=name, max_pixels=max_pixels).image


def read_photo(path: Path | str, *, name: str = '', max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photograph file; see `decode_photo`. `name` is what messages call it ('': its path).

    Raises:
        ImageError: no such file, no regular one, or not a usable picture.
    """
    path, name = Path(path), name or str(path)
    try:
        data = read_file(path, limit=MAX_BYTES, follow=True)
    except FileNotFoundError as e:
        raise ImageError(f'{name}: cannot be read (no such file or directory); check the path') from e
    except StorageError as e:
        reason = str(e).removeprefix(f'cannot read {path}: ')
        raise ImageError(f'{name}: cannot be read ({reason}); {_WANTED} of at most {MAX_BYTES} bytes') from e
    return decode_photo(data, name=name, max_pixels=max_pixels)


def decode_photo(data: bytes, *, name: str = 'image', max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a compressed photograph: upright (EXIF orientation applied), transparency laid over white.

    Args:
        data: the bytes of a JPEG, PNG, WebP, BMP, TIFF, PPM or GIF file.
        name: what messages call it.
        max_pixels: largest size accepted, of which about sixteen bytes a pixel are needed at the most.

    Raises:
        ImageError: empty, too large (by the header, before decoding), truncated, corrupt or of another format.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise ImageError(f'{name}: empty, found 0 bytes; {_WANTED}')
    if len(data) > MAX_BYTES:
        raise ImageError(f'{name}: found {len(data)} bytes, at most {MAX_BYTES} are accepted; save it smaller')
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes that are refused below anyway.
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as e:
        raise ImageError(
            f'{name}: {len(data)} bytes that are no picture this program reads; {_WANTED} (HEIC and AVIF: save as JPEG)') from e
    except Image.DecompressionBombError as e:
        accepted = f'at most {max_pixels / 1e6:g} million px are accepted'
        raise ImageError(f'{name}: {e}; {accepted}; scale it down') from e
    except Exception as e:  # Pillow's header parsers raise whatever hostile bytes provoke
        raise ImageError(f'{name}: damaged header ({e}); save or send it again') from e
    with picture:
        check_image_size(picture.height, picture.width, name=name, max_pixels=max_pixels)
        if (scans := _scans(data, picture)) > MAX_SCANS:
            raise ImageError(f'{name}: a JPEG of {scans} scans, at most {MAX_SCANS} are decoded; save it again as baseline JPEG')
        try:
            focal_length = _exif_focal_length(picture)
            width = picture.width
            ImageOps.exif_transpose(picture, in_place=True)
            image = _to_rgb(picture)
        except Exception as e:
            raise ImageError(f'{name}: {picture.format} data truncated or corrupt ({e}); save or send it again') from e
    if focal_length is not None and image.shape[1] != width:
        focal_length *= width / image.shape[1]  # turned by EXIF: the width is now the other side
    return Photo(image, focal_length)


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write uint8 RGB [H, W, 3] (or grey [H, W]) as PNG, atomically.

    Raises:
        ImageError: `image` is not such an array.
        StorageError: the file can't be written.
    """
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f'write_png: wanted uint8 [H, W, 3] or [H, W], found {image.dtype} {list(image.shape)}')
    check_image_size(*image.shape[:2], name='write_png')
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, 'PNG', compress_level=4)
    path = Path(path)
    if path.is_dir():
        raise StorageError(f'cannot write {path}: it is a directory; name a file')
    atomic_write(path, buffer.getvalue())


def _to_rgb(picture) -> np.ndarray:
    """Pixels of any Pillow mode as uint8 RGB [H, W, 3]."""
    from PIL import Image

    picture.load()
    if picture.mode.startswith('I'):  # 16 bits of grey; Pillow would clip instead of scaling
        rows = np.asarray(picture)
        grey = np.empty(rows.shape, np.uint8)
        for y, row in enumerate(rows):  # one after the other: wider numbers of a whole large picture take gigabytes
            grey[y] = np.clip(row / 257.0, 0, 255).round()
        return np.repeat(grey[..., None], 3, -1)
    if picture.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in picture.info:
        layer = picture if picture.mode == 'RGBA' else picture.convert('RGBA')
        picture = Image.new('RGB', layer.size, 'white')
        picture.paste(layer, mask=layer.getchannel('A'))
    return np.array(picture if picture.mode == 'RGB' else picture.convert('RGB'))


def _scans(data: bytes, picture) -> int:
    """Scans of a picture's JPEG data: each costs the decoder a pass over all pixels, however short it is."""
    return data.count(_SCAN) if data.startswith(b'\xff\xd8') or picture.info.get('compression') == 'jpeg' else 0


def _exif_focal_length(picture) -> float | None:
    """Focal length over the stored width from EXIF's 35 mm equivalent, when stated and sensible."""
    try:
        equivalent = float(picture.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_LENGTH_35MM, 0))
    except Exception:  # broken EXIF data must not cost the picture
        return None
    if not 8 <= equivalent <= 1200:  # mm; 0 means unknown
        return None
    return equivalent / _FILM_DIAGONAL * float(np.hypot(picture.width, picture.height)) / picture.width
