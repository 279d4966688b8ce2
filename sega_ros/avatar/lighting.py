"""Low-frequency relighting: the light of the photo, estimated from the skin, and skin under soft light from the front instead.

Shading is a second-order polynomial of the normal (the nine spherical harmonics to which a convex, matt surface responds:
Ramamoorthi and Hanrahan, SIGGRAPH 2001), in linear light. Skin has about one albedo, and mirrored points of a face share
theirs; brows, lips, beards, cast shadows and highlights fit neither and are trimmed. What is put back is the nearest light out of
a family that a portrait photographer would call neutral, so that a photo which has such a light already stays as it is.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from sega_ros.synthetic.renderer import linear_to_srgb, srgb_to_linear
from sega_ros.types import Region, Shell

LIGHTINGS = ('photo', 'neutral')
LIMITS = (0.5, 1.8)  # gains in linear light
HAIR_STRENGTH = 0.6  # share of the change, in log gain, that hair and clothes take: they shade themselves
_LUMA = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
_FRONT = np.array([0.0, 0.30, 0.954])  # towards the neutral light: a little above the eyes
_FRONTAL = (0.45, 3.0)  # the neutral light's directed part over its even part: at least, unless the photo's is even; at most
_ROUNDS, _TRIM = 10, 2.0  # of trimming; residuals beyond so many robust standard deviations don't count
_MIRROR = 2.0  # weight of a mirrored pair over that of a texel
# Pull of the coefficients to 0 over the texels' pull: what the seen normals hardly tell apart stays small.
_RIDGE = np.array([0, 1e-3, 1e-3, 1e-3, 0.03, 0.03, 0.03, 0.03, 0.03])
_DARKEST = 0.12  # of the mean: no estimate of shading is less
_RIM = 0.15  # normals that turn farther away were not seen: they take the gain of the edge
_EVEN = 0.02  # log gain that is not worth a change
_LEAST_SEEN = 0.25  # share of the face's texels from which a light can be told


@dataclass(frozen=True)
class Light:
    """Shading by the normal, times the skin's albedo; coefficients of `harmonics`, linear luminance."""

    photo: np.ndarray  # [9] as photographed
    neutral: np.ndarray  # [9] the soft frontal light nearest to it, of the same mean exposure
    texels: int  # that spoke for the estimate


def harmonics(normals: np.ndarray) -> np.ndarray:
    """Second-order spherical harmonics [..., 9], without their constants, of unit normals [..., 3]."""
    x, y, z = np.moveaxis(np.asarray(normals, np.float64), -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], -1)


def luminance(colors: np.ndarray) -> np.ndarray:
    """Linear luminance [...] of sRGB colours [..., 3]."""
    return srgb_to_linear(np.clip(colors, 0, 1)) @ _LUMA


def estimate_light(
    colors: np.ndarray, normals: np.ndarray, seen: np.ndarray, region: np.ndarray, mirror: np.ndarray,
) -> Light:
    """Estimate the light on a face from its unwrapped photo.

    Args:
        colors: [T, 3] sRGB of the texels.
        normals: [T, 3] unit, head frame.
        seen: [T] bool: the photo shows the texel.
        region: [T] Region; the face's skin is used.
        mirror: [T] index of each texel's mirror image (`surface_fill.mirror_index`).

    Returns:
        An even light, which changes nothing, where too little skin is seen.
    """
    luma = luminance(colors)
    skin = np.flatnonzero(seen & (region == Region.FACE) & (luma > 1e-3) & (luma < 0.96))
    if len(skin) <= _LEAST_SEEN * (region == Region.FACE).sum():
        even = np.zeros(9)
        even[0] = 1.0
        return Light(even, even, len(skin))
    basis, own = harmonics(normals[skin]), luma[skin] / np.median(luma[skin])
    place = np.full(len(luma), -1)
    place[skin] = np.arange(len(skin))
    other = place[mirror[skin]]
    shading, keep = _fit(basis, own, other)
    return Light(shading, _nearest_neutral(shading, normals[skin][keep]), int(keep.sum()))


def _fit(basis: np.ndarray, luma: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [9] of shading, and the texels [K] bool that follow it.

    `basis` [K, 9], `luma` [K] of median 1, `other` [K] index of the mirrored texel among them, -1 without.
    """
    paired = other >= 0
    # Equal albedo: luma / shading is the same on both sides.
    pairs = luma[:, None] * basis[other] - luma[other][:, None] * basis
    keep = np.ones(len(luma), bool)
    for _ in range(_ROUNDS):
        both = keep & keep[other] & paired
        a = np.concatenate([basis[keep], np.sqrt(_MIRROR) * pairs[both]])
        b = np.concatenate([luma[keep], np.zeros(both.sum())])
        out = np.linalg.solve(a.T @ a + np.diag(_RIDGE * len(luma)), a.T @ b)
        error = np.log(luma / np.maximum(basis @ out, _DARKEST))
        middle = np.median(error[keep])
        spread = max(1.4826 * float(np.median(np.abs(error[keep] - middle))), 0.02)
        keep = np.abs(error - middle) < _TRIM * spread
    return out, keep


def _nearest_neutral(shading: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Soft frontal light [9] nearest to `shading` [9] over `normals` [K, 3], of the same mean exposure."""
    wanted = _shade(shading, normals)
    lobe = _frontal_lobe()
    even, directed = np.linalg.lstsq(np.stack([np.ones(len(normals)), harmonics(normals) @ lobe], -1), wanted, rcond=None)[0]
    most = _FRONTAL[1]
    share = np.clip(directed / even, 0, most) if even > directed / most else most
    out = max(share, min(_FRONTAL[0], np.log(wanted).std())) * lobe
    out[0] += 1
    return out * (wanted.mean() / _shade(out, normals).mean())


def _frontal_lobe() -> np.ndarray:
    """Coefficients [9] of ((1 + c) / 2)^2, c the cosine to the neutral light: a large lamp's."""
    k = np.arange(200) + 0.5
    z, turn = 1 - k / 100, np.pi * (1 + 5**0.5) * k  # points spread over a sphere
    normals = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], -1)
    return np.linalg.lstsq(harmonics(normals), ((1 + normals @ _FRONT) / 2) ** 2, rcond=None)[0]


def _shade(coefficients: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Shading [...] of normals [..., 3]; those that face away from the front take what the edge has."""
    n = np.array(normals, np.float64)
    n[..., 2] = np.maximum(n[..., 2], _RIM)
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    return np.maximum(harmonics(n) @ coefficients, _DARKEST * max(float(coefficients[0]), 1e-3))


def light_gains(normals: np.ndarray, light: Light, *, strength: float = 1.0) -> np.ndarray:
    """Factors [...] in linear light that take skin of `normals` [..., 3] from the photo's light to the neutral one."""
    change = np.log(_shade(light.neutral, normals)) - np.log(_shade(light.photo, normals))
    change = np.sign(change) * np.maximum(np.abs(change) - _EVEN, 0)
    return np.clip(np.exp(strength * change), *LIMITS)


def neutral_colors(colors: np.ndarray, normals: np.ndarray, light: Light, *, strength: float = 1.0) -> np.ndarray:
    """Colours [..., 3] in [0, 1] under the neutral light, given the photo's (sRGB) and unit normals [..., 3]."""
    gains = light_gains(normals, light, strength=strength)[..., None]
    linear = srgb_to_linear(np.clip(colors, 0, 1))
    # Where a brighter colour would leave [0, 1] it keeps its hue.
    gains = np.minimum(gains, np.maximum(1.0, 1 / np.maximum(linear.max(-1, keepdims=True), 1e-3)))
    return linear_to_srgb(linear * gains).astype(np.float32)


def neutral_shell(shell: Shell, light: Light) -> Shell:
    """Return hair and bust under the neutral light, changed less than the skin."""
    colors = neutral_colors(shell.splats.colors.detach().numpy(), shell.normals, light, strength=HAIR_STRENGTH)
    return replace(shell, splats=replace(shell.splats, colors=torch.from_numpy(colors)))


def lighting_figure(before: np.ndarray, after: np.ndarray, light: Light) -> np.ndarray:
    """Two pictures (uint8 RGB [H, W, 3]) side by side, each with a ball of skin under its light: uint8 [H, 2 W, 3]."""
    out = [picture.copy() for picture in (before, after)]
    radius = max(min(before.shape[:2]) // 10, 2)
    y, x = (np.mgrid[-radius:radius + 1, -radius:radius + 1] + 0.0) / radius
    inside = np.hypot(x, y) < 1
    normals = np.stack([x, -y, np.sqrt(np.maximum(1 - x * x - y * y, 0))], -1)
    albedo = 0.35 / max(float(_shade(light.neutral, np.array([0.0, 0.0, 1.0]))), 1e-3)
    for picture, coefficients in zip(out, (light.photo, light.neutral), strict=True):
        ball = linear_to_srgb(albedo * _shade(coefficients, normals))
        corner = picture[-2 * radius - 1:, :2 * radius + 1]
        corner[inside] = (ball[inside] * 255 + 0.5).astype(np.uint8)[:, None]
    return np.concatenate(out, 1)
