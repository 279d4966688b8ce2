"""Fixtures shared by the tests."""

import pytest


@pytest.fixture(scope='session')
def head():
    """The open head, from the user's cache (built once if missing)."""
    from sega_ros.head import load_head

    return load_head()
