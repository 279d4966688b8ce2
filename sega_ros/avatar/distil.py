"""Make an avatar for a small robot: its dynamic decoder becomes a few linear bases, and what that costs and gains is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.drive import AvatarDriver, View
from sega_ros.avatar.working_set import WholeAvatar
from sega_ros.errors import RequestError
from sega_ros.head.model import HeadModel
from sega_ros.head.skinning import Poser
from sega_ros.models.distilled import CHANNELS, Distilled, LinearFit, encoder_weights, quantised
from sega_ros.models.frame_decoder import Branch, FrameDecoder, build_networks
from sega_ros.synthetic.expressions import draw_expression
from sega_ros.types import FlameParams

BASES = 10
_BATCHES, _BATCH, _HELD_OUT = 20, 30, 24
_SEED = 20_250
_MOVES = 2  # grey levels by which a pixel changes that moves with the face
_VIEW = View('frontal', (256, 256))


@dataclass(frozen=True)
class Distillation:
    """What it costs and gains, on faces it was not made from."""

    bases: int
    psnr: float  # dB, distilled against full pictures, over the pixels that move with the face
    static_psnr: float  # the same when the mesh alone moves: what the dynamic decoder is there for
    ms_before: float  # to bind one frame, median, one thread
    ms_after: float


def distil(
    avatar: Avatar, head: HeadModel, *, bases: int = BASES, progress: Callable[[float], None] = lambda share: None,
) -> tuple[Avatar, Distillation]:
    """Return `avatar` with `bases` linear images in place of its dynamic decoder, and what came of it.

    Raises:
        RequestError: the avatar has no dynamic decoder, or a number of bases that makes no sense.
        HeadModelMismatchError: it was made for another head model.
    """
    if not isinstance(avatar.branch, Branch):
        why = 'has no networks' if avatar.branch is None else 'is distilled already'
        raise RequestError(f'distil: this avatar {why}; take one made with networks')
    if not 1 <= bases <= 48:
        raise RequestError(f'distil: wanted 1 to 48 bases, found {bases}')
    poser = Poser(head, avatar.identity.shape, v_offset=avatar.identity.v_offset)
    driver, rng = AvatarDriver(avatar, head), np.random.default_rng(_SEED)
    whole = WholeAvatar(avatar, head, poser.rest)
    decoder = FrameDecoder(avatar.branch, head, poser.rest, xy=whole.xy[whole.decoded])
    vae = build_networks(avatar.branch)[0]
    cells = decoder.cells
    fit = LinearFit(avatar.branch.deformation.latent, CHANNELS * len(cells) + decoder.decode(poser.rest)[1].size)
    for k in range(_BATCHES):
        features, outputs = [], []
        for _ in range(_BATCH):
            maps, displacement = decoder.decode(poser.pose(_expression(head, rng)))
            with torch.inference_mode():
                features.append(vae.encode(decoder.offsets.values)[0][0].numpy())
            outputs.append(np.concatenate([maps.reshape(-1, CHANNELS)[cells].T.ravel(), displacement.ravel()]))
        fit.add(np.stack(features), np.stack(outputs))
        progress(0.8 * (k + 1) / _BATCHES)
    kinds = np.repeat(np.arange(CHANNELS + 1), [len(cells)] * CHANNELS + [displacement.size])
    weight, bias, mean, images = fit.bases(bases, kinds)
    eight, scales = quantised(images, len(cells))
    small = replace(avatar, branch=Distilled(
        avatar.branch.deformation, encoder_weights(vae), np.float32(weight), np.float32(bias), cells, np.float32(mean), eight,
        scales))
    progress(0.9)
    report = _compared(driver, AvatarDriver(small, head), AvatarDriver(replace(avatar, branch=None), head),
                       [_expression(head, rng) for _ in range(_HELD_OUT)], bases)
    progress(1.0)
    metadata = avatar.metadata | {'distilled': {'bases': bases, 'psnr': round(report.psnr, 1)}}
    return replace(small, metadata=metadata), report


def _expression(head: HeadModel, rng: np.random.Generator) -> FlameParams:
    """What a face does at some instant; random coefficients for a head whose units have no names we know."""
    if 'mouthPucker' in head.expression_names:
        return draw_expression(head, np.zeros(0, np.float32), rng)
    return FlameParams(np.zeros(0, np.float32), rng.normal(0, 0.7, head.n_expression).astype(np.float32),
                       jaw_pose=np.array([max(0.0, rng.normal(0.03, 0.1)), 0, 0], np.float32),
                       eyelids=np.full(2, rng.uniform() * (rng.random() < 0.3), np.float32))


def _compared(full: AvatarDriver, small: AvatarDriver, still: AvatarDriver, faces: list[FlameParams], bases: int) -> Distillation:
    message = full.neutral()
    pictures = {d: [] for d in (full, small, still)}
    times: dict[AvatarDriver, list[float]] = {d: [] for d in pictures}
    rest = full.render(message, _VIEW).astype(int)
    for params in faces:
        for driver, seen in pictures.items():
            start = time.perf_counter()
            bound = driver.bind(replace(message, params=params), _VIEW)
            times[driver].append(1e3 * (time.perf_counter() - start))
            seen.append(driver.draw(bound).astype(int))
    truth = np.stack(pictures[full])
    moves = np.abs(truth - rest).max(-1) > _MOVES

    def psnr(driver: AvatarDriver) -> float:
        error = (np.stack(pictures[driver]) - truth)[moves] / 255.0
        return float(-10 * np.log10(max((error**2).mean(), 1e-10)))

    return Distillation(bases, psnr(small), psnr(still), *(float(np.median(times[d])) for d in (full, small)))
