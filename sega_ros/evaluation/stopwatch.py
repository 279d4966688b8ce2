"""Seconds spent in functions of the running program: they are wrapped while it runs, so what is timed is what runs."""

import functools
import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

# A function: 'module:attribute.path', or an object and the name of its attribute.
Target = str | tuple[object, str]


@contextmanager
def stopwatch(stages: Mapping[str, tuple[Target, ...]]) -> Iterator[dict[str, float]]:
    """Wrap the stages' functions and yield the seconds spent in each so far, less those of the stages they call.

    Undone at the end. All functions have to be called in one thread.
    """
    spent: dict[str, float] = dict.fromkeys(stages, 0.0)
    stack: list[float] = []  # seconds that the stages called by each running one took
    with ExitStack() as undo:
        for stage, targets in stages.items():
            for target in targets:
                owner, attribute = _resolve(target) if isinstance(target, str) else target
                undo.enter_context(replaced(owner, attribute, _timed(getattr(owner, attribute), stage, spent, stack)))
        yield spent


@contextmanager
def replaced(owner: object, attribute: str, value: object) -> Iterator[None]:
    """Let an attribute be something else for a while."""
    original = getattr(owner, attribute)
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, original)


def _resolve(name: str) -> tuple[object, str]:
    module, path = name.split(':')
    owner = importlib.import_module(module)
    *outer, attribute = path.split('.')
    for step in outer:
        owner = getattr(owner, step)
    return owner, attribute


def _timed(function, stage: str, spent: dict[str, float], stack: list[float]):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        stack.append(0.0)
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            took = time.perf_counter() - start
            spent[stage] += took - stack.pop()
            if stack:
                stack[-1] += took

    return wrapper
