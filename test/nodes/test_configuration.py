"""Launch file, YAML, Fast DDS profile and the generated page fit the nodes."""

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from sega_ros import config
from sega_ros.nodes.avatar_builder import BuilderConfig
from sega_ros.nodes.avatar_display import DisplayConfig
from sega_ros.nodes.avatar_driver import DriverConfig, check_config
from sega_ros.nodes.avatar_web import WebConfig
from sega_ros.nodes.image_source import SourceConfig

ROOT = Path(__file__).resolve().parent.parent.parent
NODES = {'avatar_builder': BuilderConfig, 'avatar_driver': DriverConfig, 'avatar_tracker': DriverConfig,
         'avatar_display': DisplayConfig, 'avatar_web': WebConfig, 'image_source': SourceConfig}
NAMESPACE = '{http://www.eprosima.com}'


@pytest.mark.parametrize('name', NODES)
def test_every_parameter_is_described(name):
    for found in config.options(NODES[name]):
        assert len(found.description) > 10, found.name
        assert found.check(found.default) == found.default
    assert config.from_dict(NODES[name], {}) == NODES[name]()


NODE_FILES = [p for p in sorted((ROOT / 'config').glob('*.yaml')) if p.stem != 'ablation']


@pytest.mark.parametrize('path', NODE_FILES, ids=lambda p: p.name)
def test_shipped_yaml_fits_the_nodes(path):
    content = yaml.safe_load(path.read_text())
    assert content
    for key, section in content.items():
        name = key.removeprefix('/**/')
        values = config.from_dict(NODES[name], section['ros__parameters'])
        if NODES[name] is DriverConfig:
            check_config(values)


@pytest.mark.parametrize(('file', 'size'), [('fastdds.xml', 'segment_size'), ('fastdds_udp.xml', 'receiveBufferSize')])
def test_fastdds_profile_is_the_default_and_large(file, size):
    root = ElementTree.parse(ROOT / 'config' / file).getroot()
    sizes = [int(node.text) for node in root.iter(f'{NAMESPACE}{size}')]
    assert sizes and min(sizes) >= (16 if size == 'segment_size' else 4) * 1024 * 1024
    participant, = root.iter(f'{NAMESPACE}participant')
    assert participant.get('is_default_profile') == 'true'
    descriptors = list(root.iter(f'{NAMESPACE}transport_descriptor'))
    declared = {node.text for found in descriptors for node in found.iter(f'{NAMESPACE}transport_id')}
    used = {node.text for u in participant.iter(f'{NAMESPACE}userTransports') for node in u}
    assert used == declared


def test_api_page_is_up_to_date():
    result = subprocess.run([sys.executable, str(ROOT / 'scripts/write_ros_api.py'), '--check'], check=False)
    assert result.returncode == 0, 'run make docs'


def test_launch_arguments_are_described():
    """Without the launch packages: every argument has a default and a sentence."""
    tree = ast.parse((ROOT / 'launch/avatar.launch.py').read_text())
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == 'declare_arguments')
    described = next(n for n in ast.walk(function) if isinstance(n, ast.Dict))
    names = {key.value for key in described.keys}
    assert {'photo', 'camera', 'avatar_id', 'view', 'device', 'namespace', 'params_file', 'autostart'} <= names
    assert all(isinstance(value, ast.Tuple) and len(value.elts) == 2 for value in described.values)
