"""Driving: the avatar, one FlameExpression and a view give one picture (SEGA section 3.4, inference)."""

from dataclasses import dataclass, replace

import numpy as np

from sega_ros.avatar.avatar import Avatar, check_head
from sega_ros.avatar.detail import share_of
from sega_ros.avatar.idle import neutral_expression
from sega_ros.avatar.working_set import WholeAvatar, WorkingSet
from sega_ros.camera import FRONTAL, orbit_camera, pose_camera, pose_to_viewmat
from sega_ros.errors import HeadModelMismatchError, RequestError
from sega_ros.geometry import rotmat_to_rotvec, rotvec_to_rotmat
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.models.binding import camera_centre
from sega_ros.models.distilled import Distilled, DistilledDecoder
from sega_ros.models.frame_decoder import FrameDecoder
from sega_ros.tracking.fit import Identity, fit_identity
from sega_ros.types import Camera, FlameExpression, FlameParams

VIEWS = ('frontal', 'follow', 'input', 'free')
# Share of the operator's head turn that view `follow` shows, and of a head turn that the torso joins in.
FOLLOW, TORSO_FOLLOWS = 0.7, 0.3
MAX_SIDE = 4096
_ORBITS = 16  # cameras kept


@dataclass(frozen=True)
class View:
    """Where the avatar is seen from."""

    kind: str = 'frontal'
    size: tuple[int, int] = (512, 512)  # (H, W) pixels
    yaw: float = 0.0  # radians, view `free`; positive shows the avatar's left cheek
    pitch: float = 0.0  # radians, view `free`; positive looks from above
    distance: float | None = None  # metres; None is the photo's
    background: tuple[float, float, float] | None = None  # RGB in [0, 1]; None is the photo's

    def __post_init__(self):
        if self.kind not in VIEWS:
            raise RequestError(f'view {self.kind!r}: wanted one of {", ".join(VIEWS)}')
        if len(self.size) != 2 or not all(n == int(n) and 1 <= n <= MAX_SIDE for n in self.size):
            found = 'x'.join(map(str, self.size))
            raise RequestError(f'view size: wanted 1 to {MAX_SIDE} pixels a side, found {found} (H, W)')
        if not np.isfinite([self.yaw, self.pitch]).all():
            raise RequestError(f'view: wanted yaw and pitch in radians, found {self.yaw} and {self.pitch}')
        color = self.background
        if color is not None and not (np.shape(color) == (3,) and all(0 <= c <= 1 for c in color)):
            raise RequestError(f'view background: wanted RGB, three numbers in [0, 1], found {color}')
        if self.distance is not None and not 0.1 <= self.distance <= 10:
            raise RequestError(f'view distance: wanted 0.1 to 10 m, found {self.distance}')


@dataclass(frozen=True)
class Bound:
    """One frame, ready to be drawn."""

    arrays: tuple  # the fields of Splats as the driver's `splats` gives them
    camera: Camera
    background: np.ndarray  # [3] RGB in [0, 1]


class AvatarDriver:
    """Renders one avatar on the CPU (`device_drive.open_driver` for a GPU).

    Keeps buffers, not state: `render` is a function of its arguments and of `detail`.
    """

    _all_dynamic = False  # the decoder writes the dynamic regions

    def __init__(self, avatar: Avatar, head: HeadModel):
        """Prepare `avatar` for `head`.

        Raises:
            HeadModelMismatchError: the avatar was made for another head model.
        """
        check_head(avatar, head)
        self.avatar, self.head = avatar, head
        self._poser = Poser(head, avatar.identity.shape, v_offset=avatar.identity.v_offset)
        self._whole = WholeAvatar(avatar, head, self._poser.rest, all_dynamic=self._all_dynamic)
        self._set, self._detail = WorkingSet(self._whole, 1.0), len(self._whole)
        self._decoder = self._frame_decoder()
        self._neck = (head.J_regressor @ self._poser.rest)[1].astype(np.float64)
        self._posed, self._normals = np.empty_like(self._poser.rest), np.empty_like(self._poser.rest)
        self._orbits: dict[tuple, Camera] = {}
        self._photo_rotation = avatar.photo_camera.viewmat[:3, :3].astype(np.float64)

    def _frame_decoder(self) -> FrameDecoder | DistilledDecoder | None:
        """Prepare the dynamic branch; None for an avatar without one."""
        if self.avatar.branch is None:
            return None
        if isinstance(self.avatar.branch, Distilled):
            return DistilledDecoder(self.avatar.branch, self.head, self._poser.rest)
        return FrameDecoder(self.avatar.branch, self.head, self._poser.rest, xy=self._whole.xy[self._whole.decoded])

    @property
    def detail(self) -> int:
        """Number of splats on all sides of the head; set it to draw about so many of the avatar's, at most all."""
        return self._detail

    @detail.setter
    def detail(self, count: int) -> None:
        count = min(int(count), len(self._whole))
        if count != self._detail:
            whole = self._whole
            self._set, self._detail = WorkingSet(whole, share_of(count, whole.thinning, whole.shell_thinning)), count

    def neutral(self) -> FlameExpression:
        """Return a message with a neutral face at the default pose."""
        return neutral_expression(self.head.n_expression, self.head.name, self.head.version)

    def camera(self, expression: FlameExpression, view: View) -> Camera:
        """Camera of `view`, its viewmat the head's pose in it."""
        if view.kind == 'input':
            return pose_camera(expression.rotation, expression.translation, expression.focal_length, view.size)
        yaw, pitch = (view.yaw, view.pitch) if view.kind == 'free' else (0.0, 0.0)
        key = (*view.size, yaw, pitch, view.distance)
        camera = self._orbits.get(key)
        if camera is None:
            if len(self._orbits) >= _ORBITS:  # a `free` view that moves
                self._orbits.clear()
            camera = self._orbits[key] = self._orbit(view.size, yaw, pitch, view.distance)
        if view.kind == 'follow':
            turn = rotvec_to_rotmat(FOLLOW * rotmat_to_rotvec(FRONTAL.T @ expression.rotation.astype(np.float64)))
            neck = camera.viewmat[:3, :3] @ self._neck + camera.viewmat[:3, 3]
            rotation = FRONTAL @ turn
            camera = replace(camera, viewmat=pose_to_viewmat(rotation, neck - rotation @ self._neck))
        return camera

    def _orbit(self, size: tuple[int, int], yaw: float, pitch: float, distance: float | None) -> Camera:
        """Camera of the views that look at the photo's window; read-only, as many frames share it."""
        height, width = size
        photo = self.avatar.photo_camera
        depth = float((photo.viewmat[:3, :3] @ self._neck + photo.viewmat[:3, 3])[2])
        # The photo's framing: the focal length of its portrait window over the shorter side, looking at the window's centre.
        x, y, side = (float(v) for v in self.avatar.window)
        focal = photo.fx / side * min(height, width) / width
        centre = np.array([x + side / 2 - photo.cx, y + side / 2 - photo.cy, photo.fx]) * depth / photo.fx
        target = photo.viewmat[:3, :3].T @ (centre - photo.viewmat[:3, 3])
        camera = orbit_camera(yaw=yaw, pitch=pitch, distance=depth if distance is None else distance, size=size,
                              focal_length=focal, target=target)
        camera.viewmat.flags.writeable = False
        return camera

    def torso_rotation(self, expression: FlameExpression, view: View, camera: Camera) -> np.ndarray:
        """Rotation [3, 3] of the torso about the neck, head frame: it joins in only a share of a head turn."""
        if view.kind == 'input':
            base = self._photo_rotation
        elif view.kind == 'follow':
            base = FRONTAL.astype(np.float64)
        else:
            return np.eye(3)
        now = camera.viewmat[:3, :3].astype(np.float64)
        turn = rotvec_to_rotmat(TORSO_FOLLOWS * rotmat_to_rotvec(now @ base.T))
        return now.T @ turn @ base

    def splats(self, expression: FlameExpression, view: View, camera: Camera) -> tuple[np.ndarray, ...]:
        """Visible splats as arrays (the fields of Splats), the caller's own."""
        torso = self.torso_rotation(expression, view, camera)
        vertices = self._vertices(expression.params, torso)
        eye = camera_centre(camera.viewmat)
        return self._set.splats(vertices, expression.params.eyelids, eye, torso=torso, pivot=self._neck, decoder=self._decoder,
                                normals=self._normals)

    def _vertices(self, params: FlameParams, torso: np.ndarray) -> np.ndarray:
        """Posed mesh [V, 3] in the skull's frame, in a buffer: there it is the torso that turns."""
        return self._poser.pose(self._bent(params, torso), turn=torso, pivot=self._neck, out=self._posed)

    @staticmethod
    def _bent(params: FlameParams, torso: np.ndarray) -> FlameParams:
        """Parameters with the neck bent by what parts the skull from a torso turned by `torso` [3, 3]."""
        return replace(params, neck_pose=rotmat_to_rotvec(torso.T).astype(np.float32))

    def render(self, expression: FlameExpression, view: View) -> np.ndarray:
        """Picture of one message, uint8 RGB [H, W, 3]: `bind`, then `draw`, and its errors."""
        return self.draw(self.bind(expression, view))

    def bind(self, expression: FlameExpression, view: View) -> Bound:
        """All but the drawing: decode, pose, place. While one thread draws, another may bind what comes next.

        Raises:
            HeadModelMismatchError: the message speaks of another head model.
        """
        found = (expression.head_model, expression.head_model_version)
        wanted = (self.head.name, self.head.version)
        if found != wanted:
            raise HeadModelMismatchError(f'the expression message is for head model {found[0]!r} {found[1]!r}, the avatar for '
                                         f'{wanted[0]!r} {wanted[1]!r}: use the same head model on both sides')
        camera = self.camera(expression, view)
        background = np.asarray(self.avatar.background if view.background is None else view.background, np.float32)
        return Bound(self.splats(expression, view, camera), camera, background)

    def draw(self, bound: Bound) -> np.ndarray:
        """Picture of what `bind` gave, uint8 RGB [H, W, 3]."""
        from sega_ros.render import rasterize_arrays

        return rasterize_arrays(*bound.arrays, bound.camera, background=bound.background)


def driver_identity(
    avatar: Avatar, head: HeadModel, embedding, image: np.ndarray, *, choice: str = 'auto', fitted: Identity | None = None,
) -> Identity | None:
    """Whose face shape the tracker should assume for this driver: the avatar's, or None to fit the driver's own.

    With 'auto' the avatar's is taken when it explains the landmarks of the driver's first frame nearly as well as a face
    fitted to them does: then the driver is the avatar's own person. `fitted` saves that fit where a tracker has made it.
    """
    if choice not in ('auto', 'avatar', 'fit'):
        raise RequestError(f'driver identity {choice!r}: wanted auto, avatar or fit')
    if choice == 'fit':
        return None
    if choice == 'avatar':
        return avatar.identity
    from sega_ros.tracking.expression import ExpressionFitter
    from sega_ros.tracking.landmarks import LandmarkDetector

    with LandmarkDetector(static_image_mode=True) as detector:
        faces = detector.detect(image)
    if not faces:
        return None
    fitter = ExpressionFitter(head, embedding, replace(avatar.identity, focal_length=None))
    fit = fitter.fit(faces[0])
    if fitted is None:
        own = fit_identity(head, embedding, faces[0]).rms_px
    else:
        own = ExpressionFitter(head, embedding, fitted).fit(faces[0]).rms_px
    return avatar.identity if fit.rms_px < _SAME_PERSON * own else None


# Landmark error of the avatar's shape over that of a fitted one, up to which they are one person. On eight people's clips their
# own shape had a median of 1.08 (nine in ten under 1.29), other people's 1.54 (nine in ten over 1.13).
_SAME_PERSON = 1.2
