from pathlib import Path

import pytest
import torch

from sega_ros.head import load_head
from sega_ros.models.deformation_vae import DeformationConfig
from sega_ros.models.dynamic_decoder import DynamicConfig
from sega_ros.models.identity_encoder import IdentityConfig
from sega_ros.models.static_decoder import StaticConfig
from sega_ros.models.uv import UvLayout
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.training.people import synthesise
from sega_ros.training.run import RunConfig
from sega_ros.training.stages import DataConfig, TrainConfig


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session')
def head():
    return load_head()


@pytest.fixture(scope='session')
def embedding(head):
    return landmark_embedding(head)


@pytest.fixture(scope='session')
def layout(head):
    return UvLayout.build(head)



@pytest.fixture(scope='session')
def people_folder(tmp_path_factory, layout, embedding) -> Path:
    """A few synthetic people, small, two of them held out."""
    from sega_ros.training.data.capture_file import split_of

    folder = tmp_path_factory.mktemp('people')
    wanted = {'train': 3, 'val': 1}
    for seed in range(200):
        split = split_of(f'synthetic-{seed:06d}')
        if wanted.get(split, 0):
            wanted[split] -= 1
            synthesise(folder, layout, embedding, seed, shots=3, size=96, photo_size=256, texture_size=256)
        if not any(wanted.values()):
            break
    return folder


@pytest.fixture(scope='session')
def tiny(people_folder) -> TrainConfig:
    return TrainConfig(
        run=RunConfig(steps=4, warm_up=2, log_every=1, check_every=4, save_every=2),
        data=DataConfig(folder=str(people_folder), held_out=1), batch=2, shots=2,
        identity=IdentityConfig(width=8, code_width=16, codes=32, embedding=8), deformation=DeformationConfig(width=8, latent=8),
        static=StaticConfig(width=8, features=8, fine_features=8), dynamic=DynamicConfig(width=8, fine_width=8))
