"""Small avatars that have everything a file may hold, and a node's core that makes one of any picture."""

import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')  # before rclpy starts
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / 'ros'))  # its world of nodes

import numpy as np
import pytest

SIZE = 64  # texels a side, as those of `plain_avatar`


@pytest.fixture(scope='session')
def whole_avatar(plain_avatar, small_networks):
    """`plain_avatar` with a dynamic branch of small networks, a residual, and an identity of every kind."""
    import torch

    from sega_ros.avatar.avatar import Residual, filled_maps
    from sega_ros.models.frame_decoder import Branch
    from sega_ros.models.sega import Sega

    torch.manual_seed(0)
    model = Sega(small_networks).eval().requires_grad_(False)
    static = small_networks.static
    branch = Branch.of_model(model, torch.randn(1, static.features, 48, 48), torch.randn(1, static.fine_features, 96, 96))
    residual = Residual(filled_maps(SIZE, np.full(14, 0.1, np.float32)), np.zeros((1, 3), np.float32), np.zeros(1, np.float32))
    identity = replace(plain_avatar.identity, focal_length=1.5, eye_openness=np.float32([0.3, 0.3]),
                       eyelids=np.float32([0.1, 0.1]), gaze=np.zeros((2, 3), np.float32),
                       landmark_offset=np.zeros((478, 3), np.float32))
    metadata = {'created_ns': 5, 'quality': 'preview', 'consent': 'none needed', 'synthetic': True, 'splats': 10,
                'photo_psnr': 30.0}
    return replace(plain_avatar, branch=branch, residual=residual, identity=identity, metadata=metadata,
                   warnings=('a warning',))


@pytest.fixture(scope='session')
def distilled_avatar(whole_avatar):
    """The same with two linear images in place of the networks."""
    from sega_ros.models.distilled import CHANNELS, Distilled, encoder_weights
    from sega_ros.models.frame_decoder import build_networks

    vae, _ = build_networks(whole_avatar.branch)
    cells, rank, size = np.arange(100, 120), 2, CHANNELS * 20 + 3 * 48 * 48
    rng = np.random.default_rng(0)
    return replace(whole_avatar, branch=Distilled(
        vae.config, encoder_weights(vae), np.ones((rank, vae.config.latent), np.float32), np.zeros(rank, np.float32), cells,
        np.zeros(size, np.float32), rng.integers(-99, 99, (rank, size)).astype(np.int8),
        np.full((rank, CHANNELS + 1), 1e-5, np.float32)))
