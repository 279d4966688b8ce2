"""Hand-over of the newest item to a worker thread beside the executor."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Mailbox(Generic[Item]):
    """One slot: a new item replaces one that nobody took yet."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Put an item in; return whether another was lost by it (also when the box is closed)."""
        with self._changed:
            lost = self._item is not None or self._closed
            self._item = None if self._closed else item
            self._changed.notify()
            return lost

    def take(self) -> Item | None:
        """Wait for an item and return it; None when the box is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return item

    @property
    def full(self) -> bool:
        """Whether an item waits to be taken."""
        with self._changed:
            return self._item is not None

    def close(self) -> bool:
        """Let `take` return None from now on; return whether an item was left inside."""
        with self._changed:
            left, self._item, self._closed = self._item is not None, None, True
            self._changed.notify_all()
            return left


class Worker(Generic[Item]):
    """A thread that handles the newest item of its mailbox, one after the other.

    `dropped` is called once for every item that was never handled; `failed` with an exception of `handle`, which
    doesn't stop the thread.
    """

    def __init__(self, name: str, handle: Callable[[Item], None], *, dropped: Callable[[], None],
                 failed: Callable[[Exception], None]) -> None:
        self._mailbox: Mailbox[Item] = Mailbox()
        self._handle, self._dropped, self._failed = handle, dropped, failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand over an item; never waits."""
        if self._mailbox.put(item):
            self._dropped()

    @property
    def waiting(self) -> bool:
        """Whether there is another item to be handled after the one at hand."""
        return self._mailbox.full

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the item at hand and end the thread."""
        if self._mailbox.close():
            self._dropped()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while (item := self._mailbox.take()) is not None:
            try:
                self._handle(item)
            except Exception as error:  # one bad frame must not end the stream
                self._failed(error)
