"""The core as the nodes see it: what they call, and nothing else. Tests put something small in its place."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sega_ros.avatar.copies import Origin
from sega_ros.nodes.creation import Progress
from sega_ros.tracking.action_units import ActionUnits
from sega_ros.tracking.face_points import FacePoints
from sega_ros.types import FlameExpression

NO_PSNR = float('nan')


@dataclass(frozen=True)
class AvatarRecord:
    """A stored avatar as a listing shows it."""

    avatar_id: str
    created_ns: int  # UTC, since 1970
    size: int  # bytes
    sha256: str
    head_model: str
    head_model_version: str
    quality: str
    consent: str
    splats: int
    photo_psnr: float  # dB


@dataclass(frozen=True)
class ViewRequest:
    """The view a frame is rendered in; as the parameters of the driver."""

    kind: str  # 'frontal', 'follow', 'input' or 'free'
    size: tuple[int, int]  # (H, W) pixels
    yaw: float = 0.0  # radians, view 'free'
    pitch: float = 0.0
    distance: float = 0.0  # metres; 0 keeps the view's own
    background: str = ''  # '#rrggbb'; '' keeps the view's own
    detail: int = 0  # splats; 0 draws all


@dataclass(frozen=True)
class FaceObservation:
    """A tracked face as those who look at people want it."""

    points: FacePoints | None  # None before anybody's shape is known
    units: ActionUnits


class Builder(Protocol):
    """Creates and keeps avatars."""

    def open(self) -> None:
        """Make ready for creations."""

    def close(self) -> None:
        """Give back what waits for the next creation."""

    def check_free(self, avatar_id: str, *, replace: bool) -> None:
        """Raise unless `avatar_id` may be stored."""

    def create(self, image: np.ndarray, avatar_id: str, *, quality: str, consent: str, replace: bool, bust: bool, lighting: str,
               distilled: bool, progress: Progress, cancelled: Callable[[], bool]) -> tuple[AvatarRecord, Sequence[str]]:
        """Create and store an avatar of a photo, uint8 RGB [H, W, 3]; return it and warnings."""

    def list(self) -> Sequence[AvatarRecord]:
        """Return the stored avatars, sorted by id."""

    def damaged(self) -> Sequence[str]:
        """Return a sentence about each file that can't be read."""

    def delete(self, avatar_id: str) -> None:
        """Remove an avatar."""

    def read_bytes(self, avatar_id: str, offset: int, length: int):
        """Return a part of the file: `data`, `total_size`, `sha256`."""

    def read_photo(self, path: str) -> np.ndarray:
        """Read a picture file, uint8 RGB [H, W, 3]."""

    def store_id(self) -> str:
        """Return by which robots know this store again; '' when it can't keep an id."""


class Puppet(Protocol):
    """A loaded avatar that is ready to be rendered."""

    record: AvatarRecord
    n_expression: int
    splats: int  # on all sides of the head

    def bind(self, expression: FlameExpression, view: ViewRequest) -> Any:
        """Prepare one frame; its `camera` is the one it is seen by. Called by one thread, `draw` by another."""

    def draw(self, bound: Any) -> np.ndarray:
        """Draw what `bind` gave, uint8 RGB [H, W, 3]."""


class Tracker(Protocol):
    """Turns camera images into expressions."""

    calibration: Any  # what `calibrate` found; None: none
    smoothing: float  # strength of the smoothing, 1 as a rule

    def track(self, image: np.ndarray, stamp_ns: int, frame_id: str = '') -> FlameExpression:
        """Track one image, uint8 RGB [H, W, 3]."""

    def calibrate(self, neutral: Sequence[FlameExpression] | None) -> object:
        """Take these tracked expressions as neutral from now on; None: no calibration."""

    def reset(self) -> None:
        """Forget the person and the last frame."""

    def close(self) -> None:
        """Release networks and threads; nothing is tracked afterwards."""

    def observe(self, expression: FlameExpression, size: tuple[int, int]) -> FaceObservation:
        """Return what else a tracked expression says of the face in its picture of `size` (H, W)."""


class Driver(Protocol):
    """Loads avatars and tracks faces with one head model."""

    head_model: str
    head_model_version: str

    def list(self) -> Sequence[AvatarRecord]:
        """Return the stored avatars."""

    def load(self, avatar_id: str) -> Puppet:
        """Load an avatar; raise when it is missing, damaged or made for another head model."""

    def make_tracker(self) -> Tracker:
        """Return a new tracker."""

    def stored_sha256(self, avatar_id: str) -> str:
        """Return the checksum of a stored avatar's file; '' when there is none that can be read."""

    def receive(self, avatar_id: str, *, size: int, sha256: str) -> Any:
        """Return what takes the parts of a file from another machine (`avatar.receive.IncomingAvatar`)."""

    def copies(self) -> Sequence[Origin]:
        """Return where the stored avatars came from that were not made here."""

    def remove_copy(self, origin: Origin) -> bool:
        """Delete a fetched avatar; return whether it was still there."""

    def drop_parts(self, listed: Collection[str]) -> None:
        """Remove parts of avatars that are not `listed` (ids) any more."""
