"""What the tracker said of a synthetic scene, compared with the truth in the scene's own bag."""

from pathlib import Path

import numpy as np

from sega_ros.camera import pose_camera, project
from sega_ros.errors import RecordingError
from sega_ros.io.bags import EXPRESSION, BagReader
from sega_ros.types import FlameExpression

_TRUTH = '/truth/expression'
_FACE = np.array([0.0, 0.0, 0.08])  # head frame, metres: about the middle of the face
_WIDTH = 640  # px: what distances in the picture are scaled to
_EYES = ('left_eye_pose', 'right_eye_pose')
_FEW, _MOVES = 10, 0.02  # frames, standard deviation under which a correlation says nothing
MEANINGS = {
    'found': 'share of the frames with a face in which the tracker has one',
    'false': 'share of the frames without one in which the tracker has one all the same',
    'place_px': 'mean distance of the face\'s middle, px of a picture 640 px wide; large where somebody else is followed',
    'pose_deg': 'mean angle between tracked and true head rotation, degrees',
    'gaze_deg': 'mean error of the eyes\' directions while they are open, degrees',
    'jaw_r': 'correlation of the jaw\'s opening',
    'blink_r': 'correlation of the lids\' closure, both eyes',
}


def score_tracking(tracked: Path, scene: Path) -> dict[str, float]:
    """Compare the expressions in the bag `tracked` with the truth in the bag `scene`, frame by frame; see `MEANINGS`.

    Figures that the scene says nothing about (a jaw that rests, a face that never leaves) are left out.

    Raises:
        RecordingError: a bag is damaged, or they have no frame in common.
    """
    found, truth = _expressions(tracked, ''), _expressions(scene, _TRUTH)
    pairs = [(found[stamp], truth[stamp]) for stamp in sorted(found.keys() & truth.keys())]
    if not pairs:
        raise RecordingError(f'{tracked} and {scene} have no frame of one stamp in common: they are not of one recording')
    there = np.array([t.face_present for _, t in pairs])
    seen = np.array([f.face_present for f, _ in pairs])
    scores = {'found': float(seen[there].mean())} if there.any() else {}
    if not there.all():
        scores['false'] = float(seen[~there].mean())
    both = [pair for pair, use in zip(pairs, there & seen, strict=True) if use]
    return scores | (_errors(both) if both else {})


def _expressions(path: Path, topic: str) -> dict[int, FlameExpression]:
    with BagReader(path) as bag:
        return {e.stamp_ns: e for e in bag.expressions(bag.choose_topic(topic, (EXPRESSION,)))}


def _errors(pairs: list[tuple[FlameExpression, FlameExpression]]) -> dict[str, float]:
    places = [np.linalg.norm(_place(f) - _place(t)) for f, t in pairs]
    scores = {'place_px': float(np.mean(places)), 'pose_deg': float(np.mean([_angle(f.rotation, t.rotation) for f, t in pairs]))}
    jaw, jaw_truth = (np.array([p[k].params.jaw_pose[0] for p in pairs]) for k in (0, 1))
    lids, lids_truth = (np.array([p[k].params.eyelids for p in pairs]) for k in (0, 1))
    scores |= _correlation('jaw_r', jaw, jaw_truth) | _correlation('blink_r', lids.ravel(), lids_truth.ravel())
    open_eyes = lids_truth.max(1) < 0.5
    if open_eyes.any():
        off = [[getattr(f.params, eye)[:2] - getattr(t.params, eye)[:2] for eye in _EYES] for f, t in pairs]
        scores['gaze_deg'] = float(np.degrees(np.linalg.norm(np.array(off)[open_eyes], axis=2).mean()))
    return scores


def _place(expression: FlameExpression) -> np.ndarray:
    """Where the face is [2], px of a picture `_WIDTH` px wide, from its middle."""
    camera = pose_camera(expression.rotation, expression.translation, expression.focal_length, (_WIDTH, _WIDTH))
    return project(_FACE, camera)[0]


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two rotations [3, 3]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1))))


def _correlation(name: str, found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    if len(truth) < _FEW or truth.std() < _MOVES or found.std() < 1e-9:
        return {}
    return {name: float(np.corrcoef(found, truth)[0, 1])}
