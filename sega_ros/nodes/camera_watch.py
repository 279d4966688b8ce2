"""What the frames say about who sends them: the same picture again and again, nobody before the camera."""

import time
from collections.abc import Callable

import numpy as np

_SAMPLES = 4096  # bytes of a picture that are compared; the noise of a camera changes some of them in every frame


class CameraWatch:
    """Notes when the picture last changed and when a face was last seen. Written by one thread, read by others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Forget the past: frames begin to come."""
        self._sample, self._changed, self._seen = b'', self._clock(), self._clock()

    def picture(self, data) -> None:
        """Note a picture; `data` are its bytes, raw or compressed."""
        found = np.frombuffer(data, np.uint8)
        sample = found[::max(1, len(found) // _SAMPLES)].tobytes()
        if sample != self._sample:
            self._sample, self._changed = sample, self._clock()

    def face(self, present: bool) -> None:
        """Note whether a frame showed a face."""
        if present:
            self._seen = self._clock()

    @property
    def still(self) -> float:
        """Seconds since the picture changed."""
        return self._clock() - self._changed

    @property
    def faceless(self) -> float:
        """Seconds since a face was seen."""
        return self._clock() - self._seen
