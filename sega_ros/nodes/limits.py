"""What a node takes on from others at the most, so that nobody can fill its memory, its disk or its time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sega_ros.avatar.store import StoreLimit
from sega_ros.config import option
from sega_ros.errors import CancelledError

_BURST = 0.5  # seconds' worth of messages that may come at once, after a hiccup of the network
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class BuilderLimits:
    """What `avatar_builder` takes on."""

    photo_pixels: int = option(80_000_000, 'Largest photo of a request that is decoded (of a file: 80 million px); it takes '
                               'up to 16 bytes of memory a pixel', unit='px', bounds=(4096, 80_000_000))
    creation_time: float = option(900.0, 'Time after which a creation is given up', unit='s', bounds=(1.0, 86_400.0))
    avatars: int = option(1000, 'Avatars that may be stored', bounds=(1, 1024), read_only=True)
    store: int = option(4000, 'Size of all stored avatars together', unit='MB', bounds=(16, 10_000_000), read_only=True)


@dataclass(frozen=True)
class DriverLimits:
    """What `avatar_driver` takes on."""

    image_pixels: int = option(33_177_600, 'Largest camera image that is decoded', unit='px', bounds=(4096, 80_000_000))
    rate: float = option(240.0, 'Images or expressions per second that are looked at; the rest is dropped', unit='Hz',
                         bounds=(1.0, 1000.0))
    fetch: int = option(16, 'Largest avatar file that is fetched', unit='MB', bounds=(1, 16))
    avatars: int = option(1000, 'Avatars that may be stored; beyond that none is fetched', bounds=(1, 1024), read_only=True)
    store: int = option(4000, 'Size of all stored avatars together; beyond that none is fetched', unit='MB',
                        bounds=(16, 10_000_000), read_only=True)


def store_limit(limits: BuilderLimits | DriverLimits) -> StoreLimit:
    """Return what the store may hold."""
    return StoreLimit(limits.avatars, limits.store * MEGABYTE)


class RateLimit:
    """Lets at most so many messages a second pass in the long run; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._saved, self._last = 0.0, float('-inf')  # messages that may pass at once; when that was so

    def passes(self, rate: float) -> bool:
        """Whether the message that came now is within `rate` per second."""
        with self._lock:
            now = time.monotonic()
            self._saved = min(self._saved + (now - self._last) * rate, max(1.0, _BURST * rate))
            self._last = now
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


def within(seconds: float, cancelled: Callable[[], bool]) -> Callable[[], bool]:
    """Return `cancelled`, which also gives up the work when `seconds` have passed from now."""
    end = time.monotonic() + seconds

    def check() -> bool:
        if time.monotonic() > end:
            raise CancelledError(f'the creation took longer than limits.creation_time, {seconds:g} s, and was given up; nothing '
                                 'was stored; choose a lower quality or raise the limit')
        return cancelled()

    return check
