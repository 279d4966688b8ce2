"""Captures as the decoders see them: the base that creation would make of the photo, and the frames to be matched."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sega_ros.avatar.photo import CROP_SCALE, CROP_SIZE, Photo, crop_image
from sega_ros.avatar.start import Start, photo_start
from sega_ros.camera import project
from sega_ros.head.skinning import Poser
from sega_ros.models.base import Base
from sega_ros.models.binding import SurfaceFrames, camera_centre, facing_fade, surface_frames
from sega_ros.models.crop import identity_square
from sega_ros.models.uv import UvLayout
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import Identity
from sega_ros.types import Camera, Capture, Landmarks, Shot


@dataclass(frozen=True)
class Frame:
    """One picture to match."""

    target: Tensor  # [H, W, 3] RGB in [0, 1]
    head: Tensor  # [H, W] bool
    face: Tensor  # [H, W] bool
    background: Tensor  # [3]
    camera: Camera
    frames: SurfaceFrames
    eye: np.ndarray  # [3] the camera's centre, head frame
    fade: np.ndarray  # [T] of `facing_fade`
    offsets: np.ndarray  # [3, 48, 48] posed offsets in UV, metres
    eyelids: np.ndarray  # [2]
    window: tuple[np.ndarray, float]  # centre [2] and side, pixels: what the identity encoder would see


def capture_photo(layout: UvLayout, embedding: LandmarkEmbedding, capture: Capture) -> tuple[Photo, Camera]:
    """Return the photo of a capture as creation would cut it out, its landmarks and matte being known."""
    shot = capture.photo
    poser = Poser(layout.head, capture.shape, v_offset=capture.v_offset)
    points = _landmarks(layout, embedding, poser.pose(shot.params), shot.camera)
    height, width = shot.alpha.shape
    face = Landmarks(np.c_[points, np.zeros(len(points))].astype(np.float32), 1.0, width, height)
    image, origin, scale = crop_image(shot.image, face, CROP_SCALE, CROP_SIZE)
    alpha = crop_image(np.repeat(shot.alpha[..., None], 3, -1), face, CROP_SCALE, CROP_SIZE)[0][..., 0].astype(np.float32) / 255
    centres = (np.arange(CROP_SIZE) + 0.5) / scale
    inside = (((centres + origin[1] > 0) & (centres + origin[1] < height))[:, None]
              & ((centres + origin[0] > 0) & (centres + origin[0] < width))[None])
    image = image.astype(np.float32) / 255
    solid = np.maximum(alpha, 0.05)[..., None]
    color = np.clip((image - (1 - alpha[..., None]) * shot.background) / solid, 0, 1)
    photo = Photo(image, color.astype(np.float32), alpha * inside, inside, face, origin, scale, ())
    return photo, photo.crop_camera(shot.camera)


def _landmarks(layout: UvLayout, embedding: LandmarkEmbedding, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels [478, 2] of MediaPipe's landmarks on a posed mesh."""
    return project(embedding.points(vertices, layout.head.faces), camera)[0].astype(np.float32)


def capture_start(layout: UvLayout, embedding: LandmarkEmbedding, capture: Capture) -> Start:
    """Base of a capture's photo, with the capture's own geometry."""
    photo, camera = capture_photo(layout, embedding, capture)
    params = replace(capture.photo.params, shape=capture.shape)
    return photo_start(layout, Identity(capture.shape, capture.v_offset), params, photo, camera)


class FrameMaker:
    """Makes frames of one person."""

    def __init__(self, layout: UvLayout, embedding: LandmarkEmbedding, capture: Capture, base: Base):
        self._layout, self._embedding = layout, embedding
        self._poser = Poser(layout.head, capture.shape, v_offset=capture.v_offset)
        self._rest = base.rest
        self._table = layout.for_identity(base.rest)

    def __call__(self, shot: Shot) -> Frame:
        """Pose the mesh for a shot and collect what rendering and losses need."""
        vertices = self._poser.pose(shot.params)
        frames = surface_frames(self._table, vertices)
        eye = camera_centre(shot.camera.viewmat)
        return Frame(
            torch.from_numpy(shot.image.astype(np.float32) / 255), torch.from_numpy(shot.head), torch.from_numpy(shot.face),
            torch.from_numpy(np.asarray(shot.background, np.float32)), shot.camera, frames, eye, facing_fade(frames, eye),
            self._layout.offsets(vertices, self._rest), np.asarray(shot.params.eyelids, np.float32),
            identity_square(_landmarks(self._layout, self._embedding, vertices, shot.camera)))
