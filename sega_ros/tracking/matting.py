"""Cutting a person out of a photo: a soft matte, hair included, and foreground colours free of the background."""

from dataclasses import dataclass

import numpy as np

# The segmentation network's probability above or below which a pixel is certainly person or background.
_SURE, _FAR = 0.8, 0.2

# Half-covered pixels differ at most this much from the solid ones beside them.
_MAX_GUESS = 0.12


@dataclass(frozen=True)
class Matte:
    """Foreground of a photo: image = alpha * color + (1 - alpha) * background."""

    alpha: np.ndarray  # [H, W] in [0, 1]
    color: np.ndarray  # [H, W, 3] foreground colour, extended smoothly outside


class Segmenter:
    """MediaPipe selfie segmentation (bundled model, 256x256); use as a context manager."""

    def __enter__(self) -> 'Segmenter':
        import mediapipe as mp

        self._network = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        return self

    def __exit__(self, *_) -> None:
        self._network.close()

    def probability(self, image: np.ndarray) -> np.ndarray:
        """Probability [H, W] that a pixel of `image` (uint8 RGB [H, W, 3]) belongs to a person."""
        return self._network.process(np.ascontiguousarray(image)).segmentation_mask


def matte(image: np.ndarray, inside: np.ndarray | None = None) -> Matte:
    """Matte of the person in `image` (uint8 RGB [H, W, 3], a square crop around the head, about 512 px).

    The segmentation gives a trimap, closed-form matting (Levin et al. 2008) its soft edge, and multi-level foreground estimation
    (Germer et al. 2020) the colours; both from `pymatting`. Pixels outside `inside` [H, W] bool become background.
    """
    import cv2
    from pymatting import estimate_alpha_cf, estimate_foreground_ml

    with Segmenter() as segmenter:
        probability = segmenter.probability(image)
    trimap = np.full(image.shape[:2], 0.5)
    scale = max(1, round(image.shape[0] / 40))
    ellipse = cv2.getStructuringElement
    sure = cv2.erode((probability > _SURE).astype(np.uint8), ellipse(cv2.MORPH_ELLIPSE, (scale, scale)))
    near = cv2.dilate((probability > _FAR).astype(np.uint8), ellipse(cv2.MORPH_ELLIPSE, (scale + 4, scale + 4)))
    trimap[sure > 0], trimap[near == 0] = 1.0, 0.0
    unit = image.astype(np.float64) / 255
    alpha = estimate_alpha_cf(unit, trimap) if (trimap == 0.5).any() and (trimap != 0.5).any() else trimap
    color = _steady_color(estimate_foreground_ml(unit, alpha), alpha)
    if inside is not None:
        alpha = np.where(inside, alpha, 0.0)
    return Matte(alpha.astype(np.float32), np.clip(color, 0, 1).astype(np.float32))


def _steady_color(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colours [H, W, 3] that fade to the nearest solid ones as alpha vanishes.

    Where little of a pixel is person, the estimate is a guess and takes on the background's complement.
    """
    import cv2

    solid = cv2.erode((alpha > 0.97).astype(np.uint8), np.ones((3, 3), np.uint8))
    if not solid.any():
        return color
    _, label = cv2.distanceTransformWithLabels(1 - solid, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros((label.max() + 1, 3))
    lookup[label[solid > 0]] = color[solid > 0]
    near = cv2.GaussianBlur(lookup[label], (0, 0), 1.0)
    trust = np.clip((alpha - 0.4) / 0.6, 0, 1)[..., None] ** 3
    return near + trust * np.where(solid[..., None] > 0, color - near, np.clip(color - near, -_MAX_GUESS, _MAX_GUESS))
