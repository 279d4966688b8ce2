"""A scene of a benchmark as a webcam films it, frame by frame, with all that is known of each picture."""

from dataclasses import dataclass, replace

import numpy as np

from sega_ros.camera import FRONTAL, pose_camera, pose_to_viewmat
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.model import HeadModel
from sega_ros.synthetic.capture import Studio, open_studio
from sega_ros.synthetic.hand import with_hand
from sega_ros.synthetic.illumination import seen_from
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.performer import PIVOT, moment_params, rotvec_of
from sega_ros.synthetic.person import draw_truth
from sega_ros.synthetic.renderer import Drawing
from sega_ros.synthetic.room import draw_room
from sega_ros.synthetic.scenes import Beat, SceneSpec
from sega_ros.synthetic.script import Script
from sega_ros.synthetic.webcam import exposed, photograph
from sega_ros.types import DYNAMIC_REGIONS, Camera, FlameParams

_LOOK_AT = np.array([0.0, -0.015, 0.0])  # head frame: what is in the picture's middle; some shoulders show
_SAMPLES = 2  # per pixel side, of a picture that is drawn once
_FOLLOW = 0.35  # of the head's turn that the shoulders make
# Pixels by which the drawings of one exposure are shifted, one sample per pixel each: together they are anti-aliased.
_JITTER = np.array([[0, 0], [0.25, -0.35], [-0.35, 0.1], [0.4, 0.2], [-0.1, -0.25], [0.1, 0.4], [-0.25, -0.45]])


@dataclass(frozen=True)
class Take:
    """One frame and its truth, both of the middle of the exposure."""

    image: np.ndarray  # [H, W, 3] uint8 RGB
    params: FlameParams
    camera: Camera  # its viewmat is the head's pose
    face: np.ndarray  # [H, W] bool: where the head's dynamic regions are seen
    hand: np.ndarray | None  # [4, 4] pose of the hand in the camera frame; None: out of sight


@dataclass(frozen=True)
class Actor:
    """Somebody in a scene."""

    studio: Studio
    script: Script


class Film:
    """The scene `spec` with the person of `seed`; equal arguments give equal frames.

    Example::

        film = Film(load_head(), SCENES['talking'], seed=1_000_000, size=(480, 640))
        take = film.take(12, 30.0)  # the thirteenth frame at 30 Hz
    """

    def __init__(self, head: HeadModel, spec: SceneSpec, seed: int, *, size: tuple[int, int], texture_size: int = 1024):
        """Prepare the people (a few seconds each).

        Args:
            head: the open head.
            spec: the scene.
            seed: who acts; a guest has the next number.
            size: (H, W) pixels, even.
            texture_size: of the skin, texels square.
        """
        self.head, self.spec, self.seed, self.size = head, spec, seed, size
        rng = np.random.default_rng([seed, 1061])
        self._focal_length, self._rest = _set_up(rng)
        self.host = self._cast(seed, texture_size)
        if spec.hand:
            self.host = replace(self.host, studio=replace(self.host.studio, person=with_hand(self.host.studio.person)))
        self.guest = self._cast(seed + 1, texture_size) if spec.guest else None
        self._room = draw_room(self.host.studio.person.look.backdrop, size, seed=seed)
        self._light = seen_from(self.host.studio.lighting, self._rest)

    def _cast(self, seed: int, texture_size: int) -> Actor:
        # Wide collars leave the skin below them bare where the head turns and the shoulders stay.
        look = replace(Look.vary(seed), collar='')
        return Actor(open_studio(self.head, seed, texture_size=texture_size, look=look), Script(seed))

    def take(self, index: int, rate: float) -> Take:
        """Film frame `index` at `rate` frames per second."""
        t, spec = index / rate, self.spec
        moments = (np.arange(spec.exposures) - (spec.exposures - 1) / 2) * spec.shutter / spec.exposures
        jitter = np.roll(_JITTER[:spec.exposures], spec.exposures // 2, axis=0)
        drawings = [self._drawn(max(t + d, 0.0), tuple(j)) for d, j in zip(moments, jitter, strict=True)]
        image = photograph(exposed(d.image for d in drawings), spec.webcam, np.random.default_rng([self.seed, 1063, index]))
        face = np.isin(drawings[spec.exposures // 2].region, DYNAMIC_REGIONS)
        beat = spec.act(self.host.script, t)
        return Take(image, self._params(beat), self._camera(beat), face, self._hand(beat))

    def _drawn(self, t: float, jitter: tuple[float, float]) -> Drawing:
        background = self._room
        if self.guest is not None and self.spec.guest is not None:
            behind = self._draw(self.guest, self.spec.guest(self.guest.script, t), background, jitter)
            background = exposed([behind.image])
        return self._draw(self.host, self.spec.act(self.host.script, t), background, jitter)

    def _draw(self, actor: Actor, beat: Beat, background: np.ndarray, jitter: tuple[float, float]) -> Drawing:
        camera = self._camera(beat)
        camera = replace(camera, cx=camera.cx + jitter[0], cy=camera.cy + jitter[1])
        return draw_truth(
            actor.studio.person, self._params(beat, actor), camera, rest_viewmat=self._shoulders(beat), lighting=self._light,
            background=background, samples=_SAMPLES if self.spec.exposures == 1 else 1, hand=self._hand(beat))

    def _params(self, beat: Beat, actor: Actor | None = None) -> FlameParams:
        return moment_params(self.head, (actor or self.host).studio.person.shape, beat.moment)

    def _moved(self, body: tuple[float, float, float]) -> np.ndarray:
        """Viewmat [4, 4] of shoulders that have gone by `body` (metres, head axes)."""
        viewmat = self._rest.astype(np.float64)
        viewmat[:3, 3] += viewmat[:3, :3] @ np.array(body)
        return viewmat.astype(np.float32)

    def _shoulders(self, beat: Beat) -> np.ndarray:
        """Viewmat [4, 4] of the shoulders, which turn a part of the way with the head."""
        yaw, _, roll = beat.moment.turn
        turn = np.eye(4)
        turn[:3, :3] = rotvec_to_rotmat(rotvec_of(_FOLLOW * yaw, 0.0, 0.3 * _FOLLOW * roll).astype(np.float64))
        turn[:3, 3] = PIVOT - turn[:3, :3] @ PIVOT
        return (self._moved(beat.body).astype(np.float64) @ turn).astype(np.float32)

    def _camera(self, beat: Beat) -> Camera:
        turn = rotvec_to_rotmat(rotvec_of(*beat.moment.turn).astype(np.float64))
        rest = self._moved(beat.body).astype(np.float64)
        shifted = PIVOT + np.array(beat.moment.shift)
        translation = rest[:3, 3] + rest[:3, :3] @ (shifted - turn @ PIVOT)
        return pose_camera(rest[:3, :3] @ turn, translation, self._focal_length, self.size)

    def _hand(self, beat: Beat) -> np.ndarray | None:
        if beat.hand is None:
            return None
        *place, lean = beat.hand
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotvec_to_rotmat(np.array([0.0, 0.0, lean])), place
        return (self._rest.astype(np.float64) @ pose).astype(np.float32)


def _set_up(rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Focal length over the width, and viewmat [4, 4] of a head at rest before somebody's webcam."""
    focal_length, distance = rng.uniform(1.0, 1.3), rng.uniform(0.52, 0.64)
    yaw, pitch = np.radians(rng.uniform([-4, -6], [4, 5]))
    rotation = FRONTAL @ rotvec_to_rotmat(np.array([pitch, 0.0, 0.0])) @ rotvec_to_rotmat(np.array([0.0, yaw, 0.0]))
    place = np.array([*rng.uniform([-0.025, -0.012], [0.025, 0.012]), distance * focal_length / 1.1])
    return float(focal_length), pose_to_viewmat(rotation, place - rotation @ _LOOK_AT)
