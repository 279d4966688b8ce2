"""One long job at a time, in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from sega_ros.errors import BusyError

Result = TypeVar('Result')


class OneJob:
    """Runs at most one job; a second one is refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._name = ''
        self._cancel = threading.Event()

    @property
    def running(self) -> str:
        """Name of the running job, '' when idle."""
        with self._lock:
            return self._name

    def start(self, name: str, work: Callable[[Callable[[], bool]], Result]) -> 'Future[Result]':
        """Start `work(cancelled)`; what it returns or raises is in the future.

        Raises:
            BusyError: another job is running.
        """
        with self._lock:
            if self._name:
                raise BusyError(f'busy with {self._name}; ask again when it is finished, or cancel it')
            self._name, self._cancel = name, threading.Event()
            future: Future[Result] = Future()
            self._thread = threading.Thread(target=self._run, args=(work, future, self._cancel), daemon=True)
            self._thread.start()
        return future

    def cancel(self, timeout: float = 30.0) -> None:
        """Ask the running job to stop and wait for it."""
        with self._lock:
            thread = self._thread
            self._cancel.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self, work: Callable[[Callable[[], bool]], Result], future: 'Future[Result]',
             cancel: threading.Event) -> None:
        try:
            result = work(cancel.is_set)
        except BaseException as error:  # delivered through the future, whatever it is
            self._finish()
            future.set_exception(error)
        else:
            self._finish()
            future.set_result(result)

    def _finish(self) -> None:
        with self._lock:
            self._name, self._thread = '', None
