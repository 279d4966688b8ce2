"""Glasses on the photo: found by their rims and bridge, and taken off the skin (`glasses_shell` gives them back as geometry).

No model is asked. A frame is what bare faces lack: a thin line, darker or lighter than both of its sides, that closes around both
eyes below the lids and crosses the nose between them. Lines are looked for in a strip that is aligned with the eyes: around each
eye in polar coordinates, and from eye to eye, each time as the best path by dynamic programming. Rimless glasses are missed.
"""

from dataclasses import dataclass, replace

import numpy as np

from sega_ros.avatar.photo import Photo

_EYES = ((33, 133), (263, 362))  # MediaPipe: outer and inner corners of the right and the left eye
_SIDES = (234, 454)  # ends of the face's contour beside the ears, right and left
_OPENINGS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466))
_IPD = 96.0  # pixels of the strip between the eyes' middles
_STRIP = (160, 320)  # its height and width
_EYE_ROW = 0.42  # where the eyes are, over the height
_TURN = np.arange(72) * 2 * np.pi / 72  # around an eye: 0 outwards, a quarter down
_BELOW = (np.degrees(_TURN) > 15) & (np.degrees(_TURN) < 165)  # away from brows and upper lids
_WIDTHS = (2, 3, 5, 7)  # steps across a line within which both of its sides show
_CLIP = 0.35  # contrast (natural log of luma) beyond which a line tells no more
_BEND_COST = 0.02  # contrast that one step sideways has to gain
_HALF_WIDTH = 10  # steps: the broadest frame's half width
_PAST_EDGE = 0.15  # temples are looked for as far beyond the face's contour, over the distance of the eyes
_GROW, _HAT = 11, 21  # crop pixels across: how far a rim's corners may lie off its trace, and the broadest rim
_FAINT = 0.15  # contrast that is not looked for beside a trace: skin has it, too


@dataclass(frozen=True)
class Search:
    """How a rim is looked for around an eye."""

    aspect: float  # width over height of the circles
    low: float  # least and largest radius, vertical, over the distance of the eyes
    high: float
    drop: float  # of the middle below the eye, likewise
    bends: int  # steps of radius from one direction to the next
    bar: float  # score that is believed by half: 1.6 times the best of 218 bare faces


SEARCHES = (Search(1.25, 0.16, 0.54, 0.04, 2, 0.0022), Search(1.5, 0.15, 0.48, 0.02, 2, 0.0062))


@dataclass(frozen=True)
class Glasses:
    """Where the photo's crop shows a frame."""

    mask: np.ndarray  # [H, W] bool: rims, bridge and what is seen of the temples
    front: np.ndarray  # [H, W] bool: without the temples
    hinges: np.ndarray  # [2, 2] crop pixels: outer ends of the front, right and left
    color: np.ndarray  # [3] RGB in [0, 1] of the frame
    confidence: float  # [0, 1]


@dataclass(frozen=True)
class _Path:
    """A line along a strip: its middle and borders [n, 2] in pixels of the strip, contrast [n]."""

    middle: np.ndarray
    inner: np.ndarray
    outer: np.ndarray
    contrast: np.ndarray


def find_glasses(photo: Photo) -> Glasses | None:
    """Find the frame of glasses on the photo; None: no glasses, or too faint to be told from skin."""
    strip, matrix = _eye_strip(photo)
    luma = np.log(strip @ np.float32([0.3, 0.59, 0.11]) * 0.92 + 0.08).astype(np.float32)
    found = _search(luma)
    if found is None:
        return None
    score, rims, bridge, sign = found
    edges = _to_strip(_in_crop(photo, _SIDES), matrix)
    temples = [_trace_temple(luma, rim, edge, sign) for rim, edge in zip(rims, edges, strict=True)]
    return _glasses(photo, matrix, rims, bridge, [t for t in temples if t is not None], sign, score / (score + 1))


def remove_glasses(photo: Photo, glasses: Glasses) -> Photo:
    """Return the photo with skin where the frame was; the eyes stay as they are."""
    import cv2

    reach = np.zeros((7, 5), np.uint8)
    reach[:, 1:4], reach[1:6] = 1, 1  # rims throw their shadow downwards
    mask = cv2.dilate(glasses.mask.astype(np.uint8), reach, anchor=(2, 4))
    eyes = np.zeros_like(mask)
    for ring in _OPENINGS:
        cv2.fillPoly(eyes, [np.round(_in_crop(photo, ring)).astype(np.int32)], 1)
    mask[(eyes > 0) & ~glasses.mask] = 0

    def filled(picture: np.ndarray) -> np.ndarray:
        out = cv2.inpaint((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), mask, 5, cv2.INPAINT_TELEA)
        return np.where(mask[..., None] > 0, out.astype(np.float32) / 255, picture)

    return replace(photo, image=filled(photo.image), color=filled(photo.color),
                   warnings=(*photo.warnings, 'glasses were found: they became geometry of their own'))


def _in_crop(photo: Photo, points) -> np.ndarray:
    """Landmarks [n, 2] in pixels of the crop."""
    return (photo.landmarks.points[list(points), :2] - photo.origin) * photo.scale


def _eye_strip(photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    """The strip [*_STRIP, 3] around the eyes, level, and the map [2, 3] from pixel indices of the crop to its own."""
    import cv2

    right, left = (_in_crop(photo, corners).mean(0) for corners in _EYES)
    axis = left - right
    length = max(float(np.hypot(*axis)), 1e-3)
    c, s = axis / length
    turn = _IPD / length * np.array([[c, s], [-s, c]])
    shift = np.array([_STRIP[1] / 2, _STRIP[0] * _EYE_ROW]) - turn @ (left + right) / 2
    matrix = np.c_[turn, shift - 0.5 + turn @ [0.5, 0.5]]
    strip = cv2.warpAffine(photo.image, matrix, _STRIP[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return strip, matrix


def _to_strip(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixels [n, 2] of the crop as pixel indices of the strip."""
    return (points - 0.5) @ matrix[:, :2].T + matrix[:, 2]


def _to_crop(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Pixel indices [n, 2] of the strip as pixel indices of the crop."""
    return (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def _search(luma: np.ndarray) -> tuple[float, list[_Path], _Path, int] | None:
    """The best frame: score over its search's bar, rims, bridge, 1 for darker than skin or -1; None where no score reaches 1."""
    tries = []
    for sign in (1, -1):
        bridge = _trace_bridge(luma, sign)
        strength = float(np.quantile(bridge.contrast, 0.25))
        for search in SEARCHES:
            if strength * _CLIP >= search.bar:  # else no rim helps: bare faces stop here
                rims = [_trace_rim(luma, search, side, sign) for side in (-1, 1)]
                tries.append((_rim_strength(rims) * strength / search.bar, rims, bridge, sign))
    best = max(tries, key=lambda t: t[0], default=None)
    return best if best is not None and best[0] >= 1 else None


def _rim_strength(rims: list[_Path]) -> float:
    """Contrast that most of both rims has below the eyes."""
    below = [np.quantile(rim.contrast[_BELOW], 0.3) for rim in rims]
    return float(np.sqrt(min(below) * np.mean(below)))


def _trace_rim(luma: np.ndarray, search: Search, side: int, sign: int) -> _Path:
    path = _trace_around(luma, search, side, sign, _CLIP)
    # Brows have more contrast than a thin frame: what is stronger than the frame is below the eye counts no more than it.
    cap = 1.2 * float(np.median(path.contrast[_BELOW]))
    return _trace_around(luma, search, side, sign, cap) if 0.02 < cap < _CLIP else path


def _trace_around(luma: np.ndarray, search: Search, side: int, sign: int, cap: float) -> _Path:
    radius = np.arange(search.low, search.high, 0.0055) * _IPD
    middle = np.array([_STRIP[1] / 2 + side * 0.515 * _IPD, _STRIP[0] * _EYE_ROW + search.drop * _IPD])
    x = middle[0] + side * search.aspect * radius * np.cos(_TURN)[:, None]
    y = middle[1] + radius * np.sin(_TURN)[:, None]
    return _trace(luma, np.stack([x, y], -1), sign, bends=search.bends, closed=True, cap=cap)


def _trace_bridge(luma: np.ndarray, sign: int) -> _Path:
    x = _STRIP[1] / 2 + np.linspace(-0.22, 0.22, 45)[:, None] * _IPD
    y = _STRIP[0] * _EYE_ROW + np.linspace(-0.3, 0.32, 60) * _IPD
    return _trace(luma, np.stack(np.broadcast_arrays(x, y), -1), sign)


def _trace_temple(luma: np.ndarray, rim: _Path, edge: np.ndarray, sign: int) -> _Path | None:
    """The temple from a rim's outer end towards the face's `edge` [2]; None where nothing is seen of it."""
    hinge = rim.outer[_hinge(rim)]
    length = int(abs(edge[0] - hinge[0]) + _PAST_EDGE * _IPD)
    if length < 6 or (edge[0] - hinge[0]) * (rim.middle[0, 0] - _STRIP[1] / 2) < 0:
        return None
    x = hinge[0] + np.sign(edge[0] - hinge[0]) * np.arange(length)[:, None]
    y = hinge[1] + np.linspace(-0.2, 0.2, 49) * _IPD
    path = _trace(luma, np.stack(np.broadcast_arrays(x, y), -1), sign, bends=1)
    mean = np.convolve(path.contrast, np.ones(7) / 7, 'same')
    weak = mean < 0.3 * np.median(rim.contrast[_BELOW])
    end = int(weak.argmax()) if weak.any() else length
    if end < 5:
        return None
    return _Path(*(getattr(path, k)[:end] for k in _Path.__dataclass_fields__))


def _hinge(rim: _Path) -> int:
    """Where along a rim the temple begins: its outermost point above the middle."""
    upper = (np.degrees(_TURN) > 310) | (np.degrees(_TURN) < 5)
    return int(np.where(upper, np.abs(rim.outer[:, 0] - _STRIP[1] / 2), -1).argmax())


def _trace(luma: np.ndarray, places: np.ndarray, sign: int, *, bends: int = 2, closed: bool = False, cap: float = _CLIP) -> _Path:
    """The best line along the first axis of `places` [n, m, 2] (pixels of the strip); contrasts beyond `cap` count as it."""
    import cv2

    x, y = (np.ascontiguousarray(places[..., k], np.float32) for k in (0, 1))
    profile = sign * cv2.remap(luma, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    contrast = np.clip(line_contrast(profile), 0, _CLIP)
    at = best_path(np.minimum(contrast, cap), bends=bends, closed=closed)
    rows = np.arange(len(at))
    inner, outer = (_border(profile, at, contrast[rows, at], way, closed) for way in (-1, 1))
    return _Path(places[rows, at], places[rows, inner], places[rows, outer], contrast[rows, at])


def line_contrast(profile: np.ndarray) -> np.ndarray:
    """How much darker each value of `profile` [n, m] is than both sides, a few steps along the second axis: [n, m]."""
    import cv2

    out = np.zeros_like(profile)
    for width in _WIDTHS:
        own = profile if width < 4 else cv2.blur(profile, (3, 1))
        both = np.minimum(np.roll(profile, width, 1), np.roll(profile, -width, 1)) - own
        both[:, :width] = both[:, -width:] = 0
        out = np.maximum(out, both)
    return out


def best_path(gain: np.ndarray, *, bends: int = 2, closed: bool = False) -> np.ndarray:
    """Index [n] into each row of `gain` [n, m] with the largest sum, at most `bends` columns from row to row.

    Columns cost a little, so that the path does not wander where there is nothing to gain. Closed paths go twice around, and the
    middle of that is taken: its ends meet within the step of one row.
    """
    n, m = gain.shape
    rows = np.concatenate([gain, gain]) if closed else gain
    steps = np.arange(-bends, bends + 1)
    total, back = rows[0].astype(np.float64), np.zeros(rows.shape, np.int64)
    for i in range(1, len(rows)):
        padded = np.pad(total, bends, constant_values=-np.inf)
        before = np.stack([padded[bends - s:bends - s + m] - _BEND_COST * abs(s) for s in steps])
        choice = before.argmax(0)
        back[i], total = steps[choice], before[choice, np.arange(m)] + rows[i]
    path = np.empty(len(rows), np.int64)
    path[-1] = total.argmax()
    for i in range(len(rows) - 1, 0, -1):
        path[i - 1] = path[i] - back[i, path[i]]
    return np.roll(path[n // 2:n // 2 + n], n // 2) if closed else path


def _border(profile: np.ndarray, at: np.ndarray, contrast: np.ndarray, way: int, closed: bool) -> np.ndarray:
    """Index [n] where a line ends to one side: half way to what lies beside it."""
    from scipy.ndimage import median_filter

    rows, last = np.arange(len(at)), profile.shape[1] - 1
    level = profile[rows, at] + 0.5 * np.maximum(contrast, 0.02)
    width = np.full(len(at), _HALF_WIDTH)
    for k in range(_HALF_WIDTH, 0, -1):
        width[profile[rows, np.clip(at + way * k, 0, last)] > level] = k
    width = median_filter(width, 9, mode='wrap' if closed else 'nearest')
    return np.clip(at + way * width, 0, last)


def _glasses(photo: Photo, matrix, rims: list[_Path], bridge: _Path, temples: list[_Path],
             sign: int, confidence: float) -> Glasses:
    """Draw what was traced onto the crop."""
    import cv2

    shape = photo.alpha.shape

    def draw(points: np.ndarray) -> np.ndarray:
        canvas = np.zeros(shape, np.uint8)
        # Sixteenths of a pixel: frames are a few pixels thin.
        cv2.fillPoly(canvas, [np.round(_to_crop(points, matrix) * 16).astype(np.int32)], 1, shift=4)
        return canvas > 0

    def band(path: _Path) -> np.ndarray:
        return draw(np.concatenate([path.inner, path.outer[::-1]]))

    rings = [draw(rim.outer) & ~draw(rim.inner) for rim in rims]
    inside = draw(rims[0].inner) | draw(rims[1].inner)
    front = rings[0] | rings[1] | band(bridge) & ~inside
    front |= _corners(photo, front, _to_strip(_grid_points(shape), matrix)[..., 1] > _STRIP[0] * (_EYE_ROW + 0.12), sign)
    mask = front.copy()
    for temple in temples:
        mask |= band(temple)
    hinges = np.stack([_to_crop(rim.middle[_hinge(rim)][None], matrix)[0] + 0.5 for rim in rims])
    return Glasses(mask, front, hinges, np.median(photo.image[front], 0).astype(np.float32), confidence)


def _grid_points(shape: tuple[int, int]) -> np.ndarray:
    """Centres [H, W, 2] of all pixels, x and y."""
    rows, cols = np.mgrid[:shape[0], :shape[1]] + 0.5
    return np.stack([cols, rows], -1)


def _corners(photo: Photo, front: np.ndarray, low: np.ndarray, sign: int) -> np.ndarray:
    """Pixels [H, W] beside the traced front that look like it, where `low` [H, W]: under the lashes nothing else is that thin."""
    import cv2

    luma = np.log(photo.image @ np.float32([0.3, 0.59, 0.11]) * 0.92 + 0.08).astype(np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_HAT, _HAT))
    hat = cv2.morphologyEx(luma, cv2.MORPH_BLACKHAT if sign > 0 else cv2.MORPH_TOPHAT, disc)
    near = cv2.dilate(front.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GROW, _GROW))) > 0
    known = hat[front & low]
    return near & low & (hat > max(0.45 * float(np.median(known)), _FAINT)) if known.size else np.zeros_like(front)
