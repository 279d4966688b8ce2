"""Reading and writing whole files: bounded, never through a symbolic link, atomic."""

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sega_ros.errors import AvatarExistsError, StorageError

# Temporary files start with this, so that whoever lists a directory can tell them from finished ones.
TEMPORARY_PREFIX = '.tmp-'
_TEMPORARY = re.compile(r'\.tmp-.*-\d+-[0-9a-f]{8}')


def atomic_write(path: Path | str, data: bytes, *, replace: bool = True, mode: int | None = None) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old file or the new one, whole.

    The bytes go to a temporary file in the same directory, are flushed to the disk and take their name in one step.
    `mode` are the permission bits (default: the process's).

    Raises:
        AvatarExistsError: `path` exists and `replace` is false; checked in the same step that gives the name.
        StorageError: the directory can't be written (disk full, read-only); the old file, if any, is untouched.
    """
    path = Path(path)
    temporary = path.parent / f'{TEMPORARY_PREFIX}{path.name[:64]}-{os.getpid()}-{secrets.token_hex(4)}'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _written(temporary, data, 0o666 if mode is None else mode):
            if replace:
                temporary.replace(path)
            else:
                _link_new(temporary, path)
        _sync_directory(path.parent)
    except FileExistsError as e:
        raise AvatarExistsError(f'{path} exists already; choose another name or ask to replace it') from e
    except OSError as e:
        raise StorageError(f'cannot write {path} ({len(data)} bytes): {reason_of(e)}') from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_file(path: Path | str, *, limit: int, follow: bool = False) -> bytes:
    """Return the bytes of a regular file; a symbolic link is refused unless `follow`.

    Neither a pipe nor a device is read: the one waits, the other may never end.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it is a link, no regular file, longer than `limit` bytes, or unreadable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | (0 if follow else os.O_NOFOLLOW) | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except ValueError as e:  # a name with a zero byte
        raise StorageError(f'cannot read {str(path)!r}: no file has such a name') from e
    except OSError as e:
        found = 'it is a symbolic link; put the file itself there' if e.errno == errno.ELOOP else reason_of(e)
        raise StorageError(f'cannot read {path}: {found}') from e
    try:
        _check_regular(path, os.fstat(descriptor), limit)
    except StorageError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, 'rb') as file:
        try:
            return file.read(limit + 1)
        except OSError as e:
            raise StorageError(f'cannot read {path}: {reason_of(e)}') from e


def _check_regular(path: Path | str, status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = 'a directory' if stat.S_ISDIR(status.st_mode) else 'not a regular file'
        raise StorageError(f'cannot read {path}: it is {kind}')
    if status.st_size > limit:
        raise StorageError(f'cannot read {path}: it has {status.st_size} bytes, at most {limit} are accepted')


def is_abandoned(path: Path) -> bool:
    """Whether `path` is a temporary file of `atomic_write` whose writer has died: nobody holds its lock."""
    if not _TEMPORARY.fullmatch(path.name):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks, where nobody can tell
        return False
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _written(path: Path, data: bytes, mode: int) -> Iterator[None]:
    """Write a new file and flush it to the disk; it is locked until the end, as a sign that its writer lives."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, 'wb') as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
        yield


def _link_new(temporary: Path, path: Path) -> None:
    """Name the file `path` unless something has that name: a hard link fails then, a rename would not."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # FAT and some network file systems have no hard links: reserve the name, then replace the reservation.
        with path.open('xb'):
            pass
        temporary.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems can't; the file itself is safe
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Return what went wrong and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 'the disk is full; free some space and try again'
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f'{os.strerror(error.errno).lower()}; choose a directory you may write to'
    return (error.strerror or str(error)).lower()
