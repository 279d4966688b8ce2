"""What `sega drive` does with each frame."""

import time
from collections.abc import Iterator

import numpy as np


class Session:
    """Tracker and driver of one run, as a context manager, with its timings."""

    def __init__(self, args, avatar, reader, output):
        from sega_ros.avatar.drive import AvatarDriver, View, driver_identity
        from sega_ros.cli.loading import load_head_and_embedding
        from sega_ros.tracking.tracker import FaceTracker

        head, embedding = load_head_and_embedding(args.head, output)
        size = reader.size if args.view == 'input' else args.size
        self.view = View(args.view, size=size, yaw=args.yaw, pitch=args.pitch,
                         **({} if args.distance is None else {'distance': args.distance}),
                         **({} if args.background is None else {'background': args.background}))
        self._driver, self._output = AvatarDriver(avatar, head), output
        if args.detail is not None:
            self._driver.detail = args.detail
        self._seconds = args.seconds
        self._fps = reader.fps
        self._first = reader.peek()
        identity = driver_identity(avatar, head, embedding, self._first, choice=args.driver_identity)
        self.identity = 'fit' if identity is None else 'avatar'
        self._tracker = FaceTracker(head, embedding, identity=identity)
        self._count, self._lost, self._times = 0, 0, []

    def __enter__(self) -> 'Session':
        return self

    def __exit__(self, *_) -> None:
        self._tracker.close()

    def frames(self, reader) -> Iterator[tuple[np.ndarray, int]]:
        """Yield frames and how often each is written: once from a clip; from a camera as its rate wants it."""
        if not reader.is_camera:
            for image in reader:
                yield image, 1
            return
        start, written = None, 0
        for image in reader:
            now = time.monotonic()
            start = now if start is None else start
            # A camera that is read more slowly than it runs drops frames; repeating keeps the clip in real time. Rounded:
            # a frame that comes up to half a period early or late still has a place of its own.
            due = round((now - start) * reader.fps) + 1
            due = min(due, int(self._seconds * reader.fps))
            if due > written:
                yield image, due - written
                written = due
            if written >= self._seconds * reader.fps - 1:
                return
        self._output.warn(f'camera {reader.source} stopped after {written / reader.fps:.1f} s; what it sent is kept')

    def frame_count(self, reader) -> int | None:
        """How many frames will come, where that is known."""
        return int(self._seconds * reader.fps) if reader.is_camera else reader.frame_count

    def step(self, image: np.ndarray) -> np.ndarray:
        """Track one frame (uint8 RGB [H, W, 3]) and return the avatar's picture (uint8 RGB [H, W, 3])."""
        start = time.perf_counter()
        stamp = round(self._count * 1e9 / self._fps)
        expression = self._tracker.track(image, stamp)
        rendered = self._driver.render(expression, self.view)
        self._times.append(1000 * (time.perf_counter() - start))
        self._count += 1
        self._lost += not expression.face_present
        return rendered

    def report(self) -> dict:
        """Return frames, those without a face, and milliseconds per frame (less the first ones, which compile)."""
        times = self._times[min(3, len(self._times) - 1):]
        return {
            'frames': self._count, 'frames_without_face': self._lost, 'driver_identity': self.identity,
            'ms_per_frame_p50': round(float(np.percentile(times, 50)), 2),
            'ms_per_frame_p95': round(float(np.percentile(times, 95)), 2),
        }
