"""Avatar records as messages."""

from collections.abc import Sequence

from builtin_interfaces.msg import Time

from sega_ros.msg import AvatarInfo, AvatarList
from sega_ros.nodes.answers import shorten
from sega_ros.nodes.convert import ns_to_stamp, stamp_to_ns
from sega_ros.nodes.core import AvatarRecord

MAX_AVATARS = 1024


def record_to_message(record: AvatarRecord) -> AvatarInfo:
    """Return the message of one avatar; texts are cut to the message's bounds."""
    return AvatarInfo(
        id=record.avatar_id, created=ns_to_stamp(record.created_ns), head_model=shorten(record.head_model, 32),
        head_model_version=shorten(record.head_model_version, 16), quality=shorten(record.quality, 16),
        consent=shorten(record.consent, 256), size_bytes=record.size, sha256=record.sha256, splats=record.splats,
        photo_psnr=float(record.photo_psnr))


def records_to_message(records: Sequence[AvatarRecord], stamp: Time) -> AvatarList:
    """Return the list message; beyond its bound the newest avatars are kept."""
    newest = sorted(records, key=lambda r: r.created_ns)[-MAX_AVATARS:]
    return AvatarList(stamp=stamp, avatars=[record_to_message(r) for r in sorted(newest, key=lambda r: r.avatar_id)])


def choose(avatars: Sequence[AvatarInfo], wanted: str) -> AvatarInfo | None:
    """Return the avatar called `wanted` ('' is the newest), or None."""
    if wanted:
        return next((a for a in avatars if a.id == wanted), None)
    return max(avatars, key=lambda a: (stamp_to_ns(a.created), a.id), default=None)
