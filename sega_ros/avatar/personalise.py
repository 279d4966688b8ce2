"""Person-specific fine-tuning on the one photo (SEGA section 3.5), kept sane for other views and other expressions.

First the decoders themselves, a few steps, held to what they said before at other expressions: what they learn of the face
so reaches texels that the photo does not show. Hair, bust and the rest of the head stay as the prior has them: what one
photo tells of their form does not hold from the side. Then a small residual per texel and per splat of the shell, which puts
back the detail that the decoders can't draw, and touches only what the photo shows well.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from sega_ros.avatar.photo import Photo
from sega_ros.avatar.start import Start
from sega_ros.camera import project
from sega_ros.models.binding import camera_centre, facing, facing_fade
from sega_ros.models.sega import PersonOutput, Sega, place_person
from sega_ros.models.uv import UvLayout
from sega_ros.render import rasterize
from sega_ros.types import Camera, GaussianMap, Shell, Splats

_EDGE = 0.45  # cosine to the camera under which a shell splat keeps its colour
_HIDDEN = 0.1  # pixels of the photo that a splat must colour to be changed by it
_FIELDS = tuple(GaussianMap.__dataclass_fields__)

Progress = Callable[[float, Callable[[], np.ndarray]], None]


@dataclass(frozen=True)
class PersonaliseConfig:
    """How long and how freely decoders and texels follow the photo."""

    decoder_steps: int = 10
    decoder_rate: float = 5e-5
    hold: float = 20.0  # pull of the decoders' other expressions to what they were
    steps: int = 120
    color_rate: float = 0.012
    shape_rate: float = 0.012  # of log scales and opacity logits
    offset_rate: float = 3e-5  # metres per step
    # A Gaussian that may go anywhere explains the photo and ruins the side views: pulls to where it started.
    color_prior: float = 0.02
    # Neighbours that differ explain one view's pixels and no other's: pulls to changes that are smooth, in UV and off the mesh.
    smooth: float = 20.0
    shell_smooth: float = 60.0
    shape_prior: float = 0.01
    offset_prior: float = 40.0  # per millimetre squared
    growth: float = 0.7  # natural logarithm of how much larger or smaller a Gaussian may become
    # Where the surface turns away from the camera a texel covers a sliver of a pixel, which says little about its colour.
    edge: float = 0.3  # cosine to the camera under which colours are held
    edge_prior: float = 20.0  # at right angles; grows from color_prior


@dataclass(frozen=True)
class View:
    """The photo as a target, and the mesh laid over it."""

    start: Start
    photo: Photo
    camera: Camera
    offsets: Tensor  # [1, 3, 48, 48] of the photo's expression, metres
    others: Tensor  # [J, 3, 48, 48] of other expressions

    def loss(self, splats: Splats, background: Tensor, *, step: int) -> Tensor:
        """Error of `splats` against the matted person over a `background` [3]: neither colour nor opacity can borrow from it.

        Every third step looks from farther away, at half the size: the renderer's blur has a fixed width in pixels, and what
        is right at one size alone looks grainy or smeared on a display of another.
        """
        person, alpha, inside, camera = self._levels[step % 3 == 2]
        image = rasterize(splats, camera, background=background).image
        error = (image - person - background * (1 - alpha)) * inside
        return error.abs().mean() + 2 * (error**2).mean()

    @cached_property
    def _levels(self) -> list[tuple[Tensor, Tensor, Tensor, Camera]]:
        """Colour times matte, matte and valid pixels [H, W, ...] of the photo and their camera; whole, then half the size."""
        alpha = self.photo.alpha[..., None].astype(np.float32)
        maps = np.concatenate([self.photo.color * alpha, alpha, self.photo.inside[..., None]], -1).astype(np.float32)
        whole = torch.from_numpy(maps)
        half = F.avg_pool2d(whole.permute(2, 0, 1), 2).permute(1, 2, 0)
        c = self.camera
        small = replace(c, width=c.width // 2, height=c.height // 2, fx=c.fx / 2, fy=c.fy / 2, cx=c.cx / 2, cy=c.cy / 2)
        return [(m[..., :3], m[..., 3:4], m[..., 4:], camera) for m, camera in ((whole, c), (half, small))]


def tune_decoders(model: Sega, view: View, layout: UvLayout, config: PersonaliseConfig, progress: Progress) -> Sega:
    """Return a copy of `model` whose decoders have seen the photo; its answer counts in the face alone, see `face_of`."""
    base = view.start.base
    lids = np.zeros((1, 2), np.float32) + base.eyelids
    with torch.no_grad():
        before = model.decode_person(base, layout)
        wanted = _branch_output(model, before, view.others)
    tuned = copy.deepcopy(model)
    tuned.requires_grad_(False)
    for part in (tuned.static, tuned.dynamic):
        part.requires_grad_(True)
    optimiser = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=config.decoder_rate, betas=(0.9, 0.99))
    eye = camera_centre(view.camera.viewmat)
    fade = facing_fade(view.start.frames, eye)
    # What the photo does not show is held the more.
    loose = torch.from_numpy(base.seen & (base.cosine > config.edge))
    generator = torch.Generator().manual_seed(0)
    for step in range(config.decoder_steps):
        person = face_of(tuned.decode_person(base, layout), before, layout)
        (texels,), _ = tuned.decode_frames(person, layout, view.offsets, lids)
        splats = place_person(texels, person.shell, view.start.frames, eye, fade=fade)
        loss = view.loss(splats, torch.rand(3, generator=generator), step=step)
        k = step % len(view.others)
        found = _branch_output(tuned, person, view.others[k:k + 1])
        held = sum(((a - b[k:k + 1]) ** 2).mean() for a, b in zip(found, wanted, strict=True))
        held = held + _drift(person.texels, before.texels, ~loose) + 0.1 * _drift(person.texels, before.texels, loose)
        optimiser.zero_grad(set_to_none=True)
        (loss + config.hold * held).backward()
        optimiser.step()
        if step % 5 == 4:
            progress((step + 1) / config.decoder_steps, lambda s=splats: _picture(s, view.camera))
    return tuned.requires_grad_(False)


def face_of(person: PersonOutput, before: PersonOutput, layout: UvLayout) -> PersonOutput:
    """`person` with the rest of the head, hair and bust of `before`."""
    texels = (torch.where(layout.dynamic if a.dim() == 1 else layout.dynamic[:, None], a, b)
              for a, b in ((getattr(person.texels, k), getattr(before.texels, k)) for k in _FIELDS))
    return replace(person, texels=GaussianMap(*texels), shell=before.shell)


def _branch_output(model: Sega, person: PersonOutput, offsets: Tensor) -> tuple[Tensor, ...]:
    """Raw maps of the dynamic decoder for expressions [J, 3, 48, 48]."""
    count = len(offsets)
    features, fine = (x.expand(count, -1, -1, -1) for x in (person.static.features, person.static.fine_features))
    out = model.dynamic(features, fine, model.deformation(offsets).feature, offsets)
    return 0.1 * out.geometry, 0.1 * out.color


def _drift(now: GaussianMap, before: GaussianMap, where: Tensor) -> Tensor:
    """Mean squared change of texels [T, ...] where `where` [T]: colours as they are, offsets in millimetres over ten, logs."""
    terms = (((now.color - before.color) ** 2).sum(-1), (100 * (now.offset - before.offset)).square().sum(-1),
             0.1 * ((now.log_scale - before.log_scale) ** 2).sum(-1), 0.01 * (now.opacity - before.opacity) ** 2)
    return sum((t * where).mean() for t in terms)


def add_residual(
    texels: GaussianMap, shell: Shell, view: View, layout: UvLayout, config: PersonaliseConfig, progress: Progress,
) -> tuple[GaussianMap, Shell]:
    """Fit colours, sizes, opacities and small offsets to the photo; what it does not show keeps its start.

    Args:
        texels: [T, ...] at the photo's expression.
        shell: hair and bust.
        view: the photo.
        layout: UV layout of the texels.
        config: steps and rates.
        progress: called with the share done and a function that gives the current picture (uint8 [H, W, 3]).
    """
    start = {k: getattr(texels, k).detach().clone() for k in _FIELDS}
    free = {k: start[k].clone().requires_grad_() for k in ('color', 'log_scale', 'opacity', 'offset')}
    hair = {'colors': shell.splats.colors.clone().requires_grad_(),
            'logits': torch.logit(shell.splats.opacities.clamp(0.02, 0.98)).requires_grad_()}
    hair_start = {k: v.detach().clone() for k, v in hair.items()}
    optimiser = torch.optim.Adam([
        {'params': [free['color'], hair['colors']], 'lr': config.color_rate},
        {'params': [free['log_scale'], free['opacity'], hair['logits']], 'lr': config.shape_rate},
        {'params': [free['offset']], 'lr': config.offset_rate},
    ], betas=(0.9, 0.99))
    eye = camera_centre(view.camera.viewmat)
    fade = facing_fade(view.start.frames, eye)
    start_splats = place_person(texels, shell, view.start.frames, eye, fade=fade)
    # Adam moves what is hardly seen as fast as what is: the photo has no say in it.
    hidden, hidden_hair = (shown_pixels(start_splats, view.camera) < _HIDDEN).split([len(texels.color), len(shell.normals)])
    keep = torch.from_numpy(view.start.painted | ~view.start.base.seen) | hidden
    hold = torch.from_numpy(config.color_prior + config.edge_prior * _turned(view, eye, config.edge))[:, None]
    # Splats on edge cover slivers of pixels: what the photo says of their colour is noise.
    on_edge = torch.from_numpy(facing(shell.splats.means.numpy(), shell.normals, eye) < _EDGE)
    keep_color, keep_logit = (on_edge | hidden_hair)[:, None], hidden_hair

    def current() -> tuple[GaussianMap, Shell]:
        values = {k: torch.where(keep if v.dim() == 1 else keep[:, None], v, free.get(k, v)) for k, v in start.items()}
        colors = torch.where(keep_color, hair_start['colors'], hair['colors']).clamp(0, 1)
        opacities = torch.where(keep_logit, shell.splats.opacities, torch.sigmoid(hair['logits']))
        return GaussianMap(**values), replace(shell, splats=replace(shell.splats, colors=colors, opacities=opacities))

    def splats() -> Splats:
        on_mesh, loose = current()
        return place_person(on_mesh, loose, view.start.frames, eye, fade=fade)

    pairs, hair_pairs = torch.cat(layout.neighbours, 1), neighbour_pairs(shell.splats.means.numpy())
    generator = torch.Generator().manual_seed(0)
    for step in range(config.steps):
        loss = view.loss(splats(), torch.rand(3, generator=generator), step=step)
        prior = ((hold * (free['color'] - start['color'])**2).mean()
                 + config.color_prior * ((hair['colors'] - hair_start['colors'])**2).mean()
                 + config.smooth * _roughness(free['color'] - start['color'], pairs)
                 + config.shell_smooth * _roughness(hair['colors'] - hair_start['colors'], hair_pairs)
                 + config.shape_prior * ((free['log_scale'] - start['log_scale'])**2).mean()
                 + config.shape_prior * 0.1 * ((free['opacity'] - start['opacity'])**2).mean()
                 + config.offset_prior * (((free['offset'] - start['offset']) * 1000)**2).mean() * 1e-3)
        optimiser.zero_grad(set_to_none=True)
        (loss + prior).backward()
        optimiser.param_groups[0]['lr'] = config.color_rate * (1 - 0.8 * step / config.steps)
        optimiser.step()
        with torch.no_grad():
            middle = start['log_scale']
            free['log_scale'].copy_(free['log_scale'].clamp(middle - config.growth, middle + config.growth))
        if step % 10 == 9:
            progress((step + 1) / config.steps, lambda: _picture(splats(), view.camera))
    with torch.no_grad():
        return current()


def _roughness(residual: Tensor, pairs: Tensor) -> Tensor:
    """Mean squared difference of `residual` [N, 3] between neighbours `pairs` [2, K]."""
    return (residual[pairs[0]] - residual[pairs[1]]).square().sum() / (3 * max(len(residual), 1))


def neighbour_pairs(means: np.ndarray, count: int = 4) -> Tensor:
    """Points [2, K] and their `count` nearest neighbours in `means` [N, 3], by index."""
    if len(means) <= count:
        return torch.zeros(2, 0, dtype=torch.int64)
    near = cKDTree(means).query(means, count + 1)[1]
    return torch.from_numpy(np.stack([near[:, :1].repeat(count, 1).ravel(), near[:, 1:].ravel()]))


def shown_pixels(splats: Splats, camera: Camera) -> Tensor:
    """How many pixels each splat [N] colours in the camera's picture: sums of its blending weights."""
    colors = splats.colors.detach().clone().requires_grad_()
    detached = Splats(*(getattr(splats, k).detach() for k in Splats.__dataclass_fields__))
    rasterize(replace(detached, colors=colors), camera, background=torch.zeros(3)).image[..., 0].sum().backward()
    return colors.grad[:, 0]


def _turned(view: View, eye: np.ndarray, edge: float) -> np.ndarray:
    """How much each texel [T] is to keep its colour, 0 to 1: seen flat, or over the matte's soft edge."""
    frames = view.start.frames
    flat = ((edge - facing(frames.positions, frames.rotmats[..., 2], eye)) / edge).clip(0, 1) ** 2
    hidden = np.maximum(flat, _at_the_outline(frames.positions, view.photo, view.camera))
    if view.start.glasses is not None:  # skin does not become a frame
        hidden = np.maximum(hidden, _under(view.start.glasses.mask, frames.positions, view.camera))
    return hidden.astype(np.float32)


def _under(mask: np.ndarray, positions: np.ndarray, camera: Camera) -> np.ndarray:
    """1 for points [N, 3] (head frame) that lie behind the pixels of `mask` [H, W] or close by, 0 elsewhere."""
    import cv2

    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8))
    col, row = np.clip(np.floor(project(positions, camera)[0]).astype(int), 0, np.array(mask.shape[::-1]) - 1).T
    return near[row, col].astype(np.float64)


def _at_the_outline(positions: np.ndarray, photo: Photo, camera: Camera) -> np.ndarray:
    """1 for points [N, 3] (head frame) over the matte's soft edge, 0 elsewhere: there the changing background would grey them."""
    import cv2

    solid = cv2.erode((photo.alpha > 0.95).astype(np.uint8), np.ones((5, 5), np.uint8))
    xy, _ = project(positions, camera)
    col, row = np.clip(np.floor(xy).astype(int), 0, np.array(solid.shape[::-1]) - 1).T
    return 1.0 - solid[row, col]


@torch.no_grad()
def _picture(splats: Splats, camera: Camera) -> np.ndarray:
    image = rasterize(splats, camera, background=torch.ones(3)).image
    return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
