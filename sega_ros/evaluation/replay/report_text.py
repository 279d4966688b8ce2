"""What a report says in words: protocols, counts, and why something is not there."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sega_ros.evaluation.replay.finished import FinishedRun
from sega_ros.evaluation.replay.page import number
from sega_ros.evaluation.replay.rows import FIGURES

FIGURES_BY_NAME = {f.name: f for f in FIGURES}
_PROTOCOLS = {
    'self': 'A recording of a person drives that person\'s own avatar, made from one picture; each picture of the avatar is '
            'compared with the camera frame that drove it.',
    'cross': 'A recording of one person drives the avatar of another; no frame shows what the avatar ought to look like, so '
             'what is compared is the motion of driver and avatar.',
    'expression': 'Recorded expression messages drive the avatar; where the recording has camera frames too, pictures are '
                  'compared with those of the same stamp.',
    'rendered': 'Pictures of the avatar that were recorded while it was driven are compared with the camera frames of the same '
                'stamp.'}


def protocol_text(run: FinishedRun) -> str:
    """One sentence about the run's protocol."""
    return _PROTOCOLS.get(run.summary['protocol'], 'This version does not know the protocol.')


def identity_text(identity: Mapping[str, Any]) -> str:
    """One sentence about where the avatar comes from."""
    kind = identity.get('kind')
    if kind == 'frame':
        return f'The avatar was made from frame {identity.get("frame")} of the recording, which is not scored.'
    if kind == 'photo':
        return f'The avatar was made from the photo {identity.get("photo", "given")}.'
    if kind == 'recorded':
        return f'The face shape that figures need was fitted to frame {identity.get("shape_of_frame")} of the recording.'
    return f'The avatar is the stored {identity.get("avatar", "one")}.'


def has_truth(run: FinishedRun) -> bool:
    """Whether any frame shows what the avatar ought to look like."""
    return bool(np.isfinite(run.frames['psnr_face']).any())


def left_text(run: FinishedRun) -> str:
    """What the left half of the clip shows."""
    return 'true frame' if has_truth(run) else 'driving frame (grey: none)'


def unscored_text(run: FinishedRun) -> str:
    """Why no frame was scored; '' where some were."""
    frames = run.summary['frames']
    if frames['scored']:
        return ''
    if frames['driver_lost'] >= frames['total']:
        return f'No frame was scored: no face was found in any of the {frames["total"]} driving frames.'
    if run.timing['latency_ms'].max(initial=0, where=np.isfinite(run.timing['latency_ms'])) <= 0:
        return 'No frame was scored: there is no picture of the avatar for any driving frame with a face.'
    return ('No frame was scored: that takes a driving frame with a face, other than the one that the avatar was made from, and '
            'a picture to compare with it.')


def counts_text(run: FinishedRun) -> str:
    """How many frames there were and what became of them."""
    frames, every = run.summary['frames'], int(run.summary['config'].get('score_every', 1))
    text = (f'Of {frames["total"]} frames {frames["scored"]} were scored; {frames["driver_lost"]} have no face for the tracker; '
            f'in {frames["lost"]} the truth has a face and the picture of the avatar shows none (they have no landmark figures)')
    text += f'; {frames["dropped"]} were dropped at the recorded pace' if run.about.get('realtime') else ''
    return text + (f'; one frame in {every} was measured.' if every > 1 else '.')


def window_text(run: FinishedRun) -> str:
    """Where figures are measured."""
    size, side = run.summary['window'].get('size'), run.summary['window'].get('side')
    scale = f'; it was {number(side)} px of the camera frame' if side else ''
    return (f'In a square window around the face that follows the head in steps and keeps its size{scale}. It is resampled to '
            f'{size} x {size} px: distances of landmarks are in pixels of this window. Masks:')


def why_missing(run: FinishedRun, name: str) -> str:
    """Why a run has no value of a figure."""
    stated = run.summary['missing'].get(name)
    if stated:
        return str(stated)
    if not run.summary['frames']['scored'] and not name.endswith('_driver'):
        return 'no frame was scored'
    if not has_truth(run) and not _is_motion(name):
        return 'no frame shows what the avatar ought to look like'
    return 'no frame gave a value'


def _is_motion(name: str) -> bool:
    return name.startswith(('eye_', 'mouth', 'jitter', 'aed', 'apd'))


def figure_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """One row of the summary table for every figure there is."""
    return [_row(run, name) for name in FIGURES_BY_NAME]


def _row(run: FinishedRun, name: str) -> dict[str, Any]:
    about, found = FIGURES_BY_NAME[name].metadata, run.summary['figures'].get(name)
    row = {'name': name, 'meaning': about['meaning']}
    if not found or not found['count']:
        return row | {'why': why_missing(run, name)}
    values = {key: number(found[wanted]) for key, wanted in (('mean', 'mean'), ('median', 'median'), ('worst', 'worst5'))}
    sense = {'unit': about['unit'] or 'none', 'better': about['better'] or 'neither'}
    return row | values | sense | {'why': '', 'count': found['count']}
