"""The head display: aspect, rotation, badges, standby, Escape; on SDL's dummy screen, and on a virtual X screen."""

import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pygame
import pytest
from ros_support import Camera
from sensor_msgs.msg import Image

from sega_ros.avatar.idle import neutral_expression
from sega_ros.errors import ConfigError
from sega_ros.io import write_png
from sega_ros.msg import FlameExpression
from sega_ros.nodes import qos
from sega_ros.nodes.avatar_display import AvatarDisplay
from sega_ros.nodes.convert import ns_to_stamp, rgb_to_image_message
from sega_ros.nodes.display_window import DisplayError, Window, WindowConfig, placement
from sega_ros.nodes.expressions import expression_to_message

ROOT = Path(__file__).resolve().parent.parent.parent
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(autouse=True)
def dummy(monkeypatch):
    monkeypatch.setenv('SDL_VIDEODRIVER', 'dummy')


def halves(height, width, left=RED, right=BLUE):
    """A picture whose left half and right half differ, with a green row at the top."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :width // 2], picture[:, width // 2:] = left, right
    picture[:max(2, height // 8)] = GREEN
    return picture


# --- the window -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(('picture', 'screen', 'rotation', 'wanted'), [
    ((512, 512), (600, 1024), 0, (212, 0, 600, 600)), ((480, 640), (480, 640), 0, (0, 0, 640, 480)),
    ((480, 640), (1000, 480), 90, (0, 180, 480, 640)), ((100, 400), (200, 200), 180, (0, 75, 200, 50)),
    ((1, 5000), (100, 100), 0, (0, 50, 100, 1))])
def test_placement_keeps_the_aspect(picture, screen, rotation, wanted):
    x, y, width, height = placement(picture, screen, rotation)
    assert (x, width, height) == (wanted[0], *wanted[2:]) and abs(y - wanted[1]) <= 1


def shot(rotation=0, size=(120, 200), picture=None, badges=()):
    window = Window(WindowConfig(rotation=rotation, fullscreen=False, size=size, vsync=False), title='test')
    try:
        window.show(halves(100, 100) if picture is None else picture, badges)
        return window.screenshot()
    finally:
        window.close()


def test_a_picture_is_shown_whole_between_black_bars():
    seen = shot()
    assert seen.shape == (120, 200, 3)
    assert (seen[:, :40] == 0).all() and (seen[:, 160:] == 0).all()
    assert tuple(seen[100, 60]) == RED and tuple(seen[100, 140]) == BLUE and tuple(seen[3, 100]) == GREEN


@pytest.mark.parametrize(('rotation', 'top', 'red'), [(90, (60, 156), (20, 100)), (180, (117, 100), (60, 140)),
                                                      (270, (60, 43), (100, 100))])
def test_rotation_is_clockwise(rotation, top, red):
    seen = shot(rotation)
    assert tuple(seen[top]) == GREEN and tuple(seen[red]) == RED


def test_badges_are_on_the_picture_and_turn_with_it():
    plain, marked = shot(size=(200, 200)), shot(size=(200, 200), badges=('NO FACE', 'SYNTHETIC'))
    changed = (plain != marked).any(-1)
    rows, cols = np.nonzero(changed)
    assert changed.sum() > 500 and rows.max() < 120 and cols.max() < 180
    turned = (shot(180, (200, 200)) != shot(180, (200, 200), badges=('NO FACE',))).any(-1)
    assert np.nonzero(turned)[0].min() > 100


def test_nothing_is_black():
    window = Window(WindowConfig(fullscreen=False, size=(50, 60), vsync=False), title='test')
    window.show(None)
    assert (window.screenshot() == 0).all() and '60 x 50' in window.mode and 'dummy' in window.mode
    window.close()


def test_what_cannot_be_opened(monkeypatch):
    with pytest.raises(DisplayError, match='screen 7: there are'):
        Window(WindowConfig(screen=7), title='test')
    with pytest.raises(ConfigError, match='found 45'):
        Window(WindowConfig(rotation=45), title='test')
    monkeypatch.setenv('SDL_VIDEODRIVER', 'nonsense')
    with pytest.raises(DisplayError, match='no window could be opened.*SDL_VIDEODRIVER'):
        Window(WindowConfig(), title='test')


# --- the node ---------------------------------------------------------------------------------------------------------

class Rig:
    def __init__(self, world, **parameters):
        self.world = world
        fixed = {'fullscreen': False, 'width': 200, 'height': 200, 'standby_after': 0.5}
        self.node = world.add(AvatarDisplay, fixed | parameters)
        self.images = world.helper.create_publisher(Image, 'avatar/image', qos.newest())
        self.expressions = world.helper.create_publisher(FlameExpression, 'expression', qos.expression())
        world.wait(lambda: self.images.get_subscription_count() and self.expressions.get_subscription_count(), 'the display')
        self.thread = threading.Thread(target=self.node.run, daemon=True)
        self.thread.start()

    def show(self, picture):
        before = self.node.shown
        self.images.publish(rgb_to_image_message(picture, stamp=ns_to_stamp(1), frame_id=''))
        self.world.wait(lambda: self.node.shown > before, 'the picture')
        return self.node.window.screenshot()

    def close(self):
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
        self.thread.join(5)
        assert not self.thread.is_alive(), 'Escape ends it'


def test_it_shows_what_comes_then_stands_by(world, tmp_path):
    write_png(tmp_path / 'wait.png', np.full((10, 10, 3), (9, 99, 199), np.uint8))
    rig = Rig(world, standby=str(tmp_path / 'wait.png'), badge_lost=False)
    seen = rig.show(halves(64, 64))
    assert tuple(seen[150, 20]) == RED and tuple(seen[150, 180]) == BLUE
    world.wait(lambda: tuple(rig.node.window.screenshot()[100, 100]) == (9, 99, 199), 'the standby picture')
    assert tuple(rig.show(halves(64, 64))[150, 20]) == RED, 'and comes back'
    rig.close()


def test_a_lost_face_is_said(world):
    rig = Rig(world, standby_after=60.0)
    plain = rig.show(halves(64, 64))
    message = neutral_expression(4, 'open', '1')
    rig.expressions.publish(expression_to_message(message))
    world.wait(lambda: rig.node.showing.lost, 'the expression')
    assert (rig.show(halves(64, 64)) != plain).any()
    rig.expressions.publish(expression_to_message(replace(message, face_present=True)))
    world.wait(lambda: not rig.node.showing.lost, 'the expression')
    np.testing.assert_array_equal(rig.show(halves(64, 64)), plain)
    rig.close()


def test_health(world):
    rig = Rig(world)
    world.wait(lambda: (r := world.reason(rig.node)) and 'nothing on' in r[1], 'diagnostics')
    for _ in range(3):
        rig.show(halves(32, 32))
    rig.node._diagnostics.publish()
    _, _, values = world.wait(lambda: (r := world.reason(rig.node)) and r[1] == 'showing' and r, 'diagnostics')
    assert 'dummy' in values['mode'] and int(values['shown']) >= 3
    rig.close()


# --- a virtual X screen -----------------------------------------------------------------------------------------------

def xwd(path):
    """Picture of an X window dump of 24 or 32 bits, uint8 RGB [H, W, 3]."""
    data = Path(path).read_bytes()
    header = struct.unpack('>25I', data[:100])
    size, width, height, line, colors = header[0], header[4], header[5], header[12], header[19]
    rows = np.frombuffer(data, np.uint8, height * line, size + 12 * colors).reshape(height, line)
    pixels = rows[:, :4 * width].reshape(height, width, 4)
    return pixels[..., 2::-1] if header[7] == 0 else pixels[..., 1:]


@pytest.mark.skipif(shutil.which('Xvfb') is None, reason='Xvfb is not installed')
def test_full_screen_on_a_virtual_screen(world, tmp_path):
    """The real executable, and a picture of the screen taken from outside."""
    server = subprocess.Popen(['Xvfb', '-displayfd', '1', '-screen', '0', '640x400x24', '-fbdir', str(tmp_path)],
                              stdout=subprocess.PIPE, text=True)
    with server:
        try:
            screen = f':{server.stdout.readline().strip()}'  # it has chosen a free one
            environment = os.environ | {'DISPLAY': screen, 'SDL_VIDEODRIVER': 'x11', 'ROS_DOMAIN_ID': str(world.domain)}
            command = [sys.executable, str(ROOT / 'scripts' / 'avatar_display'), '--ros-args', '-p', 'rotation:=180']
            with subprocess.Popen(command, env=environment) as display:
                try:
                    camera = Camera(world, topic='avatar/image')
                    world.wait(lambda: camera.publisher.get_subscription_count(), 'the display', 30)
                    message = rgb_to_image_message(halves(100, 100), stamp=ns_to_stamp(1), frame_id='')

                    def shown():
                        camera.publisher.publish(message)
                        time.sleep(0.1)
                        seen = xwd(tmp_path / 'Xvfb_screen0')
                        return [seen] if tuple(seen[200, 220]) == BLUE else None

                    seen, = world.wait(shown, 'the picture on the screen', 20)
                    assert seen.shape == (400, 640, 3) and (seen[:, :118] == 0).all() and (seen[:, 522:] == 0).all()
                    assert tuple(seen[200, 420]) == RED and tuple(seen[395, 320]) == GREEN
                finally:
                    display.terminate()
                assert display.wait(15) == 0
        finally:
            server.terminate()
