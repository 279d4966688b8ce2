"""What happens in an endurance run, and when: drawn from a seed, so that a run that failed can be repeated."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

CAMERA, SELECT, CREATE, DELETE, VIEW, DETAIL = KINDS = ('camera', 'select', 'create', 'delete', 'view', 'detail')
FACE, SILENT = 'face', 'silent'
# The same picture again and again, nothing at all, another size, another person, nobody.
CUTS = ('still', SILENT, 'cropped', 'other', 'empty')
# How often each comes. A creation takes a core for ten seconds and more: about one in a minute and a half.
_WEIGHTS = {CAMERA: 5, SELECT: 6, CREATE: 1, DELETE: 1, VIEW: 4, DETAIL: 3}
_PAUSE = (2.0, 6.0)  # seconds from one event to the next
_CUT = (1.0, 4.0)  # seconds that a cut lasts
_SIZES = ((512, 512), (256, 256), (480, 640))  # (H, W) of the avatar's pictures
_SPLATS = (0, 20_000, 5_000)


@dataclass(frozen=True)
class Action:
    """One thing to be done; which avatar it concerns is settled then, by `draw` out of those that there are."""

    at: float  # seconds after the start
    kind: str  # one of KINDS
    values: tuple[tuple[str, str | int | float], ...] = ()  # camera: clip; view, detail: parameters; create: quality
    draw: float = 0.0  # [0, 1)


def plan(seed: int, seconds: float) -> Iterator[Action]:
    """Yield the actions of a run in the order of time; a cut of the camera is over before the next begins, and at the end."""
    rng, at, back = random.Random(seed), 0.0, 0.0
    while (at := at + rng.uniform(*_PAUSE)) < seconds:
        if back and at > back:
            yield Action(back, CAMERA, (('clip', FACE),))
            back = 0.0
        kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        if kind == CAMERA and back:
            continue
        yield Action(at, kind, _values(kind, rng), rng.random())
        if kind == CAMERA:
            back = at + rng.uniform(*_CUT)
    if back:
        yield Action(min(back, seconds), CAMERA, (('clip', FACE),))


def _values(kind: str, rng: random.Random) -> tuple[tuple[str, str | int | float], ...]:
    if kind == CAMERA:
        return (('clip', rng.choice(CUTS)),)
    if kind == CREATE:
        return (('quality', rng.choice((0, 0, 1))),)
    if kind == VIEW:
        height, width = rng.choice(_SIZES)
        view = rng.choice(('frontal', 'follow', 'input', 'free'))
        return (('view', view), ('yaw', round(rng.uniform(-0.7, 0.7), 2)), ('height', height), ('width', width))
    if kind == DETAIL:
        return (('detail', rng.choice(_SPLATS)),)
    return ()
