"""Multi-view captures of synthetic people: a photo and shots from a ring of cameras under a light that stays with the head."""

from dataclasses import dataclass, replace

import numpy as np

from sega_ros.camera import orbit_camera
from sega_ros.head.model import HeadModel
from sega_ros.synthetic.expressions import draw_expression, draw_portrait_expression
from sega_ros.synthetic.illumination import brightened, draw_lighting, exposure_gain, seen_from
from sega_ros.synthetic.look import Look
from sega_ros.synthetic.person import Person, draw_truth, make_person
from sega_ros.synthetic.renderer import Lighting, srgb_to_linear, tone_curve
from sega_ros.types import DYNAMIC_REGIONS, Camera, Capture, FlameParams, Shot

TARGET = np.array([0.0, 0.012, -0.02])  # head frame, metres: what the cameras look at; some shoulders show below
DISTANCE = 1.0  # metres from a camera of the ring to it
_EXTENT = 0.435  # metres that fill the picture's height there: the head takes about 58 % of it
_YAWS = np.array([-48.0, -34.0, -20.0, -7.0, 7.0, 20.0, 34.0, 48.0])  # degrees
_PITCHES = np.array([16.0, -9.0, 9.0, -16.0, 16.0, -9.0, 9.0, -16.0])  # degrees, of one row; the other mirrors it
_PREVIEW = 64  # px, to measure the exposure on


@dataclass(frozen=True)
class Studio:
    """Who is captured, under which light (head frame)."""

    person: Person
    lighting: Lighting


def camera_ring(*, size: int = 256, distance: float = DISTANCE) -> tuple[Camera, ...]:
    """Return 16 cameras that look at the head: yaw within 48 degrees to either side, pitch within 16."""
    rows = [(yaw, pitch) for sign in (1, -1) for yaw, pitch in zip(_YAWS, sign * _PITCHES, strict=True)]
    return tuple(_camera(np.radians(yaw), np.radians(pitch), distance, size) for yaw, pitch in rows)


def _camera(yaw: float, pitch: float, distance: float, size: int, target: np.ndarray = TARGET) -> Camera:
    return orbit_camera(yaw=yaw, pitch=pitch, distance=distance, size=(size, size), focal_length=distance / _EXTENT,
                        target=tuple(target))


def make_capture(
    head: HeadModel, seed: int, *, shots: int = 12, size: int = 256, photo_size: int = 512, texture_size: int = 640,
) -> Capture:
    """Capture the person of `seed`; equal arguments give equal captures.

    Args:
        head: the open head.
        seed: who it is, and everything else that is random.
        shots: random expressions before cameras of the ring; cameras repeat once all were used.
        size: of the shots, pixels square.
        photo_size: of the photo, pixels square.
        texture_size: of the person's skin, texels square.

    Raises:
        RequestError: `head` has no regions to paint (a FLAME head).
    """
    rng = np.random.default_rng([seed, 1009])
    studio = open_studio(head, seed, texture_size=texture_size)
    person = studio.person
    photo = take_shot(studio, draw_portrait_expression(head, person.shape, rng), _portrait_camera(rng, photo_size), rng)
    ring = camera_ring(size=size)
    order = np.concatenate([rng.permutation(len(ring)) for _ in range(-(-shots // len(ring)))])[:shots]
    views = tuple(take_shot(studio, draw_expression(head, person.shape, rng), _jittered(ring[k], rng), rng) for k in order)
    return Capture(f'synthetic-{seed:06d}', person.shape, person.v_offset, photo, views)


def open_studio(head: HeadModel, seed: int, *, texture_size: int = 640, look: Look | None = None) -> Studio:
    """Make the person of `seed` (with another `look`, if given) and a light that exposes the face well."""
    look = look or Look.vary(seed)
    person = make_person(head, seed, texture_size=texture_size, look=look, v_offset=draw_asymmetry(head, seed))
    rng = np.random.default_rng([seed, 1013])
    lighting = draw_lighting(rng)
    wanted = np.clip(0.62 - 0.32 * person.look.tone + rng.normal(0, 0.045), 0.24, 0.7)
    neutral = FlameParams.neutral(head.n_shape, head.n_expression)
    for _ in range(2):  # the tone curve bends: the second step corrects the first
        camera = _camera(0.0, 0.0, DISTANCE, _PREVIEW)
        drawing = draw_truth(person, neutral, camera, lighting=seen_from(lighting, camera.viewmat), samples=1)
        lighting = brightened(lighting, exposure_gain(drawing.image, np.isin(drawing.region, DYNAMIC_REGIONS), wanted))
    return Studio(person, lighting)


def take_shot(studio: Studio, params: FlameParams, camera: Camera, rng: np.random.Generator) -> Shot:
    """Draw the studio's person over a plain random background."""
    color = np.full(3, rng.random()) if rng.random() < 0.35 else rng.random() + rng.normal(0, 0.22, 3)
    linear = srgb_to_linear(np.clip(color, 0, 1)).astype(np.float32)
    background = np.broadcast_to(linear, (camera.height, camera.width, 3))
    drawing = draw_truth(studio.person, params, camera, lighting=seen_from(studio.lighting, camera.viewmat),
                         background=np.ascontiguousarray(background))
    seen = tone_curve()[(linear * 1024).astype(int)] / np.float32(255)  # the curve has steps: what the picture holds
    return Shot(drawing.image, drawing.alpha, (drawing.alpha > 127) & (drawing.cloth < 128),
                np.isin(drawing.region, DYNAMIC_REGIONS), seen, camera, params)


def _portrait_camera(rng: np.random.Generator, size: int) -> Camera:
    yaw, pitch = np.radians(rng.uniform([-12, -6], [12, 6]))
    distance = rng.uniform(0.7, 1.3)
    return _camera(yaw, pitch, distance, size, TARGET + rng.normal(0, 0.006, 3))


def _jittered(camera: Camera, rng: np.random.Generator) -> Camera:
    """Move a camera by up to about a centimetre and turn it by up to about two degrees, head frame."""
    from sega_ros.geometry import rotvec_to_rotmat

    viewmat = camera.viewmat.astype(np.float64)
    center = np.append(TARGET, 1.0)
    turn = np.eye(4)
    turn[:3, :3] = rotvec_to_rotmat(rng.normal(0, np.radians(1.2), 3))
    turn[:3, 3] = TARGET - turn[:3, :3] @ center[:3] + rng.normal(0, 0.004, 3)
    return replace(camera, viewmat=(viewmat @ turn).astype(np.float32))


def draw_asymmetry(head: HeadModel, seed: int) -> np.ndarray:
    """Offsets [V, 3] float32, metres, at most 2 mm: no face is its own mirror image. The neck stays."""
    from sega_ros.synthetic.features import smoothstep

    rng = np.random.default_rng([seed, 1019])
    v = head.v_template.astype(np.float64)
    offset = np.zeros_like(v)
    for center in rng.uniform([-0.07, -0.08, -0.02], [0.07, 0.10, 0.07], (8, 3)):
        bump = np.exp(-(((v - center) / rng.uniform(0.025, 0.045)) ** 2).sum(1))
        offset += bump[:, None] * rng.normal(0, 0.0009, 3)
    offset *= smoothstep(v[:, 1], -0.11, -0.07)[:, None]
    longest = np.linalg.norm(offset, axis=1).max()
    return (offset * min(1.0, 0.002 / max(longest, 1e-9))).astype(np.float32)
