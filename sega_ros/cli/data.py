"""`sega data`: what models are trained on."""

from sega_ros.cli.arguments import HELP, new_command

_DESCRIPTION = """\
The people that models are trained on. Synthetic ones are made on the fly and need no licence.

examples:
  sega data sample --out sheet.png                 look at two dozen of them before training
  sega data sample --out sheet.png --seed 100 --people 8
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'look at the data that models are trained on'
    parser = commands.add_parser('data', help=summary, description=_DESCRIPTION, formatter_class=HELP)
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)
    _add_sample(actions)


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
