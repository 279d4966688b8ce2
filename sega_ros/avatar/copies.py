"""Copies of avatars that another machine has: where they came from is kept beside them, so that they can go with the original."""

import json
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sega_ros.avatar.store import ORIGIN_SUFFIX, SUFFIX, AvatarStore, check_avatar_id
from sega_ros.errors import AvatarExistsError, AvatarNotFoundError, SegaError, StorageError
from sega_ros.io.files import TEMPORARY_PREFIX, atomic_write, read_file

_STORE_ID_FILE = '.store-id'
_STORE_ID = re.compile(r'[0-9a-f]{32}')
_PARTIAL = re.compile(re.escape(TEMPORARY_PREFIX) + r'([A-Za-z0-9_-]{1,64})' + re.escape(SUFFIX) + r'-[0-9a-f]{16}')
_MAX_ORIGIN = 4096  # bytes


@dataclass(frozen=True)
class Origin:
    """Where a fetched avatar came from. Consent, provenance and the synthetic mark are in the avatar's file itself."""

    avatar_id: str
    sha256: str  # of the file that came: another one under that id was made here
    store: str  # id of the store it is a copy of; '' is unknown
    service: str  # full name of the service that gave it
    fetched_ns: int  # UTC, since 1970
    replaces: str = ''  # SHA-256 of the copy that was there before: a crash between note and file leaves it


def is_store_id(text: str) -> bool:
    """Whether it may be what `store_id` returns."""
    return bool(_STORE_ID.fullmatch(text))


def store_id(store: AvatarStore) -> str:
    """Return the id of a store, 32 hexadecimal digits; it is drawn at random once and stays with the directory.

    Raises:
        StorageError: it can't be read or written.
    """
    path = store.directory / _STORE_ID_FILE
    with suppress(AvatarExistsError):
        if not path.exists():
            atomic_write(path, secrets.token_hex(16).encode(), replace=False, mode=0o600)
    try:
        found = read_file(path, limit=64).decode('ascii', 'replace').strip()
    except FileNotFoundError as error:
        raise StorageError(f'{path} is gone: somebody removed it; try again') from error
    if not is_store_id(found):
        raise StorageError(f'{path}: wanted 32 hexadecimal digits, found {found!r}; remove it')
    return found


class Copies:
    """The fetched avatars of a store."""

    def __init__(self, store: AvatarStore) -> None:
        self._store = store

    def note(self, origin: Origin) -> None:
        """Keep where the avatar that is about to be stored came from; raises as `AvatarStore.save`."""
        earlier = self._read(origin.avatar_id)
        if earlier is not None and self._is_here(earlier):
            origin = replace(origin, replaces=self._store.sha256(origin.avatar_id))
        atomic_write(self._path(origin.avatar_id), json.dumps(asdict(origin), sort_keys=True).encode(), mode=0o600)

    def list(self) -> Sequence[Origin]:
        """Return the origins of stored copies; an avatar that was made here, or replaced here since, is none."""
        found = []
        for path in sorted(self._store.directory.glob(f'*{ORIGIN_SUFFIX}')):
            origin = self._read(path.name.removesuffix(ORIGIN_SUFFIX))
            if origin is not None and self._is_here(origin):
                found.append(origin)
        return found

    def remove(self, origin: Origin) -> bool:
        """Delete a copy with all that belongs to it; return whether it was there and still that copy.

        Raises:
            StorageError: it can't be removed.
        """
        if not self._is_here(origin):
            return False
        with suppress(AvatarNotFoundError):
            self._store.delete(origin.avatar_id)
        return True

    def drop_parts(self, listed: Collection[str]) -> None:
        """Remove what arrived of avatars that are not `listed` any more (ids)."""
        for path in self._store.directory.glob(f'{TEMPORARY_PREFIX}*'):
            part = _PARTIAL.fullmatch(path.name)
            if part and part[1] not in listed:
                with suppress(OSError):
                    path.unlink()

    def _is_here(self, origin: Origin) -> bool:
        try:
            return self._store.sha256(origin.avatar_id) in (origin.sha256, origin.replaces)
        except SegaError:
            return False

    def _read(self, avatar_id: str) -> Origin | None:
        """What is noted for one avatar; None where nothing sensible is."""
        try:
            values = json.loads(read_file(self._path(avatar_id), limit=_MAX_ORIGIN))
            values.setdefault('replaces', '')  # a note of an earlier version
            origin = Origin(**{f.name: f.type(values[f.name]) for f in fields(Origin)})
        except (SegaError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return origin if origin.avatar_id == avatar_id and (origin.store == '' or is_store_id(origin.store)) else None

    def _path(self, avatar_id: str) -> Path:
        return self._store.directory / f'{check_avatar_id(avatar_id)}{ORIGIN_SUFFIX}'
