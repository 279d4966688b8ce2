"""Small people, small networks."""

import pytest
import torch


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def embedding(head):
    from sega_ros.tracking.embedding import landmark_embedding

    return landmark_embedding(head)


@pytest.fixture(scope='session')
def layout(head):
    from sega_ros.models.uv import UvLayout

    return UvLayout.build(head)


@pytest.fixture(scope='session')
def small_weights(tmp_path_factory, head):
    """Untrained networks a few channels wide, as a weights file."""
    from sega_ros.models.deformation_vae import DeformationConfig
    from sega_ros.models.dynamic_decoder import DynamicConfig
    from sega_ros.models.identity_encoder import IdentityConfig
    from sega_ros.models.sega import Sega, SegaConfig
    from sega_ros.models.static_decoder import StaticConfig
    from sega_ros.models.weights import save_weights

    torch.manual_seed(0)
    config = SegaConfig(
        IdentityConfig(width=8, code_width=16, codes=32, embedding=8), DeformationConfig(width=8, latent=8),
        StaticConfig(width=8, features=8, fine_features=8), DynamicConfig(width=8, fine_width=8))
    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_weights(path, Sega(config), {}, head=head)
    return path
