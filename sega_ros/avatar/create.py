"""Creating an avatar: photo -> landmarks, matte, fit -> texels and shell -> person-specific optimisation -> Avatar."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.personalise import PersonaliseConfig, personalise, shell_fade
from sega_ros.avatar.photo import Photo, check_image, portrait_window, prepare_photo
from sega_ros.avatar.shell import NECK_CUT, build_shell
from sega_ros.avatar.texture import mesh_buffer, tuck_in, unwrap
from sega_ros.camera import pose_camera
from sega_ros.errors import CancelledError, NoFaceError, RequestError
from sega_ros.head.atlas import build_atlas
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.models.binding import (
    TexelTable,
    bind,
    camera_centre,
    facing_fade,
    fuse,
    surface_frames,
    texel_table,
)
from sega_ros.render import rasterize
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import fit_identity, solve_personal_offset
from sega_ros.tracking.landmark_model import JAW
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.types import Camera, FlameParams, GaussianMap, Region, Shell, Splats

Progress = Callable[[str, float, np.ndarray | None], None]

# Steps of the optimisation and side of the atlas for each quality.
QUALITIES = {'preview': (25, 192), 'standard': (160, 192), 'high': (500, 256)}
# A texel's Gaussian: standard deviation over the texel's spacing along and across the surface, and thickness over it.
_SIGMA, _THICKNESS = 0.62, 0.2
# Regions that keep their first colours: eyeballs and gums move in ways that the photo does not show, ears are seen edge-on.
_PAINTED = (Region.EYES, Region.MOUTH, Region.EARS)
# Where few texels share much surface, their Gaussians are larger; of the scalp's texels only every fourth is in use.
_MAX_SIGMA = 0.008  # metres; the neck's lowest texels are ten times longer
_LARGER = {Region.SCALP: 2.0, Region.EARS: 1.2, Region.NECK: 1.25}
_SCALP_SINK = 0.004  # metres: the scalp lies under the hair of the shell
MAX_FIT_PX = 3.5  # people and good paintings of them stay under 3.0; dogs that MediaPipe takes for a face have 3.7 to 4
MAX_CONSENT = 256  # as in the service definitions
_CLOSED = 10.0  # opacity logit that stands for "not there"


def create_avatar(
    image: np.ndarray, *, head: HeadModel, embedding: LandmarkEmbedding, quality: str = 'standard',
    consent: str = 'not stated', progress: Progress = lambda stage, share, preview: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Avatar:
    """Make an avatar of one photo.

    Args:
        image: uint8 RGB [H, W, 3].
        head: head model.
        embedding: where MediaPipe's landmarks lie on it.
        quality: 'preview', 'standard' or 'high'.
        consent: what the person agreed to; kept in the file.
        progress: called with the stage, the share of the whole job and, at times, a picture (uint8 RGB) of the avatar so far.
        cancelled: asked between steps; when it answers True the work stops.

    Raises:
        ImageError, NoFaceError, FaceTooSmallError, FaceProfileError, ImageBlurredError: the photo can't become an avatar.
        RequestError: unknown quality.
        CancelledError: `cancelled` said so.
    """
    if quality not in QUALITIES:
        raise RequestError(f'quality {quality!r}: wanted one of {", ".join(QUALITIES)}')
    if len(consent) > MAX_CONSENT:
        raise RequestError(f'consent: wanted at most {MAX_CONSENT} characters, found {len(consent)}: shorten it')
    check_image(image)
    started = time.perf_counter()
    steps, size = QUALITIES[quality]

    def report(stage: str, share: float, preview: np.ndarray | None = None) -> None:
        if cancelled():
            raise CancelledError(f'the creation was cancelled at stage {stage!r}; nothing was stored')
        progress(stage, share, preview)

    report('detect', 0.0)
    with LandmarkDetector(static_image_mode=True, max_faces=5) as detector:
        def detect(picture):
            faces = detector.detect(picture)
            return [detector.refine(picture, face) if k == 0 else face for k, face in enumerate(faces)]

        photo = prepare_photo(image, detect)
    report('fit', 0.1, _to_uint8(photo.image))
    fit = fit_identity(head, embedding, photo.landmarks)
    if fit.rms_px > MAX_FIT_PX:
        raise NoFaceError(f'what was found does not have the shape of a human face (landmark error {fit.rms_px:.1f} px of a face '
                          f'256 px wide, people have at most {MAX_FIT_PX}): use another photo')
    identity = solve_personal_offset(head, embedding, fit)
    camera = photo.crop_camera(pose_camera(fit.rotation, fit.translation, fit.focal_length, image.shape[:2]))
    report('unwrap', 0.2)
    scene = _Scene(head, identity, fit.params, photo, camera, size)
    maps, shell = scene.start()
    report('personalise', 0.25, scene.picture(maps, shell))
    maps, shell = personalise(
        maps, shell, scene.table, scene.frames, photo, camera, painted=scene.painted,
        config=PersonaliseConfig(steps=steps),
        progress=lambda share, picture: report('personalise', 0.25 + 0.7 * share, picture()))
    report('bake', 0.96)
    metadata = {
        'created_ns': time.time_ns(), 'quality': quality, 'consent': consent, 'synthetic': True,
        'photo_psnr': round(scene.face_psnr(maps, shell), 2), 'splats': len(scene.table) + len(shell.splats),
        'create_seconds': round(time.perf_counter() - started, 2),
        'provenance': f'made by sega_ros from one photo of {image.shape[1]}x{image.shape[0]} px',
    }
    dynamic = torch.from_numpy(scene.atlas.dynamic)
    empty = replace(maps, opacity=torch.full_like(maps.opacity, -_CLOSED))
    avatar = Avatar(
        head.name, head.version, identity, size, static=fuse(maps, empty, dynamic), dynamic=fuse(empty, maps, dynamic),
        closed_lids=scene.closed_lids, shell=shell, photo_camera=camera, window=portrait_window(photo),
        background=scene.background, metadata=metadata, warnings=photo.warnings)
    report('done', 1.0, scene.picture(maps, shell))
    return avatar


def _to_uint8(image) -> np.ndarray:
    return (np.clip(np.asarray(image), 0, 1) * 255 + 0.5).astype(np.uint8)


class _Scene:
    """The photo, the mesh laid over it, and the texels in use."""

    def __init__(self, head: HeadModel, identity, params: FlameParams, photo: Photo, camera: Camera, size: int):
        self.head, self.photo, self.camera = head, photo, camera
        poser = Poser(head, identity.shape, v_offset=identity.v_offset)
        self.vertices = poser.pose(params)
        self.atlas = build_atlas(head, size)
        height = self.atlas.points(head.v_template, head.faces)[..., 1]
        cut = (self.atlas.region == Region.NECK) & (height < NECK_CUT)
        # The scalp lies under the hair of the shell and only backs it: a quarter of its texels does, twice as large.
        grid = np.add.outer(np.arange(size) % 2, np.arange(size) % 2) == 0
        thinned = (self.atlas.region == Region.SCALP) & ~grid
        self.table: TexelTable = texel_table(head, self.atlas, poser.rest, ~cut & ~thinned)
        self.region = self.atlas.region[self.table.rows, self.table.cols]
        self.frames = surface_frames(self.table, self.vertices)
        self.buffer = mesh_buffer(head, self.vertices, camera)
        hidden = photo.inside & (photo.alpha < 0.02)
        self.background = (np.median(photo.image[hidden], 0) if hidden.sum() > 500 else np.full(3, 0.9)).astype(np.float32)

    def start(self) -> tuple[GaussianMap, Shell]:
        """Return the maps and the shell before the optimisation."""
        unwrapped = unwrap(self.head, self.table, self.region, self.frames, self.photo, self.camera, self.buffer)
        height, width = self.atlas.size
        rows, cols = self.table.index
        spacing = torch.from_numpy(self.table.rest_stretch).clamp_min(2e-5)
        sigma = torch.stack([spacing[:, 0], spacing[:, 1], _THICKNESS * spacing.prod(-1).sqrt()], -1) * _SIGMA
        log_scale = torch.full((height, width, 3), -8.0)
        scalp = torch.from_numpy(self.region == Region.SCALP)
        for kind, factor in _LARGER.items():
            sigma[torch.from_numpy(self.region == kind), :2] *= factor
        log_scale[rows, cols] = sigma.clamp_max(_MAX_SIGMA).log()
        opacity = torch.full((height, width), -_CLOSED)
        opacity[rows, cols] = 3.0
        # Where the fit's lip gap is wider than the photo's, the lower teeth would take the lip's colour.
        lower = self.head.weights[self.table.corners[:, 0], JAW] > 0.5
        self.painted = np.isin(self.region, _PAINTED) | (self.region == Region.TEETH) & lower & ~unwrapped.seen
        self.closed_lids = np.zeros((height, width, 3), np.float32)
        self.closed_lids[self.table.rows, self.table.cols] = unwrapped.closed_lids
        color = torch.zeros(height, width, 3)
        color[rows, cols] = torch.from_numpy(unwrapped.color)
        offset = torch.zeros(height, width, 3)
        offset[rows[scalp], cols[scalp], 2] = -_SCALP_SINK
        offset[rows, cols, 2] -= torch.from_numpy(
            tuck_in(self.head, self.table, self.region, self.frames, self.photo, self.camera))
        rotation = torch.zeros(height, width, 4)
        rotation[..., 0] = 1
        shell = build_shell(self.head, self.vertices, self.photo, self.camera, self.buffer)
        return GaussianMap(offset, rotation, log_scale, opacity, color), shell

    def splats(self, maps: GaussianMap, shell: Shell) -> Splats:
        """Splats as the photo's camera sees them."""
        eye = camera_centre(self.camera.viewmat)
        on_mesh = bind(maps, self.table, self.frames, facing_fade(self.frames, eye))
        veil = torch.from_numpy(shell_fade(shell, eye))
        return Splats.cat([on_mesh, replace(shell.splats, opacities=shell.splats.opacities * veil)])

    def picture(self, maps: GaussianMap, shell: Shell) -> np.ndarray:
        """Render the photo's view, uint8 RGB."""
        with torch.no_grad():
            image = rasterize(self.splats(maps, shell), self.camera, background=torch.from_numpy(self.background)).image
        return _to_uint8(image)

    def face_psnr(self, maps: GaussianMap, shell: Shell) -> float:
        """PSNR (dB) of the avatar in the photo's view against the photo, over the pixels of face, eyes and mouth."""
        region = np.where(self.buffer.face >= 0, self.head.face_region[np.maximum(self.buffer.face, 0)], 0)
        face = np.isin(region, [Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS]) & self.photo.inside
        error = self.picture(maps, shell)[face] / 255.0 - self.photo.image[face]
        return float(-10 * np.log10(max((error**2).mean(), 1e-10)))

