"""FLAME from the user's own file."""

from pathlib import Path

from sega_ros.head.model import HeadModel


def load_npz(path: Path) -> HeadModel:
    """Read an .npz of `HeadModel.save`.

    Raises:
        HeadModelError: the file can't be read or lacks something.
    """
    return HeadModel.load(path)
