"""Fixtures shared by the tests."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

# The same examples everywhere and every time; `long` is for scripts/fuzz.py, which brings new seeds.
settings.register_profile('ci', derandomize=True, database=None)
settings.register_profile('long', derandomize=False, database=None, print_blob=True)
settings.load_profile('ci')


@pytest.fixture(scope='session')
def head():
    """The open head, from the user's cache (built once if missing)."""
    from sega_ros.head import load_head

    return load_head()


@pytest.fixture(scope='session')
def embedding(head):
    """Landmarks on the open head."""
    from sega_ros.tracking.embedding import landmark_embedding

    return landmark_embedding(head)


@pytest.fixture(scope='session')
def layout(head):
    """UV layout of the open head at the default level of detail."""
    from sega_ros.models.uv import UvLayout

    return UvLayout.build(head)


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """PyTorch on one thread: small networks are slower on two, and Numba's threads wait for the others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def small_networks():
    """All networks a few channels wide (a SegaConfig)."""
    from sega_ros.models.deformation_vae import DeformationConfig
    from sega_ros.models.dynamic_decoder import DynamicConfig
    from sega_ros.models.identity_encoder import IdentityConfig
    from sega_ros.models.sega import SegaConfig
    from sega_ros.models.static_decoder import StaticConfig

    return SegaConfig(
        IdentityConfig(width=8, code_width=16, codes=32, embedding=8), DeformationConfig(width=8, latent=8),
        StaticConfig(width=8, features=8, fine_features=8), DynamicConfig(width=8, fine_width=8))


@pytest.fixture(scope='session')
def astronaut():
    """A real portrait in the public domain, uint8 RGB [512, 512, 3]; the face spans 107 px."""
    from skimage import data

    return data.astronaut()


@dataclass(frozen=True)
class Creation:
    """An avatar of a real photo at standard quality, and what its creation went through."""

    avatar: object  # sega_ros.avatar.avatar.Avatar
    parts: SimpleNamespace  # photo, fit, identity: what the first stages returned
    reports: list[tuple[str, float, np.ndarray | None]]  # stage, share of the job, picture


@pytest.fixture(scope='session')
def creation(head, astronaut):
    """Create one avatar (about 20 seconds) for all tests that want a real one."""
    from sega_ros.avatar import create
    from sega_ros.tracking.embedding import landmark_embedding

    parts, reports = SimpleNamespace(), []

    def keeping(name, function):
        def call(*args, **kwargs):
            setattr(parts, name, function(*args, **kwargs))
            return getattr(parts, name)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, function in (('photo', 'prepare_photo'), ('fit', 'fit_identity'),
                               ('identity', 'solve_personal_offset')):
            patch.setattr(create, function, keeping(name, getattr(create, function)))
        avatar = create.create_avatar(
            astronaut, head=head, embedding=landmark_embedding(head), quality='standard', consent='public domain',
            progress=lambda *report: reports.append(report))
    return Creation(avatar, parts, reports)


@pytest.fixture(scope='session')
def real_avatar(creation):
    """The avatar of `creation`: don't change it."""
    return creation.avatar


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
