"""Figures of one frame: how close a picture of the avatar is to the true frame, and what it does that the driver does."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from sega_ros.evaluation.metrics import (
    IdentityDistance,
    encoder_feature_distance,
    landmark_distance,
    masked_psnr,
)
from sega_ros.evaluation.replay.window import SIZE, Window, face_hull, head_mask
from sega_ros.geometry import rotmat_to_rotvec
from sega_ros.models.identity_encoder import IdentityEncoder
from sega_ros.tracking.expression import ExpressionFitter, FrameFit
from sega_ros.tracking.matting import Segmenter
from sega_ros.tracking.mediapipe_graph import import_mediapipe
from sega_ros.tracking.topology import eye_openness
from sega_ros.types import Landmarks

_SSIM_SIDE = 7  # px, uniform: skimage's default
_MS_SSIM_SIDE = 176  # px: five scales of an 11 px window need that much
_LIPS, _EYE_CORNERS = (13, 14), (33, 263)  # middle of the inner lips; outer corners
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # of two windows with the truth's landmarks


@dataclass(frozen=True)
class Seen:
    """What a landmark detector sees in one window."""

    points: np.ndarray  # [478, 3] px of the window
    steady: np.ndarray  # [468, 2] the same in the frame's pixels, at the window's scale
    fit: FrameFit | None  # re-tracked with the avatar's face shape

    @property
    def eyes(self) -> np.ndarray:
        """Eye-aspect ratios [2], left and right."""
        return eye_openness(self.points)

    @property
    def mouth(self) -> float:
        """Gap between the lips over the distance of the eyes' outer corners."""
        upper, lower = (self.points[k, :2] for k in _LIPS)
        right, left = (self.points[k, :2] for k in _EYE_CORNERS)
        return float(np.linalg.norm(lower - upper) / max(np.linalg.norm(left - right), 1e-6))


class StillMesh:
    """MediaPipe's face mesh of single pictures, as its users call it: others measure with it, not with this package's tracker."""

    def __init__(self) -> None:
        mesh = import_mediapipe().solutions.face_mesh
        self._mesh = mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)

    def __call__(self, image: np.ndarray) -> np.ndarray | None:
        """Landmarks [478, 3] (px) of the face in uint8 RGB [H, W, 3], or None."""
        faces = self._mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
        if not faces:
            return None
        height, width = image.shape[:2]
        return np.array([(p.x * width, p.y * height, p.z * width) for p in faces[0].landmark], np.float32)

    def close(self) -> None:
        """Release the networks."""
        self._mesh.close()


class FrameJudge:
    """Measures frames one by one, each for itself; a context manager."""

    def __init__(self, fitter: ExpressionFitter, encoder: IdentityEncoder | None, *, lpips: Distance | None = None,
                 csim: Distance | None = None):
        """Take the networks; `fitter` holds the avatar's face shape; `encoder`, `lpips` or `csim` None leaves a figure out."""
        self._fitter, self._encoder, self._lpips, self._csim = fitter, encoder, lpips, csim
        self._identity = IdentityDistance()
        self.mesh = StillMesh()
        self._segmenter = Segmenter()

    def __enter__(self) -> 'FrameJudge':
        self._segmenter.__enter__()
        return self

    def __exit__(self, *_) -> None:
        self._segmenter.__exit__()
        self.mesh.close()

    @property
    def missing(self) -> dict[str, str]:
        """Figures that are left out, and why."""
        missing = {}
        if self._lpips is None:
            missing['lpips'] = "needs weights: give --lpips FILE (torchvision's vgg16)"
        if self._encoder is None:
            missing['feature_distance'] = 'there are no networks for this head model'
        if not self._identity.available:
            missing['identity_distance'] = self._identity.reason
        if self._csim is None:
            missing['csim'] = "needs weights: give --arcface FILE (insightface's backbone.pth)"
        return missing

    def look(self, window: np.ndarray, place: Window, size: tuple[int, int]) -> Seen | None:
        """Landmarks in a window, uint8 RGB [512, 512, 3], at `place` of a frame of `size` (H, W); None without a face."""
        points = self.mesh(window)
        if points is None:
            return None
        in_frame = place.to_frame(points)
        fit = self._fitter.fit(Landmarks(in_frame, 1.0, size[1], size[0]))
        return Seen(points, in_frame[:468, :2] * (SIZE / place.side), fit)

    def compare(self, truth: np.ndarray, drawn: np.ndarray, place: Window, seen: Seen, found: Seen | None) -> dict[str, float]:
        """Figures of a picture over its true frame, both uint8 RGB [H, W, 3]; landmarks were `seen` there and `found` here."""
        wanted, given = place.cut(truth), place.cut(drawn)
        face = face_hull(seen.points)
        head = head_mask(self._segmenter.probability(wanted), seen.points, face)
        figures = {f'psnr_{name}': masked_psnr(given, wanted, mask) for name, mask in (('face', face), ('head', head))}
        figures |= _ssims(_luma(given), _luma(wanted), face, head)
        figures |= _full(drawn, truth)
        points = seen.points
        if self._encoder is not None:
            figures['feature_distance'] = encoder_feature_distance(self._encoder, given, wanted, points)
        if self._lpips is not None:
            figures['lpips'] = self._lpips(given, wanted, points)
        figures |= self._likeness(given, wanted, points)
        figures['akd'] = landmark_distance(None if found is None else found.points, points)
        return figures | _retracked(seen, found)

    def compare_motion(self, seen: Seen, found: Seen, *, pose: bool) -> dict[str, float]:
        """Expression distance of a driver's frame and the avatar's picture; with `pose` (one camera sees both) the heads' too."""
        figures = _retracked(seen, found)
        return figures if pose else {name: value for name, value in figures.items() if name != 'apd'}

    def _likeness(self, given: np.ndarray, wanted: np.ndarray, points: np.ndarray) -> dict[str, float]:
        figures = {}
        if self._identity.available:
            distance = self._identity(given, wanted, points)
            figures = {'identity_distance': distance, 'identity_failed': float(np.isnan(distance))}
        if self._csim is not None:
            figures['csim'] = self._csim(given, wanted, points)
        return figures


def expressive(seen: Seen | None, *, suffix: str) -> dict[str, float]:
    """Openings of eyes and mouth as fields of `FrameFigures`."""
    if seen is None:
        return {}
    left, right = (float(v) for v in seen.eyes)
    return {f'eye_left{suffix}': left, f'eye_right{suffix}': right, f'mouth{suffix}': seen.mouth}


def jitter(steady: list[np.ndarray | None]) -> float:
    """Mean size of the second difference of three consecutive landmark sets [468, 2] (px); NaN where one is missing."""
    if len(steady) != 3 or any(s is None for s in steady):
        return np.nan
    before, now, after = (np.asarray(s, np.float64) for s in steady)
    return float(np.linalg.norm(before - 2 * now + after, axis=1).mean())


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _ssims(given: np.ndarray, wanted: np.ndarray, face: np.ndarray, head: np.ndarray) -> dict[str, float]:
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(given, wanted, win_size=_SSIM_SIDE, data_range=255, full=True)
    return {'ssim_face': float(similarity[face].mean()), 'ssim_head': float(similarity[head].mean())}


def _full(drawn: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures over the whole frame at its own size."""
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    figures = {'psnr_full': masked_psnr(drawn, truth, np.ones(truth.shape[:2], bool))}
    given, wanted = _luma(drawn), _luma(truth)
    if min(given.shape) >= _SSIM_SIDE:
        figures['ssim_full'] = float(structural_similarity(given, wanted, win_size=_SSIM_SIDE, data_range=255))
    if min(given.shape) >= _MS_SSIM_SIDE:
        a, b = (torch.from_numpy(x.astype(np.float32) / 255)[None, None] for x in (given, wanted))
        figures['ms_ssim_full'] = float(multiscale_structural_similarity_index_measure(a, b, data_range=1.0))
    return figures


def _retracked(seen: Seen, found: Seen | None) -> dict[str, float]:
    """Expression and pose distance of what the same fit makes of truth and picture."""
    if found is None or found.fit is None or seen.fit is None:
        return {}
    difference = np.abs(found.fit.params.expression - seen.fit.params.expression)
    turn = rotmat_to_rotvec(found.fit.rotation.astype(np.float64).T @ seen.fit.rotation.astype(np.float64))
    return {'aed': float(difference.mean()), 'apd': float(np.degrees(np.linalg.norm(turn)))}
