"""How close a rendering is to the truth: PSNR and SSIM over masks, feature, landmark and identity distance."""

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from sega_ros.camera import project
from sega_ros.errors import RequestError
from sega_ros.head.skinning import Poser
from sega_ros.losses import FeatureLoss
from sega_ros.models.arcface import face_crop, load_arcface
from sega_ros.models.crop import cut_window, identity_square
from sega_ros.models.identity_encoder import IdentityEncoder
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.types import Capture, Shot

MIN_PIXELS = 50  # of a mask, under which a figure says nothing
_MESH_POINTS = 468  # MediaPipe's landmarks without the irises
_WINDOW = 128  # px: side of what the encoder compares, as in training
_ARCFACE_WINDOW = 256  # px
_SSIM_SIDE = 7  # px: window of skimage's structural_similarity
_BOX = 0.9  # side of dlib's own face box over the landmarks' larger extent (median of 33 synthetic portraits: 0.895)


@dataclass(frozen=True)
class Scores:
    """Figures of one picture, or their means over several; NaN is unknown."""

    head_psnr: float = np.nan  # dB, over the pixels of skin and hair
    face_psnr: float = np.nan  # dB, over those of face, eyes and mouth
    ssim: float = np.nan  # over skin and hair
    feature_distance: float = np.nan  # of the frozen identity encoder's features
    akd: float = np.nan  # px: mean distance of MediaPipe's landmarks
    akd_lost: float = 0  # pictures in which the truth has a face and the rendering none
    identity_distance: float = np.nan  # of dlib's encodings; under 0.6 is commonly the same person
    identity_failed: float = 0  # pictures that could not be encoded
    count: float = 1  # pictures


_TOTALS = ('akd_lost', 'identity_failed', 'count')


def mean_scores(scores: list[Scores]) -> Scores:
    """Means of the figures that are known, sums of the counts."""
    def one(name: str) -> float:
        values = np.array([getattr(s, name) for s in scores], float)
        if name in _TOTALS:
            return float(values.sum())
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else np.nan

    return Scores(**{f.name: one(f.name) for f in fields(Scores)})


def masked_psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB of uint8 [H, W, 3] pictures over the pixels of `mask` [H, W] bool; NaN under 50 of them, at most 100."""
    _check_pair(image, truth, mask)
    if mask.sum() < MIN_PIXELS:
        return np.nan
    error = (image[mask].astype(np.float64) - truth[mask]) / 255
    return float(-10 * np.log10(max((error**2).mean(), 1e-10)))


def masked_ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean over `mask` [H, W] bool of the structural similarity (Wang et al. 2004, 7 px window) of uint8 [H, W, 3] pictures."""
    from skimage.metrics import structural_similarity

    _check_pair(image, truth, mask)
    if mask.sum() < MIN_PIXELS or min(mask.shape) < _SSIM_SIDE:
        return np.nan
    where = _around(mask, _SSIM_SIDE)
    _, similarity = structural_similarity(image[where], truth[where], win_size=_SSIM_SIDE, channel_axis=2, data_range=255,
                                          full=True)
    return float(similarity[mask[where]].mean())


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the box around `mask`, `margin` px wider."""
    bounds = []
    for axis in (1, 0):
        used = np.flatnonzero(mask.any(axis))
        bounds.append(slice(max(0, used[0] - margin), used[-1] + 1 + margin))
    return bounds[0], bounds[1]


def _check_pair(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.shape != truth.shape or image.shape[:2] != mask.shape or truth.dtype != np.uint8:
        raise RequestError(f'metrics: wanted two uint8 pictures [H, W, 3] and a mask [H, W] of one size, found '
                           f'{image.dtype} {list(image.shape)}, {truth.dtype} {list(truth.shape)}, mask {list(mask.shape)}')


def encoder_feature_distance(encoder: IdentityEncoder, image: np.ndarray, truth: np.ndarray, landmarks: np.ndarray) -> float:
    """Encoder feature distance of two uint8 [H, W, 3] pictures in the window around the face `landmarks` [>= 468, 2] (px).

    It is the perceptual loss of training, with the same frozen encoder: comparable between our own models, with no published
    figure, and it is not LPIPS.
    """
    centre, side = identity_square(landmarks)
    windows = [torch.from_numpy(cut_window(x.astype(np.float32) / 255, centre, side, _WINDOW)).permute(2, 0, 1)[None]
               for x in (image, truth)]
    with torch.no_grad():
        return float(FeatureLoss(encoder)(*windows, identity=False)[0])


def landmark_distance(found: np.ndarray | None, truth: np.ndarray) -> float:
    """Mean distance (px) of MediaPipe's 468 mesh landmarks [>= 468, 2+]; NaN where `found` is None."""
    if found is None:
        return np.nan
    return float(np.linalg.norm(found[:_MESH_POINTS, :2] - truth[:_MESH_POINTS, :2], axis=1).mean())


def detected(detector: LandmarkDetector, image: np.ndarray) -> np.ndarray | None:
    """Landmarks [478, 3] (px) of the largest face in uint8 [H, W, 3], or None."""
    faces = detector.detect(image)
    return faces[0].points if faces else None


def known_landmarks(embedding: LandmarkEmbedding, head, capture: Capture, shot: Shot) -> np.ndarray:
    """Where MediaPipe's landmarks [478, 2] (px) of a captured person lie in a shot."""
    vertices = Poser(head, capture.shape, v_offset=capture.v_offset).pose(shot.params)
    return project(embedding.points(vertices, head.faces), shot.camera)[0].astype(np.float32)


class IdentityDistance:
    """Distance of dlib's face encodings (128 numbers, ResNet) at a known place of the face.

    `reason` says why it is not available; then every distance is NaN. Faces are not searched, so a rendering can't gain by
    being found elsewhere.
    """

    def __init__(self) -> None:
        self._networks, self.reason = _dlib()

    @property
    def available(self) -> bool:
        """Whether dlib and its models are there."""
        return self._networks is not None

    def encode(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray | None:
        """Encoding [128] of the face at `landmarks` [>= 468, 2] (px) in uint8 [H, W, 3]; None where that can't be done."""
        if self._networks is None:
            return None
        import dlib

        predictor, network = self._networks
        box = face_box(landmarks)
        height, width = image.shape[:2]
        left, top, right, bottom = box
        if right - left < 16 or (left + right) / 2 < 0 or (top + bottom) / 2 < 0 or left + right > 2 * width or (
                top + bottom > 2 * height):
            return None
        image = np.ascontiguousarray(image)
        shape = predictor(image, dlib.rectangle(*box))
        encoding = np.array(network.compute_face_descriptor(image, shape))
        return encoding if np.isfinite(encoding).all() else None

    def __call__(self, image: np.ndarray, truth: np.ndarray, landmarks: np.ndarray) -> float:
        """Distance of the faces of two pictures, both at `landmarks` of the truth; NaN where one can't be encoded."""
        found, wanted = self.encode(image, landmarks), self.encode(truth, landmarks)
        return np.nan if found is None or wanted is None else float(np.linalg.norm(found - wanted))


class ArcFaceSimilarity:
    """Cosine of ArcFace's embeddings of two faces at a known place (CSIM); its weights are the user's."""

    def __init__(self, weights: Path | str):
        """Load the network; see `load_arcface` for the errors."""
        self._network = load_arcface(weights)

    def __call__(self, image: np.ndarray, truth: np.ndarray, landmarks: np.ndarray) -> float:
        """Similarity of the faces of two pictures, uint8 RGB [H, W, 3], both at `landmarks` [>= 468, 2+] (px) of the truth."""
        centre, side = identity_square(landmarks)
        windows = [cut_window(x.astype(np.float32) / 255, centre, side, _ARCFACE_WINDOW) for x in (image, truth)]
        with torch.inference_mode():
            a, b = self._network(face_crop(torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)))
        return float(a @ b)


def face_box(landmarks: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (px) of the square that dlib's own detector would put around `landmarks` [>= 468, 2+]."""
    low, high = landmarks[:_MESH_POINTS, :2].min(0), landmarks[:_MESH_POINTS, :2].max(0)
    half, (x, y) = _BOX * float((high - low).max()) / 2, (low + high) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


@lru_cache(maxsize=1)
def _dlib():
    """(landmark predictor, encoding network) of face_recognition_models, and '' or why they are not there."""
    try:
        import dlib
        import face_recognition_models as models
    except ImportError as error:
        return None, f'{error}: pip install dlib-bin "setuptools<81", then face_recognition_models with --no-deps'
    try:
        return (dlib.shape_predictor(models.pose_predictor_model_location()),
                dlib.face_recognition_model_v1(models.face_recognition_model_location())), ''
    except RuntimeError as error:
        return None, f'models of face_recognition_models can\'t be read: {error}'


class Judge:
    """All figures of renderings of known people, as a context manager; what depends on the truth alone is kept."""

    def __init__(self, encoder: IdentityEncoder, head, embedding: LandmarkEmbedding):
        self._encoder, self._head, self._embedding = encoder, head, embedding
        self._identity = IdentityDistance()
        self._detector = LandmarkDetector(static_image_mode=True)
        self._truths: dict[tuple[str, ...], _Truth] = {}

    @property
    def missing(self) -> str:
        """Why there is no identity distance, or ''."""
        return self._identity.reason

    def __enter__(self) -> 'Judge':
        return self

    def __exit__(self, *_) -> None:
        self._detector.close()

    def __call__(self, image: np.ndarray, capture: Capture, shot: Shot, *, key: tuple[str, ...]) -> Scores:
        """Scores of a rendering uint8 [H, W, 3] of `shot`; `key` names the shot among all that this judge sees."""
        truth = self._truths.get(key) or self._truths.setdefault(key, self._look(capture, shot))
        akd, lost = np.nan, 0
        if truth.detected is not None:
            akd = landmark_distance(detected(self._detector, image), truth.detected)
            lost = int(np.isnan(akd))
        distance, failed = np.nan, 0
        if self._identity.available:
            encoding = self._identity.encode(image, truth.landmarks)
            if encoding is None or truth.encoding is None:
                failed = 1
            else:
                distance = float(np.linalg.norm(encoding - truth.encoding))
        return Scores(
            masked_psnr(image, shot.image, shot.head), masked_psnr(image, shot.image, shot.face),
            masked_ssim(image, shot.image, shot.head),
            encoder_feature_distance(self._encoder, image, shot.image, truth.landmarks), akd, lost, distance, failed)

    def _look(self, capture: Capture, shot: Shot) -> '_Truth':
        landmarks = known_landmarks(self._embedding, self._head, capture, shot)
        return _Truth(landmarks, detected(self._detector, shot.image), self._identity.encode(shot.image, landmarks))


@dataclass(frozen=True)
class _Truth:
    """What one true picture says."""

    landmarks: np.ndarray  # [478, 2] px, of the known geometry
    detected: np.ndarray | None  # [478, 3] px, by MediaPipe
    encoding: np.ndarray | None  # [128] by dlib
