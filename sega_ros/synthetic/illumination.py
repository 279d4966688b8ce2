"""Random light that stays with the head while cameras change, and the exposure that goes with it."""

from dataclasses import replace

import numpy as np

from sega_ros.synthetic.renderer import Lighting, srgb_to_linear

LUMA = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709


def draw_lighting(rng: np.random.Generator) -> Lighting:
    """Draw a light in the head frame (x to the subject's left, y up, z out of the face); see `seen_from`."""
    yaw, pitch = rng.normal(0, 40), rng.uniform(8, 58)
    side = np.sign(yaw) or 1.0
    key = _towards(np.clip(yaw, -85, 85), pitch)
    fill = _towards(-side * rng.uniform(20, 80), rng.uniform(-10, 30))
    rim = _towards(-side * rng.uniform(105, 160), rng.uniform(5, 45))
    soft = rng.uniform(0.0, 1.0)  # 0: nearly all light from the key, 1: an overcast day
    warm, sky, ground = (_tint(rng, s) for s in (0.10, 0.08, 0.08))
    colors = np.stack([warm * (1.25 - 0.75 * soft), _tint(rng, 0.08) * rng.uniform(0.08, 0.35),
                       _tint(rng, 0.12) * rng.uniform(0.0, 0.55)])
    ambient = np.stack([sky * (0.28 + 0.42 * soft), ground * (0.14 + 0.26 * soft)])
    return Lighting(np.stack([key, fill, rim]).astype(np.float32), colors.astype(np.float32), ambient.astype(np.float32),
                    np.array([0.0, 1.0, 0.0], np.float32))


def seen_from(lighting: Lighting, viewmat: np.ndarray) -> Lighting:
    """Turn a light in the head frame to the frame of the camera with this `viewmat` [4, 4]."""
    rotation = viewmat[:3, :3].T.astype(np.float32)
    return replace(lighting, directions=np.ascontiguousarray(lighting.directions @ rotation), sky=lighting.sky @ rotation)


def brightened(lighting: Lighting, gain: float) -> Lighting:
    """Scale all light."""
    return replace(lighting, colors=lighting.colors * np.float32(gain), ambient=lighting.ambient * np.float32(gain))


def exposure_gain(image: np.ndarray, face: np.ndarray, target: float) -> float:
    """Factor that brings the mean sRGB luma of `face` [H, W] in `image` [H, W, 3] uint8 to `target`."""
    luma = image[face].mean(0) @ LUMA / 255 if face.any() else target
    return float(srgb_to_linear(target) / max(srgb_to_linear(luma), 1e-3))


def _towards(yaw: float, pitch: float) -> np.ndarray:
    """Unit vector [3] towards a light, degrees to the subject's left and up."""
    yaw, pitch = np.radians([yaw, pitch])
    return np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])


def _tint(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Linear RGB [3] of mean 1 between warm and cool."""
    warmth = np.clip(rng.normal(0, spread), -2 * spread, 2 * spread)
    return np.array([1 + warmth, 1 + 0.1 * rng.normal(0, spread), 1 - warmth])


