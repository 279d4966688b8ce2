"""Tracking of calibrated frames: near the truth, in metres, and clear about what it can't use."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.camera import orbit_camera, project
from sega_ros.errors import DatasetError
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.head.skinning import pose_mesh
from sega_ros.training.data.track import CaptureTracker, TrackConfig
from sega_ros.training.data.triangulate import rigid_motion, rigid_pose, triangulate
from sega_ros.training.data.views import Frame

SMALL = TrackConfig(size=64, photo_size=96)


def surface_points(head, embedding, params, v_offset, viewmat):
    """Landmarks [n, 3] on the surface, in a camera's frame."""
    points = embedding.points(pose_mesh(head, params, v_offset=v_offset), head.faces)[embedding.valid]
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def test_the_tracked_head_lies_on_the_true_one(head, embedding, truth, tracked):
    """In every view of every frame: within 2 px of a picture with 715 px focal length, within 4 mm in space."""
    capture, report = tracked
    assert len(capture.shots) == 8 and report.shots == 8 and report.views_with_face == 8 and report.frames_single_view == 0
    shots = iter(capture.shots)
    for params, to_world, frame in zip(truth.params, truth.head_to_world, truth.frames, strict=True):
        for view, shot in zip(frame.views, shots, strict=False):
            a = surface_points(head, embedding, params, None, view.camera.viewmat @ to_world)
            b = surface_points(head, embedding, shot.params, capture.v_offset, shot.camera.viewmat)
            pixels = 715 * np.linalg.norm(a[:, :2] / a[:, 2:] - b[:, :2] / b[:, 2:], axis=1)
            assert np.median(pixels) < 2.0
            assert np.median(np.linalg.norm(a - b, axis=1)) < 0.004
            turn = (view.camera.viewmat @ to_world)[:3, :3].T @ shot.camera.viewmat[:3, :3]
            assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) < 4
    assert 0.9 < report.scale < 1.1 and report.reprojection_px < 3.5 and report.landmark_mm < 4


def test_shots_show_what_their_cameras_say(head, embedding, tracked, detector):
    """A face is found in the shot where the tracked landmarks project to: window and camera agree."""
    capture, _ = tracked
    for shot in (capture.photo, capture.shots[1], capture.shots[6]):
        seen = detector.detect(shot.image)[0].points[embedding.valid, :2]
        mesh = pose_mesh(head, shot.params, v_offset=capture.v_offset)
        points, _ = project(embedding.points(mesh, head.faces)[embedding.valid], shot.camera)
        assert np.median(np.linalg.norm(points - seen, axis=1)) < 0.012 * shot.camera.width
        assert shot.image.shape == (shot.camera.height, shot.camera.width, 3)
        assert (shot.face <= shot.head).mean() > 0.995 and 0.05 < shot.face.mean() < shot.head.mean() < (shot.alpha > 127).mean()
        border = shot.image[shot.alpha == 0]
        assert np.abs(border.astype(int) - 128).max() <= 1  # grey where nobody is


def test_the_photo_is_frontal_and_neutral(tracked, truth):
    """Frame 1 opens the jaw, camera 0 stands in front."""
    capture, _ = tracked
    assert capture.photo.camera.viewmat[2, 2] < -0.95 and np.linalg.norm(capture.photo.params.jaw_pose) < 0.1
    assert np.linalg.norm(capture.shots[4].params.jaw_pose) > 0.12
    assert all(np.array_equal(s.params.shape, capture.shape) for s in capture.shots)


def test_views_without_a_face_keep_the_calibrated_pose(head, embedding, detector, truth, tracked):
    """Seen by one camera only, the pose comes from it; the others follow by the calibration."""
    front, *others = truth.frames[0].views
    frame = replace(truth.frames[0], views=(replace(front, alpha=None), *others))  # its matte is made
    blank = [replace(v, image=np.full_like(v.image, 90)) for v in frame.views[1:]]
    tracker = CaptureTracker(head, embedding, detector.detect, SMALL)
    capture, report = tracker.track('x', [Frame('0', (frame.views[0], *blank)), Frame('1', tuple(blank))])
    assert (report.frames, report.frames_without_face, report.frames_single_view, report.views_with_face) == (2, 1, 1, 1)
    assert report.scale == 1.0 and np.isnan(report.landmark_mm)
    known, _ = tracked
    covers = [(s.alpha > 127).mean() for s in (capture.photo, known.photo)]
    assert np.isclose(*covers, atol=0.03)
    to_world = np.linalg.inv(frame.views[0].camera.viewmat) @ capture.shots[0].camera.viewmat
    for view, shot in zip(frame.views, capture.shots, strict=True):
        assert np.allclose(view.camera.viewmat @ to_world, shot.camera.viewmat, atol=1e-5)


def test_without_any_face(head, embedding, detector, truth):
    tracker = CaptureTracker(head, embedding, detector.detect, SMALL)
    views = tuple(replace(v, image=np.full_like(v.image, 90)) for v in truth.frames[0].views)
    with pytest.raises(DatasetError, match='x: no face found in 1 frames with 4 views'):
        tracker.track('x', [Frame('0', views)])


def test_other_units_are_refused(head, embedding, detector, truth):
    """A calibration in millimetres sees a giant."""
    def in_millimetres(view):
        viewmat = view.camera.viewmat.copy()
        viewmat[:3, 3] *= 1000
        return replace(view, camera=replace(view.camera, viewmat=viewmat))

    tracker = CaptureTracker(head, embedding, detector.detect, SMALL)
    with pytest.raises(DatasetError, match=r'x: the calibrated cameras see a head .* in metres'):
        tracker.track('x', [Frame('0', tuple(map(in_millimetres, truth.frames[0].views)))])


def test_an_empty_matte_is_refused(head, embedding, detector, truth):
    views = tuple(replace(v, alpha=np.zeros_like(v.alpha)) for v in truth.frames[0].views)
    tracker = CaptureTracker(head, embedding, detector.detect, SMALL)
    with pytest.raises(DatasetError, match='frame 0, camera 222200037: a face was found, but the matte holds nobody'):
        tracker.track('x', [Frame('0', views)])


def test_triangulation_is_exact_and_robust():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.05, (30, 3))
    cameras = [orbit_camera(yaw=y, pitch=0.2 * y, size=(200, 300), focal_length=2.2) for y in (-0.6, -0.2, 0.1, 0.4, 0.7)]
    pixels = np.stack([project(points, c)[0] for c in cameras])
    weights = np.ones((5, 30))
    assert np.allclose(triangulate(pixels, weights, cameras).points, points, atol=1e-6)
    wild = pixels.copy()
    wild[2] += 8  # one camera errs
    found = triangulate(wild, weights, cameras)
    assert np.linalg.norm(found.points - points, axis=1).max() < 0.004
    weights[1:, 0], weights[:3, 1], weights[:, 2] = 0, 0, 0
    found = triangulate(pixels, weights, cameras)
    assert found.weights[0] == 0 and found.weights[2] == 0 and found.weights[1] > 1  # one view, none, two
    assert np.isfinite(found.points).all()
    narrow = [orbit_camera(yaw=y, size=(200, 300)) for y in (0.0, 0.02)]
    pixels = np.stack([project(points, c)[0] for c in narrow])
    assert not triangulate(pixels, np.ones((2, 30)), narrow).weights.any()


def test_rigid_motions_are_recovered():
    rng = np.random.default_rng(1)
    points, weights = rng.normal(size=(20, 3)), rng.random(20)
    turn, shift = rotvec_to_rotmat(np.array([0.3, 2.0, -1.0])), np.array([1.0, -2, 3])
    rotation, translation, scale = rigid_motion(points, 1.3 * points @ turn.T + shift, weights)
    assert np.allclose(rotation, turn) and np.allclose(translation, shift) and np.isclose(scale, 1.3)
    pose = rigid_pose(points, points @ turn.T + shift, weights)
    assert np.allclose(pose[:3, :3], turn) and np.allclose(pose[:3, 3], shift)
    flat = points * [1, 1, 0]  # a mirror image would fit as well
    assert np.isclose(np.linalg.det(rigid_motion(flat, flat @ turn.T, weights)[0]), 1)
