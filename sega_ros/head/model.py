"""The head model as a value: FLAME's format, with names, lids, regions and texture coordinates."""

import hashlib
import io
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from sega_ros.errors import HeadModelError, RequestError
from sega_ros.head.arrays import read_npz
from sega_ros.head.files import write_atomically
from sega_ros.types import Region, check_shape

JOINTS = ('root', 'neck', 'jaw', 'left_eye', 'right_eye')
FORMAT = 2  # of the npz file; raised when a reader of the old one would misread the new one


@dataclass(frozen=True)
class HeadModel:
    """A linear head with five joints; metres and radians, FLAME's frame. All float arrays are float32.

    v(shape, expression, eyelids) = v_template + shapedirs shape + exprdirs expression + lids, then linear blend
    skinning (Li et al., "Learning a model of facial shape and expression from 4D scans", 2017, section 3).
    The lids move by `t * (eyelid_dirs + meet) + 4 t (1 - t) * eyelid_arc` for a closure t, so they slide over the
    eyeball. `meet` depends on the identity alone: whatever it opens or shuts between the lids is undone at closure 1,
    column by column (`personal_eyelid_dirs`).
    """

    name: str  # 'open', 'flame2020', ...
    version: str
    v_template: np.ndarray  # [V, 3]
    faces: np.ndarray  # [F, 3] int32, counter-clockwise from outside
    shapedirs: np.ndarray  # [V, 3, S] for one standard deviation
    exprdirs: np.ndarray  # [V, 3, E]
    expression_names: tuple[str, ...]  # E
    posedirs: np.ndarray  # [V, 3, 36] or [V, 3, 0]
    J_regressor: np.ndarray  # [5, V]
    weights: np.ndarray  # [V, 5]
    parents: np.ndarray  # [5] int32, -1 for the root
    eyelid_dirs: np.ndarray  # [2, V, 3] left, right: added at closure 1
    eyelid_arc: np.ndarray  # [2, V, 3] left, right: added at closure 1/2
    uvs: np.ndarray  # [T', 2] u right, v down, in [0, 1]
    uv_faces: np.ndarray  # [F, 3] int32
    face_region: np.ndarray  # [F] uint8 (types.Region)
    expression_bounds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))  # [E, 2] low, high
    # Which vertices [L] the lids' meeting moves; points [2, K, 4] of both lids that lie one above the other when
    # closed; their gap is the weighted [2, K, 4] sum of heights; heights [2, L, K] that undo a unit gap.
    eyelid_vertices: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    eyelid_columns: np.ndarray = field(default_factory=lambda: np.zeros((2, 0, 4), np.int32))
    eyelid_column_weights: np.ndarray = field(default_factory=lambda: np.zeros((2, 0, 4), np.float32))
    eyelid_spread: np.ndarray = field(default_factory=lambda: np.zeros((2, 0, 0), np.float32))
    mirror_vertex: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # [V] or empty: not symmetric

    def __post_init__(self):
        v, f, e = _count(self.v_template), _count(self.faces), len(self.expression_names)
        bounds, mirrored, lids = (_count(a) for a in (self.expression_bounds, self.mirror_vertex, self.eyelid_vertices))
        columns = self.eyelid_columns.shape[1] if self.eyelid_columns.ndim == 3 else None
        wanted = {
            'v_template': (v, 3), 'faces': (f, 3), 'shapedirs': (v, 3, None), 'exprdirs': (v, 3, e),
            'posedirs': (v, 3, None), 'J_regressor': (5, v), 'weights': (v, 5), 'parents': (5,),
            'eyelid_dirs': (2, v, 3), 'eyelid_arc': (2, v, 3),
            'eyelid_vertices': (None,), 'eyelid_columns': (2, None, 4),
            'eyelid_column_weights': self.eyelid_columns.shape,
            'eyelid_spread': (2, lids, columns),
            'uvs': (None, 2), 'uv_faces': (f, 3), 'face_region': (f,),
            'expression_bounds': (e, 2) if bounds else (0, 2),
            'mirror_vertex': (v,) if mirrored else (0,),
        }
        try:
            for key, shape in wanted.items():
                check_shape(key, getattr(self, key), shape)
        except RequestError as error:
            raise HeadModelError(f'head model {self.name[:40]!r}: {error}') from error
        if self.posedirs.shape[2] not in (0, 36):
            raise HeadModelError(
                f'head model {self.name}: posedirs wants 0 or 36 columns, found {self.posedirs.shape[2]}; build it again')
        if len(self.name) > 32 or len(self.version) > 32:
            raise HeadModelError(
                f'head model: wanted name and version of up to 32 characters, found {self.name[:40]!r}, {self.version[:40]!r}')
        if self.parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(self.parents.tolist()) if j):
            raise HeadModelError(f'head model {self.name}: parents: wanted -1 and earlier joints, found {self.parents.tolist()}')
        for key, limit in (('faces', v), ('uv_faces', len(self.uvs)), ('face_region', len(Region)), ('eyelid_vertices', v),
                           ('eyelid_columns', v), ('mirror_vertex', v)):
            index = getattr(self, key)
            if index.size and (index.min() < 0 or index.max() >= limit):
                raise HeadModelError(f'head model {self.name}: {key} points outside of [0, {limit}); build it again')

    @property
    def n_shape(self) -> int:
        """Number of identity coefficients S."""
        return self.shapedirs.shape[2]

    @property
    def n_expression(self) -> int:
        """Number of expression coefficients E."""
        return self.exprdirs.shape[2]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, version and every array: caches and avatars are bound to it.

        The open head's floats are left out: its version says what they are, and linear algebra libraries of two
        machines differ in the last digit, which must not part an avatar from its head.
        """
        digest = hashlib.sha256()
        for key, value in _to_arrays(self).items():
            array = np.ascontiguousarray(value)
            digest.update(f'{key}:{array.dtype.str}:{array.shape};'.encode())
            if self.name != 'open' or array.dtype.kind != 'f':
                digest.update(array.tobytes())
        return digest.hexdigest()

    def personal_eyelid_dirs(self, rest: np.ndarray) -> np.ndarray:
        """Lid displacements at closure 1 [2, V, 3] of an identity whose neutral vertices are `rest` [V, 3]."""
        dirs = self.eyelid_dirs.copy()
        if self.eyelid_columns.shape[1]:
            change = (rest - self.v_template)[self.eyelid_columns, 1]  # [2, K, 4]
            gap = (self.eyelid_column_weights * change).sum(2)
            dirs[:, self.eyelid_vertices, 1] -= np.einsum('slk,sk->sl', self.eyelid_spread, gap)
        return dirs

    def expression_index(self, name: str) -> int:
        """Column of a named expression unit.

        Raises:
            RequestError: no unit of that name.
        """
        try:
            return self.expression_names.index(name)
        except ValueError as error:
            known = ', '.join(self.expression_names)
            raise RequestError(f'expression unit {name!r} is unknown to head {self.name}; known: {known}') from error

    def save(self, path: str | Path) -> None:
        """Write an .npz without pickles; the file appears whole or not at all."""
        buffer = io.BytesIO()
        np.savez(buffer, format=np.int32(FORMAT), **_to_arrays(self))
        write_atomically(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> 'HeadModel':
        """Read a file of `save`.

        Raises:
            HeadModelError: not such a file, of another format version, damaged or incomplete.
        """
        return arrays_to_head(read_npz(path), path)


def _count(array: np.ndarray) -> int:
    """Length of an array; 0 of a single number, whose shape is refused later."""
    return array.shape[0] if array.ndim else 0


def _to_arrays(head: HeadModel) -> dict[str, np.ndarray]:
    return {f.name: np.asarray(getattr(head, f.name)) for f in fields(HeadModel)}


def arrays_to_head(arrays: dict[str, np.ndarray], path: str | Path) -> HeadModel:
    """Head of the arrays that `HeadModel.save` wrote to `path`; each is checked, as compiled code reads them.

    Raises:
        HeadModelError: another format version, an array is missing, or holds what no head has.
    """
    found = arrays.get('format')
    if found is None or found.shape != () or found.dtype.kind != 'i' or found != FORMAT:
        raise HeadModelError(f'head model file {path}: wanted format {FORMAT}, found {str(found)[:40]}; build it again')
    missing = [f.name for f in fields(HeadModel) if f.name not in arrays]
    if missing:
        raise HeadModelError(f'head model file {path} lacks {missing}; build it again')
    problems = [f'{f.name}: {why}' for f in fields(HeadModel) if (why := _problem(f.name, arrays[f.name]))]
    if problems:
        raise HeadModelError(f'head model file {path}: {"; ".join(problems)}; build it again')
    texts = {key: str(arrays[key]) for key in ('name', 'version')}
    texts['expression_names'] = tuple(str(n) for n in arrays['expression_names'])
    return HeadModel(**({f.name: arrays[f.name] for f in fields(HeadModel)} | texts))


_TEXTS, _INTEGERS = ('name', 'version', 'expression_names'), ('faces', 'parents', 'uv_faces', 'face_region', 'eyelid_vertices',
                                                             'eyelid_columns', 'mirror_vertex')
_LARGEST = 1e6  # nothing in a head is: metres, weights, standard deviations


def _problem(name: str, array: np.ndarray) -> str:
    """What is wrong with a field's type or values; '' when nothing is."""
    kinds = 'U' if name in _TEXTS else 'iu' if name in _INTEGERS else 'f'
    if array.dtype.kind not in kinds:
        return f'wanted numbers or texts of kind {kinds!r}, found {array.dtype}'
    if name in _TEXTS:
        wanted = 1 if name == 'expression_names' else 0
        return '' if array.ndim == wanted else f'wanted {wanted} dimensions, found {array.ndim}'
    if kinds == 'f' and not (np.abs(array) < _LARGEST).all():
        return f'wanted finite values under {_LARGEST:g}'
    return ''


class ByIdentity:
    """Key of a cache: the head itself, compared by its fingerprint."""

    def __init__(self, head: HeadModel):
        self.head = head

    def __hash__(self) -> int:
        return hash(self.head.fingerprint)

    def __eq__(self, other) -> bool:
        return self.head is other.head or self.head.fingerprint == other.head.fingerprint
