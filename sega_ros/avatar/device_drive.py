"""Driving on a GPU: a frame's few numbers go to the device, its picture comes back, and all between stays there."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from sega_ros.avatar.avatar import Avatar
from sega_ros.avatar.drive import AvatarDriver, Bound, View
from sega_ros.avatar.working_set import Values
from sega_ros.geometry import rotmat_to_unitquat
from sega_ros.head.model import HeadModel
from sega_ros.head.tensor_poser import TensorPoser
from sega_ros.models.base import lid_closure
from sega_ros.models.binding import camera_centre
from sega_ros.models.distilled import Distilled
from sega_ros.models.tensor_frame import TensorBinder, TensorDecoder, TensorShell
from sega_ros.types import Camera, FlameExpression, Splats

_WARM_UP = 3  # frames before one is recorded: libraries choose and allocate then what they must not in a graph


def open_driver(avatar: Avatar, head: HeadModel, *, device: str | None = None) -> AvatarDriver:
    """Driver of `avatar` on `device`: 'cuda' (or 'cuda:1') is a GPU, 'cpu' or None the CPU, as for all distilled avatars.

    Raises:
        HeadModelMismatchError: the avatar was made for another head model.
        BackendError: a GPU is asked for, and it or gsplat is missing.
    """
    small = isinstance(avatar.branch, Distilled)
    return AvatarDriver(avatar, head) if small or device in (None, 'cpu') else DeviceDriver(avatar, head, device=device)


class DeviceDriver(AvatarDriver):
    """`AvatarDriver` whose frames are made on a torch device; on CUDA, all but the drawing is one recorded graph.

    Work of `bind` and `draw` comes in one order on the device's stream, whatever threads call them: of each, one at a time.
    """

    def __init__(self, avatar: Avatar, head: HeadModel, *, device: str | torch.device, dtype: torch.dtype | None = None):
        """Prepare as `AvatarDriver` does and move everything to `device`; raises as `open_driver`.

        `dtype` is that of the convolutions; None is the device's fastest (`models.layers.fast_dtype`).
        """
        self.device, self._dtype = torch.device(device), dtype
        if self.device.type == 'cuda':
            from sega_ros.render.cuda import load_gsplat

            load_gsplat()
        super().__init__(avatar, head)
        still = self._numbers(self.neutral(), np.eye(3), np.zeros(3))
        frame, self._sizes = self._frame(), [part.size for part in still]

        def run(numbers: Tensor) -> Tensor:
            splats = frame(*numbers.split(self._sizes))
            return torch.cat([getattr(splats, f.name).flatten() for f in fields(Splats)])

        self._run = _recorded(run, sum(self._sizes), self.device) if self.device.type == 'cuda' else run

    @property
    def detail(self) -> int:
        """Number of splats on all sides of the head: always all, as a device has time for them and a graph has one size."""
        return len(self._whole)

    @detail.setter
    def detail(self, count: int) -> None:
        pass

    def _frame_decoder(self) -> TensorDecoder | None:
        if self.avatar.branch is None:
            return None
        return TensorDecoder(self.avatar.branch, self.head, self._poser.rest, xy=self._whole.xy[self._whole.decoded],
                             reshaped=self._whole.reshaped[self._whole.decoded], device=self.device, dtype=self._dtype)

    def _frame(self) -> '_Frame':
        """Everything that `splats` needs, on the device."""
        whole, device, decoder = self._whole, self.device, self._decoder
        decoded = np.flatnonzero(whole.decoded)
        changed, index = (whole.local, np.arange(len(whole.table))) if decoder is None else (whole.raw, decoded)
        lids = np.flatnonzero(whole.side[index] >= 0)
        texels = index[lids]
        ends = changed.plain[11:, texels], whole.shut[:, texels], whole.raw.residual[11:, texels]
        return _Frame(
            TensorPoser(self.head, self._poser, device), decoder, TensorBinder(whole.table, len(self._poser.rest), device),
            TensorShell(self.avatar.shell, self._neck, device),
            _Lids(*(_there(a, device) for a in (lids, whole.side[texels], *(np.float32(a.T) for a in ends)))),
            _Varying.of(whole.local, device), _there(decoded, device), _Varying.of(whole.raw.of(decoded), device),
            *(_Varying.of(whole.shell[k], device) for k in ('opacities', 'colors')))

    def _numbers(self, expression: FlameExpression, torso: np.ndarray, eye: np.ndarray) -> list[np.ndarray]:
        """What a frame is made of, in the order in which `_Frame` takes it."""
        params, whole = expression.params, self._whole
        coefficients, joints = self._poser.numbers(self._bent(params, torso), turn=torso, pivot=self._neck)
        return [coefficients, joints, lid_closure(params.eyelids, whole.closure), whole.residual_shares(eye),
                torso - np.eye(3), rotmat_to_unitquat(torso), eye]

    @torch.no_grad()
    def splats(self, expression: FlameExpression, view: View, camera: Camera) -> tuple[Tensor, ...]:
        """Splats as tensors on the device (the fields of Splats), the caller's own; what is not seen is transparent."""
        torso = self.torso_rotation(expression, view, camera)
        parts = self._numbers(expression, torso, camera_centre(camera.viewmat))
        numbers = torch.from_numpy(np.concatenate([part.ravel() for part in parts]).astype(np.float32))
        if self.device.type == 'cuda':
            numbers = numbers.pin_memory()  # a copy from elsewhere would wait for what is drawn
        flat = self._run(numbers.to(self.device, non_blocking=True))
        total = len(flat) // 14
        means, quats, scales, opacities, colors = flat.split([n * total for n in (3, 4, 3, 1, 3)])
        return means.view(-1, 3), quats.view(-1, 4), scales.view(-1, 3), opacities, colors.view(-1, 3)

    @torch.no_grad()
    def draw(self, bound: Bound) -> np.ndarray:
        """Picture of what `bind` gave, uint8 RGB [H, W, 3]: the one thing that leaves the device."""
        from sega_ros.render import rasterize

        background = torch.from_numpy(bound.background).to(self.device, non_blocking=True)
        image = rasterize(Splats(*bound.arrays), bound.camera, background=background).image
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def _there(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array, order='C')).to(device)


@dataclass(frozen=True)
class _Varying:
    """`Values` on the device, splats as rows."""

    plain: Tensor  # [N, ...]
    residual: Tensor | None  # None: 0
    share: Tensor  # [N] or [1] int64, which of the two shares is shown

    @classmethod
    def of(cls, values: Values, device: torch.device) -> '_Varying':
        plain, residual = (_there(np.float32(a.T), device) for a in (values.plain, values.residual))
        share = _there(np.atleast_1d(np.int64(values.share)), device)
        return cls(plain, residual if values.residual.any() else None, share)

    def at(self, shares: Tensor) -> Tensor:
        """Return the values with `shares` [2] of the residual: on the face, and elsewhere."""
        if self.residual is None:
            return self.plain
        share = shares[self.share]
        return self.residual * (share if self.residual.dim() == 1 else share[:, None]) + self.plain


@dataclass(frozen=True)
class _Lids:
    """The L texels that lids recolour."""

    index: Tensor  # [L] int64
    side: Tensor  # [L] int64: 0 the person's left, 1 right
    open: Tensor  # [L, 3]
    shut: Tensor  # [L, 3]
    residual: Tensor  # [L, 3] the photo's

    def apply(self, texels: Tensor, closure: Tensor, share: Tensor) -> Tensor:
        """Texels [n, 14] with the lids' colours in them, `closure` [2] of the shut eyes' and `share` [1] of the residual."""
        shut = closure[self.side][:, None]
        colors = (1 - shut) * self.open + shut * self.shut + share * self.residual
        return torch.cat([texels[:, :11], texels[:, 11:].index_copy(0, self.index, colors)], 1)


@dataclass(frozen=True)
class _Frame:
    """One avatar on a device: from the numbers of a message and a view to splats."""

    poser: TensorPoser
    decoder: TensorDecoder | None
    binder: TensorBinder
    shell: TensorShell
    lids: _Lids
    local: _Varying  # [T, 14] activated
    decoded: Tensor  # [K] int64: which of them the decoder writes
    start: _Varying  # [K, 14] these before activation
    shell_opacities: _Varying  # [N]
    shell_colors: _Varying  # [N, 3]

    def __call__(self, coefficients: Tensor, joints: Tensor, closure: Tensor, shares: Tensor, turn: Tensor, quat: Tensor,
                 eye: Tensor) -> Splats:
        """Take the parts of `DeviceDriver._numbers`, each flat."""
        vertices = self.poser(coefficients, joints.view(5, 3, 4))
        local = self.local.at(shares)
        if self.decoder is None:
            local = self.lids.apply(local, closure, shares[:1])
        else:
            start = self.lids.apply(self.start.at(shares), closure, shares[:1])
            local = local.index_copy(0, self.decoded, self.decoder(vertices, start))
        shell = self.shell(self.shell_opacities.at(shares), self.shell_colors.at(shares), turn.view(3, 3), quat, eye)
        return Splats.cat([self.binder(vertices, local, eye), shell])


def _recorded(run: Callable[[Tensor], Tensor], size: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """`run`, which takes [size] numbers on the CUDA device, as a graph: one launch instead of hundreds."""
    with torch.no_grad(), torch.cuda.device(device):
        inputs, stream = torch.zeros(size, device=device), torch.cuda.Stream()
        inputs[-1] = 1.0  # somewhere to look from
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                run(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode='thread_local'):  # other threads may be drawing another avatar
            output = run(inputs)

    def replay(numbers: Tensor) -> Tensor:
        inputs.copy_(numbers)
        graph.replay()
        return output.clone()  # the next frame is written over it, perhaps before this one is drawn

    return replay
