"""SEGA as one model (figure 2 of the paper): identity encoder, static decoder, deformation VAE, dynamic decoder."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sega_ros.models.base import (
    FRAME_GROWTH,
    Base,
    added,
    at_texels,
    base_inputs,
    base_texels,
    corrected_shell,
    forms_only,
    held_texels,
    in_units,
    known_texels,
    masked,
    moved_only,
)
from sega_ros.models.binding import SurfaceFrames, bind_texels, facing_fade
from sega_ros.models.closing import closed
from sega_ros.models.deformation_vae import Deformation, DeformationConfig, DeformationVAE
from sega_ros.models.dynamic_decoder import DynamicConfig, DynamicDecoder
from sega_ros.models.identity_encoder import IdentityConfig, IdentityEncoder
from sega_ros.models.layers import precision, sample_at
from sega_ros.models.static_decoder import StaticConfig, StaticDecoder, StaticOutput
from sega_ros.models.uv import UvLayout
from sega_ros.types import GaussianMap, Shell, Splats


@dataclass(frozen=True)
class SegaConfig:
    """Numbers of all parts."""

    identity: IdentityConfig = field(default_factory=IdentityConfig)
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    static: StaticConfig = field(default_factory=StaticConfig)
    dynamic: DynamicConfig = field(default_factory=DynamicConfig)


@dataclass(frozen=True)
class PersonOutput:
    """One person, decoded once: everything that the frames share."""

    base: Base
    static: StaticOutput
    texels: GaussianMap  # [T, ...] the static decoder's changes of the texels
    shell: Shell  # corrected


class Sega(nn.Module):
    """The four networks."""

    def __init__(self, config: SegaConfig):
        super().__init__()
        self.config = config
        self.identity = IdentityEncoder(config.identity)
        self.deformation = DeformationVAE(config.deformation)
        self.static = StaticDecoder(config.static, config.identity.code_width)
        self.dynamic = DynamicDecoder(config.dynamic, config.static.features, config.static.fine_features,
                                      config.deformation.latent)
        self.with_dynamic = config.dynamic.regions != 'none'  # False while the static decoder is trained
        self.mixed = False  # run the networks in bfloat16; all else stays float32

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.identity.codebook.device

    def decode_person(self, base: Base, layout: UvLayout) -> PersonOutput:
        """Run what is run once per avatar."""
        inputs = base_inputs(base, layout).to(self.device)
        with torch.no_grad():
            code = self.identity(inputs.crop)  # in full precision always: codes must not flip between training and use
        with precision(self.device, self.mixed):
            static = self.static(inputs.uv, code.tokens, code.latents, inputs.at, inputs.shell, inputs.shell_uv, inputs.shell_at)
        share = known_texels(base, layout).to(self.device)
        texels = held_texels(at_texels(in_units(static.correction), layout), share, layout)
        if self.with_dynamic:
            # Where the photo shows the face, its own expression must look as it does there.
            (change,), _ = self._changes(static, layout, torch.from_numpy(base.offsets)[None])
            texels = added(texels, change, -share)
            # What is only moved later has its form from here.
            texels = added(texels, forms_only(change, layout))
        texels = closed(texels, base.offset, layout)
        return PersonOutput(base, static, texels, corrected_shell(base, static.shell[0]))

    def decode_frames(
        self, person: PersonOutput, layout: UvLayout, offsets: Tensor, eyelids: np.ndarray, *, sample: bool = False,
    ) -> tuple[list[GaussianMap], Deformation | None]:
        """Gaussian parameters [T, ...] of each of K expressions.

        Args:
            person: of `decode_person`.
            layout: its UV layout.
            offsets: [K, 3, 48, 48] posed offsets, metres.
            eyelids: [K, 2] lid closures.
            sample: draw the expression feature around its mean (training).
        """
        start = [added(base_texels(person.base, layout, lids).to(self.device), person.texels) for lids in eyelids]
        if not self.with_dynamic:
            return start, None
        changes, deformation = self._changes(person.static, layout, offsets, sample=sample)
        return [added(texels, moved_only(change, layout)) for texels, change in zip(start, changes, strict=True)], deformation

    def _changes(
        self, static: StaticOutput, layout: UvLayout, offsets: Tensor, *, sample: bool = False,
    ) -> tuple[list[GaussianMap], Deformation]:
        """What K expressions [K, 3, 48, 48] add to the texels [T, ...]: the dynamic decoder's changes and the displacement."""
        offsets, dynamic, xy = (x.to(self.device) for x in (offsets, layout.dynamic, layout.xy))
        count = len(offsets)
        features, fine = (x.expand(count, -1, -1, -1) for x in (static.features, static.fine_features))
        with precision(self.device, self.mixed):
            deformation = self.deformation(offsets, sample=sample)
            frame = self.dynamic(features, fine, deformation.feature, offsets)
        frame = in_units(frame, growth=FRAME_GROWTH)
        moved = sample_at(deformation.displacement, xy[None].expand(count, -1, -1))
        mask = dynamic if self.config.dynamic.regions == 'face' else torch.ones_like(dynamic)
        changes = []
        for k in range(count):
            change = masked(at_texels(frame, layout, k), mask)
            changes.append(replace(change, offset=change.offset + moved[k] * dynamic[:, None]))
        return changes, deformation


def place_person(
    texels: GaussianMap, shell: Shell, frames: SurfaceFrames, eye: np.ndarray, *, fade: np.ndarray | None = None,
) -> Splats:
    """Splats of a frame as seen from `eye` [3] (head frame); head and torso are one. Differentiable in texels and shell."""
    on_mesh = bind_texels(texels, frames, facing_fade(frames, eye) if fade is None else fade)
    means = shell.splats.means.detach()
    normals, (low, high) = (torch.from_numpy(a).to(means) for a in (shell.normals, shell.fade.T))
    to_eye = torch.from_numpy(np.asarray(eye, np.float32)).to(means) - means
    cosine = F.normalize(to_eye, dim=-1).mul(normals).sum(-1)
    veil = ((cosine - low) / (high - low)).clamp(0, 1)
    return Splats.cat([on_mesh, replace(shell.splats, opacities=shell.splats.opacities * veil)])
