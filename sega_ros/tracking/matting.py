"""Cutting a person out of a photo: a soft matte, hair included, and foreground colours free of the background."""

from dataclasses import dataclass

import numpy as np

# The segmentation network's probability above or below which a pixel is certainly person or background.
_SURE, _FAR = 0.8, 0.2

# Half-covered pixels differ at most this much from the solid ones beside them.
_MAX_GUESS = 0.12

# Spill: backgrounds of how much chroma colour the outline (all of it from the second on), and so far into the person, in widths
# of the picture; of the background's hue the person keeps what they have farther in, and so much of a pixel's brightness.
_CHROMA, _SPILL_REACH, _OWN_HUE = (0.06, 0.12), 1 / 21, 0.03
_LUMA = np.array([0.299, 0.587, 0.114])


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
    color = without_spill(_steady_color(estimate_foreground_ml(unit, alpha), alpha), alpha, unit)
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


def without_spill(color: np.ndarray, alpha: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return foreground colours [H, W, 3] without the hue that a coloured background leaves on the outline (spill suppression).

    Thin hair lets the background through where a matte still calls it solid; from the side that shows as coloured stains.
    Brightness stays, and so does a hue that the person has away from the outline, too.

    Args:
        color: [H, W, 3] foreground colours.
        alpha: [H, W] matte.
        image: [H, W, 3] the photo, in [0, 1].
    """
    import cv2

    reach = max(3, round(_SPILL_REACH * len(alpha)))
    solid, outside = (alpha > 0.5).astype(np.uint8), (alpha < 0.02).astype(np.float32)
    inwards = cv2.distanceTransform(np.pad(solid, 1, mode='edge'), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = (inwards > reach).astype(np.uint8)
    if not deep.any() or not outside.any():
        return color
    near = cv2.GaussianBlur(outside, (0, 0), reach)[..., None]
    background = cv2.GaussianBlur(np.float32(image) * outside[..., None], (0, 0), reach) / np.maximum(near, 1e-6)
    hue = _chroma(background) * (near > 1e-6)
    strength = np.linalg.norm(hue, axis=-1, keepdims=True)
    hue = hue / np.maximum(strength, 1e-6)
    tone = (_chroma(color) * hue).sum(-1)
    _, label = cv2.distanceTransformWithLabels(1 - deep, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    own = np.zeros(label.max() + 1)
    own[label[deep > 0]] = cv2.GaussianBlur(tone, (0, 0), reach / 8)[deep > 0]
    kept = np.maximum(own[label], 0) + _OWN_HUE * color @ _LUMA
    share = np.clip((strength[..., 0] - _CHROMA[0]) / (_CHROMA[1] - _CHROMA[0]), 0, 1) * np.clip(2 - 2 * inwards / reach, 0, 1)
    return color - (share * np.maximum(tone - kept, 0))[..., None] * hue


def _chroma(color: np.ndarray) -> np.ndarray:
    return color - (color @ _LUMA)[..., None]
