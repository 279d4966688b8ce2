"""Arguments that several commands share, and how their text is read."""

import argparse
import math

HELP = argparse.RawDescriptionHelpFormatter


def new_command(commands, name: str, run, *, summary: str, description: str) -> argparse.ArgumentParser:
    """Add the sub-command `name`; `run(args, output)` returns its result with an entry `text` for people."""
    parser = commands.add_parser(name, help=summary, description=description, formatter_class=HELP)
    parser.set_defaults(run=run)
    parser.add_argument('--json', action='store_true', help='print exactly one JSON object on standard output')
    return parser


def add_avatar(parser: argparse.ArgumentParser) -> None:
    """Add the avatar's id and where it is stored."""
    parser.add_argument('avatar', metavar='ID', help='the avatar, as named by "sega create"')
    add_directory(parser)


def add_directory(parser: argparse.ArgumentParser) -> None:
    """Add the directory of the avatars."""
    parser.add_argument('--dir', metavar='DIR', help='directory of the avatars (default: $SEGA_AVATAR_DIR, else '
                                                     '~/.local/share/sega_ros/avatars)')


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add the choice of the head model."""
    parser.add_argument('--head', default='open', metavar='open|FILE',
                        help='head model: "open" (ships, no licence needed) or your FLAME file (.npz); default: open')


def add_view(parser: argparse.ArgumentParser, *, distance_help: str) -> None:
    """Add the angles and the distance of a free viewpoint."""
    parser.add_argument('--yaw', type=degrees, default=0.0, metavar='DEG',
                        help='camera towards the person\'s left, degrees (default: 0, frontal)')
    parser.add_argument('--pitch', type=degrees, default=0.0, metavar='DEG', help='camera up, degrees (default: 0)')
    parser.add_argument('--distance', type=metres, default=None, metavar='M', help=distance_help)
    parser.add_argument('--detail', type=splats, default=None, metavar='N',
                        help='draw about N splats of the avatar\'s (default: all)')


def degrees(text: str) -> float:
    """Read an angle in degrees, -180 to 180; returns radians."""
    return math.radians(_number(text, -180, 180, 'degrees'))


def metres(text: str) -> float:
    """Read a distance in metres."""
    return _number(text, 0.2, 10, 'metres')


def splats(text: str) -> int:
    """Read a number of splats."""
    return round(_number(text, 100, 1_000_000, 'splats'))


def rate(text: str) -> float:
    """Read a rate in frames per second."""
    return _number(text, 1, 240, 'frames per second')


def seconds(text: str) -> float:
    """Read a duration in seconds."""
    return _number(text, 0.1, 600, 'seconds')


def block(text: str) -> float:
    """Read the duration of a block of frames in seconds."""
    return _number(text, 0.001, 60, 'seconds')


def size(text: str) -> tuple[int, int]:
    """Read `512` or `WIDTHxHEIGHT` in pixels; returns (H, W)."""
    try:
        width, height = (int(part) for part in text.lower().split('x')) if 'x' in text.lower() else (int(text),) * 2
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: wanted pixels as 512 or WIDTHxHEIGHT') from None
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise argparse.ArgumentTypeError(f'{text!r}: wanted 16 to 4096 px a side')
    return height, width


def color(text: str) -> tuple[float, float, float]:
    """Read a colour as a name or `#rrggbb`; returns RGB in [0, 1]."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getcolor(text, 'RGB')
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r}: wanted a colour name such as "white", or #rrggbb') from None
    return red / 255, green / 255, blue / 255


def whole_number(low: int, high: int):
    """Return what reads a whole number from `low` to `high`."""
    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f'{text!r}: wanted a whole number from {low} to {high}')
        return int(text)

    return read


def _number(text: str, low: float, high: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f'{text!r}: wanted {low:g} to {high:g} {unit}')
    return value
