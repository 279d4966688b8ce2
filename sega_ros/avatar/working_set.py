"""An avatar's splats on the CPU: all of them, and the working set that is drawn at one level of detail."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from sega_ros.avatar.avatar import Avatar, avatar_atlas
from sega_ros.avatar.detail import Kept, Thinning, grown, local_means
from sega_ros.geometry import rotmat_to_unitquat
from sega_ros.head.atlas import texel_head
from sega_ros.head.model import HeadModel
from sega_ros.models.base import added, lid_closure, reshaped
from sega_ros.models.bind_kernel import activate, bind_into
from sega_ros.models.binding import camera_centre, fuse, gather, pack_texels, texel_table
from sega_ros.models.distilled import DistilledDecoder
from sega_ros.models.frame_decoder import DecodedTexels, FrameDecoder
from sega_ros.models.shell_kernel import place_shell
from sega_ros.models.uv import network_places
from sega_ros.types import GaussianMap, Region, Splats

# Degrees between the view's direction and the photo's up to which the photo's residual shows in full, and from which it is gone.
# Measured on held-out people: on the face it gains up to 30 degrees; hair and neck are shaped less surely, and what makes
# them fit the photo loses from 10 degrees on.
FACE_FADE, REST_FADE = (15.0, 40.0), (8.0, 24.0)
_FACE = (Region.FACE, Region.MOUTH, Region.TEETH, Region.EYES, Region.EYELIDS)
_SHARES = 32  # steps in between
# Where few texels carry what people look at.
_IMPORTANCE = {Region.EYES: 4.0, Region.EYELIDS: 4.0, Region.TEETH: 4.0, Region.MOUTH: 2.0, Region.FACE: 1.5}
_SEAM = 8.0  # charts end there: what is missing is not covered from all sides
_SCALES, _OPACITY, _COLOR = slice(7, 10), 10, slice(11, 14)  # rows of a texel's parameters
_SPLATS = tuple(Splats.__dataclass_fields__)


@dataclass(frozen=True)
class Values:
    """Parameters [..., N] as the decoders give them, and what the photo's residual adds in full."""

    plain: np.ndarray
    residual: np.ndarray
    share: np.ndarray | int = 0  # [N] which of `residual_shares` is shown, or one for all

    def of(self, index: np.ndarray) -> 'Values':
        """Copies for some of the splats."""
        share = self.share if isinstance(self.share, int) else self.share[index]
        return Values(*(np.ascontiguousarray(a[..., index]) for a in (self.plain, self.residual)), share)


class WholeAvatar:
    """All splats of an avatar, texels and shell in Morton order."""

    def __init__(self, avatar: Avatar, head: HeadModel, rest: np.ndarray, *, all_dynamic: bool = False):
        """Lay out `avatar` on the person's neutral mesh `rest` [V, 3]; `all_dynamic` has its decoder write every texel."""
        atlas = avatar_atlas(avatar, head)
        maps = fuse(avatar.static, avatar.dynamic, torch.from_numpy(atlas.dynamic))
        opacity = maps.opacity.numpy()
        self.table = table = texel_table(texel_head(head), atlas, rest, np.isfinite(opacity) & (opacity > -7))
        raw, local = _rows(maps, table), activate(maps, table).T
        raw_residual, with_residual = np.zeros_like(raw), local
        if avatar.residual is not None:
            raw_residual = _rows(avatar.residual.maps, table)
            with_residual = activate(added(maps, avatar.residual.maps), table).T
        region = head.face_region[atlas.face[table.rows, table.cols]]
        rest_of_head = (~np.isin(region, _FACE)).astype(np.int64)
        self.raw = Values(raw, raw_residual, rest_of_head)  # [14, T] before activation
        self.local = Values(local, with_residual - local, rest_of_head)  # [14, T] after it
        decoded = atlas.dynamic[table.rows, table.cols] | all_dynamic
        self.decoded = decoded & (avatar.branch is not None)  # [T] what the dynamic decoder writes
        self.reshaped = reshaped(region)  # [T] whether it may change their looks
        self.xy = network_places(head, atlas, table)  # [T, 2]
        points = (rest[table.corners] * table.bary[..., None]).sum(1)
        self.shut = avatar.closed_lids[table.rows, table.cols].T.astype(np.float32)  # [3, T] colours around shut eyes
        self.side = np.where(self.shut.any(0), np.where(points[:, 0] > 0, 0, 1), -1)  # [T] left eye, right eye, neither
        self.closure = np.zeros(2) if avatar.identity.eyelids is None else avatar.identity.eyelids  # on the photo
        importance = np.array([_IMPORTANCE.get(r, 1.0) for r in Region])[region]
        self.thinning = Thinning(np.where(_at_seams(table, avatar.atlas_size), np.maximum(importance, _SEAM), importance))
        self._points = np.concatenate([points, region[:, None]], 1)  # neighbours lie close, and are of the same kind

        shell, residual = avatar.shell, avatar.residual
        more = {} if residual is None else {'opacities': residual.shell_opacities, 'colors': residual.shell_colors}
        # The last axis is that of the splats, as above.
        fields = {k: np.array(getattr(shell.splats, k).numpy().T, np.float32) for k in _SPLATS}
        self.shell = {k: Values(v, more[k].T if k in more else np.zeros_like(v), 1) for k, v in fields.items()}
        self.shell_pose = tuple(np.ascontiguousarray(a, np.float32) for a in (shell.normals, shell.fade, shell.torso))
        # Large ones are few already: what lies behind the outline, where nothing else covers for them.
        area = np.sort(fields['scales'], 0)[1:].prod(0)
        self.shell_thinning = Thinning((area / np.median(area)).clip(1, 8) if len(area) else area)
        self.middle = rest.mean(0)  # [3]
        way = camera_centre(avatar.photo_camera.viewmat) - self.middle
        self._way = way / np.linalg.norm(way)  # [3] to the photo's camera

    def __len__(self) -> int:
        return len(self.table) + len(self.shell_pose[0])

    def residual_shares(self, eye: np.ndarray) -> np.ndarray:
        """Shares [2] of the photo's residual that a camera at `eye` [3] (head frame) shows: on the face, and elsewhere."""
        way = eye - self.middle
        angle = np.degrees(np.arccos(np.clip(way @ self._way / np.linalg.norm(way), -1, 1)))
        shares = [np.clip((far - angle) / (far - near), 0, 1) for near, far in (FACE_FADE, REST_FADE)]
        return (np.round(_SHARES * np.array(shares)) / _SHARES).astype(np.float32)

    @cached_property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Colours of texels [3, T, 3] and shell [3, N, 3] and of their neighbourhoods; see `local_means`."""
        shell = self.shell['means'].plain.T, self.shell['colors'].plain.T
        return local_means(self.raw.plain[_COLOR].T, self._points), local_means(shell[1], shell[0])


def _at_seams(table, size: int) -> np.ndarray:
    """Whether texels [T] have no neighbour in use on one of their four sides."""
    used = np.zeros((size + 2, size + 2), bool)
    used[table.rows + 1, table.cols + 1] = True
    inner = used[:-2, 1:-1] & used[2:, 1:-1] & used[1:-1, :-2] & used[1:-1, 2:]
    return ~inner[table.rows, table.cols]


def _rows(maps: GaussianMap, table) -> np.ndarray:
    """Parameters [14, T] of a map's texels."""
    return np.ascontiguousarray(pack_texels(gather(maps, table)).detach().float().numpy().T)


class WorkingSet:
    """The splats of one level of detail. Keeps buffers, not state: what `splats` returns follows from its arguments."""

    def __init__(self, whole: WholeAvatar, share: float):
        """Take what `share` of the least important splats leaves; 1 takes all as they are."""
        kept, loose = whole.thinning.kept(share), whole.shell_thinning.kept(share)
        thin = share < 1
        self._whole, self._shares_shown = whole, np.zeros(2, np.float32)
        self._shown: list[tuple[np.ndarray, Values]] = []  # arrays, and what they hold of the residual
        self._table = whole.table.subset(kept.index)

        local = whole.local.of(kept.index)
        scales = local.plain[_SCALES].copy()
        local.plain[_SCALES] = grown(scales, kept.growth)
        local.residual[_SCALES] *= local.plain[_SCALES] / scales
        for values in (local.plain, local.residual):
            values[_OPACITY] *= kept.opacity
        at = np.flatnonzero(whole.decoded[kept.index])
        start = whole.raw.of(kept.index[at])
        start.plain[_SCALES] += np.log(local.plain[_SCALES] / scales)[:, at]
        start.plain[_OPACITY] += np.log(kept.opacity[at])
        if thin:
            colors = kept.colors(whole.means[0]).T
            local.plain[_COLOR], start.plain[_COLOR] = colors.clip(0, 1), colors[:, at]
        self._local = self._following(local)
        texel = kept.index[at]
        self._texels = DecodedTexels(whole.xy[texel], whole.reshaped[texel], at, self._following(start)) if len(at) else None
        self._lids = self._lid_ends(kept, at)

        shell = {k: v.of(loose.index) for k, v in whole.shell.items()}
        shell['scales'] = replace(shell['scales'], plain=grown(shell['scales'].plain, loose.growth))
        shell['opacities'] = replace(shell['opacities'], **{k: getattr(shell['opacities'], k) * loose.opacity
                                                            for k in ('plain', 'residual')})
        if thin:
            shell['colors'] = replace(shell['colors'], plain=loose.colors(whole.means[1]).T)
        rows = {k: Values(*(np.ascontiguousarray(a.T) for a in (v.plain, v.residual)), v.share) for k, v in shell.items()}
        changing = {k: self._following(rows[k]) for k in ('opacities', 'colors')}
        self._shell = tuple(changing.get(k, rows[k].plain) for k in _SPLATS)
        self._shell_pose = tuple(a[loose.index] for a in whole.shell_pose)

    def __len__(self) -> int:
        return len(self._table) + len(self._shell[0])

    def _following(self, values: Values) -> np.ndarray:
        """An array that `_look_from` keeps up to date."""
        array = values.plain.copy()
        if values.residual.any():
            self._shown.append((array, values))
        return array

    def _lid_ends(self, kept: Kept, at: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Columns of the left and the right eye's lids in `_base_colors`, their colours open and shut [3, n]."""
        whole, ends = self._whole, []
        drawn = kept.index if self._texels is None else kept.index[at]
        for side in (0, 1):
            columns = np.flatnonzero(whole.side[drawn] == side)
            residual = whole.raw.residual[_COLOR][:, drawn[columns]]
            starts = self._base_colors[:, columns].copy(), whole.shut[:, drawn[columns]]
            ends.append((columns, *(self._following(Values(s, residual)) for s in starts)))
        return ends

    @property
    def _base_colors(self) -> np.ndarray:
        """Colours [3, n] that the lids change: the decoder's start, else those that are drawn."""
        return self._local[_COLOR] if self._texels is None else self._texels.start[_COLOR]

    def _look_from(self, eye: np.ndarray) -> None:
        """Write into the arrays as much of the photo's residual as a camera at `eye` [3] shows."""
        shares = self._whole.residual_shares(eye)
        if (shares != self._shares_shown).any():
            for array, values in self._shown:
                np.multiply(values.residual, shares[values.share], out=array)
                np.add(array, values.plain, out=array)
            self._shares_shown = shares

    def splats(
        self, vertices: np.ndarray, eyelids: np.ndarray, eye: np.ndarray, *, torso: np.ndarray, pivot: np.ndarray,
        decoder: FrameDecoder | DistilledDecoder | None, normals: np.ndarray,
    ) -> tuple[np.ndarray, ...]:
        """Visible splats as arrays (the fields of Splats), the caller's own.

        Args:
            vertices: [V, 3] float32 posed mesh, head frame, metres.
            eyelids: [2] closure, left and right.
            eye: [3] camera centre, head frame.
            torso: [3, 3] rotation of the torso about `pivot` [3].
            pivot: head frame, metres.
            decoder: writes the dynamic texels; None leaves them to the mesh.
            normals: [V, 3] float32, receives the vertices' normals.
        """
        self._look_from(eye)
        shares, colors = lid_closure(eyelids, self._whole.closure), self._base_colors
        for share, (columns, open_colors, shut_colors) in zip(shares, self._lids, strict=True):
            colors[:, columns] = (1 - share) * open_colors + share * shut_colors
        if decoder is not None and self._texels is not None:
            decoder.write(vertices, self._texels, self._local)
        out = tuple(np.empty((len(self), *a.shape[1:]), np.float32) for a in self._shell)
        n = bind_into(self._table, self._local.T, vertices, eye, out, normals=normals)
        m = place_shell(self._shell, *self._shell_pose, torso, rotmat_to_unitquat(torso), pivot, eye, n, out)
        return tuple(a[:m] for a in out)
