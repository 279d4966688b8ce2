"""Pictures for browsers: page, WebSocket, MJPEG, single pictures; slow, stalled, too many and foreign clients."""

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager

import aiohttp
import cv2
import numpy as np
import pytest

from sega_ros.io import decode_image
from sega_ros.nodes import web_server
from sega_ros.nodes.web_guard import listen, own_names
from sega_ros.nodes.web_server import PageState, WebServer

DEADLINE = 20.0  # seconds


def jpeg(number, size=50_000):
    """Bytes told apart by a number; the server does not look inside."""
    return b'\xff\xd8' + number.to_bytes(4, 'big') + bytes(size)


class Site:
    """A server on a free port; `asked` is what it said of whether it wants pictures."""

    def __init__(self, max_clients=8):
        self.state, self.asked = PageState(), []
        self.server = WebServer(listen('127.0.0.1', 0), names=own_names('127.0.0.1', 'robot.example'), max_clients=max_clients,
                                state=lambda: self.state, wants=self.asked.append)
        self.server.start()

    def url(self, path=''):
        return self.server.address + path


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(web_server, 'LINGER', 0.05)
    made = Site()
    yield made
    made.server.close()


def run(work):
    """Run a coroutine function with a client, up to the deadline."""
    async def whole():
        async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as client:
            await work(client)
    asyncio.run(whole())


async def until(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.005)


@asynccontextmanager
async def looking(site, client, **kwargs):
    """A WebSocket that is fed."""
    before = site.server.viewers
    async with client.ws_connect(site.url('stream'), **kwargs) as stream:
        await until(lambda: site.server.viewers > before, 'the viewer')
        yield stream


async def next_picture(stream):
    """Return the next picture, and the states told before it."""
    states = []
    async for message in stream:
        if message.type == aiohttp.WSMsgType.BINARY:
            return message.data, states
        states.append(message.json())
    raise AssertionError(f'closed: {stream.close_code}')


def test_the_page_is_one_file_that_may_load_nothing_else(site):
    async def work(client):
        async with client.get(site.url()) as answer:
            text = await answer.text()
            assert answer.status == 200 and answer.content_type == 'text/html' and '<title>Avatar</title>' in text
            assert "default-src 'none'" in answer.headers['Content-Security-Policy']
            assert 'src="' not in text and text.count('href=') == text.count('href="data:,"')
        for path in ('favicon.ico', 'web_page.html', '%2e%2e/web_page.html', 'stream/'):
            async with client.get(site.url(path)) as answer:
                assert answer.status == 404, path
        async with client.post(site.url()) as answer:
            assert answer.status == 405
    run(work)
    assert site.asked == [], 'the page alone shows nothing'


def test_stream_is_what_was_published(site):
    async def work(client):
        async with looking(site, client) as stream:
            for number in range(20):
                site.server.publish(jpeg(number, 1000 * number))
                assert (await next_picture(stream))[0] == jpeg(number, 1000 * number)
    run(work)
    assert site.server.sent == 20


def test_a_viewer_never_sees_what_was_before(site):
    async def work(client):
        site.server.publish(jpeg(1))
        async with looking(site, client) as stream:
            site.server.publish(jpeg(2))
            assert (await next_picture(stream))[0] == jpeg(2)
    run(work)


def test_badges_come_before_their_picture_and_once(site):
    async def work(client):
        async with looking(site, client) as stream:
            told = []
            for badges in ((), ('NO FACE',), ('NO FACE',), ()):
                site.state = PageState(badges, 0.7, 'showing')
                site.server.publish(jpeg(1))
                told.append([state['badges'] for state in (await next_picture(stream))[1]])
            assert told == [[[]], [['NO FACE']], [], [[]]]
    run(work)


def test_a_page_hears_something_though_nothing_comes(site):
    async def work(client):
        site.state = PageState(('SYNTHETIC',), 0.7, 'nothing on /avatar')
        async with looking(site, client) as stream:
            for _ in range(2):
                assert await stream.receive_json() == {
                    'badges': ['SYNTHETIC'], 'standby_after': 0.7, 'note': 'nothing on /avatar'}
    run(work)


def slow_viewer(site, path, headers=''):
    """A connection that asks and does not read."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = site.server.address[len('http://'):-1].split(':')
    slow.connect((host, int(port)))
    slow.sendall(f'GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}\r\n'.encode())
    return slow


UPGRADE = ('Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n'
           'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n')


@pytest.mark.parametrize(('path', 'headers'), [('stream', UPGRADE), ('mjpeg', '')])
def test_a_slow_viewer_misses_pictures_and_costs_others_nothing(site, path, headers):
    """It reads nothing while 30 MB are shown to another, then everything: of that, little was kept for it, and the newest."""
    count = 600

    async def work(client):
        with slow_viewer(site, path, headers) as slow:
            await until(lambda: site.server.viewers == 1, 'the slow viewer')
            async with looking(site, client) as fast:
                for number in range(count):
                    site.server.publish(jpeg(number))
                    assert (await next_picture(fast))[0] == jpeg(number)
            slow.setblocking(False)
            kept = bytearray()
            while jpeg(count - 1) not in kept:
                kept += await asyncio.get_running_loop().sock_recv(slow, 1 << 20)
        assert len(kept) < 3 * 50_000 and b'\xff\xd8\0\0\1\0' not in kept
    run(work)


@pytest.mark.parametrize(('path', 'headers'), [('stream', UPGRADE), ('mjpeg', '')])
def test_a_viewer_that_takes_nothing_is_parted_from(site, monkeypatch, path, headers):
    monkeypatch.setattr(web_server, '_STALLED', 0.3)

    async def work(_):
        with slow_viewer(site, path, headers) as slow:
            await until(lambda: site.server.viewers == 1, 'the viewer')

            def gone():
                site.server.publish(jpeg(1, 1_000_000))
                return not site.server.viewers
            await until(gone, 'its place')
            slow.settimeout(DEADLINE)
            while slow.recv(1 << 20):  # to the end of what was on its way
                pass
    run(work)


PART = b'--picture\r\nContent-Type: image/jpeg\r\n\r\n'


async def read_part(content):
    """Return the next picture of an MJPEG stream; the next part's head follows at once, or viewers lag by a picture."""
    return (await content.readuntil(b'\r\n' + PART))[:-len(PART) - 2]


def test_mjpeg(site):
    site.state = PageState(standby_after=0.3)

    async def work(client):
        async with client.get(site.url('mjpeg')) as answer:
            assert answer.headers['Content-Type'] == 'multipart/x-mixed-replace; boundary=picture'
            assert await answer.content.readexactly(len(PART)) == PART
            for number in range(5):
                site.server.publish(jpeg(number))
                assert await read_part(answer.content) == jpeg(number)
            standby = decode_image(await read_part(answer.content), name='standby')
            assert np.median(standby) < 5 and standby.max() > 100, 'dark, with words'
            site.server.publish(jpeg(9))
            while (part := await read_part(answer.content)) != jpeg(9):
                assert decode_image(part, name='standby').shape == standby.shape
    run(work)


def test_mjpeg_in_a_plain_viewer(site):
    """OpenCV's, which is FFmpeg's."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, 48:] = (20, 120, 220)
    encoded = cv2.imencode('.jpg', picture)[1].tobytes()
    done = threading.Event()

    def publish():
        while not done.wait(0.01):
            site.server.publish(encoded)
    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        viewer = cv2.VideoCapture(site.url('mjpeg'), cv2.CAP_FFMPEG)
        frames = [viewer.read()[1] for _ in range(3)]
        viewer.release()
    finally:
        done.set()
        publisher.join()
    for frame in frames:
        assert frame.shape == picture.shape and np.abs(frame[:, ::20].astype(int) - picture[:, ::20]).max() < 12


def test_a_single_picture(site, monkeypatch):
    async def work(client):
        site.server.publish(jpeg(1))
        asking = asyncio.create_task(client.get(site.url('snapshot.jpg')))
        await until(lambda: site.server.viewers, 'the request')
        site.server.publish(jpeg(2))
        async with await asking as answer:
            assert answer.content_type == 'image/jpeg' and await answer.read() == jpeg(2)
            assert answer.headers['Cache-Control'] == 'no-store'
        monkeypatch.setattr(web_server, '_PATIENCE', 0.1)
        site.state = PageState(note='nothing on /avatar/image/compressed; check avatar_driver')
        async with client.get(site.url('snapshot.jpg')) as answer:
            assert answer.status == 503 and 'nothing on /avatar' in await answer.text()
    run(work)


def test_no_more_viewers_than_allowed(monkeypatch):
    site = Site(max_clients=2)

    async def work(client):
        async with looking(site, client), looking(site, client):
            async with client.ws_connect(site.url('stream')) as third:
                assert (await third.receive()).extra == '2 look already; close one, or raise max_clients'
                assert third.close_code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
            for path in ('mjpeg', 'snapshot.jpg'):
                async with client.get(site.url(path)) as answer:
                    assert answer.status == 503 and 'max_clients' in await answer.text()
            assert site.server.viewers == 2
        await until(lambda: not site.server.viewers, 'their leaving')
        async with looking(site, client) as stream:
            site.server.publish(jpeg(1))
            assert (await next_picture(stream))[0] == jpeg(1)
    try:
        run(work)
    finally:
        site.server.close()


def test_pictures_are_wanted_only_while_somebody_looks(site):
    async def work(client):
        assert site.asked == []
        async with looking(site, client):
            assert site.asked == [True]
            async with client.get(site.url('mjpeg')):
                await until(lambda: site.server.viewers == 2, 'the second viewer')
            await until(lambda: site.server.viewers == 1, 'its leaving')
            assert False not in site.asked
        await until(lambda: site.asked[-1] is False, 'the end')
    run(work)


def test_a_page_that_is_loaded_again_costs_no_new_subscription(site, monkeypatch):
    monkeypatch.setattr(web_server, 'LINGER', 3600.0)

    async def work(client):
        for _ in range(3):
            async with looking(site, client):
                pass
            await until(lambda: not site.server.viewers, 'leaving')
        assert False not in site.asked
    run(work)


def test_an_end_without_goodbye_frees_the_place(site):
    async def work(_):
        slow_viewer(site, 'stream', UPGRADE).close()
        slow_viewer(site, 'mjpeg').close()
        await until(lambda: len(site.asked) > 1 and not site.server.viewers, 'their leaving')
    run(work)


def test_much_talk_ends_a_stream(site):
    async def work(client):
        async with looking(site, client) as stream:
            await stream.send_bytes(bytes(2000))
            while (message := await stream.receive()).type == aiohttp.WSMsgType.TEXT:
                pass
            assert message.type == aiohttp.WSMsgType.CLOSE and message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    run(work)


def test_closing_parts_from_viewers_and_frees_the_port():
    site = Site()

    async def work(client):
        async with client.get(site.url('mjpeg')), looking(site, client) as stream:
            await asyncio.to_thread(site.server.close)
            assert (await stream.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert site.asked[-1] is False
    run(work)
    listen('127.0.0.1', int(site.server.address.split(':')[2][:-1])).close()


def test_refusals_are_answers(site):
    async def work(client):
        for headers, word in (({'Origin': 'http://evil.example'}, 'origin'), ({'Host': 'evil.example'}, 'host')):
            for path in ('', 'mjpeg', 'snapshot.jpg'):
                async with client.get(site.url(path), headers=headers) as answer:
                    assert answer.status == 403 and (await answer.text()).startswith(f'{word}: found')
            with pytest.raises(aiohttp.WSServerHandshakeError, match='403'):
                await client.ws_connect(site.url('stream'), headers=headers)
        async with looking(site, client, headers={'Origin': site.url()[:-1]}):
            pass
    run(work)
