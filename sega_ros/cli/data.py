"""`sega data`: what models are trained on."""

from sega_ros.cli.arguments import HELP, add_head, new_command

_DESCRIPTION = """\
The people that models are trained on. Synthetic ones are made on the fly and need no licence.

examples:
  sega data sample --out sheet.png                 look at two dozen of them before training
  sega data sample --out sheet.png --seed 100 --people 8
  sega data prepare nersemble --format nersemble --out prepared    your licensed recordings, once
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'look at the data that models are trained on'
    parser = commands.add_parser('data', help=summary, description=_DESCRIPTION, formatter_class=HELP)
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)
    _add_sample(actions)
    _add_prepare(actions)


def _add_sample(actions) -> None:
    sample = new_command(actions, 'sample', run_sample, summary='write a contact sheet of synthetic people',
                         description='Write a contact sheet of synthetic people: each one\'s photo and two views with '
                                     'expressions, then the first one before all 16 cameras.')
    sample.add_argument('--out', default='people.png', metavar='PNG', help='where it is written (default: people.png)')
    sample.add_argument('--seed', type=int, default=0, help='of the first person; the others follow (default: 0)')
    sample.add_argument('--people', type=int, default=24, metavar='N', help='how many, 1 to 200 (default: 24)')


def run_sample(args, output) -> dict:
    """Write the contact sheet."""
    from sega_ros.errors import RequestError
    from sega_ros.head import load_head
    from sega_ros.io import write_png
    from sega_ros.synthetic.contact_sheet import capture_sheet

    if not args.out.lower().endswith('.png'):
        raise RequestError(f'{args.out}: wanted a file name ending in .png')
    if not 1 <= args.people <= 200:
        raise RequestError(f'--people: wanted 1 to 200, found {args.people}')
    if not 0 <= args.seed < 2**31:
        raise RequestError(f'--seed: wanted 0 to {2**31 - 1}, found {args.seed}')
    head = load_head('open', progress=lambda steps: output.track(steps, 'building the open head'))
    seeds = range(args.seed, args.seed + args.people)
    image = capture_sheet(head, output.track(seeds, 'drawing people'))
    write_png(args.out, image)
    height, width = image.shape[:2]
    return {'out': args.out, 'people': args.people, 'seed': args.seed, 'width': width, 'height': height,
            'text': f'{args.out}: {args.people} synthetic people, {width}x{height}'}


_LAYOUTS = """\
layouts:
  nersemble  ROOT/017/calibration/camera_params.json, ROOT/017/sequences/NAME/images/cam_SERIAL.mp4 (as nersemble-data downloads)
  multiview  ROOT/PERSON/cameras.json, ROOT/PERSON/images/FRAME/CAMERA.png, optional ROOT/PERSON/mattes/FRAME/CAMERA.png
             cameras.json: {"cameras": {"CAMERA": {"K": 3x3, "world_to_camera": 4x4, "width": W, "height": H}}},
             OpenCV axes, metres, pixels
"""


def _add_prepare(actions) -> None:
    prepare = new_command(actions, 'prepare', run_prepare, summary='prepare licensed multi-view recordings for training',
                          description='Track every person of a calibrated multi-view data set and write one file each, which '
                                      'training reads. People who are there already are left as they are.\n\n' + _LAYOUTS)
    prepare.add_argument('root', metavar='ROOT', help='the data set')
    prepare.add_argument('--format', required=True, choices=('nersemble', 'multiview'), help='its layout')
    prepare.add_argument('--out', required=True, metavar='DIR', help='where the files are written')
    prepare.add_argument('--size', type=int, default=256, metavar='PX', help='side of the pictures; the photo is twice as '
                                                                             'large (default: 256)')
    prepare.add_argument('--frames', type=int, default=12, metavar='N', help='moments of each person, all cameras (default: 12)')
    prepare.add_argument('--prefix', default='', help='before each name, so that data sets can share a folder')
    add_head(prepare)


def run_prepare(args, output) -> dict:
    """Prepare a data set."""
    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.errors import RequestError
    from sega_ros.training.data.prepare import open_source, prepare
    from sega_ros.training.data.track import TrackConfig

    if not 32 <= args.size <= 1024:
        raise RequestError(f'--size: wanted 32 to 1024, found {args.size}')
    if not 1 <= args.frames <= 200:
        raise RequestError(f'--frames: wanted 1 to 200, found {args.frames}')
    source = open_source(args.root, args.format)
    head, embedding = load_head_and_embedding(args.head, output)
    with output.progress('preparing people') as progress:
        report = prepare(source, args.out, head, embedding, frames=args.frames, prefix=args.prefix, progress=progress,
                         config=TrackConfig(size=args.size, photo_size=2 * args.size))
    for name, reason in report.failed.items():
        output.warn(f'{name}: {reason}')
    return {'out': args.out, 'written': {name: vars(track) for name, track in report.written.items()},
            'present': report.present, 'failed': report.failed, 'text': f'{args.out}: {report.text()}'}
