"""Recorded people, made once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def truth(head):
    """Person 1 before four cameras, two frames."""
    from dataset_people import record

    return record(head, 1)


@pytest.fixture(scope='session')
def detector():
    from sega_ros.tracking.landmarks import LandmarkDetector

    with LandmarkDetector(static_image_mode=True) as detector:
        yield detector


@pytest.fixture(scope='session')
def tracked(head, embedding, detector, truth):
    """Capture and report of tracking `truth`."""
    from sega_ros.training.data.track import CaptureTracker, TrackConfig

    tracker = CaptureTracker(head, embedding, detector.detect, TrackConfig(size=128, photo_size=256))
    return tracker.track('anna', truth.frames)


@pytest.fixture(scope='session')
def tag(head):
    from sega_ros.training.data.capture_file import HeadTag

    return HeadTag.of_head(head)
