"""Avatars as files of one directory: found by id, saved atomically, listed, copied out in pieces, deleted whole."""

import hashlib
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sega_ros.avatar.listing import check_listing
from sega_ros.errors import (
    AvatarDamagedError,
    AvatarExistsError,
    AvatarIdError,
    AvatarNotFoundError,
    RequestError,
    SegaError,
    StorageError,
)
from sega_ros.io.files import TEMPORARY_PREFIX, atomic_write, is_abandoned, read_file, reason_of
from sega_ros.io.tensors import load_metadata, load_tensors, tensors_to_bytes

if TYPE_CHECKING:
    from sega_ros.avatar.avatar import Avatar

MAX_AVATAR_BYTES = 16_000_000
MAX_CHUNK = 256 * 1024  # bytes of one GetAvatar answer
SUFFIX = '.safetensors'
ORIGIN_SUFFIX = '.origin.json'  # beside a fetched avatar, see `copies`

_Entries: TypeAlias = 'list[StoredAvatar | DamagedAvatar]'  # here, as `list` is a method's name inside of the store
_ID = re.compile(r'[A-Za-z0-9_-]{1,64}')
_STALE = 3600.0  # s: no save takes that long, so its writer is dead
# A face is personal data: only its owner reads the files.
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700


@dataclass(frozen=True)
class StoredAvatar:
    """An avatar file as a listing shows it."""

    avatar_id: str
    size: int  # bytes
    modified_ns: int  # when it was stored, UTC, since 1970
    metadata: dict  # as saved with it: provenance, head model, quality, consent ...


@dataclass(frozen=True)
class DamagedAvatar:
    """A file that has an avatar's name and can't be one."""

    avatar_id: str
    reason: str


@dataclass(frozen=True)
class AvatarChunk:
    """A piece of an avatar file, and what tells the receiver that all pieces are of one file."""

    data: bytes
    offset: int
    total_size: int  # bytes
    sha256: str  # of the whole file, hexadecimal


def default_directory() -> Path:
    """Return `$SEGA_AVATAR_DIR`, else `sega_ros/avatars` in the user's XDG data directory."""
    if directory := os.environ.get('SEGA_AVATAR_DIR'):
        return Path(directory)
    data = os.environ.get('XDG_DATA_HOME') or Path.home() / '.local' / 'share'
    return Path(data) / 'sega_ros' / 'avatars'


def check_avatar_id(avatar_id: str) -> str:
    """Return `avatar_id` or raise AvatarIdError unless it is `[A-Za-z0-9_-]{1,64}`."""
    if not isinstance(avatar_id, str) or not _ID.fullmatch(avatar_id):
        raise AvatarIdError(f'avatar id {str(avatar_id)[:80]!r}: wanted 1 to 64 letters, digits, "_" or "-" (found '
                            f'{len(str(avatar_id))} characters); choose another')
    return avatar_id


@dataclass(frozen=True)
class StoreLimit:
    """What a directory of avatars may hold; None: any."""

    avatars: int | None = None
    size: int | None = None  # bytes of all files


def check_avatar_file(path: Path) -> None:
    """Raise AvatarDamagedError unless a file is an avatar, whole and as this version writes them."""
    from sega_ros.avatar.avatar import tensors_to_avatar

    tensors_to_avatar(*load_tensors(path, MAX_AVATAR_BYTES))


class AvatarStore:
    """The avatars of one directory, one file each. Symbolic links in it are not followed."""

    def __init__(self, directory: Path | str | None = None, limit: StoreLimit | None = None):
        """Use `directory` (default: `default_directory()`); it is made when the first avatar is saved."""
        self._limit = limit or StoreLimit()
        self.directory = Path(directory or default_directory()).expanduser().absolute()
        self._digests: dict[str, tuple[tuple, str]] = {}  # id -> file state, sha256

    def path(self, avatar_id: str) -> Path:
        """Return where `avatar_id` is or would be stored."""
        return self.directory / f'{check_avatar_id(avatar_id)}{SUFFIX}'

    def _origin(self, avatar_id: str) -> Path:
        return self.directory / f'{check_avatar_id(avatar_id)}{ORIGIN_SUFFIX}'

    def check_free(self, avatar_id: str, *, replace: bool = False) -> None:
        """Raise now what `save` would raise after long work: bad or taken id, a directory that is full or can't be written."""
        path = self.path(avatar_id)
        if path.is_symlink() or path.exists():
            if not replace:
                raise AvatarExistsError(self._taken(avatar_id))
            if path.is_dir():
                raise StorageError(f'{path}: is a directory; remove it')
        self._make_directory()
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise StorageError(f'{self.directory}: cannot be written; choose another directory')
        self.check_room(avatar_id)

    def check_room(self, avatar_id: str, size: int = 1) -> None:
        """Raise StorageError unless `size` more bytes (in place of an older file of that id) are within the store's limit."""
        sizes = []
        for path in self.directory.glob(f'*{SUFFIX}'):
            with suppress(OSError):  # deleted meanwhile
                sizes += [path.lstat().st_size] if path.stem != avatar_id else []
        count, total, limit = len(sizes) + 1, sum(sizes) + size, self._limit
        if (limit.avatars is not None and count > limit.avatars) or (limit.size is not None and total > limit.size):
            raise StorageError(
                f'{self.directory}: holds {len(sizes)} avatars of {sum(sizes)} bytes; with {avatar_id} it would be more than the '
                f'limit of {limit.avatars} avatars and {limit.size} bytes; delete some, or raise the limit')

    def save(self, avatar_id: str, avatar: 'Avatar', replace: bool = False) -> StoredAvatar:
        """Store `avatar` under `avatar_id`, atomically.

        Raises:
            AvatarIdError: not a valid id.
            AvatarExistsError: the id is taken and `replace` is false.
            StorageError: disk full, not writable, or the file would be too large; an old file survives.
        """
        from sega_ros.avatar.avatar import avatar_to_tensors

        self.path(avatar_id)  # a bad id is told before the work
        return self.put(avatar_id, tensors_to_bytes(*avatar_to_tensors(avatar)), replace=replace)

    def put(self, avatar_id: str, data: bytes, *, replace: bool = False) -> StoredAvatar:
        """Store `data`, the bytes of an avatar's file; raises as `save`."""
        path = self.path(avatar_id)
        if len(data) > MAX_AVATAR_BYTES:
            raise StorageError(f'avatar {avatar_id}: its file would have {len(data)} bytes, at most {MAX_AVATAR_BYTES} '
                               'are accepted; create it at a lower quality')
        self._make_directory()
        self.sweep()
        self.check_room(avatar_id, len(data))
        try:
            if replace:  # before the file: it must never pass for a copy of somebody's
                self._origin(avatar_id).unlink(missing_ok=True)
            atomic_write(path, data, replace=replace, mode=_FILE_MODE)
        except AvatarExistsError as e:
            raise AvatarExistsError(self._taken(avatar_id)) from e
        return self._entry(path)

    def take_in(self, avatar_id: str, data: bytes) -> StoredAvatar:
        """Store the bytes of a file that `check_avatar_file` found good; an older one is replaced. Raises as `save`."""
        self.check_room(avatar_id, len(data))
        atomic_write(self.path(avatar_id), data, mode=_FILE_MODE)
        return self._entry(self.path(avatar_id))

    def load(self, avatar_id: str) -> 'Avatar':
        """Return the avatar stored under `avatar_id`.

        Raises:
            AvatarIdError: not a valid id.
            AvatarNotFoundError: none is stored; the message names those that are.
            AvatarDamagedError: the file is truncated, changed, a link, or no avatar.
        """
        try:
            tensors, metadata = load_tensors(self.path(avatar_id), MAX_AVATAR_BYTES)
        except FileNotFoundError as e:
            raise self._missing(avatar_id) from e
        from sega_ros.avatar.avatar import tensors_to_avatar

        try:
            return tensors_to_avatar(tensors, metadata)
        except SegaError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise AvatarDamagedError(
                f'avatar {avatar_id}: a field is missing or of another kind ({e}); create it again') from e

    def list(self) -> Sequence[StoredAvatar]:
        """Return the stored avatars in the order of their ids; damaged files are left to `damaged`."""
        return [entry for entry in self._scan() if isinstance(entry, StoredAvatar)]

    def damaged(self) -> Sequence[DamagedAvatar]:
        """Return the files that have an avatar's name but can't be read as one."""
        return [entry for entry in self._scan() if isinstance(entry, DamagedAvatar)]

    def info(self, avatar_id: str) -> StoredAvatar:
        """Return the listing entry of one avatar; raises as `load`."""
        try:
            return self._entry(self.path(avatar_id))
        except FileNotFoundError as e:
            raise self._missing(avatar_id) from e

    def sha256(self, avatar_id: str) -> str:
        """Return the SHA-256 of the file, hexadecimal; raises as `load`."""
        return self._read(avatar_id)[1]

    def delete(self, avatar_id: str) -> None:
        """Remove everything stored under `avatar_id`: the file, and what interrupted saves of it left.

        Raises:
            AvatarNotFoundError: none is stored.
            StorageError: it can't be removed.
        """
        path = self.path(avatar_id)
        try:
            path.unlink()
        except FileNotFoundError as e:
            raise self._missing(avatar_id) from e
        except OSError as e:
            raise StorageError(f'cannot delete {path}: {reason_of(e)}') from e
        finally:
            self._digests.pop(avatar_id, None)
            with suppress(OSError):
                self._origin(avatar_id).unlink()
            for leftover in self.directory.glob(f'{TEMPORARY_PREFIX}{path.name}-*'):
                with suppress(OSError):
                    leftover.unlink()

    def read_bytes(self, avatar_id: str, offset: int, length: int) -> AvatarChunk:
        """Return `length` bytes (1 to 256 KiB; fewer at the end) of the file from `offset` on.

        Raises:
            RequestError: offset or length out of range.
            AvatarNotFoundError, AvatarDamagedError: as `load`.
        """
        if not 1 <= length <= MAX_CHUNK:
            raise RequestError(f'length: wanted 1 to {MAX_CHUNK} bytes, found {length}')
        data, digest = self._read(avatar_id)
        if not 0 <= offset <= len(data):
            raise RequestError(f'offset: wanted 0 to {len(data)} (the size of {avatar_id}), found {offset}')
        return AvatarChunk(data[offset : offset + length], offset, len(data), digest)

    def _read(self, avatar_id: str) -> tuple[bytes, str]:
        """Return the file's bytes and their SHA-256, which is kept for as long as the file stays the same."""
        path = self.path(avatar_id)
        try:
            before = _state(path)
            data = read_file(path, limit=MAX_AVATAR_BYTES)
            after = _state(path)
        except FileNotFoundError as e:
            raise self._missing(avatar_id) from e
        except StorageError as e:
            raise AvatarDamagedError(str(e)) from e
        known = self._digests.get(avatar_id)
        if known is None or known[0] != before or before != after:
            known = self._digests[avatar_id] = (before, hashlib.sha256(data).hexdigest())
        return data, known[1]

    def _scan(self) -> Sequence[StoredAvatar | DamagedAvatar]:
        entries: _Entries = []
        try:
            paths = sorted(self.directory.iterdir())
        except FileNotFoundError:
            return []
        except OSError as e:
            raise StorageError(f'cannot list {self.directory}: {reason_of(e)}') from e
        for path in paths:
            if path.suffix != SUFFIX or not _ID.fullmatch(path.stem):
                continue
            try:
                entries.append(self._entry(path))
            except FileNotFoundError:  # deleted meanwhile
                continue
            except AvatarDamagedError as e:
                entries.append(DamagedAvatar(path.stem, str(e)))
        return entries

    def _entry(self, path: Path) -> StoredAvatar:
        if path.is_symlink() or not path.is_file():
            if not path.is_symlink() and not path.exists():
                raise FileNotFoundError(path)
            raise AvatarDamagedError(f'{path}: not a regular file; put the file itself there')
        metadata, status = load_metadata(path, MAX_AVATAR_BYTES), path.stat()
        check_listing(metadata)
        return StoredAvatar(path.stem, status.st_size, status.st_mtime_ns, metadata)

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        except OSError as e:
            raise StorageError(f'cannot make {self.directory}: {reason_of(e)}') from e

    def sweep(self) -> None:
        """Remove what killed saves left behind; a part of a fetched file stays for a while, as it can be gone on with."""
        for leftover in self.directory.glob(f'{TEMPORARY_PREFIX}*'):
            with suppress(OSError):
                if is_abandoned(leftover) or time.time() - leftover.lstat().st_mtime > _STALE:
                    leftover.unlink()

    def _missing(self, avatar_id: str) -> AvatarNotFoundError:
        present = ', '.join(entry.avatar_id for entry in self.list()[:20]) or 'none'
        return AvatarNotFoundError(
            f'no avatar {avatar_id!r} in {self.directory}; stored there: {present}; create it from a photo first')

    def _taken(self, avatar_id: str) -> str:
        return f'avatar {avatar_id!r} exists already in {self.directory}; choose another id or ask to replace it'


def _state(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns, status.st_size
