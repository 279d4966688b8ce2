"""Synthetic people in the layouts of real data sets."""

import json
from dataclasses import dataclass, replace

import numpy as np

from sega_ros.camera import orbit_camera
from sega_ros.geometry import rotvec_to_rotmat
from sega_ros.io import VideoWriter, write_png
from sega_ros.synthetic.person import draw_truth, make_person
from sega_ros.training.data.views import Frame, View
from sega_ros.types import FlameParams

SERIALS = '222200037', '222200046', '222200039', '221501007'
YAWS = 0.0, -0.5, 0.55, 0.2
PITCHES = 0.0, 0.1, -0.05, -0.25
SIZE = 401, 275  # (H, W): an eighth of NeRSemble's full pictures


@dataclass(frozen=True)
class Truth:
    """A recorded person and what is true of them."""

    person: object
    params: tuple[FlameParams, ...]  # of the frames
    head_to_world: tuple[np.ndarray, ...]
    frames: tuple[Frame, ...]


def record(head, seed, *, size=SIZE, frames=2, focal=2.6):
    """Record a person before four cameras; the head moves between the frames, the world is not the head's frame."""
    person = make_person(head, seed, texture_size=384)
    rng = np.random.default_rng(seed)
    world = np.eye(4)
    world[:3, :3] = rotvec_to_rotmat(np.array([0.3, -0.4, 0.2]))
    world[:3, 3] = 0.4, -0.2, 1.3
    params, poses, moments = [], [], []
    for k in range(frames):
        neutral = FlameParams.neutral(head.n_shape, head.n_expression)
        jaw = np.array([0.22 * (k % 2), 0, 0], np.float32)
        p = replace(neutral, shape=person.shape, jaw_pose=jaw)
        motion = np.eye(4)
        motion[:3, :3] = rotvec_to_rotmat(rng.normal(0, 0.08, 3) * k)
        motion[:3, 3] = rng.normal(0, 0.01, 3) * k
        views = []
        for serial, yaw, pitch in zip(SERIALS, YAWS, PITCHES, strict=True):
            camera = orbit_camera(yaw=yaw, pitch=pitch, distance=1.0, size=size, focal_length=focal)
            camera = replace(camera, cx=camera.cx + 4, cy=camera.cy - 6)
            drawing = draw_truth(person, p, replace(camera, viewmat=(camera.viewmat @ motion).astype(np.float32)))
            viewmat = (camera.viewmat @ np.linalg.inv(world)).astype(np.float32)
            views.append(View(serial, drawing.image, drawing.alpha, replace(camera, viewmat=viewmat)))
        params.append(p)
        poses.append(world @ motion)
        moments.append(Frame(f'{k:04d}', tuple(views)))
    return Truth(person, tuple(params), tuple(poses), tuple(moments))


def write_multiview(root, name, truth, *, mattes=True):
    """Write the plain layout."""
    cameras = {v.name: {'K': v.camera.K.tolist(), 'world_to_camera': v.camera.viewmat.tolist(), 'width': v.camera.width,
                        'height': v.camera.height} for v in truth.frames[0].views}
    folder = root / name
    folder.mkdir(parents=True)
    (folder / 'cameras.json').write_text(json.dumps({'cameras': cameras}))
    for frame in truth.frames:
        for view in frame.views:
            (folder / 'images' / frame.name).mkdir(parents=True, exist_ok=True)
            write_png(folder / 'images' / frame.name / f'{view.name}.png', view.image)
            if mattes:
                (folder / 'mattes' / frame.name).mkdir(parents=True, exist_ok=True)
                write_png(folder / 'mattes' / frame.name / f'{view.name}.png', view.alpha)
    return folder


def write_nersemble(root, participant, truth, *, sequence='EXP-1-head', mattes=True):
    """Write NeRSemble's layout, with intrinsics for the full pictures; colour calibration is the identity."""
    folder = root / f'{participant:03d}'
    calibration = folder / 'calibration'
    calibration.mkdir(parents=True, exist_ok=True)
    views = truth.frames[0].views
    K = np.diag([8, 8, 1]) @ views[0].camera.K
    (calibration / 'camera_params.json').write_text(json.dumps({
        'world_2_cam': {v.name: v.camera.viewmat.tolist() for v in views}, 'intrinsics': K.tolist()}))
    (calibration / 'color_calibration.json').write_text(json.dumps({v.name: np.eye(3).tolist() for v in views}))
    for i, view in enumerate(views):
        write_clip(clip_path(folder, sequence, view.name), [f.views[i].image for f in truth.frames])
        if mattes:
            alphas = [np.repeat(f.views[i].alpha[..., None], 3, 2) for f in truth.frames]
            write_clip(clip_path(folder, sequence, view.name, kind='alpha_maps'), alphas)
    return folder


def clip_path(folder, sequence, serial, *, kind='images'):
    """Path of a camera's clip."""
    return folder / 'sequences' / sequence / kind / f'cam_{serial}.mp4'


def write_clip(path, images):
    """Write frames as a clip."""
    with VideoWriter(path, size=images[0].shape[:2], fps=25) as clip:
        for image in images:
            clip.write(image)
