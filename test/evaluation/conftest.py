"""Small networks."""

import pytest
import torch

from sega_ros.models.sega import Sega
from sega_ros.models.weights import save_weights


@pytest.fixture(scope='session')
def small_weights(tmp_path_factory, head, small_networks):
    """Untrained networks a few channels wide, as a weights file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'small.safetensors'
    save_weights(path, Sega(small_networks), {}, head=head)
    return path
