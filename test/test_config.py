"""Configuration dataclasses to and from YAML and dictionaries."""

from dataclasses import dataclass, field

import pytest

from sega_ros import config
from sega_ros.config import option
from sega_ros.errors import ConfigError


@dataclass(frozen=True)
class Smoothing:
    cutoff: float = option(1.5, 'Lowest cut-off', unit='Hz', bounds=(0.1, 30.0))


@dataclass(frozen=True)
class Example:
    name: str = option('', 'Who')
    mode: str = option('fast', 'How', choices=('fast', 'good'))
    size: int = option(512, 'Height', unit='px', bounds=(16, 4096), read_only=True)
    mirror: bool = option(False, 'Swap left and right')
    smoothing: Smoothing = field(default_factory=Smoothing)


def test_defaults_and_nested_values():
    assert config.from_dict(Example, {}) == Example()
    value = config.from_dict(Example, {'name': 'a', 'smoothing': {'cutoff': 2}})
    assert value == Example(name='a', smoothing=Smoothing(2.0))
    assert config.from_dict(Example, {'smoothing.cutoff': 2.0}).smoothing.cutoff == 2.0


def test_round_trips(tmp_path):
    value = Example(name='a: b # c', mode='good', size=64, mirror=True, smoothing=Smoothing(3.25))
    assert config.from_dict(Example, config.to_dict(value)) == value
    path = tmp_path / 'x.yaml'
    path.write_text(config.dump_yaml(value))
    assert config.load_yaml(Example, path) == value
    assert '# Lowest cut-off (Hz; 0.1 to 30)' in path.read_text()


@pytest.mark.parametrize(('values', 'match'), [
    ({'nmae': 'a'}, 'nmae: unknown; known are name, mode'),
    ({'size': 8}, 'size: wanted 16 to 4096 px, found 8'),
    ({'size': 64.0}, 'size: wanted int, found float'),
    ({'size': True}, 'size: wanted int, found bool'),
    ({'mirror': 1}, 'mirror: wanted bool, found int'),
    ({'mode': 'slow'}, "mode: wanted one of 'fast', 'good', found 'slow'"),
    ({'smoothing': {'cutoff': float('nan')}}, 'smoothing.cutoff: wanted 0.1 to 30'),
    ({'smoothing': 3}, 'smoothing: unknown'),
])
def test_values_that_do_not_fit(values, match):
    with pytest.raises(ConfigError, match=match):
        config.from_dict(Example, values)


def test_all_problems_at_once():
    with pytest.raises(ConfigError, match=r'(?s)nmae.*size'):
        config.from_dict(Example, {'nmae': 'a', 'size': 8})


@pytest.mark.parametrize(('text', 'match'), [('- 1', 'wanted a mapping'), ('a: [', 'YAML'), ('x: 1', 'x: unknown')])
def test_bad_files(tmp_path, text, match):
    path = tmp_path / 'x.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=match):
        config.load_yaml(Example, path)


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / 'x.yaml'
    path.write_text('name: !!python/object/apply:os.getcwd []')
    with pytest.raises(ConfigError, match='YAML'):
        config.load_yaml(Example, path)
