"""Two network namespaces and a poor link between them: rate by `tbf`, delay and loss by a forwarder (kernels may lack netem)."""

import contextlib
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence

_ETH_P_ALL, _OUTGOING = 3, 4
_IPV4, _UDP = 0x0800, 17


def why_not() -> str:
    """Why no such link can be made here; '' when one can."""
    if missing := [tool for tool in ('ip', 'tc') if shutil.which(tool) is None]:
        return f'{" and ".join(missing)} (iproute2) not installed'
    name = f'sega_try_{os.getpid()}'
    tried = subprocess.run(['ip', 'netns', 'add', name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f'no right to make network namespaces: {tried.stderr.strip()}'
    subprocess.run(['ip', 'netns', 'del', name], check=False)
    return ''


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, capture_output=True)


class Link:
    """`a` and `b` are names of namespaces; what runs in one reaches the other over the link only."""

    def __init__(self, *, kbit: int, delay: float, loss: float):
        """Take the rate of each direction, the delay in seconds of each, and the share of frames that are lost."""
        self.a, self.b = (f'sega_{end}_{os.getpid()}' for end in 'ab')
        self._kbit, self._delay, self._loss = kbit, delay, loss
        self.cut = False
        self.jitter = 0.0  # seconds by which frames are held up at most, besides; they keep their order
        self.forwarded = {self.a: 0, self.b: 0}  # bytes that left each end
        self._random, self._stop = random.Random(0), threading.Event()

    def __enter__(self) -> 'Link':
        self._outer = []
        for end, address in ((self.a, '10.99.0.1/24'), (self.b, '10.99.0.2/24')):
            inner, outer = f'i{end[-9:]}', f'o{end[-9:]}'
            _ip('netns', 'add', end)
            _ip('link', 'add', inner, 'type', 'veth', 'peer', 'name', outer)
            _ip('link', 'set', inner, 'netns', end)
            for words in (('addr', 'add', address, 'dev', inner), ('link', 'set', inner, 'up'), ('link', 'set', 'lo', 'up'),
                          ('route', 'add', '224.0.0.0/4', 'dev', inner)):
                _ip('-n', end, *words)
            subprocess.run(['tc', '-n', end, 'qdisc', 'add', 'dev', inner, 'root', 'tbf', 'rate', f'{self._kbit}kbit', 'burst',
                            '4kb', 'latency', '2s'], check=True, capture_output=True)
            _ip('link', 'set', outer, 'up')
            self._outer.append(outer)
        self._sockets = [self._open(name) for name in self._outer]
        self._thread = threading.Thread(target=self._forward, name='link', daemon=True)
        self._thread.start()
        return self

    @staticmethod
    def _open(name: str) -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        made.bind((name, 0))
        return made

    def __exit__(self, *_) -> None:
        self._stop.set()
        with contextlib.suppress(AttributeError):
            self._thread.join()
            for made in self._sockets:
                made.close()
        for end in (self.a, self.b):
            subprocess.run(['ip', 'netns', 'del', end], capture_output=True, check=False)

    def command(self, end: str, words: Sequence[str]) -> list[str]:
        """Command line that runs `words` in the namespace `end`."""
        return ['ip', 'netns', 'exec', end, *words]

    def _forward(self) -> None:
        """Hand every frame to the other side after the delay, unless it is lost."""
        waiting: list[tuple[float, int, int, bytes]] = []  # due, number, socket to send on, frame
        count, last = 0, [0.0, 0.0]  # last: when the side's newest frame is due
        while not self._stop.is_set():
            pause = max(0.0, min(0.1, waiting[0][0] - time.monotonic())) if waiting else 0.1
            for ready in select.select(self._sockets, [], [], pause)[0]:
                frame, address = ready.recvfrom(65535)
                side = self._sockets.index(ready)
                if address[2] == _OUTGOING or self.cut or self._random.random() < self._loss:
                    continue
                self.forwarded[(self.a, self.b)[side]] += len(frame)
                count += 1
                last[side] = max(last[side], time.monotonic() + self._delay + self._random.uniform(0, self.jitter))
                heapq.heappush(waiting, (last[side], count, 1 - side, _without_checksum(frame)))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, side, frame = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    self._sockets[side].send(frame)


def _without_checksum(frame: bytes) -> bytes:
    """The frame, a UDP checksum in it set to "none": the sending kernel leaves it to hardware that isn't there."""
    if len(frame) < 42 or struct.unpack_from('!H', frame, 12)[0] != _IPV4 or frame[23] != _UDP:
        return frame
    if struct.unpack_from('!H', frame, 20)[0] & 0x1FFF:  # not the first fragment: no header
        return frame
    at = 14 + 4 * (frame[14] & 15) + 6
    return frame[:at] + b'\0\0' + frame[at + 2:]
