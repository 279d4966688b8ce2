"""What a command says: one result on standard output, everything else on standard error."""

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from sega_ros.errors import SegaError


class Output:
    """Standard output of one command, as a context manager.

    While it is open, whatever libraries print goes to standard error, so that with `--json` standard output holds
    exactly one object.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.warnings: list[str] = []

    def __enter__(self) -> 'Output':
        self._stack = contextlib.ExitStack()
        self._stdout = self._stack.enter_context(_keep_stdout())
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """Tell the person something on standard error."""
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Tell of something that may spoil the result; it is also listed in the JSON."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.say(f'sega: warning: {text}')

    def result(self, result: dict) -> None:
        """Print the command's result: as JSON, or its `text` entry for people."""
        text = result.pop('text')
        if self.as_json:
            self._object({'ok': True, **result, 'warnings': self.warnings})
        else:
            print(text, file=self._stdout, flush=True)

    def error(self, error: SegaError) -> None:
        """Print why the command refused, in one line; with `--json` also as the object."""
        text = ' '.join(str(error).split())
        self.say(f'sega: error: {text}')
        if self.as_json:
            self._object({'ok': False, 'error': error.code.name, 'error_code': int(error.code), 'message': text,
                          'warnings': self.warnings})

    def _object(self, value: dict) -> None:
        print(json.dumps(_finite(value), ensure_ascii=False), file=self._stdout, flush=True)

    def progress(self, title: str) -> 'Progress':
        """Return a bar for work that reports (stage, fraction)."""
        return Progress(title)

    def track(self, items: Iterable, title: str, *, total: int | None = None) -> Iterator:
        """Iterate with a bar; `total` None: the end is not known."""
        from tqdm import tqdm

        return iter(tqdm(items, desc=title, total=total, unit=' frames', file=sys.stderr, leave=False, **_pace()))


class Progress:
    """A bar that follows `(stage, fraction of the whole)` reports, as a context manager and callable.

    It appears with the first report: work that finds its result in a cache shows none.
    """

    def __init__(self, title: str):
        self._title = title
        self._bar: Any = None

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, stage: str, fraction: float = 0.0, _preview=None) -> None:
        """Show `stage` and the `fraction` [0, 1] of the whole that is done; it never goes back."""
        if self._bar is None:
            self._bar = self._open()
        self._bar.set_description_str(f'{self._title}: {stage}' if stage else self._title, refresh=False)
        self._bar.update(max(0.0, min(1.0, float(fraction)) - self._bar.n))
        if sys.stderr.isatty():
            self._bar.refresh()

    def _open(self):
        from tqdm import tqdm

        layout = '{desc:<34} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}'
        return tqdm(desc=self._title, total=1.0, file=sys.stderr, leave=False, bar_format=layout, **_pace())


def _pace() -> dict:
    """Redraw ten times a second for a person, once in five seconds into a log."""
    return {'mininterval': 0.1 if sys.stderr.isatty() else 5.0, 'dynamic_ncols': True}


@contextlib.contextmanager
def _keep_stdout() -> Iterator:
    """Yield the real standard output and point `sys.stdout` and, for C++ libraries, descriptor 1 at standard error."""
    real = sys.stdout
    try:
        descriptor = real.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by a test or a notebook
        descriptor = None
    if descriptor != 1:
        with contextlib.redirect_stdout(sys.stderr):
            yield real
        return
    real.flush()
    copy = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(copy, 'w', encoding='utf-8', closefd=False) as stdout, contextlib.redirect_stdout(sys.stderr):
            yield stdout
    finally:
        os.dup2(copy, 1)
        os.close(copy)


def _finite(value):
    """JSON has no NaN: null stands for a figure that is unknown."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, 'item'):  # NumPy scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
