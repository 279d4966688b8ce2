"""Where MediaPipe's 478 landmarks lie on the face; left and right are the subject's."""

import numpy as np

N_LANDMARKS = 478
N_MESH = 468  # the rest are irises: 468 and 473 the pupils of the right and the left eye, then four points of each ring

OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
UPPER_INNER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)  # opposite to the upper ones, one by one

LEFT_EYE = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
RIGHT_EYE = (133, 173, 157, 158, 159, 160, 161, 246, 33, 7, 163, 144, 145, 153, 154, 155)
# Upper and lower lid, point against point, between the corners.
LEFT_LIDS = ((398, 384, 385, 386, 387, 388, 466), (382, 381, 380, 374, 373, 390, 249))
RIGHT_LIDS = ((173, 157, 158, 159, 160, 161, 246), (155, 154, 153, 145, 144, 163, 7))
LEFT_CORNERS = 362, 263  # inner, outer
RIGHT_CORNERS = 133, 33

RIGHT_IRIS = (468, 469, 470, 471, 472)
LEFT_IRIS = (473, 474, 475, 476, 477)

LEFT_BROW = (276, 282, 283, 285, 293, 295, 296, 300, 334, 336)
RIGHT_BROW = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107)
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149,
        150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)


# Openings whose width people notice: (upper points, lower points opposite to them, the two corners).
GAPS = ((*LEFT_LIDS, LEFT_CORNERS), (*RIGHT_LIDS, RIGHT_CORNERS[::-1]), (UPPER_INNER_LIP, LOWER_INNER_LIP, (78, 308)))


def gap_axes(points: np.ndarray) -> np.ndarray:
    """Return unit vectors [3, 2] across the `GAPS` of landmarks [478, 2+], pointing down the face."""
    along = np.stack([points[right, :2] - points[left, :2] for _, _, (left, right) in GAPS])
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return np.stack([-along[:, 1], along[:, 0]], 1)


def gap_widths(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Mean widths [3] of the `GAPS` along `axes` [3, 2]; negative where the sides overlap."""
    return np.array([
        (points[list(lower), :2].mean(0) - points[list(upper), :2].mean(0)) @ axis
        for (upper, lower, _), axis in zip(GAPS, axes, strict=True)])


def landmark_weights() -> np.ndarray:
    """Weights [478] of the squared residuals: more for what people look at, less for what slides on the surface."""
    weights = np.ones(N_LANDMARKS)
    weights[list(OVAL)] = 0.5
    weights[list(LEFT_BROW + RIGHT_BROW)] = 1.5
    weights[list(OUTER_LIPS + INNER_LIPS)] = 3.0
    weights[list(LEFT_EYE + RIGHT_EYE)] = 3.0
    weights[list(LEFT_IRIS + RIGHT_IRIS)] = 3.0
    return weights


def eye_openness(points: np.ndarray) -> np.ndarray:
    """Eye-aspect ratio [2] (left, right) of landmarks [478, 2+]: mean lid gap over the distance of the corners.

    Measured along the eye's own axes, so head roll does not matter (Soukupova and Cech 2016, with more points).
    """
    widths = gap_widths(points, gap_axes(points))[:2]
    corners = [np.linalg.norm(points[a, :2] - points[b, :2]) for a, b in (LEFT_CORNERS, RIGHT_CORNERS)]
    return widths / np.maximum(corners, 1e-6)
