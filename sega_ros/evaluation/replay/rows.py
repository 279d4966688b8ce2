"""A row of frames.csv: what is measured of one frame, each figure with its meaning, unit and which way is better."""

from dataclasses import dataclass, field, fields

import numpy as np


def _figure(meaning: str, unit: str = '', better: str = ''):
    """Return a field of `FrameFigures`: what it means, its unit, and whether 'more' or 'less' is better ('' neither)."""
    return field(default=np.nan, metadata={'meaning': meaning, 'unit': unit, 'better': better})


@dataclass(frozen=True)
class FrameFigures:
    """A row of frames.csv; NaN (an empty cell) is unknown or does not apply."""

    frame: int  # index in the recording
    stamp_ns: int
    driver_face: bool  # the tracker found a face in the driving frame
    confidence: float  # of the tracker, [0, 1]
    scored: bool  # there is a true frame with a face, and a picture to compare with it
    lost: bool  # there is, but the picture shows no face
    psnr_face: float = _figure('PSNR over the face', 'dB', 'more')
    psnr_head: float = _figure('PSNR over the head', 'dB', 'more')
    psnr_full: float = _figure('PSNR over the whole frame', 'dB', 'more')
    ssim_face: float = _figure('SSIM of the luma, 7 px window, mean over the face', '', 'more')
    ssim_head: float = _figure('SSIM of the luma, 7 px window, mean over the head', '', 'more')
    ssim_full: float = _figure('SSIM of the luma, 7 px window, whole frame', '', 'more')
    ms_ssim_full: float = _figure('MS-SSIM of the luma, whole frame', '', 'more')
    lpips: float = _figure('LPIPS (VGG) of the window', '', 'less')
    feature_distance: float = _figure("distance of the frozen identity encoder's features in the window; not LPIPS", '', 'less')
    akd: float = _figure('mean distance of 468 landmarks', 'px of the window', 'less')
    aed: float = _figure('mean absolute difference of the expression coefficients, both re-tracked', '', 'less')
    apd: float = _figure('angle between the head poses, both re-tracked', 'degrees', 'less')
    identity_distance: float = _figure("distance of dlib's face encodings", '', 'less')
    identity_failed: float = _figure('share of pictures whose face could not be encoded', '', 'less')
    csim: float = _figure("cosine of ArcFace's embeddings", '', 'more')
    jitter: float = _figure('mean size of the second difference of the landmarks over three frames', 'px of the window', 'less')
    jitter_driver: float = _figure("the same of the driver's", 'px of the window')
    eye_left: float = _figure('eye-aspect ratio of the left eye (small is closed)')
    eye_left_driver: float = _figure("the same of the driver's")
    eye_right: float = _figure('eye-aspect ratio of the right eye')
    eye_right_driver: float = _figure("the same of the driver's")
    mouth: float = _figure('gap between the lips over the distance of the outer eye corners')
    mouth_driver: float = _figure("the same of the driver's")


FIGURES = tuple(f for f in fields(FrameFigures) if 'meaning' in f.metadata)
