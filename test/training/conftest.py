"""A few small people, small networks, short runs."""

from pathlib import Path

import pytest

from sega_ros.training.data.capture_file import split_of
from sega_ros.training.people import synthesise
from sega_ros.training.run import RunConfig
from sega_ros.training.stages import DataConfig, TrainConfig


@pytest.fixture(scope='session')
def people_folder(tmp_path_factory, layout, embedding) -> Path:
    """A few synthetic people, small, two of them held out."""
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
def tiny(people_folder, small_networks) -> TrainConfig:
    n = small_networks
    return TrainConfig(
        run=RunConfig(steps=4, warm_up=2, log_every=1, check_every=4, save_every=2),
        data=DataConfig(folder=str(people_folder), held_out=1), batch=2, shots=2,
        identity=n.identity, deformation=n.deformation, static=n.static, dynamic=n.dynamic)
