"""`sega reenact`: a strip of frames of a clip, and of what avatars make of them."""

from sega_ros.cli.arguments import add_directory, add_head, new_command, whole_number

_DESCRIPTION = """\
Write a picture: on top some frames of a clip, below them one row per avatar that the clip's face drives. With --self the
first avatar is the driver's own: it is seen by the tracked camera, lies over the frames, and is scored (face PSNR, landmark
distance; the clip's first frame, its photo, is left out). The others are seen from the front and turn with the driver.

examples:
  sega reenact me --video clip.mp4 --self --out self.png
  sega reenact me you --video clip.mp4 --self --frames 6 --out both.png
  sega reenact you them --video clip.mp4 --view frontal --out cross.png
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'write a strip: driving frames above the avatars they drive'
    parser = new_command(commands, 'reenact', run, summary=summary, description=_DESCRIPTION)
    parser.add_argument('avatars', nargs='+', metavar='ID', help='avatars, one row each')
    parser.add_argument('--video', required=True, metavar='CLIP', help='clip with one face')
    parser.add_argument('--out', required=True, metavar='PNG', help='where the strip is written')
    parser.add_argument('--frames', type=whole_number(1, 64), default=8, metavar='N', help='how many are shown (default: 8)')
    parser.add_argument('--cell', type=whole_number(32, 1024), default=256, metavar='PX',
                        help='side of each picture (default: 256)')
    parser.add_argument('--self', action='store_true', dest='own', help='the driver is the first avatar\'s own person')
    parser.add_argument('--view', choices=('follow', 'frontal'), default='follow', help='of the others (default: follow)')
    add_directory(parser)
    add_head(parser)


def run(args, output) -> dict:
    """Write the strip."""
    from dataclasses import asdict

    from sega_ros.avatar.store import AvatarStore
    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.errors import RequestError
    from sega_ros.evaluation.reenact import StripConfig, make_strip
    from sega_ros.io import write_png

    if not args.out.lower().endswith('.png'):
        raise RequestError(f'{args.out}: wanted a file name ending in .png')
    store = AvatarStore(args.dir)
    avatars = [store.load(name) for name in args.avatars]
    head, embedding = load_head_and_embedding(args.head, output)
    with output.progress('reenacting') as progress:
        strip = make_strip(avatars, args.video, head, embedding, own=args.own, progress=progress,
                           config=StripConfig(args.frames, args.cell, other_view=args.view))
    write_png(args.out, strip.image)
    if len(strip.indices) < args.frames:
        output.warn(f'{args.video}: only {len(strip.indices)} frames show a face')
    height, width = strip.image.shape[:2]
    own = strip.own and asdict(strip.own)
    text = f'{args.out}: {len(strip.indices)} frames, {len(avatars)} avatar{"s" * (len(avatars) > 1)}'
    if own:
        text += f'; face PSNR {own["face_psnr"]:.2f} dB, AKD {own["akd"]:.2f} px, lost {own["lost"]}'
    return {'avatars': args.avatars, 'out': args.out, 'frames': list(strip.indices), 'width': width, 'height': height,
            'self': own, 'text': text}
