"""Import directions: a module imports only from its left."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / 'sega_ros'
# Units of one inner list are siblings and don't import each other; within a base layer of single files they may.
LAYERS = [
    ['types', 'errors', 'config'],
    ['geometry', 'camera', 'io', 'raster'],
    ['head', 'render'],
    ['synthetic', 'tracking'],
    ['models'],
    ['losses'],
    ['avatar'],
    ['training'],
    ['evaluation'],
    ['cli', 'nodes'],
]
BASE = {unit for layer in LAYERS[:2] for unit in layer}
RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}
ROS = {'rclpy', 'rcl_interfaces', 'sensor_msgs', 'std_msgs', 'geometry_msgs', 'diagnostic_msgs', 'lifecycle_msgs',
       'builtin_interfaces', 'launch', 'launch_ros', 'cv_bridge', 'ament_index_python'}
INTERFACES = {'msg', 'srv', 'action'}


def modules():
    return sorted(p for p in ROOT.rglob('*.py') if p != ROOT / '__init__.py')


def unit_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix('.py')


def imports(path):
    """Yield (line, dotted name) of everything a file imports, also inside functions; relative names resolved."""
    package = ['sega_ros', *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            stem = '.'.join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f'{stem}.{alias.name}') for alias in node.names)


def violation(unit, target):
    """Return why `unit` may not import `target` (a unit of sega_ros), or None."""
    if target not in RANK:
        return f'{target} is in no layer'
    if unit == target or (unit in BASE and RANK[unit] == RANK[target]):
        return None
    if RANK[target] < RANK[unit]:
        return None
    return f'{unit} (layer {RANK[unit]}) imports {target} (layer {RANK[target]})'


@pytest.mark.parametrize('path', modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_left(path):
    unit = unit_of(path)
    assert unit in RANK, f'{unit} is in no layer'
    problems = []
    for line, name in imports(path):
        parts = name.split('.')
        if parts[0] == 'sega_ros' and len(parts) > 1 and parts[1] not in INTERFACES:
            if reason := violation(unit, parts[1]):
                problems.append(f'{path.name}:{line}: {reason}')
        elif unit != 'nodes' and (parts[0] in ROS or (parts[0] == 'sega_ros' and parts[1:2] and parts[1] in INTERFACES)):
            problems.append(f'{path.name}:{line}: only nodes/ knows ROS, found {name}')
    assert not problems, '\n'.join(problems)


def test_rule_sees_violations():
    assert violation('render', 'head') and violation('types', 'geometry') and violation('avatar', 'nodes')
    assert violation('camera', 'geometry') is None and violation('nodes', 'avatar') is None
