"""A person's neutral face, and expressions relative to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sega_ros.errors import RequestError
from sega_ros.types import FlameExpression, FlameParams


@dataclass(frozen=True)
class Calibration:
    """A person's neutral face; what is tracked afterwards is relative to it."""

    expression: np.ndarray  # [E]
    jaw_pose: np.ndarray  # [3]
    left_eye_pose: np.ndarray  # [3]
    right_eye_pose: np.ndarray  # [3]
    eyelids: np.ndarray  # [2]

    @classmethod
    def of_neutral(cls, frames: Sequence[FlameExpression]) -> 'Calibration':
        """Take the median over frames of a resting face; a blink among them does no harm.

        Raises:
            RequestError: no frame shows a face.
        """
        params = [f.params for f in frames if f.face_present]
        if not params:
            raise RequestError('calibration: wanted frames of a neutral face, found none with a face')
        names = ('expression', 'jaw_pose', 'left_eye_pose', 'right_eye_pose', 'eyelids')
        return cls(*(np.median([getattr(p, n) for p in params], 0).astype(np.float32) for n in names))

    def relative(self, params: FlameParams) -> FlameParams:
        """Return `params` with the neutral face taken out; lids keep 1 as closed."""
        lids = (params.eyelids - self.eyelids) / np.maximum(1 - self.eyelids, 0.2)
        return replace(
            params, expression=params.expression - self.expression, jaw_pose=params.jaw_pose - self.jaw_pose,
            left_eye_pose=params.left_eye_pose - self.left_eye_pose,
            right_eye_pose=params.right_eye_pose - self.right_eye_pose,
            eyelids=np.clip(lids, 0, 1).astype(np.float32))

    def absolute(self, params: FlameParams) -> FlameParams:
        """Return relative `params` with the neutral face put back in: the inverse of `relative`, but for lids that it cut."""
        return replace(
            params, expression=params.expression + self.expression, jaw_pose=params.jaw_pose + self.jaw_pose,
            left_eye_pose=params.left_eye_pose + self.left_eye_pose,
            right_eye_pose=params.right_eye_pose + self.right_eye_pose,
            eyelids=(params.eyelids * np.maximum(1 - self.eyelids, 0.2) + self.eyelids).astype(np.float32))
