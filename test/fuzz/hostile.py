"""Hostile input that starts from something valid, and what has to hold for the answer to it."""

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from sega_ros.errors import ErrorCode, SegaError
from sega_ros.head.files import cache_folder

# What a message says has to be done, or what it wanted instead of what it found.
REMEDY = re.compile(
    r'wanted|at most|accepted|create|copy|choose|use |send|save|give|make|build|load|fetch|convert|calibrate|delete|raise|drop|'
    r'scale|put |remove|check|shorten|fill|name |free|again|activate|connect|known are|allowed', re.IGNORECASE)
NUMBERS = st.sampled_from([
    0, 1, -1, 2, 7, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, -2**63, 10**30, 0.5, -0.0, 1e-45, 1e38, -1e300,
    float('nan'), float('inf'), float('-inf')])
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from([
    '', '.', '..', '../../secret', '/etc/passwd', 'a/b', 'a\x00b', '\ud800', 'a\nb', '\x1b[31m', 'x' * 300, '%s%n',
    'ann.safetensors', '~', '-rf', 'ａｎｎ', '´'.join('n' * 40)]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)), max_leaves=6)


@st.composite
def edits(draw, most=4):
    """Return a function that damages bytes: flips, cuts, repeats, fills, inserts."""
    kinds = st.sampled_from(['flip', 'cut', 'fill', 'insert', 'repeat', 'drop'])
    step = st.tuples(kinds, st.floats(0, 1), st.integers(1, 64), st.binary(min_size=1, max_size=8))
    steps = draw(st.lists(step, min_size=1, max_size=most))

    def damage(data: bytes, start: int = 0) -> bytes:
        for kind, share, length, extra in steps:
            at = start + int(share * max(0, len(data) - 1 - start))
            if kind == 'flip':
                data = data[:at] + bytes(b ^ e for b, e in zip(data[at:at + len(extra)], extra)) + data[at + len(extra):]
            elif kind == 'cut':
                data = data[:at]
            elif kind == 'fill':
                data = data[:at] + b'\xff' * len(data[at:at + length]) + data[at + length:]
            elif kind == 'insert':
                data = data[:at] + extra + data[at:]
            elif kind == 'repeat':
                data = data[:at] + data[at:at + length] * 3 + data[at + length:]
            else:
                data = data[:at] + data[at + length:]
        return data

    return damage


def places(tree, path=()):
    """Paths to every value of nested dictionaries and lists."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def replaced(tree, path, value):
    """The tree with `value` at `path`."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


def check_error(error: SegaError) -> None:
    """The refusal has a code of its own, one bounded message, and says what to do."""
    text = str(error)
    assert error.code not in (ErrorCode.OK, ErrorCode.INTERNAL), repr(error)
    assert REMEDY.search(text), f'no word on what to do: {text!r}'


def refused(work, *arguments, **options):
    """Run `work`; return (result, None), or (None, the SegaError it raised), which was checked."""
    try:
        return work(*arguments, **options), None
    except SegaError as error:
        check_error(error)
        return None, error


_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == 'open':
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set('wax+')) or (
            mode is None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and isinstance(path, str | bytes | os.PathLike):
            _watching[-1].append(os.fsdecode(path))
    elif event in ('os.remove', 'os.rename', 'os.link', 'os.symlink', 'os.mkdir', 'os.rmdir', 'os.truncate', 'shutil.rmtree'):
        _watching[-1] += [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]


sys.addaudithook(_hook)


@contextmanager
def only_writes_in(*folders: Path):
    """Fail when something outside of these folders is opened for writing, made, renamed or removed."""
    _watching.append([])
    try:
        yield
    finally:
        touched = _watching.pop()
    allowed = [f.resolve() for f in (*folders, cache_folder())]  # kernels are compiled at their first use
    outside = [t for t in touched if not any(Path(t).absolute().resolve().is_relative_to(a) for a in allowed)]
    outside = [t for t in outside if '__pycache__' not in t]
    assert not outside, outside
