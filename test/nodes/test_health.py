"""The driver's diagnostics: what is wrong is said first, with figures and what to do."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.nodes.camera_watch import CameraWatch
from sega_ros.nodes.diagnostics import ERROR, OK, WARN
from sega_ros.nodes.health import DriverState, driver_health
from sega_ros.nodes.statistics import FrameStatistics


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def report(rate=30.0, drops=0.0, latency=0.02, seconds=3.0, since=0.0, refused=0):
    """Figures of a stream of `rate` images a second, of which the share `drops` is dropped."""
    clock = Clock()
    statistics = FrameStatistics(clock=clock)
    for k in range(round(rate * seconds)):
        clock.now += 1 / rate
        statistics.received()
        if int((k + 1) * drops) > int(k * drops):
            statistics.dropped()
        else:
            statistics.published(latency)
    for _ in range(refused):
        statistics.refused()
    clock.now += since
    return statistics.report()


GOOD = DriverState(report(), '/image')


@pytest.mark.parametrize(('changes', 'level', 'words'), [
    ({}, OK, 'driving'),
    ({'images_wanted': False, 'expressions_wanted': True}, OK, 'tracking'),
    ({'images_wanted': False}, OK, 'nobody subscribes'),
    ({'avatar_problem': "no avatar 'x'", 'avatar': False}, ERROR, "no avatar 'x'"),
    ({'fetching': "fetching avatar 'x': 23 %"}, WARN, '23 %'),
    ({'avatar': False}, WARN, 'waiting for an avatar'),
    ({'avatar': False, 'wanted': 'ann'}, WARN, "waiting for avatar 'ann'"),
    ({'report': FrameStatistics().report()}, ERROR, 'nothing on /image yet; check the camera'),
    ({'report': report(since=3.0)}, ERROR, 'nothing on /image for 3.0 s'),
    ({'report': report(since=3.0), 'last_bad': True, 'frame_problem': 'bad'}, ERROR, 'nothing on /image'),
    ({'report': report(rate=1.0, since=1.5)}, OK, 'driving'),  # a slow camera is not a silent one
    ({'report': report(rate=1.0, since=3.5)}, ERROR, 'nothing on /image for 3.5 s'),
    ({'last_bad': True, 'frame_problem': 'image step: found 1'}, ERROR, 'image step: found 1'),
    ({'report': report(refused=3), 'frame_problem': 'image step: found 1'}, WARN, '3 of the last 90 frames refused: image step'),
    ({'report': report(latency=3600.0)}, WARN, '3600.0 s behind this node'),
    ({'report': report(latency=-5.0)}, WARN, '5.0 s ahead of'),
    ({'still': 7.0}, WARN, 'same picture on /image for 7 s'),
    ({'still': 7.0, 'source': 'expression'}, OK, 'driving'),
    ({'report': report(drops=0.6)}, WARN, 'overloaded: 12 of 30 frames a second'),
    ({'report': report(rate=120.0, drops=0.5)}, OK, 'driving'),  # sixty a second are fluid
    ({'faceless': 4.0}, WARN, 'no face on /image for 4 s'),
])
def test_health(changes, level, words):
    found, reason = driver_health(replace(GOOD, **changes))
    assert (found, words in reason) == (level, True), reason


def test_a_watch_tells_stillness_from_noise():
    clock, rng = Clock(), np.random.default_rng(0)
    watch = CameraWatch(clock)
    picture = rng.integers(0, 255, 640 * 480 * 3, np.uint8)
    watch.picture(picture.tobytes())
    clock.now += 3
    watch.picture(picture.tobytes())
    assert watch.still == 3 and watch.faceless == 3
    watch.picture((picture + rng.integers(0, 2, picture.shape, np.uint8)).tobytes())  # the noise of the same view
    watch.face(True)
    assert watch.still == 0 and watch.faceless == 0
    clock.now += 1
    watch.face(False)
    assert watch.faceless == 1
    watch.picture(b'')
    watch.restart()
    assert watch.still == watch.faceless == 0
