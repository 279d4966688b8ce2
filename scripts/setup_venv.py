#!/usr/bin/env python3
"""Set up the development environment; `make setup` runs it. Standard library only.

Idempotent: every step stores a digest of what it depends on in `<venv>/sega_setup.json` and is skipped while that
digest stays the same.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ('core', 'ros', 'train', 'dev')
SUPPORTED = ((3, 11), (3, 12))
# Where the ROS wheels were built; these two directories stand in their exported CMake targets.
BUILDER_PYTHON = re.compile(r'/opt/[^";]*?/include/python3\.\d+')
BUILDER_NUMPY = re.compile(r'/[^";]*?/site-packages/numpy/(?:_core|core)/include')


class SetupError(Exception):
    """A problem the user has to mend, told in one message."""


# --- system packages ------------------------------------------------------------------------------------------------

def has_library(name: str) -> bool:
    """Return whether the dynamic linker finds `name`."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def has_headers() -> bool:
    """Return whether this Python's C headers are installed."""
    return (Path(sysconfig.get_path('include')) / 'Python.h').is_file()


SYSTEM_PACKAGES: dict[str, Callable[[], bool]] = {
    'g++': lambda: shutil.which('g++') is not None or shutil.which('c++') is not None,
    'cmake': lambda: shutil.which('cmake') is not None,
    'make': lambda: shutil.which('make') is not None,
    'python3-venv': lambda: importlib.util.find_spec('ensurepip') is not None,
    'python3-dev': has_headers,
    'libgl1': lambda: has_library('libGL.so.1'),
    'libglib2.0-0': lambda: has_library('libgthread-2.0.so.0'),
}


def check_system() -> None:
    """Raise SetupError with the one apt line when a system package is missing."""
    if sys.version_info[:2] not in SUPPORTED:
        wanted = ' or '.join(f'{a}.{b}' for a, b in SUPPORTED)
        raise SetupError(f'found Python {sys.version.split()[0]}, wanted {wanted}: make setup PYTHON=python3.11')
    missing = [name for name, present in SYSTEM_PACKAGES.items() if not present()]
    if missing:
        sudo = '' if os.geteuid() == 0 else 'sudo '
        raise SetupError(f'system packages are missing; install them and run make again:\n\n    '
                         f'{sudo}apt-get update && {sudo}apt-get install -y {" ".join(missing)}\n')


# --- steps and their stamps -----------------------------------------------------------------------------------------

def digest(files: Iterable[Path], *extra: str) -> str:
    """Return a digest of the contents of `files` and of `extra`."""
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(str(path.relative_to(ROOT)).encode() + b'\0' + path.read_bytes())
    for text in extra:
        total.update(b'\0' + text.encode())
    return total.hexdigest()


class Stamps:
    """Digests of the finished steps, stored inside the virtual environment."""

    def __init__(self, venv: Path) -> None:
        self.path = venv / 'sega_setup.json'
        self.done = json.loads(self.path.read_text()) if self.path.is_file() else {}

    def step(self, name: str, wanted: str, run: Callable[[], None]) -> bool:
        """Run a step unless it finished with the same digest; return whether it ran."""
        if self.done.get(name) == wanted:
            return False
        print(f'setup: {name}', file=sys.stderr, flush=True)
        self.done.pop(name, None)
        run()
        self.done[name] = wanted
        self.path.write_text(json.dumps(self.done, indent=1))
        return True


def call(*command: str | Path, env: dict[str, str] | None = None, quiet: bool = False) -> None:
    """Run a command; raise SetupError with its output (when quiet) if it fails."""
    result = subprocess.run([str(c) for c in command], cwd=ROOT, env=env, check=False, text=True,
                            stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None)
    if result.returncode:
        raise SetupError(f'{result.stdout or ""}failed with status {result.returncode}: {" ".join(map(str, command))}')


# --- the steps ------------------------------------------------------------------------------------------------------

def install_packages(python: Path, torch_index: str, pip_args: list[str]) -> None:
    """Install the pinned requirements."""
    constraints = ['-c', 'requirements/constraints.txt', *pip_args]
    if torch_index:
        pin = re.search(r'^torch==\S+', (ROOT / 'requirements/core.txt').read_text(), re.MULTILINE)[0]
        call(python, '-m', 'pip', 'install', pin, '--index-url', torch_index, *pip_args)
    files = [arg for name in REQUIREMENTS for arg in ('-r', f'requirements/{name}.txt')]
    call(python, '-m', 'pip', 'install', '--disable-pip-version-check', *files, *constraints)


def build_folder(venv: Path) -> Path:
    """Return where the interfaces are built."""
    return venv / 'build' / 'sega_ros'


def fix_cmake_exports(venv: Path, python: Path) -> None:
    """Point the ROS wheels' exported CMake targets at this Python's and this numpy's headers.

    They carry the include directories of the machine that built the wheels, and CMake stops on paths that don't exist.
    """
    shutil.rmtree(build_folder(venv), ignore_errors=True)  # whatever was configured with the old headers
    query = 'import numpy, sysconfig; print(sysconfig.get_path("include")); print(numpy.get_include())'
    include, numpy_include = subprocess.run([python, '-c', query], check=True, text=True,
                                            stdout=subprocess.PIPE).stdout.splitlines()
    for path in venv.glob('share/*/cmake/*.cmake'):
        text = path.read_text(encoding='utf-8')
        fixed = BUILDER_PYTHON.sub(include, BUILDER_NUMPY.sub(numpy_include, text))
        if fixed != text:
            path.write_text(fixed, encoding='utf-8')


def ros_environment(venv: Path) -> dict[str, str]:
    """Return the environment in which the virtual environment is the ament prefix."""
    env = {**os.environ, 'PATH': f'{venv / "bin"}{os.pathsep}{os.environ.get("PATH", "")}', 'VIRTUAL_ENV': str(venv)}
    return {**env, 'AMENT_PREFIX_PATH': str(venv), 'CMAKE_PREFIX_PATH': str(venv), 'PYTHONPATH': ''}


def build_interfaces(venv: Path, python: Path) -> None:
    """Generate, build and install the messages, services and the action into the virtual environment."""
    build, env = build_folder(venv), ros_environment(venv)
    call('cmake', '-S', ROOT, '-B', build, '-DBUILD_TESTING=OFF', '-DSEGA_DEVELOPMENT=ON', '-DCMAKE_BUILD_TYPE=Release',
         f'-DCMAKE_INSTALL_PREFIX={venv}', f'-DPython3_EXECUTABLE={python}', env=env, quiet=True)
    call('cmake', '--build', build, '--parallel', str(os.cpu_count() or 1), env=env, quiet=True)
    call('cmake', '--install', build, env=env, quiet=True)
    # The generated package's metadata has the name of the editable install: pip would take the interfaces for an old
    # version of it and remove them.
    for path in venv.glob('lib/python3*/site-packages/sega_ros-*.egg-info'):
        shutil.rmtree(path)


def interface_files() -> list[Path]:
    """Return the files the interface build depends on."""
    found = [path for folder in ('msg', 'srv', 'action') for path in (ROOT / folder).iterdir()]
    return [*found, *(p for p in (ROOT / 'scripts').iterdir() if p.is_file() and not p.suffix),
            ROOT / 'CMakeLists.txt', ROOT / 'package.xml', ROOT / 'sega_ros/__init__.py']


def set_up(venv: Path, *, torch_index: str = '', pip_args: list[str]) -> None:
    """Bring `venv` up to date with the checkout."""
    python = venv / 'bin' / 'python'
    stamps = Stamps(venv)
    if not python.is_file():
        print(f'setup: virtual environment {venv}', file=sys.stderr, flush=True)
        call(sys.executable, '-m', 'venv', venv)
    packages = digest([*(ROOT / 'requirements').glob('*.txt')], sys.version, torch_index, *pip_args)
    stamps.step('packages', packages, lambda: install_packages(python, torch_index, pip_args))
    stamps.step('cmake exports', packages, lambda: fix_cmake_exports(venv, python))
    core = digest([ROOT / 'setup.py', ROOT / 'package.xml'], packages)
    stamps.step('core', core, lambda: call(python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
                                           '--no-deps', '--no-build-isolation', '-e', ROOT))
    # Launch files and configuration are linked by name.
    linked = sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob('launch/*.py'), *ROOT.glob('config/*')))
    stamps.step('interfaces', digest(interface_files(), core, *linked), lambda: build_interfaces(venv, python))
    # Once for an environment: what changes later is built again at its first use.
    warm = {**ros_environment(venv), 'OPENBLAS_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'passive'}
    stamps.step('open head and kernels', packages, lambda: call(python, 'scripts/warm.py', env=warm))


def main() -> None:
    """Parse the command line and set up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv')
    parser.add_argument('--torch-index', default='', help='package index to take torch from')
    parser.add_argument('--pip-args', default='', help='more arguments for pip install')
    args = parser.parse_args()
    try:
        check_system()
        set_up(args.venv.resolve(), torch_index=args.torch_index, pip_args=args.pip_args.split())
    except SetupError as error:
        sys.exit(f'setup: {error}')


if __name__ == '__main__':
    main()
