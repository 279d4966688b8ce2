"""The typestore of bags against the generated interfaces, and where the message files are found."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from sega_ros.errors import StorageError
from sega_ros.io import bag_types as module
from sega_ros.io.bag_types import bag_types, message_folder

CHECKOUT = Path(__file__).resolve().parents[1]
NAMES = ('AvatarInfo', 'AvatarList', 'FlameExpression')


@pytest.mark.parametrize('name', NAMES)
def test_type_hashes_equal_those_of_the_generated_interfaces(name):
    path = Path(sys.prefix, 'share', 'sega_ros', 'msg', f'{name}.json')
    if not path.is_file():
        pytest.skip('the interfaces are not built in this environment (make setup)')
    hashes = {row['type_name']: row['hash_string'] for row in json.loads(path.read_text())['type_hashes']}
    assert bag_types().hash_rihs01(f'sega_ros/msg/{name}') == hashes[f'sega_ros/msg/{name}']


def test_all_message_files_are_known():
    assert sorted(p.stem for p in (CHECKOUT / 'msg').glob('*.msg')) == sorted(NAMES)


def test_the_checkout_comes_first():
    assert message_folder() == CHECKOUT / 'msg'


def test_found_in_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / 'lib' / 'python3.11' / 'site-packages' / 'sega_ros' / 'io'
    package.mkdir(parents=True)
    share = tmp_path / 'share' / 'sega_ros' / 'msg'
    shutil.copytree(CHECKOUT / 'msg', share)
    monkeypatch.setattr(module, '__file__', str(package / 'bag_types.py'))
    assert message_folder() == share


def test_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, '__file__', str(tmp_path / 'a' / 'b' / 'bag_types.py'))
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / 'venv'))
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'ros'))
    with pytest.raises(StorageError, match=r'FlameExpression .*/venv/share/sega_ros/msg, .*/ros/share/.*checkout'):
        message_folder()
