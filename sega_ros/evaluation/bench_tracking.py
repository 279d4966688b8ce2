"""Accuracy of the tracker against synthetic truth: performers drawn with known parameters, tracked, compared.

python -m sega_ros.evaluation.bench_tracking --seeds 1 2 3
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields

import numpy as np

from sega_ros.camera import pose_camera, project
from sega_ros.errors import NoFaceError
from sega_ros.head import load_head
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.synthetic.performer import Performer
from sega_ros.tracking.embedding import LandmarkEmbedding, landmark_embedding
from sega_ros.tracking.fit import Identity, fit_identity
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.tracking.tracker import FaceTracker, TrackerConfig
from sega_ros.types import Camera, FlameExpression, FlameParams

_ACTIVE = 0.04  # standard deviation over a clip from which a unit counts as activated


@dataclass(frozen=True)
class TrackingScore:
    """Errors of one performance; angles in degrees, pixels of a 512 px picture."""

    seed: int
    frames: int
    lost: int
    pose_deg: float  # mean angle between fitted and true head rotation
    pose_deg_p95: float
    landmark_px: float  # mean distance of the fitted mesh's landmarks to the true mesh's
    landmark_px_p95: float
    jaw_r: float  # Pearson's r of the jaw's opening
    blink_r: float  # of the lids' closure, both eyes
    blink_slope: float  # of fitted over true closure: 1 is the full amplitude
    gaze_r: float  # of the eyes' yaw and pitch in the head
    gaze_deg: float  # mean error of the eyes' direction
    unit_r: float  # median over the activated expression units
    unit_names: tuple[str, ...] = field(default=(), repr=False)
    unit_rs: tuple[float, ...] = field(default=(), repr=False)
    still_px: float = 0.0  # rms movement of the fitted landmarks over repeated noisy pictures of one moment
    track_ms: float = 0.0  # median, detection included


def photo_identity(head: HeadModel, embedding: LandmarkEmbedding, image: np.ndarray) -> Identity:
    """Fit the identity to one picture: shape and landmark offsets, as the tracker does by itself.

    (An avatar's personal geometry would also put MediaPipe's own error on that picture into the mesh.)

    Raises:
        NoFaceError: MediaPipe finds none.
    """
    with LandmarkDetector(static_image_mode=True) as detector:
        found = detector.detect(image)
        if not found:
            raise NoFaceError('bench_tracking: no face in the first picture of the performance')
        fit = fit_identity(head, embedding, detector.refine(image, found[0]))
    return fit.identity()


def bench_tracking(
    head: HeadModel, embedding: LandmarkEmbedding, *, seed: int, rate: float = 25.0, seconds: float = 10.0,
    size: tuple[int, int] = (512, 512), config: TrackerConfig | None = None,
) -> TrackingScore:
    """Track the performer of `seed` for `seconds` at `rate` pictures per second and score it against the truth."""
    performer = Performer(head, seed, size=size)
    times = np.arange(0.0, seconds, 1 / rate)
    first, _, _ = performer.frame(0.0)
    identity = photo_identity(head, embedding, first)
    seen: list[FlameExpression] = []
    truths: list[tuple[FlameParams, Camera]] = []
    spent = []
    with FaceTracker(head, embedding, identity=identity, config=config) as tracker:
        for t in times:
            image, params, camera = performer.frame(float(t))
            start = time.perf_counter()
            seen.append(tracker.track(image, round(t * 1e9)))
            spent.append(time.perf_counter() - start)
            truths.append((params, camera))
        still = _stillness(tracker, embedding, identity, performer, round(times[-1] * 1e9), rate)
    return _score(head, embedding, identity, seed, seen, truths, still, float(np.median(spent)) * 1e3)


def _stillness(tracker, embedding, identity, performer, stamp: int, rate: float, frames: int = 20) -> float:
    """Rms movement (px of 512) of the landmarks while nothing moves but camera noise of 2 grey levels."""
    rng = np.random.default_rng(0)
    image, _, camera = performer.frame(0.0)
    points = []
    for i in range(frames + 10):
        noisy = np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)
        message = tracker.track(noisy, stamp + round((i + 1) / rate * 1e9))
        points.append(_landmarks(tracker.head, embedding, identity, message, camera))
    settled = np.stack(points[10:])
    return float(np.sqrt(np.square(settled - settled.mean(0)).sum(-1).mean()) * 512 / camera.width)


def _landmarks(head, embedding, identity: Identity, message: FlameExpression, camera: Camera) -> np.ndarray:
    """Pixels [478, 2] of the landmarks on the tracked mesh (the landmark offsets, which no mesh has, left out)."""
    vertices = Poser(head, identity.shape, v_offset=identity.v_offset).pose(message.params)
    own = pose_camera(message.rotation, message.translation, message.focal_length, (camera.height, camera.width))
    return project(embedding.points(vertices, head.faces), own)[0]


def _score(head, embedding, identity, seed, seen, truths, still, spent) -> TrackingScore:
    kept = [i for i, message in enumerate(seen) if message.face_present]
    messages, truth = [seen[i] for i in kept], [truths[i] for i in kept]
    angles, distances = [], []
    for message, (params, camera) in zip(messages, truth, strict=True):
        cosine = (np.trace(message.rotation @ camera.viewmat[:3, :3].T) - 1) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        real = project(embedding.points(Poser(head, params.shape).pose(params), head.faces), camera)[0]
        error = np.linalg.norm(_landmarks(head, embedding, identity, message, camera) - real, axis=1)[embedding.valid]
        distances.append(error.mean() * 512 / camera.width)

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        return (np.stack([getattr(m.params, name) for m in messages]), np.stack([getattr(p, name) for p, _ in truth]))

    units, unit_truth = pair('expression')
    active = np.flatnonzero(unit_truth.std(0) > _ACTIVE)
    rs = tuple(_r(units[:, k], unit_truth[:, k]) for k in active)
    lids, lid_truth = pair('eyelids')
    eyes = zip(pair('left_eye_pose'), pair('right_eye_pose'), strict=True)
    gaze, gaze_truth = (np.concatenate(both, 1)[:, [0, 1, 3, 4]] for both in eyes)
    jaw, jaw_truth = pair('jaw_pose')
    open_eyes = lid_truth.max(1) < 0.5
    off = gaze[open_eyes] - gaze_truth[open_eyes]
    return TrackingScore(
        seed=seed, frames=len(seen), lost=len(seen) - len(kept), pose_deg=float(np.mean(angles)),
        pose_deg_p95=float(np.percentile(angles, 95)), landmark_px=float(np.mean(distances)),
        landmark_px_p95=float(np.percentile(distances, 95)), jaw_r=_r(jaw[:, 0], jaw_truth[:, 0]),
        blink_r=_r(lids.ravel(), lid_truth.ravel()), blink_slope=_slope(lids.ravel(), lid_truth.ravel()),
        gaze_r=float(np.mean([_r(gaze[open_eyes, k], gaze_truth[open_eyes, k]) for k in range(4)])),
        gaze_deg=float(np.degrees(np.linalg.norm(off.reshape(-1, 2), axis=1).mean())),
        unit_r=float(np.median(rs)), unit_names=tuple(head.expression_names[k] for k in active), unit_rs=rs,
        still_px=still, track_ms=spent)


def _r(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two does not vary."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _slope(a: np.ndarray, b: np.ndarray) -> float:
    """Regression slope of `a` on `b`."""
    return float(np.polyfit(b, a, 1)[0])


def mean_score(scores: Sequence[TrackingScore]) -> dict[str, float]:
    """Means over performers, by the fields' names."""
    numbers = [f.name for f in fields(TrackingScore) if f.name not in ('seed', 'unit_names', 'unit_rs')]
    return {name: round(float(np.mean([getattr(s, name) for s in scores])), 3) for name in numbers}


def table(scores: Iterable[TrackingScore]) -> str:
    """Return the scores as a Markdown table."""
    names = ('seed', 'frames (lost)', 'pose deg (p95)', 'landmarks px (p95)', 'jaw r', 'blink r (slope)',
             'gaze r (deg)', 'units r', 'still px', 'ms')
    rows = [f'| {" | ".join(names)} |', '|' + '---|' * len(names)]
    for s in scores:
        rows.append(
            f'| {s.seed} | {s.frames} ({s.lost}) | {s.pose_deg:.2f} ({s.pose_deg_p95:.2f}) | {s.landmark_px:.2f} '
            f'({s.landmark_px_p95:.2f}) | {s.jaw_r:.3f} | {s.blink_r:.3f} ({s.blink_slope:.2f}) | {s.gaze_r:.3f} '
            f'({s.gaze_deg:.1f}) | {s.unit_r:.3f} | {s.still_px:.2f} | {s.track_ms:.1f} |')
    return '\n'.join(rows)


def main(arguments: Sequence[str] | None = None) -> dict:
    """Run the benchmark, print the table, return scores and means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', type=int, nargs='+', default=[1, 2, 3], help='performers')
    parser.add_argument('--rate', type=float, default=25.0, help='pictures per second')
    parser.add_argument('--seconds', type=float, default=10.0, help='length of each performance')
    options = parser.parse_args(arguments)
    head = load_head()
    embedding = landmark_embedding(head)
    scores = [bench_tracking(head, embedding, seed=seed, rate=options.rate, seconds=options.seconds)
              for seed in options.seeds]
    print(table(scores))
    print(mean_score(scores))
    return {'embedding_px': embedding.median_residual_px, 'mean': mean_score(scores),
            'performers': [asdict(s) for s in scores]}


if __name__ == '__main__':
    main()
