"""The package as a whole: metadata, interfaces, and where modules come from."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sega_ros.errors import ErrorCode

ROOT = Path(__file__).resolve().parent.parent
SERVICES = sorted((ROOT / 'srv').glob('*.srv')) + sorted((ROOT / 'action').glob('*.action'))
INTERFACES = SERVICES + sorted((ROOT / 'msg').glob('*.msg'))
FIELD = re.compile(r'^(?P<type>[\w/]+(<=\d+)?(\[[^\]]*\])?)\s+(?P<name>[a-z]\w*)(?P<rest>.*)$')


def test_package_xml_is_valid():
    catkin_package = pytest.importorskip('catkin_pkg.package')
    warnings = []
    package = catkin_package.parse_package(str(ROOT / 'package.xml'), warnings=warnings)
    assert package.package_format == 3
    assert package.get_build_type() == 'ament_cmake'
    assert not warnings
    assert not [d.name for d in package.exec_depends if d.name.endswith('-pip')]


def test_interfaces_listed_in_cmake():
    listed = set(re.findall(r'^\s+((?:msg|srv|action)/\S+)$', (ROOT / 'CMakeLists.txt').read_text(), re.MULTILINE))
    assert listed == {str(p.relative_to(ROOT)) for p in INTERFACES}


@pytest.mark.parametrize('path', INTERFACES, ids=lambda p: p.name)
def test_fields_are_described_and_bounded(path):
    for line in path.read_text().splitlines():
        match = FIELD.match(line)
        if not match:
            continue
        described = '#' in match['rest'] or match['type'] in {'bool', 'AvatarInfo[<=1024]', 'uint8[<=262144]'}
        assert described, f'{path.name}: no comment on {line!r}'
        assert not match['type'].endswith('[]'), f'{path.name}: unbounded sequence in {line!r}'
        assert match['type'] != 'string', f'{path.name}: unbounded string in {line!r}'


@pytest.mark.parametrize('path', SERVICES, ids=lambda p: p.name)
def test_error_constants_equal_error_codes(path):
    constants = dict(re.findall(r'^uint16 ERROR_(\w+)=(\d+)', path.read_text(), re.MULTILINE))
    assert {'OK', 'INTERNAL'} <= constants.keys()
    assert {name: int(value) for name, value in constants.items()} == {name: ErrorCode[name] for name in constants}


def test_every_error_code_is_in_a_service():
    text = '\n'.join(path.read_text() for path in SERVICES)
    assert {code.name for code in ErrorCode} == set(re.findall(r'ERROR_(\w+)=', text))


def test_modules_come_from_the_checkout(tmp_path):
    code = ('import sega_ros.types, sega_ros.nodes, sega_ros.msg; '
            'print(sega_ros.types.__file__); print(sega_ros.nodes.__file__); print(sega_ros.msg.__file__)')
    result = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE)
    types, nodes, msg = (Path(line) for line in result.stdout.splitlines())
    assert types == ROOT / 'sega_ros/types.py'
    assert nodes == ROOT / 'sega_ros/nodes/__init__.py'
    assert ROOT / 'sega_ros' not in msg.parents
    assert sorted(p.name for p in msg.parent.parent.glob('*.py')) == ['__init__.py'], 'a stale copy of the sources'


def test_executables_name_their_module():
    for name in ('avatar_builder', 'avatar_driver', 'image_source'):
        path = ROOT / 'scripts' / name
        assert path.stat().st_mode & 0o111
        assert path.read_text().startswith('#!/usr/bin/env python3\n')
        assert (ROOT / f'sega_ros/nodes/{name}.py').is_file()


def test_requirements_are_pinned():
    for path in (ROOT / 'requirements').glob('*.txt'):
        lines = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
        assert all(re.fullmatch(r'[\w.\-]+(\[\w+\])?==[\w.]+', line) for line in lines if line), path


def test_what_is_imported_is_required():
    """A package that happens to be installed here would be missing on a new machine."""
    import ast
    from importlib.metadata import packages_distributions

    def name(text):
        return re.split(r'[\[=]', text)[0].lower().replace('_', '-')

    listed = {name(line) for part in ('core', 'ros', 'train', 'eval', 'dev') for line in
              (ROOT / f'requirements/{part}.txt').read_text().splitlines() if line and line[0] != '#'}
    where = packages_distributions()
    missing = set()
    for path in (ROOT / 'sega_ros').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else [])
            for module in {m.split('.')[0] for m in modules} - set(sys.stdlib_module_names) - {'sega_ros'}:
                found = {name(d) for d in where.get(module, ())}
                optional = not found  # not installed here: loaded at first use, with a sentence of its own
                from_ros = any(d.startswith('ros-') for d in found)
                if not (optional or from_ros or found & listed):
                    missing.add(f'{path.relative_to(ROOT)}: {module} ({", ".join(found)})')
    assert not missing, '\n'.join(sorted(missing))


def test_names_of_test_files_are_unique():
    """pytest imports them by their name alone: the second of two would not be collected."""
    names = [p.name for p in (ROOT / 'test').rglob('test_*.py')]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)
