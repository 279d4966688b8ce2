"""Frames a second of the GPU driver: posing, decoding, binding and rasterising on the device, the picture back on the host."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.device_drive import DeviceDriver
from sega_ros.avatar.drive import View
from sega_ros.head.model import HeadModel
from sega_ros.synthetic.performer import Performer

_WARM_UP = 20  # frames
_RATE = 25  # of the performance, frames a second


@dataclass(frozen=True)
class DeviceTiming:
    """What one device does; medians in milliseconds."""

    device: str  # its name
    splats: int  # seen or not
    size: tuple[int, int]  # (H, W) pixels
    bind_ms: float  # pose, decode, bind; waited for
    draw_ms: float  # rasterise and transfer
    frames_per_second: float  # of both, without waiting in between


def bench_device(
    avatar: Avatar, head: HeadModel, *, size: tuple[int, int] = (512, 512), frames: int = 300, device: str = 'cuda',
) -> DeviceTiming | None:
    """Drive `avatar` with a synthetic performance on a CUDA device; None where PyTorch sees none.

    Raises:
        BackendError: gsplat is missing or can't run.
        HeadModelMismatchError: the avatar was made for another head model.
    """
    if not torch.cuda.is_available():
        return None
    name, driver = torch.cuda.get_device_name(device), DeviceDriver(avatar, head, device=device)
    return measure(driver, name, size=size, frames=frames, wait=lambda: torch.cuda.synchronize(device))


def measure(
    driver: DeviceDriver, name: str, *, size: tuple[int, int], frames: int, wait: Callable[[], None],
) -> DeviceTiming:
    """Time `driver`; `wait` returns when its device has done all its work."""
    view, neutral, performer = View('frontal', size=size), driver.neutral(), Performer(driver.head, 0, size=size)
    messages = [replace(neutral, params=performer.truth(k / _RATE)[0]) for k in range(frames)]
    for k in range(_WARM_UP):
        driver.render(messages[k % frames], view)
    spent = np.zeros((frames, 2))
    for k, message in enumerate(messages):
        wait()
        start = time.perf_counter()
        bound = driver.bind(message, view)
        wait()
        middle = time.perf_counter()
        driver.draw(bound)
        spent[k] = middle - start, time.perf_counter() - middle
    start = time.perf_counter()
    for message in messages:
        driver.render(message, view)
    rate = frames / (time.perf_counter() - start)
    bind_ms, draw_ms = 1000 * np.median(spent, 0)
    return DeviceTiming(name, len(bound.arrays[0]), size, float(bind_ms), float(draw_ms), rate)
