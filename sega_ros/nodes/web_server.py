"""Pictures for browsers: a page, a WebSocket, MJPEG and single pictures. Knows nothing of ROS."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from aiohttp import WSCloseCode, web

from sega_ros.nodes.web_guard import refusal

LINGER = 2.0  # seconds for which pictures are still taken after the last viewer left: pages are loaded again, snapshots repeated
_ALIVE = 1.0  # seconds after which a page hears something in any case; it takes five without a word for a broken connection
_STALLED = 10.0  # seconds in which a viewer must take a picture, or answer
_LOOK = 0.005  # seconds between two looks at a viewer that has not yet taken a picture
_PATIENCE = 5.0  # seconds that a single picture is waited for
_UNSENT = 16384  # bytes that the kernel keeps ready for a connection; more would only get old there
_MAX_MESSAGE = 1024  # bytes; pages say nothing
_BOUNDARY = 'picture'
_PART = f'--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
_PAGE = Path(__file__).with_name('web_page.html')
_HEADERS = {
    'Cache-Control': 'no-store',
    'Content-Security-Policy': "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
                               "connect-src 'self'",
    'Cross-Origin-Resource-Policy': 'same-site',
    'X-Content-Type-Options': 'nosniff',
}


@dataclass(frozen=True)
class PageState:
    """What a page shows beside the pictures."""

    badges: tuple[str, ...] = ()
    standby_after: float = 2.0  # seconds
    note: str = ''  # why nothing comes, under the standby text


class Pictures:
    """The newest JPEG; whoever is slow misses those between. For one event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._jpeg, self._changed = b'', asyncio.Event()

    def put(self, jpeg: bytes) -> None:
        """Replace the picture and wake who waits."""
        self.number, self._jpeg = self.number + 1, jpeg
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, number: int, seconds: float) -> tuple[int, bytes] | None:
        """Return number and JPEG of the newest picture after the one of that number, or None when none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                while self.number <= number:
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self.number, self._jpeg


class WebServer:
    """Serves the newest picture to a bounded number of viewers, in a thread of its own.

    `state` says what a page shows beside; `wants` is called, in that thread, with whether pictures are taken: from the first
    viewer on until a little after the last.
    """

    def __init__(self, listening: socket.socket, *, names: frozenset[str], max_clients: int, state: Callable[[], PageState],
                 wants: Callable[[bool], None]) -> None:
        """Prepare to serve on a listening socket, under an address of this machine or one of `names`."""
        self._listening, self._names, self._max_clients, self._state, self._wants = listening, names, max_clients, state, wants
        host, port = listening.getsockname()[:2]
        self.address = f'http://{f"[{host}]" if ":" in host else host}:{port}/'
        self.viewers, self.sent = 0, 0
        self._pictures, self._stop = Pictures(), asyncio.Event()
        self._leaving: asyncio.TimerHandle | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name='web', daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def publish(self, jpeg: bytes) -> None:
        """Show a picture; from any thread."""
        self._loop.call_soon_threadsafe(self._pictures.put, jpeg)

    def close(self) -> None:
        """Part from all viewers and release the port."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_add_headers)
        app.add_routes([web.get('/', _page), web.get('/stream', self._stream, allow_head=False),
                        web.get('/mjpeg', self._mjpeg, allow_head=False),
                        web.get('/snapshot.jpg', self._snapshot, allow_head=False)])
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, keepalive_timeout=_STALLED, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, self._listening).start()
        await self._stop.wait()
        await runner.cleanup()
        self._wants(False)

    @web.middleware
    async def _guard(self, request: web.Request,
                     handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if reason := refusal(request.host, request.headers.get('Origin'), self._names):
            raise web.HTTPForbidden(text=reason)
        return await handler(request)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Count a viewer while it looks; HTTPServiceUnavailable when there are as many as may be."""
        if self.viewers >= self._max_clients:
            raise web.HTTPServiceUnavailable(text=f'{self.viewers} look already; close one, or raise max_clients')
        if self._leaving is not None:
            self._leaving.cancel()
        self._wants(True)
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1
            if not self.viewers:
                self._leaving = self._loop.call_later(LINGER, self._wants, False)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(heartbeat=_STALLED, max_msg_size=_MAX_MESSAGE, compress=False)
        await response.prepare(request)
        try:
            with self._looking():
                async with asyncio.TaskGroup() as tasks:
                    feeding = tasks.create_task(self._feed(response, _transport(request)))
                    async for _ in response:  # to its end; what a page says is of no interest
                        pass
                    feeding.cancel()
        except web.HTTPServiceUnavailable as full:  # browsers tell a page why a socket was closed, but not why it never opened
            await response.close(code=WSCloseCode.TRY_AGAIN_LATER, message=str(full.text).encode())
        return response

    async def _feed(self, response: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        number, told = self._pictures.number, None
        try:
            while True:
                picture, state = await self._pictures.after(number, _ALIVE), self._state()
                async with asyncio.timeout(_STALLED):
                    if picture is None or state != told:
                        await response.send_json(asdict(state))
                        told = state
                    if picture is not None:
                        number, jpeg = picture
                        await response.send_bytes(jpeg)
                        self.sent += 1
                    await _taken(transport)
        except (TimeoutError, ConnectionError):
            transport.abort()

    async def _mjpeg(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'Content-Type': f'multipart/x-mixed-replace; boundary={_BOUNDARY}'})
        transport = _transport(request)
        with self._looking():
            number = self._pictures.number
            await response.prepare(request)
            await response.write(_PART)
            try:
                while True:
                    picture = await self._pictures.after(number, self._state().standby_after)
                    number, jpeg = picture or (number, _standby())
                    async with asyncio.timeout(_STALLED):
                        # A viewer takes a picture for complete when the next one's head comes: it is sent at once.
                        await response.write(jpeg + b'\r\n' + _PART)
                        self.sent += picture is not None
                        await _taken(transport)
            except (TimeoutError, ConnectionError):
                transport.abort()
        return response

    async def _snapshot(self, _: web.Request) -> web.Response:
        with self._looking():
            picture = await self._pictures.after(self._pictures.number, _PATIENCE)
        if picture is None:
            raise web.HTTPServiceUnavailable(text=self._state().note or 'no picture came')
        self.sent += 1
        return web.Response(body=picture[1], content_type='image/jpeg')


async def _page(_: web.Request) -> web.Response:
    return web.Response(text=_PAGE.read_text(encoding='utf-8'), content_type='text/html')


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


def _transport(request: web.Request) -> asyncio.Transport:
    """Return the connection of a viewer, made to hold no more than what is just being sent."""
    if request.transport is None:
        raise ConnectionResetError('the viewer has gone')
    request.transport.get_extra_info('socket').setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
    return request.transport


async def _taken(transport: asyncio.Transport) -> None:
    """Wait until a viewer has taken what was sent: aiohttp itself waits at every 64 KiB only, two or three pictures."""
    while transport.get_write_buffer_size():
        await asyncio.sleep(_LOOK)


def _standby() -> bytes:
    """Return a JPEG that says that nothing comes: a plain viewer would go on showing the last picture."""
    picture = np.zeros((512, 512, 3), np.uint8)
    cv2.putText(picture, 'Waiting for pictures', (90, 262), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (170, 170, 170), 2, cv2.LINE_AA)
    return cv2.imencode('.jpg', picture)[1].tobytes()
