"""The driver's health in one sentence: the worst that is wrong, with figures and what to do."""

import math
from dataclasses import dataclass

from sega_ros.nodes.diagnostics import ERROR, OK, WARN
from sega_ros.nodes.statistics import FrameReport

SILENT_AFTER = 1.0  # seconds without input; a slow stream may pause for so many of its intervals:
_MISSED = 3.0
FACELESS_AFTER = 2.0  # seconds
STILL_AFTER = 5.0  # seconds; no camera delivers the same picture twice
# Seconds by which stamps and this node's clock differ that no camera or network explains.
EARLY, LATE = 0.1, 10.0
# Share of the frames that has to be used, and images per second that are fluid in any case.
_SHARE, _FLUID = 0.7, 25.0


@dataclass(frozen=True)
class DriverState:
    """What the health of an active driver depends on."""

    report: FrameReport
    topic: str  # of the input
    source: str = 'camera'  # or 'expression'
    avatar: bool = True  # one is loaded
    wanted: str = ''  # avatar id; '' is the newest
    avatar_problem: str = ''  # why the wanted one is not driven
    fetching: str = ''  # how far the copying of one is
    frame_problem: str = ''  # why the last bad frame was refused
    last_bad: bool = False  # the last frame was refused
    images_wanted: bool = True
    expressions_wanted: bool = False
    faceless: float = 0.0  # seconds since a face was seen
    still: float = 0.0  # seconds since the picture changed


def driver_health(state: DriverState) -> tuple[bytes, str]:
    """Return level and reason of the first thing that is wrong; what explains other faults comes first."""
    checks = (_avatar, _input, _frames, _demand, _clock, _stream)
    return next((found for check in checks if (found := check(state))), (OK, 'driving' if state.images_wanted else 'tracking'))


def _avatar(s: DriverState) -> tuple[bytes, str] | None:
    if s.avatar_problem:
        return ERROR, s.avatar_problem
    if s.fetching:
        return WARN, s.fetching
    if not s.avatar:
        return WARN, f'waiting for avatar {s.wanted!r}' if s.wanted else 'waiting for an avatar'
    return None


def _input(s: DriverState) -> tuple[bytes, str] | None:
    silence = s.report.seconds_since_input
    if silence <= max(SILENT_AFTER, _MISSED * s.report.interval):
        return None
    since = 'yet' if math.isnan(silence) else f'for {silence:.1f} s'
    return ERROR, f'nothing on {s.topic} {since}; check the camera or the sender'


def _frames(s: DriverState) -> tuple[bytes, str] | None:
    if s.last_bad:
        return ERROR, s.frame_problem
    if bad := s.report.recently['refused']:
        return WARN, f'{bad} of the last {s.report.recently["received"]} frames refused: {s.frame_problem}'
    return None


def _demand(s: DriverState) -> tuple[bytes, str] | None:
    return None if s.images_wanted or s.expressions_wanted else (OK, 'nobody subscribes to the avatar images')


def _clock(s: DriverState) -> tuple[bytes, str] | None:
    latency = s.report.latency_p50
    if math.isnan(latency) or -EARLY <= latency <= LATE:
        return None
    where = f'{latency:.1f} s behind' if latency > 0 else f'{-latency:.1f} s ahead of'
    return WARN, (f'the stamps on {s.topic} are {where} this node\'s clock; synchronise the clocks, or set use_sim_time for a '
                  'replayed recording')


def _stream(s: DriverState) -> tuple[bytes, str] | None:
    r = s.report
    if s.source == 'camera' and s.still > STILL_AFTER:
        return WARN, f'the same picture on {s.topic} for {s.still:.0f} s; is the camera frozen?'
    if r.recently['dropped'] > (1 - _SHARE) * r.recently['received'] and r.rate < _FLUID:
        return WARN, (f'overloaded: {r.rate:.0f} of {r.input_rate:.0f} frames a second are used; set frame_time or detail, or a '
                      'smaller width and height')
    if s.faceless > FACELESS_AFTER:
        return WARN, f'no face on {s.topic} for {s.faceless:.0f} s; the avatar rests'
    return None
