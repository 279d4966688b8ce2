"""A small avatar without any creation (one flat Gaussian per texel of the mean head), and a clip that drives it."""

import numpy as np
import pytest


@pytest.fixture(scope='session')
def plain_avatar():
    """Skin-coloured mean head, 64 x 64 texels; what the commands do with it is tested, not its beauty."""
    import torch

    from sega_ros.avatar.avatar import Avatar, Shell
    from sega_ros.camera import orbit_camera
    from sega_ros.head import load_head
    from sega_ros.tracking.fit import Identity
    from sega_ros.types import GaussianMap, Splats

    head, size = load_head(), 64
    maps = GaussianMap(
        torch.zeros(size, size, 3), torch.tensor([1.0, 0, 0, 0]).expand(size, size, 4).clone(),
        torch.full((size, size, 3), float(np.log(0.0025))), torch.full((size, size), 4.0),
        torch.tensor([0.8, 0.6, 0.5]).expand(size, size, 3).clone())
    splats = Splats(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.01), torch.full((1,), 0.5),
                    torch.full((1, 3), 0.5))
    shell = Shell(splats, np.array([[0, 0, 1]], np.float32), np.array([[-1, 0]], np.float32), np.zeros(1, np.float32))
    return Avatar(
        head_model=head.name, head_model_version=head.version, identity=Identity(np.zeros(head.n_shape, np.float32)),
        atlas_size=size, static=maps, dynamic=maps, branch=None, closed_lids=np.zeros((size, size, 3), np.float32), shell=shell,
        photo_camera=orbit_camera(distance=0.8, size=(256, 256)), window=np.array([0, 0, 256], np.float32),
        background=np.ones(3, np.float32), metadata={'consent': 'none needed'})


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
