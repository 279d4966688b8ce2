"""Damaged avatar files."""

import pytest

from sega_ros.avatar.avatar import avatar_to_tensors, tensors_to_avatar
from sega_ros.errors import AvatarDamagedError


@pytest.fixture
def refused():
    """Change one tensor of an avatar's file (None: leave it out), and expect that loading refuses it with words."""
    def check(avatar, key, change, match):
        tensors, metadata = avatar_to_tensors(avatar)
        value = tensors.pop(key)
        if change is not None:
            tensors[key] = change(value)
        with pytest.raises(AvatarDamagedError, match=match):
            tensors_to_avatar(tensors, metadata)

    return check
