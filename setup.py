"""Python packaging of the core (`pip install -e .`); the ROS package is built by CMakeLists.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Return the requirement lines of `requirements/<name>.txt`."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.split('#')[0].strip() for line in lines if line.split('#')[0].strip()]


def version() -> str:
    """Return the version that package.xml declares: it is written in one place."""
    return re.search(r'<version>([^<]+)</version>', (ROOT / 'package.xml').read_text(encoding='utf-8'))[1]


setup(
    name='sega_ros',
    version=version(),
    description='SEGA for telepresence robots: one photo becomes a drivable 3D Gaussian head',
    license='Apache-2.0',
    python_requires='>=3.11,<3.13',
    packages=find_packages(include=['sega_ros', 'sega_ros.*']),
    # With the empty key, an editable install is one path entry: site-packages/sega_ros (the generated interfaces)
    # and this folder then merge through the package's extend_path.
    package_dir={'': '.'},
    package_data={'sega_ros': ['**/*.safetensors', '**/*.npz', '**/*.yaml', '**/*.html', '**/*.js']},
    # Where CMake puts them too: bags are read and written with the message files themselves, also without ROS.
    data_files=[('share/sega_ros/msg', sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'msg').glob('*.msg')))],
    install_requires=requirements('core'),
    extras_require={name: requirements(name) for name in ('ros', 'train', 'eval', 'dev')},
    entry_points={'console_scripts': ['sega = sega_ros.cli:main']},
)
