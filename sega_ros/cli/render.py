"""`sega render`: an avatar at rest from a free viewpoint, as a picture or a turntable."""

from pathlib import Path

from sega_ros.cli.arguments import add_avatar, add_head, add_view, color, degrees, new_command, rate, seconds, size

_DESCRIPTION = """\
Look at an avatar from anywhere. A PNG shows one viewpoint; an MP4 swings around it: --swing degrees to either side,
or once all around with --swing 180.

examples:
  sega render me --yaw 30 --pitch 10 --out side.png
  sega render me --swing 40 --seconds 6 --size 720 --out turn.mp4
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    parser = new_command(commands, 'render', run, summary='look at an avatar from anywhere', description=_DESCRIPTION)
    add_avatar(parser)
    parser.add_argument('--out', required=True, metavar='PNG|MP4', help='picture, or clip of a turntable')
    add_view(parser, distance_help='from the camera to the head (default: as fills the picture)')
    parser.add_argument('--size', type=size, default=(512, 512), metavar='PX|WxH', help='of the output (default: 512)')
    parser.add_argument('--background', type=color, metavar='COLOR', help='name or #rrggbb (default: the avatar\'s)')
    parser.add_argument('--swing', type=degrees, default=degrees('40'), metavar='DEG',
                        help='turntable: to either side (default: 40)')
    parser.add_argument('--seconds', type=seconds, default=4.0, metavar='S', help='turntable: length (default: 4)')
    parser.add_argument('--fps', type=rate, default=30.0, metavar='HZ', help='turntable: frame rate (default: 30)')
    add_head(parser)


def run(args, output) -> dict:
    """Render the picture or the turntable."""
    from sega_ros.avatar.store import AvatarStore
    from sega_ros.cli.loading import load_head
    from sega_ros.errors import RequestError
    from sega_ros.io import VideoWriter, write_png

    kind = Path(args.out).suffix.lower()
    if kind not in ('.png', '.mp4', '.mkv', '.mov'):
        raise RequestError(f'{args.out}: wanted a name ending in .png (picture) or .mp4 (turntable)')
    avatar = AvatarStore(args.dir).load(args.avatar)

    from sega_ros.avatar.drive import AvatarDriver, View

    driver = AvatarDriver(avatar, load_head(args.head, output))
    if args.detail is not None:
        driver.detail = args.detail
    options = {'size': args.size, 'pitch': args.pitch}
    options |= {} if args.distance is None else {'distance': args.distance}
    options |= {} if args.background is None else {'background': args.background}

    def shot(yaw: float):
        return driver.render(driver.neutral(), View('free', yaw=yaw, **options))

    if kind == '.png':
        write_png(args.out, shot(args.yaw))
        frames = 1
    else:
        yaws = turntable(args.yaw, args.swing, round(args.seconds * args.fps))
        with VideoWriter(args.out, size=args.size, fps=args.fps) as writer:
            for yaw in output.track(yaws, 'rendering', total=len(yaws)):
                writer.write(shot(yaw))
        frames = len(yaws)
    height, width = args.size
    return {'avatar': args.avatar, 'out': args.out, 'frames': frames, 'width': width, 'height': height,
            'text': f'{args.out}: {frames} frame{"s" if frames > 1 else ""} of {width}x{height}'}


def turntable(yaw: float, swing: float, count: int) -> list[float]:
    """Angles (radians) of `count` frames around `yaw`: back and forth, or all around for a swing of pi; a loop."""
    import math

    turns = [2 * math.pi * k / count for k in range(count)]
    if abs(swing) >= math.pi - 1e-6:
        return [math.remainder(yaw + t, 2 * math.pi) for t in turns]
    return [yaw + swing * math.sin(t) for t in turns]
