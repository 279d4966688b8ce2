"""Files at the edge of the core: pictures, clips, tensors. uint8 exists here and in `nodes/convert.py` only."""

from sega_ros.io.files import atomic_write, read_file
from sega_ros.io.images import Photo, check_image_size, decode_image, decode_photo, read_image, read_photo, write_png
from sega_ros.io.tensors import load_metadata, load_tensors, save_tensors, tensors_to_bytes
from sega_ros.io.video import VideoReader, VideoWriter

__all__ = [
    'Photo', 'VideoReader', 'VideoWriter', 'atomic_write', 'check_image_size', 'decode_image', 'decode_photo',
    'load_metadata', 'load_tensors', 'read_file', 'read_image', 'read_photo', 'save_tensors', 'tensors_to_bytes',
    'write_png',
]
