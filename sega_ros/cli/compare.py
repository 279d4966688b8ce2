"""`sega compare`: two evaluations of one recording, figure by figure, with intervals."""

from sega_ros.cli.arguments import block, new_command

_DESCRIPTION = """\
Compare the result folders of two "sega evaluate" runs of one recording: every figure's means over the frames that both
scored, the difference B - A with a confidence interval (paired by frame; blocks of consecutive frames are resampled, as
neighbours are alike), and whether B is better. Runs of other recordings, protocols, masks or windows are refused.

examples:
  sega compare out/standard out/distilled
  sega compare out/standard out/distilled --out compare.html
  sega compare out/a out/b --json
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    parser = new_command(commands, 'compare', run, summary='compare two evaluations of one recording', description=_DESCRIPTION)
    parser.add_argument('runs', nargs=2, metavar='RUN', help='folders of "sega evaluate": A, then B')
    parser.add_argument('--out', metavar='PNG|HTML', help='also write a picture, or a page with table and picture')
    parser.add_argument('--block', type=block, default=1.0, metavar='S',
                        help='shortest block of frames that is resampled, seconds (default: 1)')
    parser.add_argument('--force', action='store_true', help='compare runs that differ in more than the avatar, and say so')


def run(args, output) -> dict:
    """Compare, and write the picture or the page."""
    from pathlib import Path

    from sega_ros.evaluation.replay.compare import CompareConfig, compare_runs
    from sega_ros.evaluation.replay.compare_report import check_out, to_json_values, to_table, write_comparison
    from sega_ros.evaluation.replay.finished import read_run

    out = check_out(Path(args.out)) if args.out else None
    a, b = (read_run(folder) for folder in args.runs)
    found = compare_runs(a, b, CompareConfig(block=args.block), force=args.force)
    for mismatch in found.mismatches:
        output.warn(f'compared all the same: {mismatch}')
    if out:
        write_comparison(found, out)
    return {**to_json_values(found), 'out': args.out, 'text': to_table(found)}
