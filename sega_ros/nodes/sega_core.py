"""The core on a directory of avatars: what the nodes run with unless a test gives them something else."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sega_ros.avatar.copies import Origin
from sega_ros.avatar.store import StoreLimit
from sega_ros.io.memory import release_freed_memory
from sega_ros.nodes.core import NO_PSNR, AvatarRecord, FaceObservation, Tracker, ViewRequest
from sega_ros.nodes.creation import Order, Progress, Workshop
from sega_ros.tracking.action_units import action_units
from sega_ros.types import FlameExpression


def _head(source: str):
    """Return a head model; the same one again, until its file changes.

    What is prepared for a head is kept with it: a node that is configured again and again would keep many.
    """
    path = Path(source)
    return _load_head(source, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=1)
def _load_head(source: str, modified_ns: int):
    from sega_ros.head import load_head

    return load_head(source)


def stored_record(store, entry) -> AvatarRecord:
    """Describe an entry of an `AvatarStore`."""
    m = entry.metadata
    return AvatarRecord(
        entry.avatar_id, int(m.get('created_ns', entry.modified_ns)), entry.size, store.sha256(entry.avatar_id),
        str(m.get('head_model', '')), str(m.get('head_model_version', '')), str(m.get('quality', '')),
        str(m.get('consent', '')), int(m.get('splats', 0)), _number(m.get('photo_psnr')))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else NO_PSNR


def stored_records(store) -> list[AvatarRecord]:
    """Describe all avatars of an `AvatarStore` that can be read, sorted by id."""
    from sega_ros.errors import AvatarDamagedError, AvatarNotFoundError

    records = []
    for entry in store.list():
        try:
            records.append(stored_record(store, entry))
        except (AvatarNotFoundError, AvatarDamagedError):  # deleted or overwritten while the list was made
            continue
    return records


class SegaBuilder:
    """`Builder` on a directory of avatars."""

    def __init__(self, directory: str, head: str, limit: StoreLimit | None = None, *, nice: int = 0, threads: int = 0) -> None:
        """Check the head model (built at the first use) and open `directory` ('' is the user's default).

        Creations run at a `nice` level with so many `threads`; 0 are those that leave one core to others.
        """
        from sega_ros.avatar.store import AvatarStore
        from sega_ros.tracking.embedding import landmark_embedding

        self.store = AvatarStore(Path(directory) if directory else None, limit)
        landmark_embedding(_head(head))
        self.store.sweep()
        self._head, self._workshop = head, Workshop(nice=nice, threads=threads)

    def open(self) -> None:
        """Start a process for the next creation."""
        self._workshop.open()

    def close(self) -> None:
        """End the process that waits for the next creation."""
        self._workshop.close()

    def check_free(self, avatar_id: str, *, replace: bool) -> None:
        """Raise unless `avatar_id` may be stored."""
        self.store.check_free(avatar_id, replace=replace)

    def create(self, image: np.ndarray, avatar_id: str, *, quality: str, consent: str, replace: bool, bust: bool, lighting: str,
               distilled: bool, progress: Progress, cancelled: Callable[[], bool]) -> tuple[AvatarRecord, Sequence[str]]:
        """Create and store an avatar; see `avatar.create_avatar` and `AvatarStore.save` for the errors."""
        options = {'quality': quality, 'consent': consent, 'bust': bust, 'lighting': lighting, 'distilled': distilled}
        made = self._workshop.make(Order(self._head, image, options), progress=progress, cancelled=cancelled)
        entry = self.store.put(avatar_id, made.data, replace=replace)
        return stored_record(self.store, entry), made.warnings

    def list(self) -> Sequence[AvatarRecord]:
        """Return the stored avatars, sorted by id."""
        return stored_records(self.store)

    def damaged(self) -> Sequence[str]:
        """Return a sentence about each file that can't be read."""
        return [f'{entry.avatar_id}: {entry.reason}' for entry in self.store.damaged()]

    def delete(self, avatar_id: str) -> None:
        """Remove an avatar."""
        self.store.delete(avatar_id)

    def read_bytes(self, avatar_id: str, offset: int, length: int):
        """Return a part of the file."""
        return self.store.read_bytes(avatar_id, offset, length)

    def read_photo(self, path: str) -> np.ndarray:
        """Read a picture file. Its path is not named in errors, which are logged: people's names stand in paths."""
        from sega_ros.io import read_image

        return read_image(path, name='the file of parameter photo')

    def store_id(self) -> str:
        """Return by which robots know this store again; '' when it can't keep an id."""
        from sega_ros.avatar.copies import store_id
        from sega_ros.errors import StorageError

        try:
            return store_id(self.store)
        except StorageError:  # a directory that can only be read
            return ''


class SegaPuppet:
    """`Puppet` of a stored avatar."""

    def __init__(self, record: AvatarRecord, avatar, head, device: str, *, render: bool = True) -> None:
        """Prepare `avatar` for rendering and render one neutral frame, so that the first real one is not late.

        Without `render` it is there for the tracker's sake only.
        """
        from sega_ros.avatar.avatar import check_head
        from sega_ros.avatar.device_drive import open_driver
        from sega_ros.avatar.idle import neutral_expression

        check_head(avatar, head)
        self.record, self.n_expression, self.avatar = record, head.n_expression, avatar
        self.splats = 0
        if not render:
            return
        self._driver = open_driver(avatar, head, device=device)
        self.splats = self._driver.detail
        self.draw(self.bind(neutral_expression(head.n_expression, head.name, head.version), ViewRequest('frontal', (512, 512))))

    def bind(self, expression: FlameExpression, view: ViewRequest):
        """Prepare one frame (`avatar.drive.Bound`)."""
        self._driver.detail = view.detail or self.splats
        return self._driver.bind(expression, _view(view))

    def draw(self, bound) -> np.ndarray:
        """Draw it, uint8 RGB [H, W, 3]."""
        return self._driver.draw(bound)


def _view(view: ViewRequest):
    from sega_ros.avatar.drive import View

    options: dict[str, Any] = {'distance': view.distance} if view.distance else {}
    if view.background:
        digits = view.background.removeprefix('#')
        options['background'] = tuple(int(digits[k:k + 2], 16) / 255 for k in (0, 2, 4))
    return View(kind=view.kind, size=view.size, yaw=view.yaw, pitch=view.pitch, **options)


def _device(wanted: str) -> str:
    """Return 'cuda' or 'cpu'; 'auto' takes the GPU where there is one."""
    if wanted != 'auto':
        return wanted
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


class SegaTracker:
    """`Tracker` that decides at the first frame of an avatar whose face shape to assume (see `driver_identity`)."""

    def __init__(self, head, embedding, choice: str, loaded: Callable[[], SegaPuppet | None],
                 load_kernels: Callable[[], None]) -> None:
        self._head, self._embedding, self._choice, self._loaded = head, embedding, choice, loaded
        self._load_kernels = load_kernels
        self._decided_for: SegaPuppet | None = None
        self._given = False  # the tracker holds an avatar's shape, not one it fitted
        self._decision: Future | None = None  # under way in the background, as it takes a second or two
        from sega_ros.tracking.tracker import FaceTracker, TrackerConfig

        config = TrackerConfig(learn_in_background=True, identity_frames=2)
        self._tracker = FaceTracker(head, embedding, config=config)

    @property
    def calibration(self):
        """What `calibrate` found; None: none."""
        return self._tracker.calibration

    @calibration.setter
    def calibration(self, value) -> None:
        self._tracker.calibration = value

    def calibrate(self, neutral: Sequence[FlameExpression] | None) -> object:
        """Take these tracked expressions as neutral from now on; None: no calibration."""
        return self._tracker.calibrate(neutral)

    @property
    def smoothing(self) -> float:
        """Strength of the smoothing, 1 as a rule."""
        return self._tracker.smoothing

    @smoothing.setter
    def smoothing(self, value: float) -> None:
        self._tracker.smoothing = value

    def close(self) -> None:
        """Release the networks and their threads."""
        self._tracker.close()

    def reset(self) -> None:
        """Forget the person and the last frame."""
        self._decided_for, self._decision = None, None
        self._tracker.reset()

    def observe(self, expression: FlameExpression, size: tuple[int, int]) -> FaceObservation:
        """Return points and action units of a tracked expression; `size` (H, W) is its picture's."""
        return FaceObservation(self._tracker.points(expression, size), action_units(expression, self._head.expression_names))

    def track(self, image: np.ndarray, stamp_ns: int, frame_id: str = '') -> FlameExpression:
        """Track one image, uint8 RGB [H, W, 3]."""
        from sega_ros.avatar.drive import driver_identity
        from sega_ros.tracking.tracker import background_pool

        self._load_kernels()
        puppet = self._loaded()
        if self._choice == 'avatar' and puppet is not None and puppet is not self._decided_for:  # nothing to find out
            self._decided_for = puppet
            self._switch(puppet.avatar.identity)
        if self._decision is not None and self._decision.done():
            decision, self._decision = self._decision, None
            self._switch(decision.result())
        expression = self._tracker.track(image, stamp_ns, frame_id)
        ready = self._decision is None and expression.face_present and (self._tracker.learnt or self._given)
        if puppet is not None and puppet is not self._decided_for and ready:
            self._decided_for = puppet
            self._decision = background_pool().submit(
                driver_identity, puppet.avatar, self._head, self._embedding, np.array(image), choice=self._choice,
                fitted=None if self._given else self._tracker.identity)
        return expression

    def _switch(self, identity) -> None:
        """Go on with an avatar's shape, or with one fitted to the driver (None)."""
        if identity is None and not self._given:
            return
        self._tracker.assume(identity)
        self._given = identity is not None


class SegaDriver:
    """`Driver` on a directory of avatars."""

    def __init__(self, directory: str, head: str, device: str, driver_identity: str, *, render: bool = True,
                 limit: StoreLimit | None = None) -> None:
        """Load the head model (built at the first use) and open `directory` ('' is the user's default)."""
        import torch

        from sega_ros.avatar.copies import Copies
        from sega_ros.avatar.first_start import KernelLoader
        from sega_ros.avatar.store import AvatarStore

        self._kernels = KernelLoader()
        torch.set_num_threads(1)  # tracker and renderer share the cores; the networks are too small for more
        self.store = AvatarStore(Path(directory) if directory else None, limit)
        self._copies = Copies(self.store)
        self.store.sweep()
        self.head, self.device, self._identity = _head(head), _device(device), driver_identity
        self._render = render
        self._loaded: SegaPuppet | None = None
        self.head_model, self.head_model_version = self.head.name, self.head.version

    def list(self) -> Sequence[AvatarRecord]:
        """Return the stored avatars."""
        return stored_records(self.store)

    def load(self, avatar_id: str) -> SegaPuppet:
        """Load an avatar; see `AvatarStore.load` for the errors."""
        avatar = self.store.load(avatar_id)
        record = stored_record(self.store, self.store.info(avatar_id))
        self._loaded = SegaPuppet(record, avatar, self.head, self.device, render=self._render)
        self._kernels.load()
        release_freed_memory()
        return self._loaded

    def make_tracker(self) -> Tracker:
        """Return a new tracker that knows the person of the avatar loaded last."""
        from sega_ros.tracking.embedding import landmark_embedding

        return SegaTracker(self.head, landmark_embedding(self.head), self._identity, lambda: self._loaded,
                           self._kernels.load)

    def stored_sha256(self, avatar_id: str) -> str:
        """Return the checksum of a stored avatar's file; '' when there is none that can be read."""
        from sega_ros.errors import AvatarDamagedError, AvatarNotFoundError

        try:
            return self.store.sha256(avatar_id)
        except (AvatarNotFoundError, AvatarDamagedError):
            return ''

    def receive(self, avatar_id: str, *, size: int, sha256: str):
        """Return what takes the parts of a file from another machine; see `IncomingAvatar` for the errors."""
        from sega_ros.avatar.receive import IncomingAvatar

        return IncomingAvatar(self.store, avatar_id, size=size, sha256=sha256)

    def copies(self) -> Sequence[Origin]:
        """Return where the stored avatars came from that were not made here."""
        return self._copies.list()

    def remove_copy(self, origin: Origin) -> bool:
        """Delete a fetched avatar, and forget it where it is the one loaded last; return whether it was still there."""
        if self._loaded is not None and self._loaded.record.avatar_id == origin.avatar_id:
            self._loaded = None
        return self._copies.remove(origin)

    def drop_parts(self, listed: Collection[str]) -> None:
        """Remove parts of avatars that are not `listed` (ids) any more."""
        self._copies.drop_parts(listed)
