"""Files that claim or unpack to more than they hold: what a process needs at its peak stays within what the limits say."""

import io
import json
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).with_name('memory_of.py')
PIXELS = 20_000_000  # 5000 x 4000


def png(mode, size=(5000, 4000)):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, 'PNG', compress_level=9)
    return buffer.getvalue()


def text_bomb():
    """A small PNG with a compressed text of 200 MB."""
    data = zlib.compress(bytes(200_000_000), 9)
    chunk = b'zTXtk\0\0' + data
    small = png('RGB', (8, 8))
    return small[:33] + (len(chunk) - 4).to_bytes(4, 'big') + chunk + zlib.crc32(chunk).to_bytes(4, 'big') + small[33:]


def safetensors(shape, size):
    header = json.dumps({'__metadata__': {'sega_ros': json.dumps({'metadata': '{"format": 4}', 'sha256': 'x'})},
                         'x': {'dtype': 'F32', 'shape': shape, 'data_offsets': [0, size]}}).encode()
    return len(header).to_bytes(8, 'little') + header + bytes(100)


def npz(shape, held):
    raw, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(raw, {'descr': '<f8', 'fortran_order': False, 'shape': shape})
    with (zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
          archive.open('format.npy', 'w', force_zip64=True) as file):
        file.write(raw.getvalue())
        for _ in range(held // 1_000_000):
            file.write(bytes(1_000_000))
    return buffer.getvalue()


# kind of file, contents, megabytes that reading it may take beside what the process had
_MOST = 17 * PIXELS / 1e6  # bytes a pixel, see limits.photo_pixels
CASES = {
    'grey of 16 bits': ('photo', lambda: png('I;16'), _MOST), 'transparent': ('photo', lambda: png('RGBA'), _MOST),
    'palette': ('photo', lambda: png('P'), _MOST), 'over the limit': ('photo', lambda: png('1', (16000, 16000)), 60),
    'text bomb': ('photo', text_bomb, 150), 'huge tensor': ('avatar', lambda: safetensors([2**36], 2**38), 60),
    'claimed array': ('head', lambda: npz((10**6, 10**6), 0), 60),
    'zip bomb': ('head', lambda: npz((150_000_000,), 1_200_000_000), 60),
}


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    """Peak of each case in megabytes, and how it ended; one process for all, as its start takes seconds."""
    folder = tmp_path_factory.mktemp('fuzz_memory')
    for name, (_, make, _) in CASES.items():
        (folder / name).write_bytes(make())
    arguments = [f'{kind}:{folder / name}' for name, (kind, _, _) in CASES.items()]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, text=True, stdout=subprocess.PIPE, timeout=240)
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize('name', CASES)
def test_peak(measured, name):
    kind, _, most = CASES[name]
    peak, ending = measured[name]
    assert ending in (('read', 'ImageError') if kind == 'photo' else ('AvatarDamagedError', 'HeadModelError')), ending
    assert peak < most, f'{peak:.0f} MB'


def test_large_pictures_are_read(measured):
    assert [measured[k][1] for k in ('grey of 16 bits', 'transparent', 'palette')] == ['read'] * 3
    assert measured['over the limit'][1] == 'ImageError'
    assert measured['transparent'][0] > 3 * PIXELS / 1e6, 'the measure sees what is needed'
