"""A synthetic person who performs the script in front of a camera; every frame comes with its exact truth."""

import numpy as np

from sega_ros.camera import FRONTAL, pose_camera, pose_to_viewmat
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.model import HeadModel
from sega_ros.synthetic.body import backdrop
from sega_ros.synthetic.person import Person, draw_person, make_person
from sega_ros.synthetic.script import PERIOD, Moment, Script
from sega_ros.types import Camera, FlameParams

PIVOT = np.array([0.0, -0.095, -0.05])  # metres, head frame: the head turns about the neck, so the shoulders can stay
_LOOK_AT = np.array([0.0, 0.008, 0.0])  # what a still head has in the middle of the picture


class Performer:
    """Scripted talking, smiling, blinking, looking about and head turns of the person of `seed`.

    Example::

        performer = Performer(load_head(), seed=0)
        image, params, camera = performer.frame(1.25)  # uint8 RGB [H, W, 3], truth, truth
    """

    period = PERIOD  # seconds; the performance repeats

    def __init__(
        self, head: HeadModel, seed: int = 0, *, size: tuple[int, int] = (512, 512), focal_length: float = 2.0,
        distance: float = 0.76, samples: int = 2, person: Person | None = None,
    ):
        """Prepare the person (a few seconds).

        Args:
            head: the open head.
            seed: who it is, and small differences in how they perform.
            size: (H, W) pixels.
            focal_length: over the image width.
            distance: metres from the camera to the head's origin.
            samples: per pixel side.
            person: another person than the seed's.
        """
        self.head, self.size, self.focal_length = head, size, focal_length
        self.person = person or make_person(head, seed)
        self.script = Script(seed)
        self._samples = samples
        self._rest = np.array([0.0, 0.0, distance]) - FRONTAL @ _LOOK_AT
        self._background = backdrop(self.person.look.backdrop, size, seed=self.person.seed)

    def frame(self, t: float) -> tuple[np.ndarray, FlameParams, Camera]:
        """Return picture (uint8 RGB [H, W, 3]), parameters and camera (viewmat: the head's pose) at `t` seconds."""
        params, camera = self.truth(t)
        image = draw_person(self.person, params, camera, rest_viewmat=pose_to_viewmat(FRONTAL, self._rest),
                            background=self._background, samples=self._samples)
        return image, params, camera

    def truth(self, t: float) -> tuple[FlameParams, Camera]:
        """Return what `frame(t)` shows without drawing it."""
        moment = self.script.at(t)
        return moment_params(self.head, self.person.shape, moment), self._camera(moment)

    def _camera(self, moment: Moment) -> Camera:
        turn = rotvec_to_rotmat(rotvec_of(*moment.turn).astype(np.float64))
        shifted = PIVOT + np.array(moment.shift)
        rotation = FRONTAL @ turn
        translation = self._rest + FRONTAL @ (shifted - turn @ PIVOT)
        return pose_camera(rotation, translation, self.focal_length, self.size)


def moment_params(head: HeadModel, shape: np.ndarray, moment: Moment) -> FlameParams:
    """Parameters of the face of identity `shape` [S] at a moment; units that the head does not have are left out."""
    expression = np.zeros(head.n_expression, np.float32)
    for name, value in moment.units.items():
        if name in head.expression_names:
            expression[head.expression_index(name)] = value
    yaw, pitch = moment.gaze
    eye = rotvec_of(yaw, pitch, 0.0)
    return FlameParams(
        shape, expression, jaw_pose=np.array([moment.jaw, 0, 0], np.float32), left_eye_pose=eye, right_eye_pose=eye,
        eyelids=np.array(moment.eyelids, np.float32))


def rotvec_of(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Axis-angle [3] float32 of a turn left by `yaw`, then up by `pitch`, then to the left shoulder by `roll`."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler('yxz', [yaw, -pitch, -roll]).as_rotvec().astype(np.float32)
