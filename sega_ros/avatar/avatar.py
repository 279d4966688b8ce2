"""The avatar as a value, and as tensors with metadata: everything a frame needs besides the message and the view."""

from dataclasses import dataclass, field, fields

import numpy as np
import torch

from sega_ros.avatar.checks import check_values
from sega_ros.avatar.listing import check_listing
from sega_ros.errors import AvatarDamagedError, HeadModelMismatchError, RequestError
from sega_ros.head.atlas import UvAtlas, build_atlas, texel_head
from sega_ros.head.model import HeadModel
from sega_ros.models.distilled import Distilled, distilled_to_tensors, tensors_to_distilled
from sega_ros.models.frame_decoder import Branch, branch_to_tensors, tensors_to_branch
from sega_ros.tracking.fit import Identity
from sega_ros.types import Camera, GaussianMap, Shell, Splats, check_shape

FORMAT = 5  # of the file; raised when a reader of the old one would misread the new one
# Channels of the packed map, in the order of GaussianMap's fields.
_CHANNELS = {'offset': 3, 'rotation': 4, 'log_scale': 3, 'opacity': 1, 'color': 3}
NOTHING = np.array([0, 0, 0, 1, 0, 0, 0, -8, -8, -8, -10, 0, 0, 0], np.float32)  # a texel without a splat
_MIN_ATLAS, _MAX_ATLAS = 8, 1024
_SHELL_RESIDUAL = ('shell_colors', 'shell_opacities')
_LEVELS = 64  # of the residual's eight bits, to either side; a power of two, so that packing anew changes nothing


@dataclass(frozen=True)
class Residual:
    """What the photo adds to what the decoders say. It is right near the photo's view, and does harm far from it."""

    maps: GaussianMap  # [H, W, ...] before activation, of the static and the dynamic map alike; rotations are not changed
    shell_colors: np.ndarray  # [N, 3]
    shell_opacities: np.ndarray  # [N] after activation


@dataclass(frozen=True)
class Avatar:
    """One person. `static` is baked once; `branch` changes `dynamic` frame by frame (SEGA section 3.4)."""

    head_model: str
    head_model_version: str
    identity: Identity
    atlas_size: int  # texels, square
    static: GaussianMap  # [H, W, ...]
    dynamic: GaussianMap  # [H, W, ...] before the dynamic decoder's changes; colours may leave [0, 1]
    branch: Branch | Distilled | None  # deformation VAE and dynamic decoder; None: the expression acts through the mesh alone
    closed_lids: np.ndarray  # [H, W, 3] colours around shut eyes; 0 where lids play no part
    shell: Shell
    photo_camera: Camera  # of the crop the avatar was made from; its viewmat is the photo's head pose
    window: np.ndarray  # [3] x, y, side of the part of that crop which a portrait view shows, pixels
    background: np.ndarray  # [3] RGB in [0, 1]
    residual: Residual | None = None
    metadata: dict = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def check_head(avatar: Avatar, head: HeadModel) -> None:
    """Raise unless `avatar` was made for `head`.

    Raises:
        HeadModelMismatchError: it was made for another.
        AvatarDamagedError: it says so, but has another number of coefficients or vertices.
    """
    made, found = (avatar.head_model, avatar.head_model_version), (head.name, head.version)
    if made != found:
        raise HeadModelMismatchError(f'the avatar was made for head model {made[0]} {made[1]}, loaded is {found[0]} '
                                     f'{found[1]}: load that head, or create the avatar anew')
    shape, offset = avatar.identity.shape, avatar.identity.v_offset
    if len(shape) > head.n_shape or (offset is not None and len(offset) != len(head.v_template)):
        raise AvatarDamagedError(f'damaged avatar: its identity does not fit head model {found[0]} {found[1]} of {head.n_shape} '
                                 f'coefficients and {len(head.v_template)} vertices; create it anew')


def _pack(maps: GaussianMap, empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texels [U] (row * width + column) of a map that are not `empty` [14], and their values [U, 14]."""
    parts = [getattr(maps, k).detach().reshape(*maps.opacity.shape, n) for k, n in _CHANNELS.items()]
    rows = torch.cat(parts, -1).numpy().reshape(-1, len(empty))
    texels = np.flatnonzero((rows != empty).any(1))
    return texels.astype(np.uint16 if len(rows) <= 1 << 16 else np.int32), rows[texels]


def _unpack(texels: np.ndarray, rows: np.ndarray, size: int, empty: np.ndarray) -> GaussianMap:
    texels = texels.astype(np.int64)
    if len(texels) and not (0 <= texels.min() and texels.max() < size * size):
        raise ValueError(f'texels: wanted 0 to {size * size - 1}, found {texels.min()} to {texels.max()}')
    maps = filled_maps(size, empty)
    for (name, width), values in zip(_CHANNELS.items(), np.split(rows, np.cumsum(list(_CHANNELS.values()))[:-1], 1), strict=True):
        getattr(maps, name).view(size * size, width)[texels] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    return maps


def filled_maps(size: int, values: np.ndarray) -> GaussianMap:
    """Maps [size, size, ...] of one's own that hold `values` [14] everywhere."""
    parts = torch.from_numpy(values).expand(size, size, -1).split(list(_CHANNELS.values()), -1)
    return GaussianMap(**{k: part[..., 0].clone() if k == 'opacity' else part.clone()
                          for k, part in zip(_CHANNELS, parts, strict=True)})


def avatar_to_tensors(avatar: Avatar) -> tuple[dict[str, np.ndarray], dict]:
    """Tensors and JSON metadata of an avatar.

    Maps and shell are in half precision but for places, the residual in eight bits: the errors are under a grey level.
    """
    tensors = {}
    for name, maps in (('static_map', avatar.static), ('dynamic_map', avatar.dynamic)):
        tensors[f'{name}.texels'], rows = _pack(maps, NOTHING)
        tensors[name] = rows.astype(np.float16)
    for f in fields(Identity):
        value = getattr(avatar.identity, f.name)
        if value is not None:
            tensors[f'identity.{f.name}'] = np.atleast_1d(np.asarray(value, np.float32))
    for f in fields(Splats):
        kind = np.float32 if f.name == 'means' else np.float16
        tensors[f'shell.{f.name}'] = getattr(avatar.shell.splats, f.name).detach().numpy().astype(kind)
    tensors |= {
        **{f'shell.{k}': getattr(avatar.shell, k).astype(np.float16) for k in ('normals', 'fade', 'torso')},
        'photo.viewmat': avatar.photo_camera.viewmat.astype(np.float32),
        'photo.intrinsics': _intrinsics(avatar.photo_camera),
        'window': np.asarray(avatar.window, np.float32), 'background': np.asarray(avatar.background, np.float32),
        'closed_lids': (np.clip(avatar.closed_lids, 0, 1) * 255 + 0.5).astype(np.uint8),
    }
    if avatar.residual is not None:
        texels, rows = _pack(avatar.residual.maps, 0 * NOTHING)
        scales = (np.maximum(np.abs(rows).max(0, initial=0), 1e-12) / _LEVELS).astype(np.float32)
        eight = np.rint(rows / scales).astype(np.int8)
        changed = eight.any(1)
        tensors |= {'residual.texels': texels[changed], 'residual.maps': eight[changed], 'residual.scales': scales}
        tensors |= {f'residual.{k}': getattr(avatar.residual, k).astype(np.float16) for k in _SHELL_RESIDUAL}
    sizes = None
    if avatar.branch is not None:
        to_tensors = distilled_to_tensors if isinstance(avatar.branch, Distilled) else branch_to_tensors
        weights, sizes = to_tensors(avatar.branch)
        tensors |= weights
    metadata = dict(avatar.metadata) | {
        'branch': sizes, 'format': FORMAT, 'head_model': avatar.head_model, 'head_model_version': avatar.head_model_version,
        'atlas_size': avatar.atlas_size, 'warnings': list(avatar.warnings),
    }
    return tensors, metadata


def _intrinsics(camera: Camera) -> np.ndarray:
    return np.array([camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


def tensors_to_avatar(tensors: dict[str, np.ndarray], metadata: dict) -> Avatar:
    """Avatar of what `avatar_to_tensors` gave; every array is checked before it is used.

    Raises:
        AvatarDamagedError: missing or malformed tensors, or another format version.
    """
    if metadata.get('format') != FORMAT:
        raise AvatarDamagedError(f'avatar format {repr(metadata.get("format"))[:40]} is unknown, wanted {FORMAT}: create it anew')
    check_listing(metadata)
    try:
        return _tensors_to_avatar(tensors, metadata)
    except (KeyError, RequestError, ValueError, TypeError, OverflowError) as error:
        raise AvatarDamagedError(f'damaged avatar: {error}; create it anew') from error


def _tensors_to_avatar(tensors: dict[str, np.ndarray], metadata: dict) -> Avatar:
    size = metadata['atlas_size']
    if type(size) is not int or not _MIN_ATLAS <= size <= _MAX_ATLAS:
        raise ValueError(f'atlas_size: wanted {_MIN_ATLAS} to {_MAX_ATLAS}, found {str(size)[:40]!r}')
    channels = sum(_CHANNELS.values())
    count = len(tensors['shell.means'])
    used = {k: len(tensors[f'{k}.texels']) for k in ('static_map', 'dynamic_map')}
    shapes = {
        **{k: (n, channels) for k, n in used.items()}, **{f'{k}.texels': (n,) for k, n in used.items()},
        'shell.means': (count, 3),
        'shell.quats': (count, 4), 'shell.scales': (count, 3), 'shell.opacities': (count,), 'shell.colors': (count, 3),
        'shell.normals': (count, 3), 'shell.fade': (count, 2), 'shell.torso': (count,), 'photo.viewmat': (4, 4),
        'photo.intrinsics': (6,),
        'background': (3,), 'window': (3,), 'closed_lids': (size, size, 3), 'identity.shape': (None,),
    }
    optional = {'identity.v_offset': (None, 3), 'identity.landmark_offset': (478, 3), 'identity.focal_length': (1,),
                'identity.eye_openness': (2,), 'identity.eyelids': (2,), 'identity.gaze': (2, 3),
                'residual.maps': (None, channels)}
    shapes |= {key: shape for key, shape in optional.items() if key in tensors}
    if 'residual.maps' in tensors:
        shapes |= {'residual.texels': (len(tensors['residual.maps']),), 'residual.scales': (channels,),
                   'residual.shell_colors': (count, 3), 'residual.shell_opacities': (count,)}
    for key, shape in shapes.items():
        check_shape(key, tensors[key], shape)
    check_values(tensors)
    identity = {f.name: tensors.get(f'identity.{f.name}') for f in fields(Identity)}
    if identity['focal_length'] is not None:
        identity['focal_length'] = float(identity['focal_length'][0])
    splats = {f.name: torch.from_numpy(np.array(tensors[f'shell.{f.name}'], np.float32)) for f in fields(Splats)}
    k = tensors['photo.intrinsics']
    camera = Camera(int(k[0]), int(k[1]), *map(float, k[2:]), np.array(tensors['photo.viewmat'], np.float32))
    return Avatar(
        str(metadata['head_model']), str(metadata['head_model_version']), Identity(**identity), size,
        *(_unpack(tensors[f'{k}.texels'], tensors[k], size, NOTHING) for k in ('static_map', 'dynamic_map')),
        _branch(tensors, metadata['branch']),
        tensors['closed_lids'].astype(np.float32) / 255,
        Shell(Splats(**splats), *(np.array(tensors[f'shell.{k}'], np.float32) for k in ('normals', 'fade', 'torso'))),
        camera, np.array(tensors['window']), np.array(tensors['background']), _residual(tensors, size), metadata,
        _texts(metadata.get('warnings', [])),
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TypeError('warnings: wanted a list of texts')
    return tuple(values)


def _branch(tensors: dict[str, np.ndarray], sizes: dict | None) -> Branch | Distilled | None:
    if sizes is None:
        return None
    return (tensors_to_distilled if 'distilled.bases' in tensors else tensors_to_branch)(tensors, sizes)


def _residual(tensors: dict[str, np.ndarray], size: int) -> Residual | None:
    if 'residual.maps' not in tensors:
        return None
    rows = tensors['residual.maps'].astype(np.float32) * tensors['residual.scales']
    maps = _unpack(tensors['residual.texels'], rows, size, 0 * NOTHING)
    return Residual(maps, *(tensors[f'residual.{k}'].astype(np.float32) for k in _SHELL_RESIDUAL))


def avatar_atlas(avatar: Avatar, head: HeadModel) -> UvAtlas:
    """Atlas that the avatar's maps are laid out on."""
    return build_atlas(texel_head(head), avatar.atlas_size)
