"""The networks at their default sizes: shapes, cost, and what they leave alone before training."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sega_ros.models.deformation_vae import DeformationConfig, DeformationVAE
from sega_ros.models.dynamic_decoder import DynamicConfig, DynamicDecoder
from sega_ros.models.layers import fast_dtype
from sega_ros.models.static_decoder import StaticConfig

MAX_GFLOP = 0.7  # per frame, one multiply-add counted as two


def test_the_dynamic_decoder_costs_little():
    static, latent = StaticConfig(), DeformationConfig().latent
    decoder = DynamicDecoder(DynamicConfig(), static.features, static.fine_features, latent)
    inputs = (torch.zeros(1, static.features, 48, 48), torch.zeros(1, static.fine_features, 96, 96), torch.zeros(1, latent),
              torch.zeros(1, 3, 48, 48))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = decoder(*inputs)
    assert maps.geometry.shape == (1, 11, 96, 96) and maps.color.shape == (1, 3, 192, 192)
    assert 0.3 < counter.get_total_flops() / 1e9 <= MAX_GFLOP


def test_the_deformation_vae_costs_a_tenth_of_it():
    vae = DeformationVAE(DeformationConfig()).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = vae(torch.zeros(1, 3, 48, 48), sample=False)
    assert found.displacement.shape == (1, 3, 48, 48)
    assert counter.get_total_flops() / 1e9 <= MAX_GFLOP / 10


@pytest.mark.parametrize(('amx', 'avx512', 'dtype'), [(True, False, torch.bfloat16), (False, True, torch.bfloat16),
                                                      (False, False, torch.float32)])
def test_bfloat16_where_the_processor_multiplies_it(monkeypatch, amx, avx512, dtype):
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx512, raising=False)
    assert fast_dtype(torch.device('cpu')) == dtype
