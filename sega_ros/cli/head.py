"""`sega head`: build, show and convert head models."""

from sega_ros.cli.arguments import HELP, add_head, new_command

_DESCRIPTION = """\
The head model that every avatar is bound to. The open head ships ready to build and needs no licence;
your own FLAME file works as well, once converted.

examples:
  sega head build                                    build the open head (it is cached; others do it when needed)
  sega head show --out head.png                      look at it: people, expression units, regions, landmarks
  sega head convert flame2023.pkl --out flame.npz    your FLAME file; nothing in the pickle is executed
  sega create me.jpg --name me --head flame.npz
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'build, show or convert head models'
    parser = commands.add_parser('head', help=summary, description=_DESCRIPTION, formatter_class=HELP)
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)
    build = new_command(actions, 'build', run_build, summary='build the open head into the cache',
                        description='Build the open head into the cache, or say that it is there.')
    build.add_argument('--force', action='store_true', help='build it even if it is cached')
    build.add_argument('--flame', metavar='DIR', help='also write it in FLAME\'s own format, as smplx.FLAME reads it')
    show = new_command(actions, 'show', run_show, summary='write a contact sheet of a head model',
                       description='Write a contact sheet: template, random people, every expression unit, '
                                   'the UV atlas with its regions, the landmarks.')
    show.add_argument('--out', default='head.png', metavar='PNG', help='where it is written (default: head.png)')
    show.add_argument('--seed', type=int, default=0, help='of the random people (default: 0)')
    add_head(show)
    convert = new_command(actions, 'convert', run_convert, summary='convert FLAME\'s official pickle',
                          description='Convert FLAME\'s official pickle to an .npz without code in it.')
    convert.add_argument('pickle', metavar='PKL', help='e.g. generic_model.pkl or flame2023.pkl')
    convert.add_argument('--out', required=True, metavar='NPZ', help='where it is written')
    convert.add_argument('--name', help='of the model, at most 32 characters (default: from the file\'s name)')
    convert.add_argument('--template', metavar='OBJ', help='your head_template.obj, for its texture coordinates')


def run_build(args, output) -> dict:
    """Build the open head."""
    from time import perf_counter

    from sega_ros.head import load_head, open_head_path

    path = open_head_path()
    if args.force:
        path.unlink(missing_ok=True)
    built, start = not path.exists(), perf_counter()
    head = load_head('open', progress=lambda steps: output.track(steps, 'building the open head'))
    result = {**describe(head), 'file': str(path), 'built': built, 'seconds': round(perf_counter() - start, 2)}
    result['text'] = f'{path}: {result["vertices"]} vertices, {"built" if built else "cached"} ({result["seconds"]} s)'
    if args.flame:
        from sega_ros.head.flame import export_flame

        result['flame'] = str(export_flame(head, args.flame))
        result['text'] += f'\n{result["flame"]}: the same in FLAME\'s format'
    return result


def run_show(args, output) -> dict:
    """Write the contact sheet."""
    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.errors import RequestError
    from sega_ros.head.contact_sheet import contact_sheet
    from sega_ros.io import write_png

    if not args.out.lower().endswith('.png'):
        raise RequestError(f'{args.out}: wanted a file name ending in .png')
    head, embedding = load_head_and_embedding(args.head, output)
    image = contact_sheet(head, embedding, seed=args.seed)
    write_png(args.out, image)
    height, width = image.shape[:2]
    return {**describe(head), 'out': args.out, 'width': width, 'height': height,
            'text': f'{args.out}: contact sheet of head {head.name}, {width}x{height}'}


def run_convert(args, output) -> dict:
    """Convert a FLAME pickle."""
    from sega_ros.head.flame import convert_flame

    output.say(f'sega: reading {args.pickle}')
    head = convert_flame(args.pickle, args.out, name=args.name, template_obj=args.template)
    return {**describe(head), 'out': args.out,
            'text': f'{args.out}: {head.name}, {len(head.v_template)} vertices; use it with --head {args.out}'}


def describe(head) -> dict:
    """Return what identifies a head model."""
    return {'head_model': head.name, 'head_model_version': head.version, 'fingerprint': head.fingerprint,
            'vertices': len(head.v_template), 'faces': len(head.faces), 'shape_coefficients': head.n_shape,
            'expression_coefficients': head.n_expression}
