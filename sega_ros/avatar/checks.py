"""What the numbers of an avatar file may be: types that are written, and sizes that arithmetic in single precision can bear.

A file comes from another machine, and compiled code computes with it: it must not meet what nobody has tried.
"""

from dataclasses import dataclass

import numpy as np

_MAX_SHELL = 200_000  # splats; ours have some 20,000


@dataclass(frozen=True)
class Numbers:
    """Kinds of NumPy types, and the range of the values."""

    kinds: str
    low: float = -1e4
    high: float = 1e4


_METRES = Numbers('f', -100, 100)
_SHARE = Numbers('f', -1e-3, 1 + 1e-3)
_INDEX = Numbers('iu', 0, 2**31)
_PARAMETERS = Numbers('f', -100, 80)  # before activation: e^80 is still a number
_NAMED = {
    'static_map': _PARAMETERS, 'dynamic_map': _PARAMETERS, 'static_map.texels': _INDEX, 'dynamic_map.texels': _INDEX,
    'residual.texels': _INDEX, 'residual.maps': Numbers('i', -128, 127), 'residual.scales': Numbers('f', 0, 1),
    'residual.shell_colors': Numbers('f', -10, 10), 'residual.shell_opacities': Numbers('f', -2, 2),
    'shell.means': _METRES, 'shell.scales': Numbers('f', 0, 1), 'shell.opacities': _SHARE, 'shell.torso': _SHARE,
    'shell.quats': Numbers('f', -100, 100), 'shell.colors': Numbers('f', -10, 10), 'shell.normals': Numbers('f', -2, 2),
    'shell.fade': Numbers('f', -10, 10), 'photo.viewmat': _METRES, 'photo.intrinsics': Numbers('f', -1e6, 1e6),
    'window': Numbers('f', -1e6, 1e6), 'background': _SHARE, 'closed_lids': Numbers('u', 0, 255),
    'identity.v_offset': Numbers('f', -1, 1), 'identity.landmark_offset': Numbers('f', -1, 1),
    'identity.eyelids': Numbers('f', -10, 10), 'identity.gaze': Numbers('f', -10, 10), 'identity.shape': Numbers('f', -1e3, 1e3),
    'distilled.cells': _INDEX, 'distilled.bases': Numbers('i', -128, 127),
}
_KINDS = {'f': 'float16 or float32', 'i': 'int8', 'u': 'uint8', 'iu': 'integers'}
_OTHER = Numbers('f', -1e5, 1e5)  # weights, in half precision


def check_values(tensors: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless each tensor has a type that is written and finite values in range."""
    for key, value in tensors.items():
        if not np.isfinite(value).all():
            raise ValueError(f'{key} holds values that are not finite')
        wanted = _NAMED.get(key, _OTHER)
        if value.dtype.kind not in wanted.kinds:
            raise ValueError(f'{key}: wanted {_KINDS[wanted.kinds]}, found {value.dtype}')
        if value.size and not (wanted.low <= value.min() and value.max() <= wanted.high):
            raise ValueError(f'{key}: wanted values from {wanted.low:g} to {wanted.high:g}, found {value.min()} to {value.max()}')
    _check_shell(tensors)
    _check_camera(tensors['photo.viewmat'], tensors['photo.intrinsics'], tensors['window'])


def _check_shell(tensors: dict[str, np.ndarray]) -> None:
    count = len(tensors['shell.means'])
    if count > _MAX_SHELL:
        raise ValueError(f'shell: wanted at most {_MAX_SHELL} splats, found {count}')
    if not (tensors['shell.fade'][:, 0] < tensors['shell.fade'][:, 1]).all():
        raise ValueError('shell.fade: wanted the first cosine below the second')


def _check_camera(viewmat: np.ndarray, intrinsics: np.ndarray, window: np.ndarray) -> None:
    """Check that a viewmat [4, 4] moves rigidly, and that sizes and focal lengths are positive and near each other."""
    for key, sizes in (('photo.intrinsics', intrinsics[:4]), ('window', window[2:])):
        if not (sizes >= 1).all():
            raise ValueError(f'{key}: wanted positive sizes of a pixel or more, found {sizes.tolist()}')
    turn = viewmat[:3, :3].astype(np.float64)
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or not np.allclose(viewmat[3], [0, 0, 0, 1], atol=1e-3):
        raise ValueError('photo.viewmat: wanted a rotation and a translation')
