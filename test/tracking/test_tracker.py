"""The tracker as a whole, fed with projected landmarks: identity, loss, cuts, smoothing, calibration."""

import time
from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import FRONTAL, pose_camera, project
from sega_ros.errors import ImageError, RequestError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import pose_mesh
from sega_ros.tracking.embedding import landmark_embedding
from sega_ros.tracking.face_points import POINTS
from sega_ros.tracking.fit import fit_identity
from sega_ros.tracking.tracker import Calibration, FaceTracker, TrackerConfig
from sega_ros.types import FlameParams, Landmarks

SIZE = 480, 640
FRAME = np.zeros((*SIZE, 3), np.uint8)
STEP = 33_000_000


class ScriptedDetector:
    """Stands in for MediaPipe: says what it is told to."""

    def __init__(self):
        self.next, self.resets, self.closed = [], 0, False

    def detect(self, image):
        return self.next

    def reset(self):
        self.resets += 1

    def close(self):
        self.closed = True


class Stage:
    """A tracker and a head that poses in front of it."""

    def __init__(self, head, *, config=None, known=True):
        self.head, self.embedding, self.detector = head, landmark_embedding(head), ScriptedDetector()
        shape = 0.5 * np.random.default_rng(0).standard_normal(head.n_shape)
        self.rest = FlameParams(shape.astype(np.float32), np.zeros(head.n_expression, np.float32))
        self.rng, self.time = np.random.default_rng(1), 0
        identity = fit_identity(head, self.embedding, self.landmarks(self.rest)).identity() if known else None
        self.tracker = FaceTracker(head, self.embedding, identity=identity, config=config, detector=self.detector)

    def landmarks(self, params, *, turn=(0.0, 0.0, 0.0), noise=0.0):
        camera = pose_camera(FRONTAL @ rotvec_to_rotmat(np.array(turn)), np.array([0, 0, 0.9]), 2.0, SIZE)
        pixels, depth = project(self.embedding.points(pose_mesh(self.head, params), self.head.faces), camera)
        pixels = pixels + noise * self.rng.standard_normal(pixels.shape)
        z = (depth - depth.mean()) * camera.fx / depth.mean()
        return Landmarks(np.c_[pixels, z].astype(np.float32), 1.0, SIZE[1], SIZE[0])

    def show(self, params=None, **options):
        self.detector.next = [] if params is None else [self.landmarks(params, **options)]
        self.time += STEP
        return self.tracker.track(FRAME, self.time, 'camera')

    def unit(self, **units):
        expression = self.rest.expression.copy()
        for name, value in units.items():
            expression[self.head.expression_index(name)] = value
        return replace(self.rest, expression=expression)


def test_message_of_a_frame(head):
    stage = Stage(head)
    message = stage.show(stage.rest)
    assert (message.stamp_ns, message.frame_id) == (STEP, 'camera')
    assert (message.head_model, message.head_model_version) == (head.name, head.version)
    assert message.face_present and message.confidence > 0.9
    assert message.params.shape.size == 0
    assert message.params.expression.shape == (head.n_expression,)
    assert message.rotation @ message.rotation.T == pytest.approx(np.eye(3), abs=1e-5)
    assert 0 <= message.params.eyelids.min() and message.params.eyelids.max() <= 1


def test_lost_face_is_said_and_neutral(head):
    stage = Stage(head)
    stage.show(stage.unit(browInnerUp=0.8))
    message = stage.show(None)
    assert not message.face_present and message.confidence == 0
    assert not message.params.expression.any()
    assert stage.show(stage.rest).face_present


def test_still_noisy_face_stays_still(head):
    stage = Stage(head)
    noisy = [stage.show(stage.rest, noise=0.3) for _ in range(40)][10:]
    raw = Stage(head, config=TrackerConfig(smooth=False))
    rough = [raw.show(raw.rest, noise=0.3) for _ in range(40)][10:]

    def jitter(messages):
        return np.diff([m.params.expression for m in messages], axis=0).std()

    assert jitter(noisy) < 0.6 * jitter(rough)


def test_a_blink_passes_the_filters(head):
    stage = Stage(head)
    for _ in range(10):
        stage.show(stage.rest)
    shut = replace(stage.rest, eyelids=np.float32([1, 1]))
    assert [stage.show(shut).params.eyelids.min() for _ in range(3)][-1] > 0.85


def test_a_cut_starts_anew(head):
    """A jump from one profile to the other, which a warm start alone can't follow in two steps."""
    stage = Stage(head)
    for _ in range(5):
        stage.show(stage.rest, turn=(0, -0.6, 0))
    for _ in range(6):
        message = stage.show(stage.rest, turn=(0, 0.6, 0.5))
    want = FRONTAL @ rotvec_to_rotmat(np.array([0, 0.6, 0.5]))
    assert np.degrees(np.arccos((np.trace(message.rotation @ want.T) - 1) / 2)) < 6


def test_unknown_person_is_learnt_and_held(head):
    stage = Stage(head, known=False, config=TrackerConfig(identity_frames=3))
    assert stage.tracker.identity is None
    found = []
    for i in range(7):
        stage.show(stage.rest, turn=(0, 0.05 * i, 0))
        found.append(stage.tracker.identity)
    assert found[0] is not None and found[-1] is not found[0]
    assert found[-1] is found[-2] is found[-3]
    stage.tracker.reset()
    assert stage.tracker.identity is None and stage.detector.resets == 2


def test_a_live_stream_goes_on_while_a_person_is_learnt(head):
    stage = Stage(head, known=False, config=TrackerConfig(learn_in_background=True, identity_frames=2))
    assert stage.show(stage.rest).face_present  # with the mean face, at once
    assert not stage.tracker.learnt and not stage.tracker.identity.shape.any()
    deadline = time.monotonic() + 60
    while not stage.tracker.learnt and time.monotonic() < deadline:
        assert stage.show(stage.rest).face_present
    found = stage.tracker.identity.shape
    assert stage.tracker.learnt and found.any()
    stage.show(stage.rest)
    assert stage.tracker.identity.shape is found, 'learnt once, then held'
    stage.tracker.reset()
    stage.show(stage.rest)
    assert not stage.tracker.learnt


def test_given_identity_survives_a_reset(head):
    stage = Stage(head)
    before = stage.tracker.identity
    stage.tracker.reset()
    assert stage.tracker.identity is before


def test_another_shape_is_assumed_in_passing(head):
    stage = Stage(head)
    given, resets = stage.tracker.identity, stage.detector.resets
    stage.show(stage.rest)
    neutral = stage.tracker.calibrate([stage.show(stage.rest)])
    other = replace(given, shape=np.zeros_like(given.shape))
    stage.tracker.assume(other)
    assert stage.tracker.identity is other and stage.tracker.learnt
    assert stage.show(stage.rest).face_present
    assert stage.detector.resets == resets and not stage.detector.closed, 'the face is still followed'
    assert stage.tracker.calibration is neutral
    stage.tracker.assume(None)
    assert stage.tracker.identity is None and not stage.tracker.learnt


def test_camera_focal_length_overrides(head):
    assert Stage(head, config=TrackerConfig(focal_length=1.7)).show(None).focal_length == pytest.approx(1.7)


def test_calibration_takes_the_neutral_out(head):
    stage = Stage(head, config=TrackerConfig(smooth=False))
    frown = stage.unit(browDownLeft=0.6, browDownRight=0.6)
    neutral = [stage.show(frown) for _ in range(5)]
    stage.tracker.calibrate(neutral)
    assert np.abs(stage.show(frown).params.expression).max() < 0.05
    more = stage.show(stage.unit(browDownLeft=0.6, browDownRight=0.6, cheekPuff=0.5))
    assert more.params.expression[head.expression_index('cheekPuff')] > 0.3
    stage.tracker.calibrate(None)
    assert stage.show(frown).params.expression[head.expression_index('browDownLeft')] > 0.3


def test_calibration_ignores_a_blink_and_keeps_closed_closed(head):
    stage = Stage(head, config=TrackerConfig(smooth=False))
    half = replace(stage.rest, eyelids=np.float32([0.2, 0.2]))
    shut = replace(stage.rest, eyelids=np.float32([1, 1]))
    frames = [stage.show(p) for p in (half, half, shut, half, half)]
    calibration = Calibration.of_neutral(frames)
    assert calibration.relative(frames[0].params).eyelids == pytest.approx([0, 0], abs=0.05)
    assert calibration.relative(replace(frames[0].params, eyelids=np.float32([1, 1]))).eyelids == pytest.approx([1, 1])


def test_calibration_wants_a_face(head):
    stage = Stage(head)
    with pytest.raises(RequestError, match='found none with a face'):
        stage.tracker.calibrate([stage.show(None)])


def test_real_detector_refuses_what_is_no_picture(head):
    with FaceTracker(head, landmark_embedding(head)) as tracker, pytest.raises(ImageError, match='uint8 RGB'):
        tracker.track(np.zeros((4, 4), np.uint8), 0)


def test_closing_closes_the_detector(head):
    stage = Stage(head)
    with stage.tracker:
        pass
    assert stage.detector.closed


def test_points_lie_over_the_picture(head):
    """Those of the fitted face, against where the pose put them; a calibration moves nothing in the picture."""
    stage = Stage(head)
    smile = replace(stage.rest, jaw_pose=np.array([0.15, 0, 0], np.float32))
    rest = [stage.show(stage.rest) for _ in range(3)]
    for calibrated in (False, True):
        if calibrated:
            stage.tracker.calibrate(rest)
        for _ in range(30):  # the smoothing comes to rest
            found = stage.tracker.points(stage.show(smile, turn=(0.1, 0.3, 0.0)), SIZE)
        truth = stage.landmarks(smile, turn=(0.1, 0.3, 0.0)).points[list(POINTS), :2]
        assert np.linalg.norm(found.points * SIZE[::-1] - truth, axis=1).mean() < 1.5
    nobody = FaceTracker(head, stage.embedding, detector=ScriptedDetector())
    assert nobody.points(nobody.track(FRAME, 0), SIZE) is None
