"""The head model restricted to the landmarks: positions and analytic derivatives, fast enough for every frame.

Linear blend skinning is linear in the unposed surface, so each landmark needs, per joint that moves it, one weighted
point and one weighted set of directions instead of the three corners of its triangle. Root and neck stay at zero here:
the rigid pose of the head is the camera's business.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from sega_ros.head.model import HeadModel
from sega_ros.types import FlameParams, check_shape

JAW, LEFT_EYE, RIGHT_EYE = 2, 3, 4  # joints of FLAME
MOVING = JAW, LEFT_EYE, RIGHT_EYE
_EPSILON = 1e-6  # skin weight below which a joint does not move a landmark


def skew(vectors: np.ndarray) -> np.ndarray:
    """Cross-product matrices [..., 3, 3] of vectors [..., 3]."""
    out = np.zeros((*vectors.shape, 3), vectors.dtype)
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    out[..., 0, 1], out[..., 0, 2], out[..., 1, 2] = -z, y, -x
    out[..., 1, 0], out[..., 2, 0], out[..., 2, 1] = z, -y, x
    return out


def right_jacobian(rotvec: np.ndarray) -> np.ndarray:
    """[3, 3] with exp(r + d) = exp(r) exp(Jr d) to first order."""
    angle = float(np.linalg.norm(rotvec))
    k = skew(np.asarray(rotvec, np.float64))
    if angle < 1e-4:  # series: the closed form divides by the angle
        return np.eye(3) - k / 2 + k @ k / 6
    return np.eye(3) - (1 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * k @ k


def rotation_matrix(rotvec: np.ndarray) -> np.ndarray:
    """Rodrigues [3] -> [3, 3] float64; the shared one passes through torch, which would cost more than all the rest."""
    angle = float(np.linalg.norm(rotvec))
    k = skew(np.asarray(rotvec, np.float64))
    if angle < 1e-6:
        return np.eye(3) + k
    return np.eye(3) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * k @ k


@dataclass
class Articulation:
    """What moves the landmarks of one person in one frame."""

    expression: np.ndarray  # [E]
    eyelids: np.ndarray = field(default_factory=lambda: np.zeros(2))
    jaw: np.ndarray = field(default_factory=lambda: np.zeros(3))
    left_eye: np.ndarray = field(default_factory=lambda: np.zeros(3))
    right_eye: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def joints(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Axis-angle of the joints in the order of `MOVING`."""
        return self.jaw, self.left_eye, self.right_eye

    def to_params(self, shape: np.ndarray) -> FlameParams:
        """Parameters of the whole head with this `shape` [S]."""
        def cast(array: np.ndarray) -> np.ndarray:
            return np.asarray(array, np.float32)

        return FlameParams(
            cast(shape), cast(self.expression), jaw_pose=cast(self.jaw), left_eye_pose=cast(self.left_eye),
            right_eye_pose=cast(self.right_eye), eyelids=cast(self.eyelids))

    @classmethod
    def of_params(cls, params: FlameParams) -> 'Articulation':
        """Return the moving part of `params`."""
        return cls(*(np.asarray(a, np.float64) for a in (
            params.expression, params.eyelids, params.jaw_pose, params.left_eye_pose, params.right_eye_pose)))


@dataclass(frozen=True)
class Part:
    """What one rotation (or none) acts on, linear in the coefficients; pivots are already inside."""

    rows: np.ndarray  # [p] landmarks
    weight: np.ndarray  # [p] share of the joint
    point: np.ndarray  # [p, 3]
    expression: np.ndarray  # [p, 3, E]
    eyelids: np.ndarray  # [p, 3, 4] closing left, right; arc left, right
    correctives: np.ndarray  # [p, 3, 27] of the joints' rotations, or [p, 3, 0]
    shape: np.ndarray  # [p, 3, S]

    def unposed(self, pose: Articulation, feature: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Points [p, 3] before the rotation."""
        out = self.point + self.expression @ pose.expression + self.eyelids @ lid_coefficients(pose.eyelids)
        if self.correctives.shape[2]:
            out += self.correctives @ feature
        return out + self.shape @ shape if len(shape) else out


class LandmarkModel:
    """Landmarks [P, 3] in the head frame and their derivatives.

    With skinning weights w_j and joints c_j a landmark is sum_j R_j (x_j - w_j c_j) + w_j c_j, where x_j is its
    w_j-weighted unposed point: `moving` holds the brackets, `still` everything that no joint turns.

    Args:
        head: the head model.
        faces: [P] triangle of each landmark.
        barys: [P, 3] place on it.
        shape: [S] identity to hold, folded into the constants; without it the shape stays free (and the lids close as
            the mean head's do: how a person's lids meet is not linear in both).
        v_offset: [V, 3] personal displacement of the template, metres.
        landmark_offset: [P, 3] further displacement of the landmarks alone, metres.
    """

    def __init__(
        self, head: HeadModel, faces: np.ndarray, barys: np.ndarray, *,
        shape: np.ndarray | None = None, v_offset: np.ndarray | None = None, landmark_offset: np.ndarray | None = None,
    ) -> None:
        check_shape('faces', faces, (None,))
        check_shape('barys', barys, (len(faces), 3))
        self.n, self.n_expression, self.n_shape = len(faces), head.n_expression, head.n_shape
        corners = head.faces[faces]  # [P, 3]
        rest = head.v_template.astype(np.float64)
        if v_offset is not None:
            check_shape('v_offset', v_offset, head.v_template.shape)
            rest = rest + v_offset
        if shape is not None:
            check_shape('shape', shape, (head.n_shape,))
            rest, self.n_shape = rest + head.shapedirs @ shape, 0
        points = rest[corners]  # [P, 3 corners, 3]
        if landmark_offset is not None:
            check_shape('landmark_offset', landmark_offset, (self.n, 3))
            points = points + landmark_offset[:, None]
        skin = barys[..., None].astype(np.float64) * head.weights[corners]  # [P, 3, J]
        # As in smplx, joints follow identity and expression, but neither lids nor pose correctives.
        regressor = head.J_regressor[list(MOVING)].astype(np.float64)
        shapedirs = head.shapedirs[..., :self.n_shape]
        joints = regressor @ rest
        by_shape = np.einsum('jv,vcs->jcs', regressor, shapedirs, optimize=True)
        by_expression = np.einsum('jv,vce->jce', regressor, head.exprdirs, optimize=True)
        lids = np.moveaxis(np.concatenate([head.personal_eyelid_dirs(rest.astype(np.float32)), head.eyelid_arc]), 0, -1)

        def part_of(share: np.ndarray, rows: np.ndarray) -> Part:
            return _part(head, corners[rows], points[rows], share[rows], rows, lids, shapedirs)

        self.still = part_of(skin[..., 0] + skin[..., 1], np.arange(self.n))
        self.moving = []
        for k, j in enumerate(MOVING):
            rows = np.flatnonzero(skin[..., j].sum(1) > _EPSILON)
            part = part_of(skin[..., j], rows)
            pivot = [np.multiply.outer(part.weight, by[k]) for by in (joints, by_expression, by_shape)]
            for still, own in zip((self.still.point, self.still.expression, self.still.shape), pivot, strict=True):
                still[rows] += own
            self.moving.append(replace(
                part, point=part.point - pivot[0], expression=part.expression - pivot[1], shape=part.shape - pivot[2]))
        self.has_correctives = self.still.correctives.shape[2] > 0

    def points(self, pose: Articulation, shape: np.ndarray | None = None) -> np.ndarray:
        """Landmarks [P, 3], metres, head frame, float64."""
        shape = np.zeros(self.n_shape) if shape is None else shape
        rotations = [rotation_matrix(r) for r in pose.joints()]
        feature = pose_feature(rotations)
        out = self.still.unposed(pose, feature, shape)
        for part, rotation in zip(self.moving, rotations, strict=True):
            out[part.rows] += part.unposed(pose, feature, shape) @ rotation.T
        return out

    def blends(self, pose: Articulation) -> np.ndarray:
        """Blended rotations [P, 3, 3]: what skinning does to a small displacement of each unposed landmark."""
        out = self.still.weight[:, None, None] * np.eye(3)
        for part, rotvec in zip(self.moving, pose.joints(), strict=True):
            out[part.rows] += part.weight[:, None, None] * rotation_matrix(rotvec)
        return out

    def derivatives(self, pose: Articulation, shape: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks [P, 3] and their derivatives [P, 3, E + 11 + S].

        Columns: expression, eyelids (left, right), axis-angle of jaw, left and right eye, shape.
        """
        n_e, n_s = self.n_expression, self.n_shape
        shape = np.zeros(n_s) if shape is None else shape
        rotations = [rotation_matrix(r) for r in pose.joints()]
        feature, lids = pose_feature(rotations), lid_derivatives(pose.eyelids)
        turns = [rotation_derivatives(r, m) for r, m in zip(pose.joints(), rotations, strict=True)]  # [9, 3] each
        points, jacobian = np.zeros((self.n, 3)), np.zeros((self.n, 3, n_e + 11 + n_s))
        for i, part in enumerate((self.still, *self.moving)):
            rotation = rotations[i - 1] if i else np.eye(3)
            arm = part.unposed(pose, feature, shape)
            block = np.zeros((len(part.rows), 3, jacobian.shape[2]))
            block[..., :n_e] = part.expression
            block[..., n_e:n_e + 2] = part.eyelids @ lids
            block[..., n_e + 11:] = part.shape
            if self.has_correctives:
                for k, turn in enumerate(turns):
                    block[..., n_e + 2 + 3 * k:n_e + 5 + 3 * k] += part.correctives[..., 9 * k:9 * k + 9] @ turn
            if i:
                block[..., n_e + 3 * i - 1:n_e + 3 * i + 2] -= skew(arm) @ right_jacobian(pose.joints()[i - 1])
            points[part.rows] += arm @ rotation.T
            jacobian[part.rows] += rotation @ block
        return points, jacobian


def _part(
    head: HeadModel, corners: np.ndarray, points: np.ndarray, skin: np.ndarray, rows: np.ndarray, lids: np.ndarray,
    shapedirs: np.ndarray,
) -> Part:
    def mix(values: np.ndarray) -> np.ndarray:
        return np.einsum('pk,pk...->p...', skin, values[corners].astype(np.float64))

    has_correctives = head.posedirs.size and np.abs(head.posedirs).max() > 0
    correctives = head.posedirs[..., 9:] if has_correctives else head.posedirs[..., :0]  # without the neck's
    return Part(rows, skin.sum(1), np.einsum('pk,pkc->pc', skin, points), mix(head.exprdirs), mix(lids),
                mix(correctives), mix(shapedirs))


def pose_feature(rotations: list[np.ndarray]) -> np.ndarray:
    """Return the inputs [27] of the pose correctives: the joints' rotation matrices minus identity."""
    return np.concatenate([(r - np.eye(3)).ravel() for r in rotations])


def lid_coefficients(closure: np.ndarray) -> np.ndarray:
    """Weights [4] of the lid directions: linear, and an arc that is largest half-way (HeadModel)."""
    return np.concatenate([closure, 4 * closure * (1 - closure)])


def lid_derivatives(closure: np.ndarray) -> np.ndarray:
    """Return the derivatives [4, 2] of `lid_coefficients`."""
    return np.concatenate([np.eye(2), np.diag(4 - 8 * closure)])


def rotation_derivatives(rotvec: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return the derivatives [9, 3] of the rotation matrix, row by row, by its axis-angle vector."""
    turns = rotation @ skew(right_jacobian(rotvec).T)  # [3 parameters, 3, 3]
    return turns.reshape(3, 9).T
