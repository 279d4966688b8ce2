"""Folders of public sets in their real layouts: every sequence is listed, what is missing is named."""

import json

import numpy as np
import pytest
from PIL import Image

from sega_ros.errors import DatasetError, RequestError
from sega_ros.evaluation.layouts import FRONT_CAMERA, list_layout
from sega_ros.io import VideoWriter

CLIPS = ('Clip+-1Jouc19Ixo+P0+C1+F4196-4320', 'Clip+_HebIzK_LP4+P2+C1+F16589-16715')


def write_frames(folder, count):
    folder.mkdir(parents=True)
    for k in range(count):
        Image.fromarray(np.full((16, 24, 3), 40 * k, np.uint8)).save(folder / f'{k:08d}.png')


def write_clip(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size=(16, 24), fps=25) as writer:
        for _ in range(2):
            writer.write(np.full((16, 24, 3), 100, np.uint8))


@pytest.mark.parametrize('inside', ['.', 'GT/Interval1_512x512_LANCZOS4', 'Interval1_512x512_LANCZOS4'])
def test_vfhq(tmp_path, inside):
    for name in CLIPS:
        write_frames(tmp_path / inside / name, 3)
    (tmp_path / inside / 'VIDEO').mkdir()
    found = list_layout('vfhq', tmp_path)
    assert [(e.name, e.kind, e.path, e.photo, e.rate) for e in found] == [
        (name, 'frames', tmp_path / inside / name, 0, 25.0) for name in sorted(CLIPS)]


def test_vfhq_says_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match='no such folder'):
        list_layout('vfhq', tmp_path / 'nowhere')
    with pytest.raises(DatasetError, match='Clip\\+-1Jouc19Ixo.* here or in GT/'):
        list_layout('vfhq', tmp_path)
    write_frames(tmp_path / CLIPS[0], 3)
    (tmp_path / CLIPS[0] / '00000001.png').unlink()
    with pytest.raises(DatasetError, match='frame 00000001.png is missing'):
        list_layout('vfhq', tmp_path)
    (tmp_path / CLIPS[1]).mkdir()
    for file in (tmp_path / CLIPS[0]).iterdir():
        file.unlink()
    with pytest.raises(DatasetError, match='no frames in it'):
        list_layout('vfhq', tmp_path)


def test_hdtf(tmp_path):
    names = ['RD_Radio11_000', 'WDA_BarackObama_000', 'WRA_DaveCamp_001']
    for name in names:
        write_clip(tmp_path / f'{name}.mp4')
    write_clip(tmp_path / '_videos_raw' / 'RD_Radio11.mp4')
    write_clip(tmp_path / 'holiday.mp4')
    assert [(e.name, e.kind, e.path) for e in list_layout('hdtf', tmp_path)] == [
        (n, 'clip', tmp_path / f'{n}.mp4') for n in names]
    [only] = list_layout('hdtf', tmp_path, names=['WDA_BarackObama_000'])
    assert only.name == 'WDA_BarackObama_000'


def test_hdtf_says_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match='RD_Radio11_000.mp4'):
        list_layout('hdtf', tmp_path)
    write_clip(tmp_path / '_videos_raw' / 'RD_Radio11.mp4')
    with pytest.raises(DatasetError, match='only its uncut videos'):
        list_layout('hdtf', tmp_path)
    write_clip(tmp_path / 'RD_Radio11_000.mp4')
    with pytest.raises(DatasetError, match='1 of 2 listed sequences are missing: RD_Radio12_000; found 1, e.g. RD_Radio11_000'):
        list_layout('hdtf', tmp_path, names=['RD_Radio11_000', 'RD_Radio12_000'])


def write_nersemble(root, person, sequence, serial=FRONT_CAMERA):
    folder = root / person / 'calibration'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'camera_params.json').write_text(json.dumps({'world_2_cam': {}, 'intrinsics': np.eye(3).tolist()}))
    write_clip(root / person / 'sequences' / sequence / 'images' / f'cam_{serial}.mp4')


def test_nersemble(tmp_path):
    write_nersemble(tmp_path, '017', 'EXP-1-head')
    write_nersemble(tmp_path, '017', 'BACKGROUND')
    write_nersemble(tmp_path, '018', 'SEN-01-cramp_small_danger')
    write_nersemble(tmp_path, '018', 'EMO-1-shout+laugh', serial='222200046')  # another camera alone
    assert [(e.name, e.kind) for e in list_layout('nersemble', tmp_path)] == [
        ('017-EXP-1-head', 'clip'), ('018-SEN-01-cramp_small_danger', 'clip')]


def test_nersemble_says_what_is_missing(tmp_path):
    with pytest.raises(DatasetError, match='no participant'):
        list_layout('nersemble', tmp_path)
    write_nersemble(tmp_path, '018', 'EXP-1-head', serial='222200046')
    with pytest.raises(DatasetError, match=f'front camera.*cam_{FRONT_CAMERA}.mp4'):
        list_layout('nersemble', tmp_path)


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(RequestError, match="found 'celebv', wanted one of vfhq, hdtf, nersemble"):
        list_layout('celebv', tmp_path)
