"""A directory with a stored avatar, and a clip that drives it."""

import numpy as np
import pytest


@pytest.fixture
def stored(tmp_path, plain_avatar):
    """A directory that holds that avatar as 'plain'."""
    from sega_ros.avatar.store import AvatarStore

    AvatarStore(tmp_path / 'avatars').save('plain', plain_avatar)
    return tmp_path / 'avatars'


@pytest.fixture(scope='session')
def performance(tmp_path_factory):
    """Twelve frames of the synthetic performer, 200 x 240 at 12.5 Hz; the last two show nobody."""
    from sega_ros.head import load_head
    from sega_ros.io import VideoWriter
    from sega_ros.synthetic.performer import Performer
    from sega_ros.synthetic.person import make_person

    head = load_head()
    performer = Performer(head, size=(200, 240), person=make_person(head, 0, texture_size=256))
    path = tmp_path_factory.mktemp('clips') / 'clip.mp4'
    with VideoWriter(path, size=(200, 240), fps=12.5) as writer:
        for k in range(10):
            writer.write(performer.frame(k / 12.5)[0])
        for _ in range(2):
            writer.write(np.full((200, 240, 3), 128, np.uint8))
    return path
