"""Values that cross module boundaries. Letters and frames: CONVENTIONS.md.

What is optimised or rendered is a torch tensor; what is measured, fitted or stored is a NumPy array.
Everything is float32, metres, radians and RGB in [0, 1] unless a field says otherwise.
"""

from dataclasses import dataclass, field, fields
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from sega_ros.errors import RequestError


def check_shape(name: str, array, shape: tuple[int | None, ...]) -> None:
    """Raise RequestError unless `array` has `shape`; None stands for any length."""
    found = tuple(array.shape)
    if len(found) != len(shape) or any(w is not None and w != f for w, f in zip(shape, found, strict=True)):
        wanted = ', '.join('any' if w is None else str(w) for w in shape)
        raise RequestError(f'{name}: wanted shape [{wanted}], found {list(found)}')


class Region(IntEnum):
    """Region of the head surface a triangle or texel belongs to; 0 is outside of every chart."""

    NONE = 0
    FACE = 1
    MOUTH = 2  # interior: gums, tongue, inner cheeks
    TEETH = 3
    EYES = 4  # eyeballs
    EYELIDS = 5
    SCALP = 6
    EARS = 7
    NECK = 8


# Regions decoded anew for each frame (SEGA, dynamic branch); the others are baked once.
DYNAMIC_REGIONS = (Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; OpenCV frame (x right, y down, z forward), pixel centres at half integers."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    viewmat: np.ndarray = field(default_factory=lambda: np.eye(4, dtype=np.float32))  # [4, 4] world to camera

    @property
    def K(self) -> np.ndarray:
        """Intrinsic matrix [3, 3], pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float32)


@dataclass(frozen=True)
class FlameParams:
    """Parameters of the head model without its rigid pose (that is the camera's viewmat).

    Axis-angle rotations, radians. Names as in FLAME; `eyelids` is left, right in [0, 1] (1 closed).
    """

    shape: np.ndarray  # [S]
    expression: np.ndarray  # [E]
    neck_pose: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))  # [3]
    jaw_pose: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))  # [3]
    left_eye_pose: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))  # [3]
    right_eye_pose: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))  # [3]
    eyelids: np.ndarray = field(default_factory=lambda: np.zeros(2, np.float32))  # [2]

    @classmethod
    def neutral(cls, n_shape: int, n_expression: int) -> 'FlameParams':
        """Return the mean identity with a neutral face."""
        return cls(np.zeros(n_shape, np.float32), np.zeros(n_expression, np.float32))


@dataclass(frozen=True)
class FlameExpression:
    """What one driving frame says: the core's twin of `sega_ros/msg/FlameExpression`.

    `rotation` and `translation` take head-model coordinates to the camera's optical frame. A rendered frame is a
    function of the avatar, this value and the view camera alone.
    """

    stamp_ns: int
    frame_id: str
    head_model: str
    head_model_version: str
    face_present: bool
    confidence: float  # [0, 1]
    params: FlameParams  # shape is empty: identity belongs to the avatar
    rotation: np.ndarray  # [3, 3]
    translation: np.ndarray  # [3] metres
    focal_length: float  # focal length over image width


@dataclass(frozen=True)
class Splats:
    """3D Gaussians in world coordinates, gsplat's conventions."""

    means: Tensor  # [N, 3]
    quats: Tensor  # [N, 4] wxyz, need not be normalised
    scales: Tensor  # [N, 3] standard deviations, metres
    opacities: Tensor  # [N] in [0, 1]
    colors: Tensor  # [N, 3] RGB in [0, 1]

    def __len__(self) -> int:
        return self.means.shape[0]

    def __getitem__(self, index) -> 'Splats':
        return Splats(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, *args, **kwargs) -> 'Splats':
        """Move or cast every tensor."""
        return Splats(*(getattr(self, f.name).to(*args, **kwargs) for f in fields(self)))

    @staticmethod
    def cat(parts: list['Splats']) -> 'Splats':
        """Concatenate along N."""
        return Splats(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Splats)))


@dataclass(frozen=True)
class Rendering:
    """A rendered picture."""

    image: Tensor  # [H, W, 3] RGB in [0, 1], composited over the background
    alpha: Tensor  # [H, W] in [0, 1]
    depth: Tensor | None = None  # [H, W] alpha-weighted mean of camera z, metres; 0 where alpha is 0


@dataclass(frozen=True)
class GaussianMap:
    """Gaussian parameters per UV texel, in the frame of the surface there (SEGA section 3).

    Raw values as a network puts them out; `models.binding` applies the activations.
    """

    offset: Tensor  # [H, W, 3] metres, along (tangent, bitangent, normal)
    rotation: Tensor  # [H, W, 4] wxyz, relative to the surface frame
    log_scale: Tensor  # [H, W, 3] natural log of metres
    opacity: Tensor  # [H, W] logit
    color: Tensor  # [H, W, 3] RGB in [0, 1]

    def to(self, *args, **kwargs) -> 'GaussianMap':
        """Move or cast every tensor."""
        return GaussianMap(*(getattr(self, f.name).to(*args, **kwargs) for f in fields(self)))


@dataclass(frozen=True)
class Shell:
    """Splats off the mesh: hair with its volume, and the bust. Bound rigidly to the head, the torso, or between."""

    splats: Splats  # [N] in the head frame of the photo, along a Morton curve
    normals: np.ndarray  # [N, 3] outward
    fade: np.ndarray  # [N, 2] cosines between normal and camera at which a splat is gone, and at which it is all there
    torso: np.ndarray  # [N] share of the torso's motion, 0 moves with the head


@dataclass(frozen=True)
class Shot:
    """One picture of a person over a plain background, with all that is known of it; what the decoders train on."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    alpha: np.ndarray  # [H, W] uint8: matte of the person, clothes included
    head: np.ndarray  # [H, W] bool: skin and hair, without clothes
    face: np.ndarray  # [H, W] bool: where the head's dynamic regions are seen
    background: np.ndarray  # [3] RGB in [0, 1] behind the person
    camera: Camera  # its viewmat is the head's pose
    params: FlameParams


@dataclass(frozen=True)
class Capture:
    """One person from several sides and with several expressions, under one light that stays where the shoulders are."""

    name: str
    shape: np.ndarray  # [S] of the head model
    v_offset: np.ndarray | None  # [V, 3] metres added to the template, or None
    photo: Shot  # what a user would hand in: frontal, near neutral, larger than the others
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Landmarks:
    """MediaPipe's 478 face points in one image."""

    points: np.ndarray  # [478, 3] pixels x, y and MediaPipe's z (pixels, smaller is nearer)
    confidence: float  # [0, 1]
    width: int
    height: int
