"""An avatar file that comes in parts from another machine: what arrived outlives an interruption."""

import hashlib
import os
import re
from contextlib import suppress

from sega_ros.avatar.copies import Copies, Origin
from sega_ros.avatar.store import (
    MAX_AVATAR_BYTES,
    SUFFIX,
    AvatarStore,
    StoredAvatar,
    check_avatar_file,
    check_avatar_id,
)
from sega_ros.errors import AvatarDamagedError, RequestError, StorageError
from sega_ros.io.files import TEMPORARY_PREFIX, read_file, reason_of

_DIGEST = re.compile(r'[0-9a-f]{64}')


class IncomingAvatar:
    """The part of one file that has arrived. It is known by its checksum: another version starts anew."""

    def __init__(self, store: AvatarStore, avatar_id: str, *, size: int, sha256: str):
        """Go on with what an earlier attempt left in the store's directory.

        Raises:
            AvatarIdError: not a valid id.
            RequestError: a size or checksum that no avatar file has.
            StorageError: the directory can't be written.
        """
        check_avatar_id(avatar_id)
        if not 1 <= size <= MAX_AVATAR_BYTES:
            raise RequestError(f'avatar {avatar_id}: wanted a size of 1 to {MAX_AVATAR_BYTES} bytes, found {size}')
        if not _DIGEST.fullmatch(sha256):
            raise RequestError(f'avatar {avatar_id}: wanted a SHA-256 of 64 hexadecimal digits, found {sha256[:80]!r}')
        store.check_free(avatar_id, replace=True)
        store.check_room(avatar_id, size)
        self._store, self._id, self._sha256, self.size = store, avatar_id, sha256, size
        # An interrupted save has such a name, too: deleting the avatar removes it, and so does time.
        self._path = store.directory / f'{TEMPORARY_PREFIX}{avatar_id}{SUFFIX}-{sha256[:16]}'
        self.received = self._found()

    def _found(self) -> int:
        """Bytes that are there; what can't be a part of the file is removed."""
        try:
            status = self._path.lstat()
        except FileNotFoundError:
            return 0
        if self._path.is_symlink() or not self._path.is_file() or status.st_size > self.size:
            self.discard()
            return 0
        return status.st_size

    def add(self, data: bytes) -> None:
        """Append the next part.

        Raises:
            RequestError: nothing, or more than is missing.
            StorageError: it can't be written.
        """
        if not 1 <= len(data) <= self.size - self.received:
            raise RequestError(f'avatar {self._id}: wanted at most {self.size - self.received} more bytes, found {len(data)}')
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, 'ab') as file:
                file.write(data)
        except OSError as e:
            raise StorageError(f'cannot write {self._path}: {reason_of(e)}') from e
        self.received += len(data)

    def finish(self, origin: Origin | None = None) -> StoredAvatar:
        """Check the whole file and store it in place of an older version, which stays when this one is no good.

        `origin` is noted beside it; without, it counts as made here.

        Raises:
            AvatarDamagedError: the checksum is another, or it is no avatar; what arrived is discarded.
            StorageError: it can't be stored.
        """
        try:
            data = read_file(self._path, limit=MAX_AVATAR_BYTES)
            found = hashlib.sha256(data).hexdigest()
            if found != self._sha256:
                raise AvatarDamagedError(f'avatar {self._id}: what arrived has the SHA-256 {found[:12]}..., wanted '
                                         f'{self._sha256[:12]}...; fetch it again')
            check_avatar_file(self._path)
            if origin is not None:
                Copies(self._store).note(origin)
            return self._store.take_in(self._id, data)
        except FileNotFoundError as e:
            raise StorageError(f'{self._path} is gone: somebody removed it; fetch the avatar again') from e
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget what arrived."""
        self.received = 0
        with suppress(OSError):
            self._path.unlink()
