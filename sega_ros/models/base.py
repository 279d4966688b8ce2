"""What the networks start from and how their outputs change it: photo and geometry give a base, decoders correct it.

An unlearned start is worth much (an early prototype stood at 22 dB over the face without it, at 29 with it), and a correction can
be held back where the learned prior should have no say.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional as F

from sega_ros.models.layers import sample_at
from sega_ros.models.static_decoder import Correction
from sega_ros.models.uv import UvLayout
from sega_ros.types import GaussianMap, Region, Shell, Splats

# Raw network outputs to units: a raw 1 is a noticeable change of each. What the photo shows is known better than any prior
# can tell: there colours stay close, and splats of the shell stay on their ray, so that the photo's view keeps its likeness.
_OFFSET, _MAX_OFFSET = 0.001, 0.003  # metres
_ROTATION, _SCALE, _OPACITY, COLOR_UNIT = 0.1, 0.3, 1.0, 0.1
_UNBOUNDED = 1e4
# Natural logarithm; logit. Training looks from farther away than a display does: splats that shrink would close a surface there
# and leave it open here, so they hardly may, nor may skin become a veil.
_MAX_SCALE, _MAX_SHRINK, _MAX_OPACITY = 0.4, 0.03, 0.5
FRAME_GROWTH = 0.25  # the photo's own expression is subtracted: what grows there shrinks in all others
# Bounds of colours that the photo does not show, and of those that it shows well.
_MAX_COLOR, _MAX_KNOWN_COLOR = 0.7, 0.06
_FIRM = 0.8  # share of its freedom of form that a texel loses where the photo shows it well
_PAINTED = (Region.EYES, Region.MOUTH, Region.TEETH)
_KNOWN = (0.25, 0.6)  # cosines to the photo's camera between which a colour becomes known
_SHELL_OFFSET = 0.01  # metres
_TOGETHER, _NEIGHBOURS = 0.008, 32  # metres, and how many at most, over which the shell's moves are averaged
_MAX_SHELL_DEPTH, _MAX_SHELL_OFFSET = 0.03, 0.018  # metres along a ray: the relief only guesses depths; off the ray
_MAX_SHELL_SCALE, _MAX_SHELL_OPACITY = 0.25, 1.0  # what is uncertain must not end as fog


@dataclass(frozen=True)
class Base:
    """A person as the photo and the mesh alone give them. T texels, N splats off the mesh."""

    rest: np.ndarray  # [V, 3] neutral mesh, metres
    color: np.ndarray  # [T, 3] RGB in [0, 1]
    shut: np.ndarray  # [T, 3] colours for shut lids; 0 where lids play no part
    seen: np.ndarray  # [T] bool: colour taken from the photo
    cosine: np.ndarray  # [T] between the surface's normal and the photo's camera
    offset: np.ndarray  # [T, 3] metres, in the surface's frame
    log_scale: np.ndarray  # [T, 3]
    opacity: np.ndarray  # [T] logits
    eyelids: np.ndarray  # [2] lid closure on the photo
    eye: np.ndarray  # [3] centre of the photo's camera, head frame, metres
    offsets: np.ndarray  # [3, 48, 48] posed offsets in UV of the photo's expression, metres
    at: np.ndarray  # [2, 48, 48] where on the identity crop each coarse texel is, -1 to 1
    crop: np.ndarray  # [256, 256, 3] uint8: what the identity encoder sees
    shell: Shell  # hair and bust
    shell_texel: np.ndarray  # [N] index of the texel under each of its splats
    shell_at: np.ndarray  # [N, 2] where on the identity crop it is
    shell_cosine: np.ndarray  # [N] between its normal and the photo's camera


@dataclass(frozen=True)
class BaseInputs:
    """A base as the static decoder reads it, batch of one."""

    uv: Tensor  # [1, 21, 96, 96]
    at: Tensor  # [1, 2, 48, 48]
    crop: Tensor  # [1, 3, 256, 256] in [0, 1]
    shell: Tensor  # [1, N, 14]
    shell_uv: Tensor  # [1, N, 2]
    shell_at: Tensor  # [1, N, 2]

    def to(self, device: torch.device) -> 'BaseInputs':
        """Move every tensor."""
        return BaseInputs(*(getattr(self, f.name).to(device) for f in fields(BaseInputs)))


def base_inputs(base: Base, layout: UvLayout) -> BaseInputs:
    """Turn a base into the static decoder's inputs."""
    maps = layout.network_maps(np.c_[base.color, base.seen, base.cosine])
    color, other = torch.from_numpy(maps[:3]), torch.from_numpy(maps[3:])
    if layout.size != 192:
        color, other = (F.interpolate(m[None], size=(192, 192), mode='bilinear')[0] for m in (color, other))
    uv = torch.cat([F.pixel_unshuffle(color, 2), F.avg_pool2d(other, 2), torch.from_numpy(layout.shape_maps(base.rest))])
    shell = base.shell
    loose = torch.from_numpy(np.concatenate([
        10 * shell.splats.means.numpy(), shell.normals, shell.torso[:, None], np.clip(shell.fade[:, :1], -1, 1),
        base.shell_cosine[:, None], np.log(shell.splats.scales.numpy()[:, :1]) + 6.0, shell.splats.colors.numpy(),
        shell.splats.opacities.numpy()[:, None]], 1).astype(np.float32))
    crop = torch.from_numpy(base.crop).permute(2, 0, 1)[None].float() / 255
    return BaseInputs(uv[None], torch.from_numpy(base.at)[None], crop, loose[None],
                      layout.xy[torch.from_numpy(base.shell_texel)][None], torch.from_numpy(base.shell_at)[None])


def _bounded(raw: Tensor, unit: float, limit: float | Tensor) -> Tensor:
    return limit * torch.tanh(raw * (unit / limit))


def raw_units(growth: float = _MAX_SCALE) -> np.ndarray:
    """Unit and bounds of the raw geometry maps, as `in_units` applies them: [3, 11] (unit; bound above zero; bound below).

    A raw value r becomes bound * tanh(r * unit / bound). `growth` bounds how much larger splats become, as a logarithm:
    `FRAME_GROWTH` for the dynamic decoder. Rotations are not bounded.
    """
    offset = (_OFFSET, _MAX_OFFSET, _MAX_OFFSET)
    rotation = (_ROTATION, _UNBOUNDED, _UNBOUNDED)
    scale = (_SCALE, growth, _MAX_SHRINK)  # up to `growth` larger, hardly smaller
    return np.array([offset] * 3 + [rotation] * 4 + [scale] * 3 + [(_OPACITY, _MAX_OPACITY, _MAX_OPACITY)], np.float32).T.copy()


def _grown(raw: Tensor, limit: float) -> Tensor:
    """Change of log scales: up to `limit` larger, hardly smaller."""
    return _bounded(raw.clamp_min(0), _SCALE, limit) + _bounded(raw.clamp_max(0), _SCALE, _MAX_SHRINK)


def in_units(correction: Correction, *, growth: float = _MAX_SCALE) -> Correction:
    """Turn raw maps into changes in a GaussianMap's own units, bounded where a network must not go astray (`raw_units`)."""
    units = torch.from_numpy(raw_units(growth)).to(correction.geometry)
    return Correction(bounded_geometry(correction.geometry, units), COLOR_UNIT * correction.color)


def bounded_geometry(raw: Tensor, units: Tensor) -> Tensor:
    """Raw geometry maps [B, 11, H, W] in the units and bounds [3, 11] of `raw_units`."""
    unit, above, below = units[..., None, None]
    limit = torch.where(raw > 0, above, below)
    return limit * torch.tanh(raw * (unit / limit))


def at_texels(change: Correction, layout: UvLayout, index: int = 0) -> GaussianMap:
    """Read element `index` of a batch of changes (`in_units`) at the texels of `layout`: [T, ...]."""
    xy = layout.xy.to(change.color.device)[None]
    geometry = sample_at(change.geometry[index:index + 1], xy)[0]
    if layout.size == change.color.shape[-1]:
        eyes = torch.from_numpy(np.flatnonzero(layout.region == Region.EYES)).to(xy.device)  # off the grid of the networks' maps
        color = change.color[index][(slice(None), *layout.table.index)].T
        color = color.index_put((eyes,), sample_at(change.color[index:index + 1], xy[:, eyes])[0])
    else:
        color = sample_at(change.color[index:index + 1], xy)[0]
    offset, rotation, log_scale, opacity = geometry.split([3, 4, 3, 1], -1)
    return GaussianMap(offset, rotation, log_scale, opacity[:, 0], color)


def added(texels: GaussianMap, change: GaussianMap, share: Tensor | None = None) -> GaussianMap:
    """Texels [T, ...] with a change added, or `share` [T] of it."""
    change = change if share is None else masked(change, share)
    return GaussianMap(*(getattr(texels, f.name) + getattr(change, f.name) for f in fields(GaussianMap)))


def reshaped(region: np.ndarray) -> np.ndarray:
    """Which texels [T], of these regions, the dynamic decoder gives another look in each expression; the rest it only moves.

    Eyeballs turn with the mesh and keep the look that they have on the photo. What an eye reflects stays where the light is while
    it turns: learned from synthetic eyes, such lights land on real ones in the wrong places, which look blind then.
    """
    return region != Region.EYES


def moved_only(change: GaussianMap, layout: UvLayout) -> GaussianMap:
    """Changes of texels [T, ...]; of those that are not `reshaped` their offsets only."""
    return replace(masked(change, torch.from_numpy(reshaped(layout.region)).to(change.offset.device)), offset=change.offset)


def forms_only(change: GaussianMap, layout: UvLayout) -> GaussianMap:
    """Changes of rotation, scale and opacity of those texels [T, ...] that `moved_only` just moves; colours stay as painted."""
    eyes = torch.from_numpy(~reshaped(layout.region)).to(change.offset.device)
    return replace(masked(change, eyes), offset=torch.zeros_like(change.offset), color=torch.zeros_like(change.color))


def masked(texels: GaussianMap, share: Tensor) -> GaussianMap:
    """Every value of texels [T, ...] times `share` [T]."""
    values = (getattr(texels, f.name) for f in fields(GaussianMap))
    return GaussianMap(*(v * (share if v.dim() == 1 else share[:, None]).to(v.dtype) for v in values))


def lid_share(base: Base, layout: UvLayout) -> tuple[Tensor, Tensor]:
    """Texels that lids recolour [K] and the side of each (0 the person's left, 1 right)."""
    middle = (base.rest[layout.table.corners] * layout.table.bary[..., None]).sum(1)[:, 0]
    index = np.flatnonzero(base.shut.any(-1))
    return torch.from_numpy(index), torch.from_numpy((middle[index] <= 0).astype(np.int64))


def lid_closure(eyelids: np.ndarray, start: np.ndarray) -> np.ndarray:
    """How much of the shut eye's colours shows [2], for a closure `eyelids` [2] when the photo's was `start` [2]."""
    start = np.clip(start, 0, 0.6)
    share = np.clip((np.asarray(eyelids) - start) / (1 - start), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def base_colors(base: Base, layout: UvLayout, eyelids: np.ndarray) -> Tensor:
    """Base colours [T, 3] for a lid closure `eyelids` [2]."""
    color = torch.from_numpy(base.color)
    index, side = lid_share(base, layout)
    share = torch.from_numpy(lid_closure(eyelids, base.eyelids))[side, None]
    return color.index_put((index,), (1 - share) * color[index] + share * torch.from_numpy(base.shut)[index])


def base_texels(base: Base, layout: UvLayout, eyelids: np.ndarray) -> GaussianMap:
    """Gaussian parameters [T, ...] of the base for a lid closure `eyelids` [2]."""
    count = len(base.color)
    rotation = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    return GaussianMap(torch.from_numpy(base.offset), rotation, torch.from_numpy(base.log_scale), torch.from_numpy(base.opacity),
                       base_colors(base, layout, eyelids))


def known(cosine: np.ndarray) -> Tensor:
    """How well the photo shows surfaces at these cosines [N] to its camera: 0 to 1."""
    x = np.clip((np.asarray(cosine, np.float32) - _KNOWN[0]) / (_KNOWN[1] - _KNOWN[0]), 0, 1)
    return torch.from_numpy(x * x * (3 - 2 * x))


def known_texels(base: Base, layout: UvLayout) -> Tensor:
    """`known` of the texels [T]; eyes and the inside of the mouth are guesses anyway."""
    guess = np.isin(layout.region, _PAINTED) | ~base.seen
    return known(np.where(guess, -1, base.cosine))


def held_texels(change: GaussianMap, share: Tensor, layout: UvLayout) -> GaussianMap:
    """Changes of texels [T, ...] bounded by how well the photo shows them, `share` [T] of `known_texels`.

    Eyes and the inside of the mouth stay as they are painted to go with the photo: they are the dynamic decoder's. People are
    recognised by them, and what is true of synthetic ones in all expressions makes another person of a real one. The scalp keeps
    the mesh's form: free, it becomes a fog around the hair, which is the best guess of an unknown outline and looks like none.
    """
    painted, scalp = (torch.from_numpy(np.isin(layout.region, r)).to(share.device) for r in (_PAINTED, Region.SCALP))
    limit = (_MAX_COLOR + (_MAX_KNOWN_COLOR - _MAX_COLOR) * share)[:, None]
    free = torch.where(scalp, 0.0, 1 - _FIRM * share)[:, None]
    held = GaussianMap(free * change.offset, free * change.rotation, free * change.log_scale,
                       torch.where(scalp, 0.0, 1 - share) * change.opacity, _bounded(change.color, 1.0, limit))
    return masked(held, ~painted)


def corrected_shell(base: Base, raw: Tensor) -> Shell:
    """Shell with the raw corrections [N, 6] of the static decoder applied: outward move, log scale, opacity, colour.

    What the photo shows moves along its ray and keeps its size there; the rest moves along its normal. Neighbours move together:
    each for itself, they would crumble at the edges and stand before the face. The bust keeps its form.
    """
    shell, splats = base.shell, base.shell.splats.to(raw.device)
    hair, share, normals = (torch.as_tensor(a).to(raw) for a in (1 - shell.torso, known(base.shell_cosine), shell.normals))
    to_eye = torch.from_numpy(base.eye).to(raw) - splats.means
    distance = to_eye.norm(dim=-1, keepdim=True)
    way = F.normalize(share[:, None] * to_eye / distance + (1 - share)[:, None] * normals, dim=-1)
    move, scale, opacity, color = raw.split([1, 1, 1, 3], -1)
    farthest = _MAX_SHELL_OFFSET + (_MAX_SHELL_DEPTH - _MAX_SHELL_OFFSET) * share[:, None]
    move = hair[:, None] * _bounded(_among_neighbours(move, shell.splats.means.numpy(), 1 - shell.torso), _SHELL_OFFSET, farthest)
    nearer = 1 - share[:, None] * move / distance
    logits = torch.logit(splats.opacities.clamp(0.02, 0.98))
    logits = logits + hair * (1 - 0.7 * share) * _bounded(opacity[:, 0], _OPACITY, _MAX_SHELL_OPACITY)
    scales = splats.scales * nearer * torch.exp((hair * (1 - share))[:, None] * _grown(scale, _MAX_SHELL_SCALE))
    limit = _MAX_COLOR + (_MAX_KNOWN_COLOR - _MAX_COLOR) * share[:, None]
    colors = (splats.colors + _bounded(COLOR_UNIT * color, 1.0, limit)).clamp(0, 1)
    return replace(shell, splats=Splats(splats.means + move * way, splats.quats, scales, torch.sigmoid(logits), colors))


def _among_neighbours(values: Tensor, points: np.ndarray, weight: np.ndarray) -> Tensor:
    """Mean of `values` [N, C] over the splats around each of those at `points` [N, 3] (metres), by `weight` [N] and nearness."""
    if not len(points):
        return values
    distance, index = cKDTree(points).query(points, k=range(1, min(_NEIGHBOURS, len(points)) + 1))
    share = np.exp(-0.5 * (distance / _TOGETHER) ** 2) * weight[index] + 1e-6 * (distance == 0)
    share /= share.sum(1, keepdims=True)
    return (torch.from_numpy(share).to(values)[..., None] * values[torch.from_numpy(index).to(values.device)]).sum(1)


def base_to_arrays(base: Base) -> dict[str, np.ndarray]:
    """Arrays of a base, for caches; colours in bytes, the rest in half precision."""
    out = {f.name: getattr(base, f.name) for f in fields(Base) if f.name != 'shell'}
    for name in ('color', 'shut'):
        out[name] = (np.clip(out[name], 0, 1) * 255 + 0.5).astype(np.uint8)
    for f in fields(Splats):
        out[f'shell.{f.name}'] = getattr(base.shell.splats, f.name).numpy()
    out |= {f'shell.{k}': getattr(base.shell, k) for k in ('normals', 'fade', 'torso')}
    keep = {'rest', 'eye', 'offsets', 'shell_texel'}
    return {k: v.astype(np.float16) if v.dtype.kind == 'f' and k not in keep else v for k, v in out.items()}


def arrays_to_base(arrays: dict[str, np.ndarray]) -> Base:
    """Inverse of `base_to_arrays`."""
    def floats(a: np.ndarray) -> np.ndarray:
        return np.array(a, np.float32) if a.dtype.kind == 'f' else np.array(a)

    values = {f.name: floats(arrays[f.name]) for f in fields(Base) if f.name != 'shell'}
    for name in ('color', 'shut'):
        values[name] = arrays[name].astype(np.float32) / 255
    splats = Splats(*(torch.from_numpy(floats(arrays[f'shell.{f.name}'])) for f in fields(Splats)))
    shell = Shell(splats, *(floats(arrays[f'shell.{k}']) for k in ('normals', 'fade', 'torso')))
    return Base(**values, shell=shell)
