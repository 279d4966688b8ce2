"""The judgement on an endurance run: what grew, how long no picture came, what was damaged; and its tables."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from sega_ros.evaluation.soak_plan import CAMERA, SILENT
from sega_ros.io.memory import ProcessUse

MAX_GAP = 3.0  # seconds without a picture, while the camera sends some: a driver that hangs, not one that is busy
WARM_UP, WARM_UP_SHARE = 120.0, 0.25  # seconds that fill caches: so many, or this share of a short run
ANSWER = 180.0  # seconds within which a service answers, creation included
# What the last third may have more than the first: a share, and an amount that a few events more or less explain. The C library
# keeps up to 128 MB of freed memory and gives it back at once: what a process has at least says more than what it mostly has.
_AT_LEAST, _MOSTLY = 10, 50  # percentiles
ALLOWED = {'memory_mb': (0.05, 64.0), 'threads': (0.0, 1.0), 'handles': (0.0, 2.0)}
UNITS = {'memory_mb': 'MB', 'threads': 'threads', 'handles': 'handles'}
# Answers that a right node gives: the avatar was deleted in between, or another creation runs.
EXPECTED = ('OK', 'AVATAR_NOT_FOUND', 'BUSY')


@dataclass(frozen=True)
class Second:
    """One second of the run. Latency: stamp of the camera's message to receipt of the avatar's; NaN without pictures."""

    at: float  # seconds since the start, at its end
    pictures: int
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    use: dict[str, ProcessUse]  # of each process


@dataclass(frozen=True)
class Event:
    """Something that was done, and what came of it."""

    at: float  # seconds since the start
    kind: str
    what: str
    seconds: float  # until the answer
    outcome: str  # name of the error code; 'no answer'

    @property
    def clip(self) -> str | None:
        """What the camera shows from now on; None: as before."""
        return self.what if self.kind == CAMERA else None


@dataclass(frozen=True)
class Growth:
    """What a process had in the first and in the last third after the warm-up (memory: tenth percentile, others: median)."""

    process: str
    quantity: str  # a field of ProcessUse
    early: float
    late: float
    allowed: float  # of `late`

    @property
    def grew(self) -> bool:
        """Whether it is more than allowed."""
        return self.late > self.allowed


@dataclass(frozen=True)
class Soak:
    """A whole run."""

    seconds: tuple[Second, ...]
    events: tuple[Event, ...]
    arrivals: np.ndarray = field(repr=False)  # [N] seconds since the start at which pictures came
    damaged: tuple[str, ...] = ()  # a sentence about each file
    died: str = ''  # which process ended, and how
    refused: int = 0  # camera images that the driver could not use

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.seconds[-1].at if self.seconds else 0.0


def growths(seconds: Sequence[Second]) -> list[Growth]:
    """Compare the last third with the first, the warm-up left out; too short a run gives none."""
    if not seconds:
        return []
    end = seconds[-1].at
    begin = min(WARM_UP, WARM_UP_SHARE * end)
    third = (end - begin) / 3
    early = [s for s in seconds if begin < s.at <= begin + third]
    late = [s for s in seconds if s.at > end - third]
    if min(len(early), len(late)) < 3:
        return []
    return [_growth(name, quantity, early, late) for name in seconds[-1].use for quantity in ALLOWED]


def _growth(process: str, quantity: str, early: Iterable[Second], late: Iterable[Second]) -> Growth:
    share, amount = ALLOWED[quantity]
    percentile = _AT_LEAST if quantity == 'memory_mb' else _MOSTLY
    before, after = (float(np.percentile([getattr(s.use[process], quantity) for s in part], percentile))
                     for part in (early, late))
    return Growth(process, quantity, round(before, 1), round(after, 1), round(before * (1 + share) + amount, 1))


def silences(events: Iterable[Event], end: float) -> list[tuple[float, float]]:
    """Return from when until when the camera sent nothing, seconds."""
    out: list[tuple[float, float]] = []
    since: float | None = None
    for event in events:
        if event.clip == SILENT and since is None:
            since = event.at
        elif event.clip not in (None, SILENT) and since is not None:
            out.append((since, event.at))
            since = None
    return out if since is None else [*out, (since, end)]


def longest_gap(arrivals: np.ndarray, quiet: Sequence[tuple[float, float]], end: float) -> tuple[float, float]:
    """Return the longest time without a picture outside of `quiet`, and when it began, seconds."""
    marks = np.concatenate([[0.0, end], arrivals, np.ravel(quiet)])
    marks = np.unique(marks[(marks >= 0) & (marks <= end)])
    starts, lengths = marks[:-1], np.diff(marks)
    for begin, until in quiet:
        lengths = np.where((starts >= begin) & (starts < until), 0.0, lengths)
    k = int(lengths.argmax()) if len(lengths) else 0
    return (float(lengths[k]), float(starts[k])) if len(lengths) else (end, 0.0)


def reasons(soak: Soak) -> list[str]:
    """Say what is wrong with a run; nothing when all is well."""
    out = [soak.died] if soak.died else []
    gap, since = longest_gap(soak.arrivals, silences(soak.events, soak.duration), soak.duration)
    if gap > MAX_GAP:
        out.append(f'no picture for {gap:.1f} s after {since:.1f} s, allowed are {MAX_GAP:g} s: see the log of avatar_driver')
    for g in growths(soak.seconds):
        if g.grew:
            unit = UNITS[g.quantity]
            out.append(f'{g.process} grows: {g.early:g} {unit} in the first third, {g.late:g} in the last, allowed {g.allowed:g}')
    out += [f'{soak.refused} camera images were refused: see the log of avatar_driver'] if soak.refused else []
    out += [f'damaged avatar: {sentence}' for sentence in soak.damaged]
    out += [f'{e.kind} ({e.what}) at {e.at:.1f} s was answered with {e.outcome}: see the logs' for e in soak.events
            if e.outcome not in EXPECTED]
    return out


def summary(soak: Soak) -> dict:
    """Return the figures of a run: what goes into soak.json besides the set-up."""
    gap, since = longest_gap(soak.arrivals, silences(soak.events, soak.duration), soak.duration)
    p50, p95 = (_median(getattr(s, name) for s in soak.seconds) for name in ('latency_ms_p50', 'latency_ms_p95'))
    kinds: dict[str, dict[str, int]] = {}
    for event in soak.events:
        of_kind = kinds.setdefault(event.kind, {})
        of_kind[event.outcome] = of_kind.get(event.outcome, 0) + 1
    return {
        'seconds': round(soak.duration, 1), 'pictures': len(soak.arrivals),
        'fps': round(len(soak.arrivals) / max(soak.duration, 1e-9), 2),
        'latency_ms_p50': p50, 'latency_ms_p95': p95,  # medians of the seconds
        'longest_gap_s': round(gap, 2), 'longest_gap_at_s': round(since, 1), 'events': kinds,
        'refused': soak.refused, 'growth': [asdict(g) | {'grew': g.grew} for g in growths(soak.seconds)],
        'reasons': reasons(soak)}


def _median(values: Iterable[float]) -> float | None:
    known = [v for v in values if not np.isnan(v)]
    return round(float(np.median(known)), 2) if known else None


def table(soak: Soak) -> str:
    """Return the seconds as CSV, with what was done in each of them."""
    names = list(soak.seconds[0].use) if soak.seconds else []
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(['s', 'pictures', 'latency_ms_p50', 'latency_ms_p95', 'latency_ms_p99',
                     *(f'{name}_{quantity}' for name in names for quantity in ALLOWED), 'events'])
    last = 0.0
    for s in soak.seconds:
        done = '; '.join(f'{e.kind} {e.what}' for e in soak.events if last <= e.at < s.at)
        held = [getattr(s.use[name], quantity) for name in names for quantity in ALLOWED]
        latency = (f'{v:.2f}' for v in (s.latency_ms_p50, s.latency_ms_p95, s.latency_ms_p99))
        writer.writerow([f'{s.at:.2f}', s.pictures, *latency, *(f'{v:g}' for v in held), done])
        last = s.at
    return out.getvalue()


def report(soak: Soak) -> str:
    """Return the verdict as text."""
    s = summary(soak)
    lines = [f'{s["seconds"]:.0f} s, {s["pictures"]} pictures, {s["fps"]:.1f} frames/s, latency {s["latency_ms_p50"]} ms (p50), '
             f'{s["latency_ms_p95"]} ms (p95); longest time without a picture {s["longest_gap_s"]} s',
             '| process | of what | first third | last third | allowed |', '|---|---|---|---|---|']
    lines += [f'| {g.process} | {UNITS[g.quantity]} | {g.early:g} | {g.late:g} | {g.allowed:g} |' for g in growths(soak.seconds)]
    lines += [f'{kind}: {", ".join(f"{n} {outcome}" for outcome, n in found.items())}' for kind, found in s['events'].items()]
    return '\n'.join([*lines, *(f'FAILED: {reason}' for reason in s['reasons'])])
