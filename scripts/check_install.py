#!/usr/bin/env python3
"""Check an installed sega_ros: every module and interface comes from the given prefix, and every file is there."""

import importlib
import pkgutil
import sys
from pathlib import Path

INTERFACES = ('msg', 'srv', 'action')
FILES = ('launch/avatar.launch.py', 'config/avatar.yaml', 'config/fastdds.xml')


def problems(prefix: Path) -> list[str]:
    """Return what is wrong with the installation under `prefix` (colcon's install base)."""
    sys.path = [entry for entry in sys.path if Path(entry or '.').resolve() != Path.cwd()]
    package = importlib.import_module('sega_ros')
    found, root = [], prefix / 'sega_ros'
    # The development environment's copies lie further back on the path; only the first entry counts here.
    package.__path__ = [p for p in package.__path__ if Path(p).is_relative_to(prefix)]
    if not package.__path__:
        return [f'sega_ros is imported from {package.__file__}, wanted below {prefix}']
    names = [m.name for m in pkgutil.walk_packages(package.__path__, 'sega_ros.') if not m.name.endswith('__main__')]
    for name in names:
        module = importlib.import_module(name)
        if not Path(module.__file__).is_relative_to(prefix):
            found.append(f'{name} is imported from {module.__file__}, wanted below {prefix}')
    found += [f'sega_ros.{part} is not installed' for part in INTERFACES if f'sega_ros.{part}' not in names]
    found += [f'missing: {root / "share/sega_ros" / name}' for name in FILES
              if not (root / 'share/sega_ros' / name).is_file()]
    nodes = [p for p in Path('scripts').iterdir() if p.is_file() and not p.suffix]
    found += [f'missing: {root / "lib/sega_ros" / p.name}' for p in nodes
              if not (root / 'lib/sega_ros' / p.name).is_file()]
    print(f'{len(names)} modules imported from {prefix}')
    return found


if __name__ == '__main__':
    if errors := problems(Path(sys.argv[1]).resolve()):
        sys.exit('\n'.join(errors))
