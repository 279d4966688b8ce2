"""Where MediaPipe's 478 landmarks lie on the face; left and right are the subject's."""

import numpy as np

N_LANDMARKS = 478  # the last ten are irises: 468 and 473 the pupils of the right and the left eye, then four points of each ring

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


def gap_shares() -> np.ndarray:
    """Return [3, 478] that takes landmarks to the openings of the `GAPS`: mean lower point minus mean upper one."""
    shares = np.zeros((len(GAPS), N_LANDMARKS))
    for row, (upper, lower, _) in zip(shares, GAPS, strict=True):
        row[list(lower)], row[list(upper)] = 1 / len(lower), -1 / len(upper)
    return shares


_SHARES = gap_shares()
_CORNERS = np.array([corners for *_, corners in GAPS])


def gap_axes(points: np.ndarray) -> np.ndarray:
    """Return unit vectors [3, 2] across the `GAPS` of landmarks [478, 2+], pointing down the face."""
    left, right = points[_CORNERS[:, 0], :2], points[_CORNERS[:, 1], :2]
    along = right - left
    along = along / np.maximum(np.sqrt(np.square(along).sum(1, keepdims=True)), 1e-9)
    return np.stack([-along[:, 1], along[:, 0]], 1)


def gap_widths(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Mean widths [3] of the `GAPS` along `axes` [3, 2]; negative where the sides overlap."""
    return (_SHARES @ points[:, :2] * axes).sum(1)


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
    return gap_widths(points, gap_axes(points))[:2] / eye_widths(points)


def eye_widths(points: np.ndarray) -> np.ndarray:
    """Distances [2] (left, right) between the corners of the eyes of landmarks [478, 2+]."""
    across = points[_CORNERS[:2, 0], :2] - points[_CORNERS[:2, 1], :2]
    return np.maximum(np.sqrt(np.square(across).sum(1)), 1e-6)
