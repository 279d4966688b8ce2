#!/usr/bin/env python3
"""The main job through ROS 2, as two processes: a photo becomes an avatar, a clip drives it. `make demo` runs it.

PHOTO=me.jpg, VIDEO=clip.mp4 or CAMERA=0 replace the built-in portrait and the synthetic performer. Writes demo.mp4,
demo.png and demo.json to out/demo.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import rclpy
from demo_picture import contact_sheet, side_by_side
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from tqdm import tqdm

from sega_ros.errors import ErrorCode, SegaError
from sega_ros.io import VideoReader, VideoWriter, read_image, write_png
from sega_ros.io.memory import keep_freed_memory
from sega_ros.msg import AvatarInfo, FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.convert import image_message_to_rgb, ns_to_stamp, rgb_to_image_message, stamp_to_ns
from sega_ros.nodes.processes import quiet_environment, stop
from sega_ros.nodes.reader import Reader
from sega_ros.srv import CreateAvatar

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / 'out' / 'demo'
AVATAR = 'demo'
CLIP_SECONDS, CLIP_RATE = 10.0, 30.0
MAX_SECONDS = 30.0  # of a clip that is given
CREATE_TIMEOUT, START_TIMEOUT, QUIET = 600.0, 180.0, 2.0  # seconds
VIEW_YAWS = (-30.0, 0.0, 30.0)  # degrees
SHEET_FRAMES = 6


class DemoError(Exception):
    """A step that did not work, told in one sentence."""


class FrameFile:
    """Frames by stamp in a temporary file: a clip of pictures need not fit into memory."""

    def __init__(self) -> None:
        import tempfile

        self._file = tempfile.TemporaryFile()
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}

    def put(self, stamp_ns: int, image: np.ndarray) -> None:
        """Store uint8 RGB [H, W, 3]."""
        self._places[stamp_ns] = (self._file.seek(0, 2), image.shape)
        self._file.write(np.ascontiguousarray(image).data)

    def get(self, stamp_ns: int) -> np.ndarray | None:
        """Return the frame of a stamp, or None."""
        if stamp_ns not in self._places:
            return None
        offset, shape = self._places[stamp_ns]
        self._file.seek(offset)
        return np.frombuffer(self._file.read(math.prod(shape)), np.uint8).reshape(shape)

    def rename(self, key: int, stamp_ns: int) -> None:
        """Give the frame stored as `key` its stamp."""
        self._places[stamp_ns] = self._places.pop(key)

    def __contains__(self, stamp_ns: int) -> bool:
        return stamp_ns in self._places


def progress_bar(*args: object, **options: object) -> tqdm:
    """Return a bar on standard error; in a log file it draws every ten seconds only."""
    return tqdm(*args, mininterval=0.1 if sys.stderr.isatty() else 10.0, **options)


# --- the other end of the topics ------------------------------------------------------------------------------------

class Operator(Node):
    """Publishes the driving frames and keeps what comes back."""

    def __init__(self) -> None:
        # Without the services that nobody asks here: the cores are the nodes'.
        super().__init__('demo', start_parameter_services=False, enable_rosout=False)
        self.images, self.latencies, self.arrivals = FrameFile(), [], []
        self.expression_bytes_max = 0
        self.health: dict[str, dict[str, str]] = {}
        self.camera = self.create_publisher(Image, 'image', qos.newest())
        self._readers = [
            Reader(self, Image, 'avatar/image', self._on_image, 10, failed=self._failed),
            Reader(self, FlameExpression, 'expression', self._on_expression, qos.expression(), failed=self._failed, raw=True)]
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def destroy_node(self) -> None:
        """Stop reading first."""
        for reader in self._readers:
            reader.close()
        super().destroy_node()

    def _failed(self, error: Exception) -> None:
        self.get_logger().error(f'{type(error).__name__}: {error}')

    def _on_image(self, message: Image) -> None:
        now = self.get_clock().now().nanoseconds
        stamp = stamp_to_ns(message.header.stamp)
        if stamp not in self.images:
            self.images.put(stamp, image_message_to_rgb(message))
            self.latencies.append((now - stamp) / 1e6)
            self.arrivals.append(now)

    def _on_expression(self, data: bytes) -> None:
        self.expression_bytes_max = max(self.expression_bytes_max, len(data))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            self.health[status.name.split(': ')[-1]] = {**values, 'reason': status.message}

    def drives(self, avatar: AvatarInfo) -> bool:
        """Return whether the driver is ready with this avatar; raise DemoError when it can't be."""
        health = self.health.get('avatar_driver', {})
        if "can't be driven" in health.get('reason', ''):
            raise DemoError(health['reason'])
        return health.get('avatar sha256') == avatar.sha256

    def publish(self, image: np.ndarray) -> int:
        """Publish one frame, stamped now; return the stamp in nanoseconds."""
        stamp_ns = self.get_clock().now().nanoseconds
        self.camera.publish(rgb_to_image_message(image, stamp=ns_to_stamp(stamp_ns), frame_id='camera_optical_frame'))
        return stamp_ns

    def call(self, kind: type, name: str, request: object, *, timeout: float, processes: 'Processes',
             waiting: Callable[[], None] = lambda: None) -> object:
        """Call a service from the main thread and return the answer."""
        client = self.create_client(kind, name)
        wait_for(client.service_is_ready, f'service {name}', START_TIMEOUT, processes)
        future = client.call_async(request)
        wait_for(future.done, f'answer of {name}', timeout, processes, waiting)
        return future.result()


def wait_for(condition: Callable[[], object], what: str, timeout: float, processes: 'Processes',
             waiting: Callable[[], None] = lambda: None) -> None:
    """Wait until `condition`; raise DemoError when a node dies or the time is over."""
    end = time.monotonic() + timeout
    while not condition():
        processes.check()
        if time.monotonic() > end:
            raise DemoError(f'{what}: nothing within {timeout:g} s')
        waiting()
        time.sleep(0.02)


class Processes:
    """The two nodes as processes of their own."""

    def __init__(self, stack: ExitStack) -> None:
        self._running: dict[str, subprocess.Popen] = {}
        self._stack = stack

    def start(self, name: str, parameters: dict[str, str]) -> None:
        """Start the node `name`."""
        options = [part for key, value in parameters.items() for part in ('-p', f'{key}:={value}')]
        process = subprocess.Popen([sys.executable, str(ROOT / 'scripts' / name), '--ros-args', *options])
        self._running[name] = process
        self._stack.callback(stop, process)

    def check(self) -> None:
        """Raise DemoError when a node ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise DemoError(f'{name} ended with status {process.returncode}; its messages are above')


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """Spin `node` in a thread."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except RCLError:  # shut down while the wait set was built
            if rclpy.ok():
                raise

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        rclpy.try_shutdown()
        thread.join()
        node.destroy_node()


# --- the steps ------------------------------------------------------------------------------------------------------

def identity_photo() -> np.ndarray:
    """Return PHOTO, or the public-domain portrait that scikit-image carries."""
    if path := os.environ.get('PHOTO'):
        return read_image(path)
    from skimage import data

    return data.astronaut()


def driving_source() -> str | int:
    """Return VIDEO, CAMERA, or the clip of a synthetic performer, made once and cached."""
    if path := os.environ.get('VIDEO'):
        return path
    if device := os.environ.get('CAMERA'):
        return int(device)
    from sega_ros.head import load_head
    from sega_ros.head.files import cache_folder
    from sega_ros.synthetic.performer import Performer

    head = load_head()
    path = cache_folder() / f'demo-{head.fingerprint[:12]}-{CLIP_SECONDS:g}s-{CLIP_RATE:g}hz.mp4'
    if not path.is_file():
        performer = Performer(head, seed=1)
        with VideoWriter(path, size=performer.size, fps=CLIP_RATE) as writer:
            for k in progress_bar(range(int(CLIP_SECONDS * CLIP_RATE)), desc='driving clip (once)', unit='frame'):
                writer.write(performer.frame(k / CLIP_RATE)[0])
    return str(path)


def activate(operator: Operator, name: str, processes: Processes) -> None:
    """Configure and activate a lifecycle node."""
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = operator.call(ChangeState, f'{name}/change_state', request, timeout=START_TIMEOUT, processes=processes)
        if not answer.success:
            raise DemoError(f'{name} could not be started; its messages are above')


def create(operator: Operator, photo: np.ndarray, processes: Processes) -> tuple[float, AvatarInfo]:
    """Create the avatar by the service; return the seconds it took and what was stored."""
    request = CreateAvatar.Request(avatar_id=AVATAR, replace=True, consent='demo', quality=1,
                                   image=rgb_to_image_message(photo, stamp=ns_to_stamp(0), frame_id=''))
    start = time.monotonic()
    with progress_bar(total=100, desc='avatar', bar_format='{desc}{percentage:3.0f}%|{bar}| {elapsed}') as bar:
        def show() -> None:
            health = operator.health.get('avatar_builder', {})
            if health.get('progress', '-') != '-':
                bar.set_description(f'avatar: {health["stage"]}', refresh=False)
                bar.update(max(0.0, 100 * float(health['progress']) - bar.n))
            else:
                bar.update(0)

        answer = operator.call(CreateAvatar, 'create_avatar', request, timeout=CREATE_TIMEOUT, processes=processes,
                               waiting=show)
        if answer.success:
            bar.update(100 - bar.n)
    if not answer.success:
        raise DemoError(f'no avatar ({ErrorCode(answer.error_code).name}): {answer.message}')
    for warning in answer.warnings:
        tqdm.write(f'warning: {warning}', file=sys.stderr)
    return time.monotonic() - start, answer.avatar


def play(operator: Operator, source: str | int, sent: FrameFile) -> tuple[list[int], float]:
    """Publish the clip at its own rate, never waiting for answers; return the stamps and the rate.

    A clip is decoded beforehand, as a camera would have its pictures ready.
    """
    with VideoReader(source) as reader:
        if reader.is_camera:
            return list(publish_live(operator, reader, sent)), reader.fps
        total = min(reader.frame_count or 10**9, int(MAX_SECONDS * reader.fps))
        count = 0
        for count, image in enumerate(progress_bar(islice(reader, total), total=total, desc='reading', unit='frame'), 1):
            sent.put(-count, image)
        return list(publish_clip(operator, count, reader.fps, sent)), reader.fps


def publish_live(operator: Operator, reader: VideoReader, sent: FrameFile) -> Iterator[int]:
    """Publish a camera's frames as they come; yield the stamps."""
    total = int(CLIP_SECONDS * reader.fps)
    for image in progress_bar(islice(reader, total), total=total, desc='driving', unit='frame'):
        stamp = operator.publish(image)
        sent.put(stamp, image)
        yield stamp


def publish_clip(operator: Operator, count: int, rate: float, sent: FrameFile) -> Iterator[int]:
    """Publish frames -1 ... -count of `sent` at `rate` per second and give them their stamps; yield these."""
    start = time.monotonic()
    for k in progress_bar(range(count), desc='driving', unit='frame'):
        image = sent.get(-1 - k)
        time.sleep(max(0.0, start + k / rate - time.monotonic()))
        stamp = operator.publish(image)
        sent.rename(-1 - k, stamp)
        yield stamp


def wait_for_quiet(operator: Operator, last: int) -> None:
    """Wait until the answer to the last frame is there, or nothing more comes."""
    end = time.monotonic() + QUIET
    while last not in operator.images and time.monotonic() < end:
        time.sleep(0.02)


def figures(operator: Operator, stamps: list[int], create_seconds: float, photo_psnr: float) -> dict[str, float]:
    """Return the content of demo.json."""
    out = sum(stamp in operator.images for stamp in stamps)
    if out < 2:
        raise DemoError(f'{out} avatar images came back for {len(stamps)} frames; the messages above say why')
    p50, p95 = np.percentile(operator.latencies, [50, 95])
    span = (operator.arrivals[-1] - operator.arrivals[0]) / 1e9
    return {
        'create_seconds': round(create_seconds, 2), 'photo_psnr': round(photo_psnr, 2), 'frames_in': len(stamps),
        'frames_out': out, 'frames_dropped': len(stamps) - out, 'fps': round((out - 1) / span, 2),
        'latency_ms_p50': round(float(p50), 2), 'latency_ms_p95': round(float(p95), 2),
        'expression_bytes_max': operator.expression_bytes_max,
    }


def pairs(stamps: list[int], sent: FrameFile, operator: Operator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield driver and avatar frame by frame; a dropped frame shows the avatar's last one."""
    shown = next(operator.images.get(stamp) for stamp in stamps if stamp in operator.images)
    for stamp in stamps:
        shown = operator.images.get(stamp) if stamp in operator.images else shown
        yield sent.get(stamp), shown


def write_clip(stamps: list[int], sent: FrameFile, operator: Operator, rate: float) -> None:
    """Write demo.mp4, driver beside avatar."""
    first = side_by_side(*next(pairs(stamps, sent, operator)))
    with VideoWriter(OUT / 'demo.mp4', size=first.shape[:2], fps=rate) as writer:
        for driver, avatar in progress_bar(pairs(stamps, sent, operator), total=len(stamps), desc='demo.mp4',
                                           unit='frame'):
            writer.write(side_by_side(driver, avatar))


def write_sheet(photo: np.ndarray, stamps: list[int], sent: FrameFile, operator: Operator, directory: Path) -> None:
    """Write demo.png: photo, side views, driving frames above their avatar frames."""
    from sega_ros.avatar.drive import AvatarDriver, View
    from sega_ros.avatar.store import AvatarStore
    from sega_ros.head import load_head

    driver = AvatarDriver(AvatarStore(directory).load(AVATAR), load_head())
    views = [driver.render(driver.neutral(), View('free', yaw=math.radians(yaw))) for yaw in VIEW_YAWS]
    answered = [stamp for stamp in stamps if stamp in operator.images]
    chosen = [answered[round(k)] for k in np.linspace(0, len(answered) - 1, SHEET_FRAMES + 2)[1:-1]]
    rows = [(sent.get(stamp), operator.images.get(stamp)) for stamp in chosen]
    write_png(OUT / 'demo.png', contact_sheet(photo, views, rows))


def run() -> dict[str, float]:
    """Do everything; return the figures."""
    OUT.mkdir(parents=True, exist_ok=True)
    directory = OUT / 'avatars'
    shutil.rmtree(directory, ignore_errors=True)  # the demo shows a new avatar, not the last run's
    photo, source = identity_photo(), driving_source()
    with ExitStack() as stack:
        processes = Processes(stack)
        processes.start('avatar_builder', {'avatar_dir': str(directory)})
        processes.start('avatar_driver', {'avatar_dir': str(directory), 'avatar_id': AVATAR, 'view': 'follow'})
        rclpy.init()
        operator = Operator()
        stack.enter_context(spinning(operator))
        for name in ('avatar_builder', 'avatar_driver'):
            activate(operator, name, processes)
        create_seconds, avatar = create(operator, photo, processes)
        wait_for(lambda: operator.drives(avatar), 'the driver with the new avatar', START_TIMEOUT, processes)
        sent = FrameFile()
        stamps, rate = play(operator, source, sent)
        wait_for_quiet(operator, stamps[-1])
        result = figures(operator, stamps, create_seconds, avatar.photo_psnr)
    write_clip(stamps, sent, operator, rate)
    write_sheet(photo, stamps, sent, operator, directory)
    (OUT / 'demo.json').write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    return result


def main() -> None:
    """Run the demo and print its figures."""
    keep_freed_memory()
    try:
        for name, value in quiet_environment().items():
            os.environ.setdefault(name, value)
        result = run()
    except (DemoError, SegaError) as error:
        sys.exit(f'demo: {error}')
    print(json.dumps(result, indent=2))
    print(f'{OUT / "demo.mp4"}\n{OUT / "demo.png"}\n{OUT / "demo.json"}')


if __name__ == '__main__':
    main()
