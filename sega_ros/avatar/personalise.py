"""Person-specific optimisation of the Gaussian maps on the one photo (SEGA section 3.5), kept sane for other views."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sega_ros.avatar.photo import Photo
from sega_ros.camera import project
from sega_ros.models.binding import SurfaceFrames, TexelTable, bind, camera_centre, facing, facing_fade
from sega_ros.render import rasterize
from sega_ros.types import Camera, GaussianMap, Shell, Splats

_EDGE = 0.45  # cosine to the camera under which a shell splat keeps its colour


@dataclass(frozen=True)
class PersonaliseConfig:
    """How long and how freely the maps follow the photo."""

    steps: int = 150
    color_rate: float = 0.012
    shape_rate: float = 0.012  # of log scales and opacity logits
    offset_rate: float = 3e-5  # metres per step
    # A Gaussian that may go anywhere explains the photo and ruins the side views: pulls to where it started.
    color_prior: float = 0.02
    shape_prior: float = 0.01
    offset_prior: float = 40.0  # per millimetre squared
    growth: float = 0.7  # natural logarithm of how much larger or smaller a Gaussian may become
    # Where the surface turns away from the camera a texel covers a sliver of a pixel, which says little about its colour.
    edge: float = 0.3  # cosine to the camera under which colours are held
    edge_prior: float = 20.0  # at right angles; grows from color_prior


def shell_fade(shell: Shell, eye: np.ndarray) -> np.ndarray:
    """Opacity factors [N] of the shell's splats as `eye` [3] (head frame) sees them."""
    low, high = shell.fade.T
    return np.clip((facing(shell.splats.means.numpy(), shell.normals, eye) - low) / (high - low), 0, 1).astype(np.float32)


def _at_the_outline(positions: np.ndarray, photo: Photo, camera: Camera) -> np.ndarray:
    """1 for points [N, 3] (head frame) over the matte's soft edge, 0 elsewhere: there the changing background would grey them."""
    import cv2

    solid = cv2.erode((photo.alpha > 0.95).astype(np.uint8), np.ones((5, 5), np.uint8))
    xy, _ = project(positions, camera)
    col, row = np.clip(np.floor(xy).astype(int), 0, np.array(solid.shape[::-1]) - 1).T
    return 1.0 - solid[row, col]


def personalise(
    maps: GaussianMap, shell: Shell, table: TexelTable, frames: SurfaceFrames, photo: Photo, camera: Camera, *,
    painted: np.ndarray, config: PersonaliseConfig, progress: Callable[[float, Callable[[], np.ndarray]], None],
) -> tuple[GaussianMap, Shell]:
    """Fit colours, sizes, opacities and small offsets to the photo; what it does not show keeps its start.

    The target is the matted person over a background whose colour changes from step to step, so that neither colour nor
    opacity can borrow from it.

    Args:
        maps: start [H, W, ...].
        shell: hair and bust at the photo's pose.
        table: texels in use.
        frames: their frames at the photo's pose.
        photo: crop with matte.
        camera: its camera.
        painted: [T] bool: texels that stay as they are: the photo says little of them (eyeballs, ears).
        config: steps and rates.
        progress: called with the share done and a function that gives the current picture (uint8 [H, W, 3]).
    """
    rows, cols = table.index
    start = {k: getattr(maps, k)[rows, cols].clone() for k in GaussianMap.__dataclass_fields__}
    free = {k: start[k].clone().requires_grad_() for k in ('color', 'log_scale', 'opacity', 'offset')}
    hair = {'colors': shell.splats.colors.clone().requires_grad_(),
            'logits': torch.logit(shell.splats.opacities.clamp(0.02, 0.98)).requires_grad_()}
    hair_start = {k: v.detach().clone() for k, v in hair.items()}
    optimiser = torch.optim.Adam([
        {'params': [free['color'], hair['colors']], 'lr': config.color_rate},
        {'params': [free['log_scale'], free['opacity'], hair['logits']], 'lr': config.shape_rate},
        {'params': [free['offset']], 'lr': config.offset_rate},
    ], betas=(0.9, 0.99))
    eye = camera_centre(camera.viewmat)
    fade = facing_fade(frames, eye)
    veil = torch.from_numpy(shell_fade(shell, eye))
    color, alpha = torch.from_numpy(photo.color), torch.from_numpy(photo.alpha)[..., None]
    weight = torch.from_numpy(photo.inside.astype(np.float32))[..., None]

    keep = torch.from_numpy(painted)[:, None]
    turned = ((config.edge - facing(frames.positions, frames.rotmats[..., 2], eye)) / config.edge).clip(0, 1) ** 2
    turned = np.maximum(turned, _at_the_outline(frames.positions, photo, camera))
    hold = torch.from_numpy((config.color_prior + config.edge_prior * turned).astype(np.float32))[:, None]
    # Splats on edge cover slivers of pixels: what the photo says of their colour is noise.
    on_edge = torch.from_numpy(facing(shell.splats.means.numpy(), shell.normals, eye) < _EDGE)[:, None]

    def current() -> tuple[GaussianMap, Splats]:
        values = {}
        for k, v in start.items():
            field = getattr(maps, k).clone()
            value = free.get(k, v)
            field[rows, cols] = torch.where(keep if v.dim() == 2 else keep[:, 0], v, value)
            values[k] = field
        return GaussianMap(**values), replace(
            shell.splats, colors=torch.where(on_edge, hair_start['colors'], hair['colors']).clamp(0, 1),
            opacities=torch.sigmoid(hair['logits']))

    def picture(background: torch.Tensor) -> torch.Tensor:
        values, loose = current()
        on_mesh = bind(values, table, frames, fade)
        loose = replace(loose, opacities=loose.opacities * veil)
        return rasterize(Splats.cat([on_mesh, loose]), camera, background=background).image

    generator = torch.Generator().manual_seed(0)
    for step in range(config.steps):
        background = torch.rand(3, generator=generator)
        target = color * alpha + background * (1 - alpha)
        error = (picture(background) - target) * weight
        loss = error.abs().mean() + 2 * (error**2).mean()
        prior = ((hold * (free['color'] - start['color'])**2).mean()
                 + config.color_prior * ((hair['colors'] - hair_start['colors'])**2).mean()
                 + config.shape_prior * ((free['log_scale'] - start['log_scale'])**2).mean()
                 + config.shape_prior * 0.1 * ((free['opacity'] - start['opacity'])**2).mean()
                 + config.offset_prior * ((free['offset'] * 1000)**2).mean() * 1e-3)
        optimiser.zero_grad(set_to_none=True)
        (loss + prior).backward()
        optimiser.param_groups[0]['lr'] = config.color_rate * (1 - 0.8 * step / config.steps)
        optimiser.step()
        with torch.no_grad():
            middle = start['log_scale']
            free['log_scale'].copy_(free['log_scale'].clamp(middle - config.growth, middle + config.growth))
        if step % 10 == 9:
            progress((step + 1) / config.steps, lambda: _to_uint8(picture(torch.ones(3))))
    values, loose = current()
    detached = GaussianMap(*(getattr(values, k).detach() for k in GaussianMap.__dataclass_fields__))
    loose = Splats(*(getattr(loose, k).detach() for k in Splats.__dataclass_fields__))
    return replace(detached, color=detached.color.clamp(0, 1)), replace(shell, splats=loose)


def _to_uint8(image: torch.Tensor) -> np.ndarray:
    return (image.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
