"""`sega bench`: how fast this machine is, stage by stage, what it needs, and how exact the tracking is."""

from pathlib import Path

from sega_ros.cli.arguments import new_command

_PARTS = ('path', 'stages', 'tracking', 'render', 'creation')
_DESCRIPTION = """\
Measure this machine on a synthetic performer:
  path      camera message to avatar message through the real driver node (camera, driver and receiver as processes of
            their own, the camera at 120 Hz), and what it sends
  stages    every stage in between, by level of detail, picture size, renderer threads and a busy process beside it
  tracking  the tracking's errors against the known truth
  render    the renderer against splats and size, and beside its peers
  creation  "sega create" and the driver's start, in new processes: seconds and memory
Tables, JSON and plots are written to --out. Close other programs first: what shares the cores is measured, too.

examples:
  sega bench                       everything, about 20 minutes
  sega bench --only stages --frames 40
  sega bench --only path --minutes 10
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    parser = new_command(commands, 'bench', run, summary='measure speed, memory and tracking errors', description=_DESCRIPTION)
    parser.add_argument('--only', choices=_PARTS, action='append', help='part to measure; repeatable (default: all)')
    parser.add_argument('--avatar', metavar='ID', help='avatar to drive (default: one made of the performer)')
    parser.add_argument('--dir', metavar='DIR', help='directory of that avatar')
    parser.add_argument('--frames', type=_count, default=150, metavar='N',
                        help='frames of each condition of the stages (default: 150)')
    parser.add_argument('--seconds', type=_count, default=20, metavar='S',
                        help='of each condition of the whole path (default: 20; figures of fewer are rough)')
    parser.add_argument('--minutes', type=_count, metavar='N',
                        help='of the whole path without a break, 3 or more, in place of its conditions: what grows?')
    parser.add_argument('--performers', type=_count, default=3, metavar='N', help='people to track (default: 3)')
    parser.add_argument('--out', default='out/bench', metavar='DIR', help='where results go (default: out/bench)')


def run(args, output) -> dict:
    """Run the chosen parts and write their tables."""
    from sega_ros.evaluation.bench import BenchConfig, run_bench, write_results

    avatar = None
    if args.avatar:
        from sega_ros.avatar.store import AvatarStore

        avatar = AvatarStore(args.dir).load(args.avatar)
    config = BenchConfig(parts=tuple(args.only or _PARTS), frames=args.frames, performers=args.performers, seconds=args.seconds,
                         minutes=args.minutes)
    with output.progress('measuring') as progress:
        report = run_bench(config, avatar=avatar, progress=progress)
    files = write_results(report, Path(args.out))
    return {**report.as_dict(), 'files': [str(f) for f in files], 'text': report.text()}


def _count(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise ArgumentTypeError(f'{text!r}: wanted a number from 1 to 100000')
    return int(text)
