"""`sega benchmark`: a seeded set of scenes with exact truth, or a public set that the user has, evaluated as a whole."""

from pathlib import Path

from sega_ros.cli.arguments import add_head, new_command, rate, seconds, size, whole_number

_DESCRIPTION = """\
Evaluate on a set of recordings and write a table over all of them (summary.md, summary.json). Without --data the set is
made: eight scenes, one bag each, of synthetic people whom the shipped weights never saw, with the truth of every frame.

scenes: talking, blinking, large_pose, fast_motion, low_light, occlusion, leaving, two_people

DIR/set holds the scenes (bag/, truth.npz, contact.png: look at it), DIR/results a folder per sequence as "sega evaluate"
writes it. What is finished is not done again. Equal seeds give equal messages, byte for byte.

Recordings of people need their consent and the set's licence; docs/benchmark.md says how each is laid out and what others
report on it.

examples:
  sega benchmark --out out/benchmark
  sega benchmark --out out/quick --scenes talking,blinking --seconds 2
  sega benchmark --out out/vfhq --layout vfhq --data VFHQ-Test
  sega benchmark --layout nersemble --data mono_flame_avatar --head flame2023.npz --submission out/submission.zip
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'make or take a set of recordings, evaluate on all of them'
    parser = new_command(commands, 'benchmark', run, summary=summary, description=_DESCRIPTION)
    parser.add_argument('--out', metavar='DIR', help='folder of the set and the results')
    made = parser.add_argument_group('the set that is made')
    made.add_argument('--seed', type=whole_number(0, 9999), default=0, metavar='N', help='whom it shows (default: 0)')
    made.add_argument('--scenes', metavar='A,B', help='some of the scenes (default: all)')
    made.add_argument('--seconds', type=seconds, default=6.0, metavar='S', help='length of each scene (default: 6)')
    made.add_argument('--rate', type=rate, default=30.0, metavar='HZ', help='of the camera (default: 30)')
    made.add_argument('--size', type=size, default=(480, 640), metavar='WxH', help='of its pictures (default: 640x480)')
    made.add_argument('--encoding', choices=('jpeg', 'rgb8'), default='jpeg', help='of the pictures (default: jpeg)')
    made.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='of the bags (default: mcap)')
    made.add_argument('--compression', choices=('none', 'zstd'), default='none', help='of the bags (default: none)')
    made.add_argument('--jobs', type=whole_number(1, 64), metavar='N', help='processes that make scenes (default: one per core)')
    made.add_argument('--only-make', action='store_true', help='do not evaluate')
    given = parser.add_argument_group('a set that is there')
    given.add_argument('--layout', choices=('vfhq', 'hdtf', 'nersemble'), help='how --data is laid out')
    given.add_argument('--data', metavar='ROOT', help='its folder')
    given.add_argument('--list', metavar='FILE', help='names of the sequences to take, one a line (default: all)')
    given.add_argument('--submission', metavar='ZIP', help='write a submission to the NeRSemble benchmark (mono_flame_avatar)')
    parser.add_argument('--quality', choices=('preview', 'standard', 'high'), default='standard',
                        help='of the avatars (default: standard)')
    parser.add_argument('--score-every', type=whole_number(1, 10_000), default=5, metavar='N',
                        help='measure every Nth frame; all are driven (default: 5)')
    add_head(parser)


def run(args, output) -> dict:
    """Make or list the set, evaluate it, and tell the table."""
    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.errors import RequestError
    from sega_ros.evaluation.benchmark import run_set

    if bool(args.layout) != bool(args.data):
        raise RequestError('--layout and --data belong together: how the recordings are laid out, and where they are')
    if args.submission:
        return _submit(args, output)
    if not args.out:
        raise RequestError('--out is missing: the folder of the set and the results')
    out = Path(args.out)
    entries = _listed(args) if args.data else _made(args, output, out / 'set')
    if args.only_make and not args.data:
        return {'out': args.out, 'scenes': [e.name for e in entries], 'text': f'{out / "set"}: {len(entries)} scenes'}
    head, embedding = load_head_and_embedding(args.head, output)
    with output.progress('evaluating') as progress:
        table = run_set(entries, out / 'results', _evaluator(args, head, embedding), progress=progress)
    return {'out': args.out, **table.as_dict(), 'text': f'{table.text()}\n{out / "results" / "summary.md"}'}


def _made(args, output, folder: Path) -> list:
    """Make the scenes that are not there yet."""
    from sega_ros.evaluation.benchmark_set import SetConfig, check_scenes, make_set
    from sega_ros.synthetic.scenes import SCENES

    names = check_scenes([n.strip() for n in args.scenes.split(',')] if args.scenes else list(SCENES))
    config = SetConfig(seed=args.seed, seconds=args.seconds, rate=args.rate, height=args.size[0], width=args.size[1],
                       encoding=args.encoding, storage=args.storage, compression=args.compression)
    with output.progress('making the set') as progress:
        return make_set(folder, config, scenes=names, jobs=args.jobs, progress=progress)


def _listed(args) -> list:
    """List the sequences of the user's folder."""
    from sega_ros.errors import RequestError
    from sega_ros.evaluation.layouts import list_layout

    names = None
    if args.list:
        try:
            lines = Path(args.list).read_text(encoding='utf-8').splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise RequestError(f'{args.list}: cannot be read ({e}); wanted one name a line') from e
        names = [line.strip() for line in lines if line.strip()]
    return list_layout(args.layout, args.data, names=names)


def _evaluator(args, head, embedding):
    """The runner of `sega evaluate`, as `run_set` calls it; a finished sequence is not evaluated again."""
    from sega_ros.evaluation.benchmark import finished_summary
    from sega_ros.evaluation.replay.config import EvaluateConfig
    from sega_ros.evaluation.replay.recording import Source
    from sega_ros.evaluation.replay.run import Job, evaluate

    config = EvaluateConfig(quality=args.quality, score_every=args.score_every)

    def call(entry, folder, report):
        known = finished_summary(folder, config)
        if known is not None:
            return known
        source = Source(entry.path, entry.topic, fps=entry.rate or 30.0)
        return evaluate(Job(source, folder, config), head, embedding, progress=lambda stage, share: report(share))

    return call


def _submit(args, output) -> dict:
    """Write the archive for the NeRSemble benchmark."""
    from sega_ros.avatar.create import create_avatar
    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.errors import RequestError
    from sega_ros.evaluation.submission import write_submission

    if args.layout != 'nersemble':
        raise RequestError('--submission: wanted --layout nersemble and --data with the folder mono_flame_avatar')
    head, embedding = load_head_and_embedding(args.head, output)

    def make(photo):
        return create_avatar(photo, head=head, embedding=embedding, quality=args.quality, consent='NeRSemble participant')

    with output.progress('rendering') as progress:
        count = write_submission(args.data, args.submission, head, make, progress=progress)
    return {'submission': args.submission, 'videos': count, 'text': f'{args.submission}: {count} videos'}
