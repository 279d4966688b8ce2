"""What a listing of avatars shows of a file's metadata, checked: a list must not fail because of one file."""

from sega_ros.errors import AvatarDamagedError

_TEXTS = {'head_model': 32, 'head_model_version': 32, 'quality': 32, 'consent': 1024}  # characters
_NUMBERS = {'created_ns': 2**31 * 10**9, 'splats': 2**32}  # 0 up to, not including: what messages hold
_LIKENESS = 1000.0  # dB, either way


def check_listing(metadata: dict) -> None:
    """Raise AvatarDamagedError unless what is stated of an avatar has the type and range that messages hold.

    What is not stated may be missing.
    """
    problems = [f'{k}: wanted a text of up to {n} characters' for k, n in _TEXTS.items() if not _is_text(metadata.get(k, ''), n)]
    problems += [f'{k}: wanted a whole number from 0 to {n - 1}' for k, n in _NUMBERS.items()
                 if not _is_count(metadata.get(k, 0), n)]
    if not _is_likeness(metadata.get('photo_psnr')):
        problems.append('photo_psnr: wanted a number of decibels')
    if problems:
        raise AvatarDamagedError(f'damaged avatar: {"; ".join(problems)}; create or copy it again')


def _is_text(value: object, limit: int) -> bool:
    """Whether it is a string that a message can hold: JSON also knows halves of characters, and zero bytes."""
    return (isinstance(value, str) and len(value) <= limit and '\0' not in value
            and not any('\ud800' <= c < '\ue000' for c in value))


def _is_count(value: object, limit: int) -> bool:
    return type(value) is int and 0 <= value < limit


def _is_likeness(value: object) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) < _LIKENESS)  # type: ignore[arg-type]
