"""Normal equations: compiled against reference, gradient against finite differences, structured against dense noise."""

from dataclasses import replace

import numpy as np
import pytest

from sega_ros.tracking.landmark_model import Articulation, LandmarkModel, rotation_matrix
from sega_ros.tracking.noise import LandmarkNoise, StructuredWeights, load_noise
from sega_ros.tracking.solver import FitConfig, LandmarkSolver, Observation, State, rigid_start
from sega_ros.tracking.topology import eye_openness, gap_axes, gap_widths

SIZE = 300, 400  # H != W


@pytest.fixture(scope='module')
def scene(tiny_head):
    """Model of 478 landmarks, what a camera saw of it, and a state that is off by a little."""
    rng = np.random.default_rng(5)
    faces, barys = rng.integers(0, len(tiny_head.faces), 478), rng.dirichlet([1, 1, 1], 478)
    state = State(
        Articulation(0.3 * rng.random(6), np.array([0.2, 0.4]), *(0.2 * rng.standard_normal((3, 3)))),
        np.diag([1.0, -1, -1]) @ rotation_matrix(np.array([0.1, -0.2, 0.05])), np.array([0.01, 0.02, 0.8]), 1.8,
        0.3 * rng.standard_normal(tiny_head.n_shape))
    points = rng.uniform(100, 200, (478, 3))
    return faces, barys, state, Observation.of_landmarks(points, SIZE)


def solver_of(head, scene, *, held=True, **options):
    faces, barys, state, _ = scene
    model = LandmarkModel(head, faces, barys, shape=state.shape if held else None)
    return LandmarkSolver(head, model, np.ones(478, bool), options.pop('config', FitConfig()), **options)


def test_compiled_equals_reference(tiny_head, scene):
    config = replace(FitConfig(), depth_weight=0.0)
    *_, state, seen = scene
    slow = solver_of(tiny_head, scene, config=config).normal_equations(state, seen)
    fast = solver_of(tiny_head, scene, config=config, compiled=True).normal_equations(state, seen)
    for a, b in zip(slow, fast, strict=True):
        # float32 derivatives: seven digits of the largest entry
        assert np.asarray(b) == pytest.approx(np.asarray(a), abs=3e-6 * np.abs(a).max())


def test_compiled_leaves_out_landmarks_without_a_place(tiny_head, scene):
    *_, state, seen = scene
    valid = np.ones(478, bool)
    valid[[5, 6, 200]] = False
    faces, barys, _, _ = scene
    model = LandmarkModel(tiny_head, faces, barys, shape=state.shape)
    config = replace(FitConfig(), depth_weight=0.0)
    slow = LandmarkSolver(tiny_head, model, valid, config).normal_equations(state, seen)
    fast = LandmarkSolver(tiny_head, model, valid, config, compiled=True).normal_equations(state, seen)
    assert fast[1] == pytest.approx(slow[1], abs=3e-6 * np.abs(slow[1]).max())


def test_compiled_steps_equal_reference(tiny_head, scene):
    config = replace(FitConfig(), depth_weight=0.0)
    *_, state, seen = scene
    slow, fast = (solver_of(tiny_head, scene, config=config, compiled=compiled) for compiled in (False, True))
    for iterations in (1, 3):
        wanted, found = (s.follow(state, seen, iterations=iterations) for s in (slow, fast))
        for name in ('expression', 'eyelids', 'jaw', 'left_eye', 'right_eye'):
            # float32 normal equations, conditioned like 1e4
            assert getattr(found.pose, name) == pytest.approx(getattr(wanted.pose, name), abs=1e-3)
        assert found.rotation == pytest.approx(wanted.rotation, abs=1e-3)
        assert found.translation == pytest.approx(wanted.translation, abs=1e-3)
        assert fast.rms(found, seen) == pytest.approx(slow.rms(found, seen), rel=1e-6)


def test_compiled_rotations_pass_the_singular_point(tiny_head, scene):
    """Joints at and near zero, where the closed forms divide by the angle."""
    config = replace(FitConfig(), depth_weight=0.0)
    *_, state, seen = scene
    slow, fast = (solver_of(tiny_head, scene, config=config, compiled=compiled) for compiled in (False, True))
    for size in (0.0, 1e-9, 1e-5, 3e-4, 2e-3, 3.0):
        joint = size * np.array([0.6, -0.48, 0.64])
        at = replace(state, pose=replace(state.pose, jaw=joint, left_eye=joint, right_eye=-joint))
        wanted, found = (s.normal_equations(at, seen)[1] for s in (slow, fast))
        assert found == pytest.approx(wanted, abs=3e-6 * np.abs(wanted).max())


def test_gradient_is_the_costs(tiny_head, scene):
    """Central differences of the cost, priors, walls, gaps, depth, shape and focal length included."""
    *_, state, seen = scene
    solver = solver_of(tiny_head, scene, held=False, fit_shape=True, fit_focal=True)
    beyond = replace(state.pose, expression=np.array([-0.2, 1.3, 0.1, 0.5, 0.0, 0.9]), jaw=np.array([-0.1, 0, 0]))
    state = replace(state, pose=beyond)
    _, gradient, _ = solver.normal_equations(state, seen)
    for k in range(solver.size):
        step = np.zeros(solver.size)
        step[k] = 1e-4
        up, down = (solver.normal_equations(solver.moved(state, s), seen)[2] for s in (step, -step))
        # The depth row treats the mean distance as constant: good to a per cent.
        assert (up - down) / 4e-4 == pytest.approx(gradient[k], rel=0.03, abs=2e-3 * np.abs(gradient).max())


def test_structured_weights_equal_the_dense_covariance():
    rng = np.random.default_rng(0)
    modes, weights = rng.standard_normal((4, 9, 2)), rng.uniform(0.5, 2, 9)
    rows, residual = rng.standard_normal((9, 2, 5)), rng.standard_normal((9, 2))
    down = np.array([np.sin(0.3), np.cos(0.3)])
    turned = modes @ np.array([[down[1], -down[0]], [down[0], down[1]]])
    flat = turned.reshape(4, -1)
    precision = np.linalg.inv(np.diag(np.repeat(1 / weights, 2)) + flat.T @ flat)
    a, r = rows.reshape(-1, 5), residual.ravel()
    hessian, gradient, cost = StructuredWeights(modes, weights)(rows, residual, down)
    assert hessian == pytest.approx(a.T @ precision @ a, abs=1e-4)
    assert gradient == pytest.approx(a.T @ precision @ r, abs=1e-4)
    assert cost == pytest.approx(r @ precision @ r, rel=1e-5)


def test_noise_of_errors_splits_patterns_from_scatter():
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal((478, 2))
    errors = 3 * rng.standard_normal((400, 1, 1)) * pattern + 0.1 * rng.standard_normal((400, 478, 2))
    noise = LandmarkNoise.of_errors(errors, modes=1)
    cosine = abs((noise.modes[0] * pattern).sum()) / np.linalg.norm(noise.modes[0]) / np.linalg.norm(pattern)
    assert cosine > 0.999
    assert np.linalg.norm(noise.modes[0]) == pytest.approx(3 * np.linalg.norm(pattern), rel=0.1)
    assert noise.variance == pytest.approx(0.01, rel=0.4)


def test_shipped_noise_is_sane():
    noise = load_noise()
    assert noise.modes.shape[1:] == (478, 2)
    assert np.isfinite(noise.modes).all()
    assert 0.05 < np.sqrt(noise.variance.mean()) < 3


def test_solve_reaches_noiseless_truth(tiny_head, scene):
    faces, barys, truth, _ = scene
    model = LandmarkModel(tiny_head, faces, barys, shape=truth.shape)
    loose = replace(
        FitConfig(), expression_sigma=1e3, eyelid_sigma=1e3, jaw_sigma=(1e3,) * 3, eye_sigma=(1e3,) * 3,
        vergence_sigma=(1e3,) * 3, negative_sigma=1e3, excess_sigma=1e3, jaw_close_sigma=1e3, depth_weight=0.0)
    camera = model.points(truth.pose) @ truth.rotation.T + truth.translation
    pixels = truth.focal * SIZE[1] * camera[:, :2] / camera[:, 2:] + np.array([SIZE[1] / 2, SIZE[0] / 2])
    seen = Observation.of_landmarks(np.c_[pixels, camera[:, 2]], SIZE)
    start = replace(
        truth, pose=Articulation(np.zeros(6)), rotation=np.diag([1.0, -1, -1]), translation=np.array([0, 0, 0.7]))
    solver = LandmarkSolver(tiny_head, model, np.ones(478, bool), loose, compiled=True)
    found, cost = solver.solve(start, seen, iterations=60)
    assert cost < 1e-4
    assert found.pose.expression == pytest.approx(truth.pose.expression, abs=1e-3)
    assert found.rotation == pytest.approx(truth.rotation, abs=1e-3)


def test_rigid_start_inverts_weak_perspective():
    rng = np.random.default_rng(0)
    points = 0.08 * rng.standard_normal((478, 3))
    rotation = np.diag([1.0, -1, -1]) @ rotation_matrix(np.array([0.2, 0.4, -0.3]))
    seen = Observation.of_landmarks(800 * points @ rotation.T + np.array([30, -20, 0]), SIZE)
    found, translation = rigid_start(points, seen, 2.0, np.ones(478, bool))
    assert found == pytest.approx(rotation, abs=1e-6)
    assert (rotation @ points.mean(0) + translation)[2] == pytest.approx(2.0 * SIZE[1] / 800, rel=1e-6)


def test_gaps_ignore_roll():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (478, 2))
    angle = 0.7
    turned = points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert gap_widths(turned, gap_axes(turned)) == pytest.approx(gap_widths(points, gap_axes(points)))
    assert eye_openness(3 * turned + 5) == pytest.approx(eye_openness(points))
