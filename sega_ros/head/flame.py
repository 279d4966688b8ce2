"""FLAME from the user's own file: reading, converting, and writing files that other FLAME software reads.

FLAME itself is not part of this project (its licence does not allow it); what FLAME has no notion of (lids, regions,
a texture layout) is made here from its geometry.
"""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np

from sega_ros.errors import HeadModelError
from sega_ros.head.arrays import read_npz
from sega_ros.head.files import cache_folder, write_atomically
from sega_ros.head.model import HeadModel, arrays_to_head

SHAPE_SPACE, EXPRESSION_SPACE = 300, 100  # columns of FLAME's shapedirs; smplx falls back to 10 + 10 below that
_NEEDED = ('v_template', 'f', 'shapedirs', 'posedirs', 'J_regressor', 'weights', 'kintree_table')
_EXPRESSION_BOUND = 3.0  # standard deviations


def load_npz(path: Path) -> HeadModel:
    """Read a head from an .npz: one of `HeadModel.save` or `convert_flame`, or FLAME's own arrays.

    A file with FLAME's own arrays is completed (lids, regions, texture layout) once and then comes from the cache.

    Raises:
        HeadModelError: the file can't be read, or is a pickle (`sega head convert` converts it).
    """
    path = Path(path)
    if path.suffix in ('.pkl', '.pickle'):
        raise HeadModelError(
            f'{path} is a pickle, which can hold code; convert it once: sega head convert {path} --out head.npz')
    arrays = read_npz(path)
    if 'format' in arrays:
        return arrays_to_head(arrays, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    cached = cache_folder() / f'flame-{digest}.npz'
    if cached.exists():
        return HeadModel.load(cached)
    head = flame_to_head(arrays, name=_name_of(path), version=digest)
    head.save(cached)
    return head


def convert_flame(
    pickle_path: str | Path, out_npz: str | Path, *, name: str | None = None, template_obj: str | Path | None = None,
) -> HeadModel:
    """Convert FLAME's official pickle to an .npz that `load_head` reads; nothing in the pickle is executed.

    Args:
        pickle_path: e.g. generic_model.pkl or flame2023.pkl.
        out_npz: file to write.
        name: of the model, at most 32 characters (default: from the file's name).
        template_obj: the user's own template mesh with texture coordinates (head_template.obj); without it a texture
            layout is generated.

    Raises:
        HeadModelError: the pickle can't be read or trusted, lacks arrays, or the OBJ belongs to another mesh.
        StorageError: the file can't be written.
    """
    from sega_ros.head.unpickle import load_arrays

    pickle_path = Path(pickle_path)
    arrays = load_arrays(pickle_path)
    version = hashlib.sha256(pickle_path.read_bytes()).hexdigest()[:12]
    uv = read_obj_uvs(template_obj) if template_obj is not None else None
    head = flame_to_head(arrays, name=name or _name_of(pickle_path), version=version, uv=uv)
    head.save(out_npz)
    return head


def _name_of(path: Path) -> str:
    stem = path.stem.lower()
    year = next((y for y in ('2020', '2023') if y in stem), '')
    return f'flame{year}{"open" if "open" in stem else ""}'


def flame_to_head(
    arrays: dict[str, np.ndarray], *, name: str, version: str, uv: tuple[np.ndarray, np.ndarray] | None = None,
) -> HeadModel:
    """Head model of FLAME's arrays.

    Args:
        arrays: v_template [V, 3], f [F, 3], shapedirs [V, 3, 300 + 100], posedirs [V, 3, 36], J_regressor [5, V],
            weights [V, 5], kintree_table [2, 5]; optionally n_shape and n_expression, how many of the columns count.
        name, version: of the model.
        uv: texture coordinates [T, 2] (v down) and their triangles [F, 3], or None.

    Raises:
        HeadModelError: an array is missing or has a shape that is not FLAME's.
    """
    from sega_ros.head.flame_parts import complete

    core = _checked(arrays, name)
    if uv is not None and len(uv[1]) != len(core['faces']):
        raise HeadModelError(f'template OBJ: wanted the {len(core["faces"])} triangles of {name}, found {len(uv[1])}')
    n_shape = int(arrays.get('n_shape', SHAPE_SPACE))
    n_expression = int(arrays.get('n_expression', EXPRESSION_SPACE))
    dirs = core.pop('shapedirs')
    shapedirs = dirs[:, :, :min(n_shape, SHAPE_SPACE)]
    exprdirs = dirs[:, :, SHAPE_SPACE:SHAPE_SPACE + min(n_expression, EXPRESSION_SPACE)]
    count = exprdirs.shape[2]
    bounds = np.tile(np.array([[-_EXPRESSION_BOUND, _EXPRESSION_BOUND]], np.float32), (count, 1))
    parts = complete(core['v_template'], core['faces'], core['weights'], uv)
    return HeadModel(
        name=name, version=version, shapedirs=np.ascontiguousarray(shapedirs), exprdirs=np.ascontiguousarray(exprdirs),
        expression_names=tuple(f'expression{i:02d}' for i in range(count)), expression_bounds=bounds, **core, **parts)


def _checked(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """FLAME's arrays under our names, of the right types and shapes."""
    missing = [key for key in _NEEDED if key not in arrays]
    if missing:
        raise HeadModelError(f'{name}: the file lacks {missing}; wanted FLAME with {list(_NEEDED)}')
    v, f = len(arrays['v_template']), len(arrays['f'])
    wanted = {'v_template': (v, 3), 'f': (f, 3), 'shapedirs': (v, 3, SHAPE_SPACE + EXPRESSION_SPACE),
              'posedirs': (v, 3, 36), 'J_regressor': (5, v), 'weights': (v, 5), 'kintree_table': (2, 5)}
    wrong = [f'{k}: wanted {list(s)}, found {list(arrays[k].shape)}' for k, s in wanted.items() if arrays[k].shape != s]
    if wrong:
        raise HeadModelError(f'{name}: not FLAME ({"; ".join(wrong)})')
    if not all(arrays[k].dtype.kind in 'fiu' and np.isfinite(arrays[k]).all() for k in wanted):
        raise HeadModelError(f'{name}: an array holds values that are not finite numbers')
    if f == 0 or arrays['f'].min() < 0 or arrays['f'].max() >= v:
        raise HeadModelError(f'{name}: triangles wanted vertices from 0 to {v - 1}, found others')
    for key, limit in (('n_shape', SHAPE_SPACE), ('n_expression', EXPRESSION_SPACE)):
        count = arrays.get(key, np.array(limit))
        if count.shape != () or count.dtype.kind not in 'iu' or not 0 <= count <= limit:
            raise HeadModelError(f'{name}: {key}: wanted an integer of 0 to {limit}, found {str(count)[:40]}')
    parents = arrays['kintree_table'][0].astype(np.int64)
    parents[0] = -1  # stored as 2^32 - 1
    if not np.array_equal(parents, [-1, 0, 1, 1, 1]):
        raise HeadModelError(f'{name}: joints wanted root, neck, jaw and two eyes, found parents {parents.tolist()}')
    floats = {k: np.ascontiguousarray(arrays[k], np.float32) for k in
              ('v_template', 'shapedirs', 'posedirs', 'J_regressor', 'weights')}
    return {**floats, 'faces': arrays['f'].astype(np.int32), 'parents': parents.astype(np.int32)}


def read_obj_uvs(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates [T, 2] (v down) and triangles [F, 3] of an OBJ file.

    Raises:
        HeadModelError: no such file, or no texture coordinates or triangles in it.
    """
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
        uvs = np.array([[float(w) for w in line[1:3]] for line in lines if line and line[0] == 'vt'])
        faces = np.array([[int(w.split('/')[1]) - 1 for w in line[1:]] for line in lines if line and line[0] == 'f'])
    except (OSError, ValueError, IndexError) as error:
        raise HeadModelError(f'template OBJ {path} could not be read: {error}') from error
    if uvs.ndim != 2 or faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= len(uvs):
        raise HeadModelError(f'template OBJ {path}: wanted triangles with texture coordinates')
    return uvs * [1, -1] + [0, 1], faces


def export_flame(head: HeadModel, folder: str | Path) -> Path:
    """Write a head as files that `smplx.FLAME` loads: FLAME_NEUTRAL.pkl and a landmark embedding.

    Identity and expression columns are padded with zeros to 300 + 100; their true counts stand in the file. Lids are
    not part of FLAME and are left out.

    Raises:
        HeadModelError: the head has more columns than FLAME.
        StorageError: the folder can't be written.
    """
    if head.n_shape > SHAPE_SPACE or head.n_expression > EXPRESSION_SPACE:
        raise HeadModelError(f'FLAME holds {SHAPE_SPACE} + {EXPRESSION_SPACE} columns, '
                             f'found {head.n_shape} + {head.n_expression}')
    dirs = np.zeros((len(head.v_template), 3, SHAPE_SPACE + EXPRESSION_SPACE), np.float32)
    dirs[:, :, :head.n_shape] = head.shapedirs
    dirs[:, :, SHAPE_SPACE:SHAPE_SPACE + head.n_expression] = head.exprdirs
    posedirs = head.posedirs if head.posedirs.shape[2] else np.zeros((*head.v_template.shape, 36), np.float32)
    parents = head.parents.astype(np.int64)
    parents[0] = 2**32 - 1
    model = {
        'v_template': head.v_template, 'f': head.faces.astype(np.uint32), 'shapedirs': dirs, 'posedirs': posedirs,
        'J_regressor': head.J_regressor, 'weights': head.weights, 'kintree_table': np.stack([parents, np.arange(5)]),
        'n_shape': np.array(head.n_shape), 'n_expression': np.array(head.n_expression),
    }
    landmarks = {'lmk_face_idx': np.zeros(51, np.int64), 'lmk_b_coords': np.full((51, 3), 1 / 3)}
    folder = Path(folder)
    for file_name, content in (('FLAME_NEUTRAL.pkl', model), ('flame_static_embedding.pkl', landmarks)):
        buffer = io.BytesIO()
        pickle.dump(content, buffer, protocol=2)
        write_atomically(folder / file_name, buffer.getvalue())
    return folder / 'FLAME_NEUTRAL.pkl'
