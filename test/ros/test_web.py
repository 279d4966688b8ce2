"""The picture in a browser: what the node takes from ROS and when, its health, and a real browser."""

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from chromium import PROGRAM, Chromium
from fake_core import FakeDriver, record
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_support import Camera
from sensor_msgs.msg import CompressedImage

from sega_ros.avatar.idle import neutral_expression
from sega_ros.io import decode_image
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos, web_server
from sega_ros.nodes.avatar_driver import AvatarDriver
from sega_ros.nodes.avatar_web import TOPIC, AvatarWeb
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_jpeg_message
from sega_ros.nodes.expressions import expression_to_message
from sega_ros.nodes.web_guard import WebError, listen

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE = 60.0  # seconds
RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 180, 30), (30, 30, 200), (230, 230, 230)


def message(picture):
    return rgb_to_jpeg_message(picture, stamp=ns_to_stamp(1), frame_id='')


def quarters(height, width):
    """A picture of four colours."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:height // 2, :width // 2], picture[:height // 2, width // 2:] = RED, GREEN
    picture[height // 2:, :width // 2], picture[height // 2:, width // 2:] = BLUE, WHITE
    return picture


class Publisher:
    """A driver as far as a browser sees it."""

    def __init__(self, world):
        self.images = world.helper.create_publisher(CompressedImage, TOPIC, qos.newest())
        self.expressions = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
        self._world, self.now = world, None
        self._timer = world.helper.create_timer(1 / 30, self._publish)

    def show(self, picture):
        """Publish a picture at 30 Hz from now on; None is none."""
        self.now = None if picture is None else message(picture)

    def _publish(self):
        if self.now is not None:
            self.images.publish(self.now)

    def listeners(self):
        return self.images.get_subscription_count(), self.expressions.get_subscription_count()


class Rig(Publisher):
    def __init__(self, world, **parameters):
        super().__init__(world)
        self.node = world.add(AvatarWeb, {'port': 0, 'standby_after': 0.5} | parameters)

    def run(self, work):
        """Run a coroutine function with a stream that is fed."""
        async def whole():
            async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as client, \
                    client.ws_connect(f'{self.node.server.address}stream') as stream:
                self._world.wait(lambda: self.listeners() == (1, 1), 'the subscriptions')
                await work(stream)
        asyncio.run(whole())


async def next_picture(stream):
    """Return the next JPEG and the badges told before it, None when none were."""
    badges = None
    while (news := await stream.receive()).type == aiohttp.WSMsgType.TEXT:
        badges = news.json()['badges']
    return news.data, badges


def test_pictures_pass_as_they_are_and_only_while_somebody_looks(world, monkeypatch):
    monkeypatch.setattr(web_server, 'LINGER', 0.1)
    rig = Rig(world)
    world.wait(lambda: world.reason(rig.node), 'the node')
    assert rig.listeners() == (0, 0) and world.reason(rig.node)[:2] == (0, 'nobody looks')

    async def look(stream):
        for size in ((48, 64), (128, 96), (512, 512)):
            rig.show(quarters(*size))
            while (await next_picture(stream))[0] != bytes(rig.now.data):
                pass
    for _ in range(2):
        rig.run(look)
        world.wait(lambda: rig.listeners() == (0, 0), 'the end of the subscriptions')


def test_the_driver_draws_nothing_until_a_browser_looks(world, monkeypatch):
    monkeypatch.setattr(web_server, 'LINGER', 0.1)
    core, web = FakeDriver(record('ann')), world.add(AvatarWeb, {'port': 0})
    driver = world.add(AvatarDriver, {'width': 64, 'height': 32}, core=lambda _: core)
    assert driver.trigger_configure() == driver.trigger_activate() == TransitionCallbackReturn.SUCCESS
    camera = Camera(world)
    world.wait(lambda: camera.publisher.get_subscription_count() and driver.puppet, 'the driver')

    def left_alone():
        """Send an image; whether nothing was made of it."""
        unwanted, tracked = driver.statistics.report().unwanted, core.tracker.frames
        camera.send(9)
        world.wait(lambda: driver.statistics.report().unwanted > unwanted or core.tracker.frames > tracked, 'the image')
        return core.tracker.frames == tracked

    assert left_alone() and not core.views
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(snapshot, web)
        world.wait(lambda: camera.send(9) and asking.done(), 'the picture')
    assert decode_image(asking.result(), name='snapshot').shape == (32, 64, 3)
    world.wait(left_alone, 'rest again')


def snapshot(node):
    """Return a single picture."""
    with closing(HTTPConnection(node.server.address.split('/')[2])) as browser:
        browser.request('GET', '/snapshot.jpg')
        answer = browser.getresponse()
        assert answer.status == 200, answer.read()
        return answer.read()


def test_badges_as_on_the_display(world):
    rig = Rig(world)

    async def told(stream, wanted):
        while (await next_picture(stream))[1] != wanted:
            pass

    async def look(stream):
        rig.show(quarters(48, 64))
        await told(stream, [])
        lost = neutral_expression(4, 'open', '1')
        rig.expressions.publish(expression_to_message(lost))
        await told(stream, ['NO FACE'])
        rig.node.set_parameters([Parameter('badge_synthetic', value=True)])
        await told(stream, ['NO FACE', 'SYNTHETIC'])
        rig.expressions.publish(expression_to_message(replace(lost, face_present=True)))
        await told(stream, ['SYNTHETIC'])
    rig.run(look)


def test_health(world):
    rig = Rig(world)

    async def look(stream):
        def reports(words):
            rig.node._diagnostics.publish()
            return (r := world.reason(rig.node)) and words in r[1] and r

        level, _, values = world.wait(lambda: reports(f'nothing on /{TOPIC}; check avatar_driver'), 'the silence')
        assert level == 2 and values['viewers'] == '1' and values['address'] == rig.node.server.address
        rig.show(quarters(48, 64))
        world.wait(lambda: reports('showing'), 'the pictures')
        rig.now.format, rig.now.data = 'png', b'\x89PNG'
        assert world.wait(lambda: reports("found format 'png', wanted JPEG"), 'the refusal')[0] == 2
    rig.run(look)


# --- the executable ---------------------------------------------------------------------------------------------------

@contextmanager
def executable(world, *parameters, **kwargs):
    environment = os.environ | {'ROS_DOMAIN_ID': str(world.domain)}
    arguments = [word for parameter in parameters for word in ('-p', parameter)]
    with subprocess.Popen([sys.executable, str(ROOT / 'scripts' / 'avatar_web'), '--ros-args', *arguments], env=environment,
                          **kwargs) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_a_port_that_is_taken_is_named_and_ends_it_cleanly(world):
    with listen('127.0.0.1', 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WebError, match=f'port {port} of 127.0.0.1 is taken'):
            world.add(AvatarWeb, {'port': port})
        with executable(world, f'port:={port}', stderr=subprocess.PIPE, text=True) as process:
            said = process.communicate(timeout=DEADLINE)[1]
    assert process.returncode == 2 and f'port {port} of 127.0.0.1 is taken' in said and 'Traceback' not in said


async def seen(browser, check, what):
    """Return the first screenshot that `check` holds for."""
    end = time.monotonic() + DEADLINE
    while not check(shot := await browser.screenshot()):
        assert time.monotonic() < end, f'{what}: not seen; the page says {await browser.text()!r}'
    return shot


def is_colour(shot, row, column, colour):
    return np.abs(shot[row, column].astype(int) - colour).max() < 12  # JPEG's and the scaling's error


def shows(top, left, height, width):
    """Return a check that the four colours lie in this rectangle and black around it."""
    def check(shot):
        rows, columns = (top + height // 4, top + 3 * height // 4), (left + width // 4, left + 3 * width // 4)
        places = [(r, c) for r in rows for c in columns]
        inside = np.zeros(shot.shape[:2], bool)
        inside[max(0, top - 2):top + height + 2, max(0, left - 2):left + width + 2] = True
        return (all(is_colour(shot, *place, colour) for place, colour in zip(places, (RED, GREEN, BLUE, WHITE), strict=True))
                and (shot[~inside] == 0).all())
    return check


def is_standby(shot):
    """Dark, with grey words in the middle."""
    return np.median(shot) < 20 and shot.max() < 200 and (shot[200:300, 200:700] > 100).any()


@pytest.mark.skipif(PROGRAM is None, reason='chromium is not installed')
def test_in_a_real_browser(world):
    """Both ends as they are used: picture, badge, hidden tab, other size, standby, MJPEG, the server's end and return."""
    with listen('127.0.0.1', 0) as free:
        port = free.getsockname()[1]
    turn_tab = "Object.defineProperty(document, 'hidden', {{value: {}, configurable: true}}); " \
               "document.dispatchEvent(new Event('visibilitychange'))"
    parameters = (f'port:={port}', 'standby_after:=1.0', 'badge_synthetic:=true')
    publisher = Publisher(world)
    publisher.show(quarters(240, 320))

    async def look(process):
        async with Chromium((500, 900)) as browser:
            await served(browser)
            shot = await seen(browser, shows(0, 117, 500, 667), 'the picture')
            badge = shot[15:45, 135:260].astype(int)
            assert (np.abs(badge - (150, 30, 30)).max(2) < 12).mean() > 0.3 and (badge > 240).all(2).any(), 'SYNTHETIC'
            assert await browser.text() == 'SYNTHETIC'
            await browser.run(turn_tab.format('true'))
            await asyncio.to_thread(world.wait, lambda: publisher.listeners() == (0, 0), 'rest while the tab is hidden')
            await browser.run(turn_tab.format('false'))
            publisher.show(quarters(200, 100))
            await seen(browser, shows(0, 325, 500, 250), 'the narrow picture')
            publisher.show(None)
            await seen(browser, is_standby, 'standby')
            assert await browser.text() == f'Waiting for pictures\n\nnothing on /{TOPIC}; check avatar_driver'
            publisher.show(quarters(240, 320))
            await seen(browser, shows(0, 117, 500, 667), 'the picture after standby')
            await browser.open(f'http://127.0.0.1:{port}/mjpeg')
            await seen(browser, lambda shot: is_colour(shot, 190, 370, RED) and is_colour(shot, 310, 530, WHITE), 'MJPEG')
            publisher.show(None)
            await seen(browser, is_standby, 'standby in MJPEG')
            publisher.show(quarters(240, 320))
            await browser.open(f'http://127.0.0.1:{port}/')
            await seen(browser, shows(0, 117, 500, 667), 'the page again')
            process.terminate()
            assert await asyncio.to_thread(process.wait, 15) == 0
            await seen(browser, is_standby, 'the loss of the server')
            assert (await browser.text()).startswith('No connection')
            with executable(world, *parameters):
                await seen(browser, shows(0, 117, 500, 667), 'the picture of the new server')

    async def served(browser):
        end = time.monotonic() + DEADLINE
        while 'Waiting' not in await browser.text() and publisher.listeners()[0] == 0:
            assert time.monotonic() < end, 'the page did not open'
            await browser.open(f'http://127.0.0.1:{port}/')
            await asyncio.sleep(0.2)

    with executable(world, *parameters) as process:
        asyncio.run(look(process))
