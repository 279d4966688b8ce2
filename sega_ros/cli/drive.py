"""`sega drive`: the face in a clip or before a camera drives an avatar."""

from sega_ros.cli.arguments import add_avatar, add_head, add_view, color, new_command, seconds, size

_DESCRIPTION = """\
Let the face in a clip, or in front of a camera, drive an avatar. The output has the input's frame count and rate;
with --view input also its size, so that frame t lies over frame t. Sound is not copied.

views:
  frontal  steady, for a head display        follow  turns with the driver's head, damped
  input    the tracked camera itself         free    --yaw, --pitch, --distance

whose face shape the tracking assumes (--driver-identity):
  avatar   the driver is the avatar's own person: most exact for them
  fit      somebody else: fitted to the first frames
  auto     avatar where that fits the first frame, else fit

examples:
  sega drive me --video clip.mp4 --out out.mp4 --view input
  sega drive me --camera 0 --seconds 20 --out live.mp4
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'drive an avatar with a clip or a camera'
    parser = new_command(commands, 'drive', run, summary=summary, description=_DESCRIPTION)
    add_avatar(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--video', metavar='IN', help='clip with one face')
    source.add_argument('--camera', type=int, metavar='N', help='camera number, usually 0')
    parser.add_argument('--out', required=True, metavar='OUT.mp4', help='where the clip is written')
    parser.add_argument('--view', choices=('frontal', 'follow', 'input', 'free'), default='frontal',
                        help='where the avatar is seen from (default: frontal)')
    parser.add_argument('--size', type=size, default=(512, 512), metavar='PX|WxH', help='of the output (default: 512)')
    add_view(parser, distance_help='from the camera to the head (default: the view\'s own)')
    parser.add_argument('--background', type=color, metavar='COLOR', help='name or #rrggbb (default: the avatar\'s)')
    parser.add_argument('--driver-identity', choices=('auto', 'avatar', 'fit'), default='auto',
                        help='whose face shape the tracking assumes (default: auto)')
    parser.add_argument('--seconds', type=seconds, default=10.0, metavar='S',
                        help='how long a camera is recorded (default: 10)')
    add_head(parser)


def run(args, output) -> dict:
    """Drive the avatar through the whole input."""
    from pathlib import Path

    from sega_ros.avatar.store import AvatarStore
    from sega_ros.errors import RequestError
    from sega_ros.io.video import VideoReader, VideoWriter

    if args.video is not None and Path(args.out).resolve() == Path(args.video).resolve():
        raise RequestError(f'--out {args.out} is the clip that drives: choose another name, it would be lost')
    avatar = AvatarStore(args.dir).load(args.avatar)
    with VideoReader(args.video if args.video is not None else args.camera) as reader:
        from sega_ros.cli.driving import Session

        session = Session(args, avatar, reader, output)
        with session, VideoWriter(args.out, size=session.view.size, fps=reader.fps) as writer:
            frames = session.frames(reader)
            for image, copies in output.track(frames, 'driving', total=session.frame_count(reader)):
                rendered = session.step(image)
                for _ in range(copies):
                    writer.write(rendered)
        result = session.report()
    if result['frames_without_face']:
        output.warn(f'no face in {result["frames_without_face"]} of {result["frames"]} frames: the avatar rests there')
    (height, width), rate = writer.size, float(writer.fps)
    return {
        'avatar': args.avatar, 'out': args.out, 'view': args.view, **result,
        'frames': writer.frame_count, 'fps': rate, 'width': width, 'height': height,
        'text': f'{args.out}: {writer.frame_count} frames of {width}x{height} at {rate:g} Hz, '
                f'{result["ms_per_frame_p50"]:.1f} ms a frame',
    }
