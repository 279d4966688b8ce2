"""Creating an avatar: photo -> landmarks, matte, fit -> base -> the prior's decoders -> fine-tuning on the photo -> Avatar."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from sega_ros.avatar.avatar import NOTHING, Avatar, Residual, filled_maps
from sega_ros.avatar.expressions import other_expressions
from sega_ros.avatar.lighting import LIGHTINGS, estimate_light, lighting_figure, neutral_colors, neutral_shell
from sega_ros.avatar.personalise import PersonaliseConfig, View, add_residual, face_of, tune_decoders
from sega_ros.avatar.photo import Photo, check_image, portrait_window, prepare_photo
from sega_ros.avatar.start import photo_start
from sega_ros.avatar.surface_fill import mirror_index
from sega_ros.camera import pose_camera
from sega_ros.errors import CancelledError, NoFaceError, RequestError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.models.base import Base, added
from sega_ros.models.binding import camera_centre, facing_fade
from sega_ros.models.frame_decoder import Branch
from sega_ros.models.sega import Sega, place_person
from sega_ros.models.uv import UvLayout
from sega_ros.models.weights import load_prior
from sega_ros.render import rasterize
from sega_ros.tracking.embedding import LandmarkEmbedding
from sega_ros.tracking.fit import Identity, fit_identity, solve_personal_offset
from sega_ros.tracking.landmarks import LandmarkDetector
from sega_ros.types import Camera, FlameParams, GaussianMap, Region, Shell, Splats

Progress = Callable[[str, float, np.ndarray | None], None]



@dataclass(frozen=True)
class Quality:
    """What an avatar is worth in time."""

    atlas: int  # texels a side
    decoder_steps: int
    steps: int


# Preview is feed-forward only, where there is a prior.
QUALITIES = {'preview': Quality(192, 0, 0), 'standard': Quality(192, 10, 120), 'high': Quality(256, 40, 450)}
ATLAS = (96, 512)
_STEPS_WITHOUT_PRIOR = 25
_BUST = 0.05  # share of the torso's motion from which a splat is part of the bust
MAX_FIT_PX = 3.5  # people and good paintings of them stay under 3.0; dogs that MediaPipe takes for a face have 3.7 to 4
MAX_CONSENT = 256  # as in the service definitions
_FIELDS = tuple(GaussianMap.__dataclass_fields__)


def create_avatar(
    image: np.ndarray, *, head: HeadModel, embedding: LandmarkEmbedding, quality: str = 'standard',
    consent: str = 'not stated', bust: bool = True, lighting: str = 'photo', distilled: bool = False,
    model: Sega | None = None, atlas: int | None = None, progress: Progress = lambda stage, share, preview: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Avatar:
    """Make an avatar of one photo.

    Args:
        image: uint8 RGB [H, W, 3].
        head: head model.
        embedding: where MediaPipe's landmarks lie on it.
        quality: 'preview', 'standard' or 'high'.
        consent: what the person agreed to; kept in the file.
        bust: with the shoulders; False leaves them out.
        lighting: 'photo' keeps the photo's light on the skin, 'neutral' puts a soft one from the front in its place.
        distilled: for small robots: see `distil`.
        model: networks (default: the shipped ones, where they fit the head model; without any, photo and mesh have to do).
        atlas: texels of the UV atlas a side, 96 to 512 (default: the quality's); splats grow with its square.
        progress: called with the stage, the share of the whole job and, at times, a picture (uint8 RGB) of the avatar so far.
        cancelled: asked between steps; when it answers True the work stops.

    Raises:
        ImageError, NoFaceError, FaceTooSmallError, FaceProfileError, ImageBlurredError: the photo can't become an avatar.
        RequestError: unknown quality or lighting, `atlas` out of range.
        CancelledError: `cancelled` said so.
    """
    if quality not in QUALITIES:
        raise RequestError(f'quality {quality!r}: wanted one of {", ".join(QUALITIES)}')
    if lighting not in LIGHTINGS:
        raise RequestError(f'lighting {lighting!r}: wanted one of {", ".join(LIGHTINGS)}')
    if atlas is not None and not ATLAS[0] <= atlas <= ATLAS[1]:
        raise RequestError(f'atlas: wanted {ATLAS[0]} to {ATLAS[1]} texels a side, found {atlas}')
    if len(consent) > MAX_CONSENT:
        raise RequestError(f'consent: wanted at most {MAX_CONSENT} characters, found {len(consent)}: shorten it')
    check_image(image)
    started = time.perf_counter()
    work = QUALITIES[quality]

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
    model = model or load_prior(head)
    if distilled and (model is None or not model.with_dynamic):
        raise RequestError('distilled: there are no networks for this head model, so there is nothing to distil')
    steps = work.steps if model else max(work.steps, _STEPS_WITHOUT_PRIOR)
    with _same_every_time():
        person = personal_avatar(
            UvLayout.build(head, atlas or work.atlas), identity, fit.params, photo, camera, model=model,
            config=PersonaliseConfig(decoder_steps=work.decoder_steps, steps=steps), bust=bust, lighting=lighting, report=report)
    report('bake', 0.96)
    avatar = person.avatar
    if distilled:
        from sega_ros.avatar.distil import distil

        avatar, _ = distil(avatar, head, progress=lambda share: report('distil', 0.96 + 0.04 * share))
    metadata = {
        'created_ns': time.time_ns(), 'quality': quality, 'consent': consent, 'synthetic': True,
        'create_seconds': round(time.perf_counter() - started, 2),
        'provenance': f'made by sega_ros from one photo of {image.shape[1]}x{image.shape[0]} px',
    }
    avatar = replace(avatar, metadata=avatar.metadata | metadata)
    report('done', 1.0, person.picture)
    return avatar


@contextmanager
def _same_every_time() -> Iterator[None]:
    """Let PyTorch add up in one order: with several threads gradients of gathered values differ in their last bits otherwise.

    Where an operation can do no such thing (some on CUDA), it goes on as it can. Set through the debug mode, because
    `use_deterministic_algorithms` loads PyTorch's compiler first, which takes a second.
    """
    before = torch.get_deterministic_debug_mode()
    fill, torch.utils.deterministic.fill_uninitialized_memory = torch.utils.deterministic.fill_uninitialized_memory, False
    torch.set_deterministic_debug_mode('warn')
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


@dataclass(frozen=True)
class PersonalAvatar:
    """An avatar, and how it looks in the photo's view (uint8 RGB)."""

    avatar: Avatar
    picture: np.ndarray


def personal_avatar(
    layout: UvLayout, identity: Identity, params: FlameParams, photo: Photo, camera: Camera, *, model: Sega | None,
    config: PersonaliseConfig, bust: bool = True, lighting: str = 'photo', report: Progress = lambda stage, share, preview: None,
) -> PersonalAvatar:
    """Make the avatar of a fitted photo: base, decoders, fine-tuning, baking.

    Args:
        layout: UV layout of the head model.
        identity, params: of the fit.
        photo: crop with matte.
        camera: its camera.
        model: networks, copied before they are changed; None leaves the base uncorrected, and the expression to the mesh.
        config: how long the photo is followed; without any steps the avatar is what the networks say.
        bust: with the shoulders.
        lighting: of LIGHTINGS.
        report: called with stage, share of the whole job and picture or None.
    """
    head = layout.head
    start = photo_start(layout, identity, params, photo, camera)
    base = start.base if bust else _without_bust(start.base)
    poser = Poser(head, identity.shape, v_offset=identity.v_offset)

    def offsets(p: FlameParams) -> np.ndarray:
        return layout.offsets(poser.pose(p), poser.rest)

    view = View(replace(start, base=base), photo, camera, torch.from_numpy(offsets(params))[None],
                torch.from_numpy(np.stack([offsets(p) for p in other_expressions(head)])))
    eye = camera_centre(camera.viewmat)
    fade = facing_fade(start.frames, eye)
    uncorrected = _at_rest(base)
    report('personalise', 0.25, _picture(place_person(uncorrected, base.shell, start.frames, eye, fade=fade), camera, np.ones(3)))
    middle, prior = 0.25, model
    if model and config.decoder_steps:
        model = tune_decoders(model, view, layout, config, lambda share, picture: report(
            'personalise', 0.25 + 0.25 * share, picture()))
        middle = 0.5
    static, texels, shell, branch = uncorrected, uncorrected, base.shell, None
    if model:
        with torch.no_grad():
            person = model.decode_person(base, layout)
            if model is not prior:
                person = face_of(person, prior.decode_person(base, layout), layout)
            (texels,), _ = model.decode_frames(person, layout, view.offsets, base.eyelids[None])
        static, shell = added(uncorrected, person.texels), person.shell
        if model.with_dynamic:
            branch = Branch.of_model(model, person.static.features, person.static.fine_features)
    settled, near = texels, shell
    if config.steps:
        settled, near = add_residual(texels, shell, view, layout, config, lambda share, picture: report(
            'personalise', middle + (0.95 - middle) * share, picture()))
    # The residual is the same in every expression: it goes under the dynamic decoder's changes.
    change = GaussianMap(*(getattr(settled, k) - getattr(texels, k) for k in _FIELDS))
    shut = _shut(base.shut, static.color.numpy() - base.color)
    hidden = photo.inside & (photo.alpha < 0.02)
    background = (np.median(photo.image[hidden], 0) if hidden.sum() > 500 else np.full(3, 0.9)).astype(np.float32)
    splats = place_person(settled, near, start.frames, eye, fade=fade)
    picture = _picture(splats, camera, background)
    likeness = round(_face_psnr(picture, head, start.buffer, photo), 2)
    if lighting == 'neutral':
        normals = start.frames.rotmats[..., 2]
        mean_points = (head.v_template[layout.table.corners] * layout.table.bary[..., None]).sum(1)
        light = estimate_light(base.color, normals, base.seen, layout.region, mirror_index(mean_points))
        baked = added(static, change).color
        plain, relit = (torch.from_numpy(neutral_colors(c.numpy(), normals, light)) for c in (static.color, baked))
        settled = replace(settled, color=settled.color + relit - baked)
        static, change = replace(static, color=plain), replace(change, color=relit - plain)
        shut = np.where(shut > 0, neutral_colors(shut, normals, light).clip(1 / 255, 1), 0)
        shell, near = neutral_shell(shell, light), neutral_shell(near, light)
        before, picture = picture, _picture(place_person(settled, near, start.frames, eye, fade=fade), camera, background)
        report('relight', 0.97, lighting_figure(before, picture, light))
    residual = _residual(change, shell, near, layout) if config.steps else None
    avatar = Avatar(
        head.name, head.version, identity, layout.size, static=_spread(static, layout, ~layout.dynamic),
        dynamic=_spread(static, layout, layout.dynamic),
        branch=branch,
        closed_lids=np.ascontiguousarray(layout.spread(shut).transpose(1, 2, 0)), shell=shell, photo_camera=camera,
        window=portrait_window(photo), background=background, residual=residual, warnings=start.bare.warnings,
        metadata={'photo_psnr': likeness, 'splats': len(splats)})
    return PersonalAvatar(avatar, picture)


def _residual(change: GaussianMap, shell: Shell, near: Shell, layout: UvLayout) -> Residual:
    """What the photo adds: `change` of the texels [T, ...], and how the shell `near` the photo's view differs from `shell`."""
    colors, opacities = ((getattr(near.splats, k) - getattr(shell.splats, k)).numpy() for k in ('colors', 'opacities'))
    return Residual(_laid_out(change, layout, filled_maps(layout.size, 0 * NOTHING)), colors, opacities)


def _without_bust(base: Base) -> Base:
    """Base without what belongs to the torso."""
    shell, keep = base.shell, base.shell.torso < _BUST
    shell = Shell(shell.splats[torch.from_numpy(keep)], shell.normals[keep], shell.fade[keep], shell.torso[keep])
    return replace(base, shell=shell, **{k: getattr(base, k)[keep] for k in ('shell_texel', 'shell_at', 'shell_cosine')})


def _at_rest(base: Base) -> GaussianMap:
    """Texels of the base with open eyes."""
    return GaussianMap(torch.from_numpy(base.offset), torch.tensor([1.0, 0, 0, 0]).expand(len(base.color), 4),
                       torch.from_numpy(base.log_scale), torch.from_numpy(base.opacity), torch.from_numpy(base.color))


def _spread(texels: GaussianMap, layout: UvLayout, mask: torch.Tensor) -> GaussianMap:
    """Texels [T, ...] as a map [H, W, ...]; nothing where `mask` [T] does not hold."""
    return _laid_out(texels, layout, filled_maps(layout.size, NOTHING), mask)


def _laid_out(texels: GaussianMap, layout: UvLayout, maps: GaussianMap, mask: torch.Tensor | slice = slice(None)) -> GaussianMap:
    """Write texels [T, ...] where `mask` [T] holds into `maps` [H, W, ...], and return it."""
    rows, cols = layout.table.index
    for k in _FIELDS:
        getattr(maps, k)[rows[mask], cols[mask]] = getattr(texels, k)[mask]
    return maps


def _shut(shut: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Colours [T, 3] around shut eyes with what the networks and the photo changed there; 0 where lids play no part."""
    used = shut.any(-1)[:, None]
    return np.where(used, (shut + change).clip(1 / 255, 1), 0).astype(np.float32)


def _picture(splats: Splats, camera: Camera, background: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return _to_uint8(rasterize(splats, camera, background=torch.from_numpy(np.asarray(background, np.float32))).image)


def _face_psnr(picture: np.ndarray, head: HeadModel, buffer, photo: Photo) -> float:
    """PSNR (dB) of the avatar in the photo's view against the photo, over the pixels of face, eyes and mouth."""
    region = np.where(buffer.face >= 0, head.face_region[np.maximum(buffer.face, 0)], 0)
    face = np.isin(region, [Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS]) & photo.inside
    error = picture[face] / 255.0 - photo.image[face]
    return float(-10 * np.log10(max((error**2).mean(), 1e-10)))


def _to_uint8(image) -> np.ndarray:
    return (np.clip(np.asarray(image), 0, 1) * 255 + 0.5).astype(np.uint8)
