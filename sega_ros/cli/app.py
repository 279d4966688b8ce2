"""The parser of `sega` and what is common to its commands: exit status, errors, quiet libraries."""

import argparse
import os
import sys

from sega_ros.cli import (
    ablate,
    bench,
    benchmark,
    compare,
    create,
    data,
    distil,
    drive,
    evaluate,
    head,
    reenact,
    render,
    train,
)
from sega_ros.cli.output import Output
from sega_ros.errors import SegaError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_COMMANDS = (create, drive, reenact, evaluate, compare, benchmark, render, distil, head, data, train, ablate, bench)
_DESCRIPTION = """\
One photo becomes a drivable 3D Gaussian head; a clip or a camera drives it.

  sega create me.jpg --name me               make an avatar of a photo
  sega drive me --video clip.mp4 --out o.mp4 let the face in a clip drive it
  sega render me --yaw 30 --out side.png     look at it from anywhere
  sega distil me --name me_small             make it smaller and faster, for a small robot
  sega head show --out head.png              see the head model
  sega data sample --out people.png          see whom the networks are trained on
  sega train static --synthetic 2000 ...     train them
  sega reenact me --video clip.mp4 ...       a strip of driven frames
  sega evaluate ride.mcap --out out/ride     replay a recording and measure every frame
  sega compare out/a out/b                   two evaluations of one recording, figure by figure
  sega ablate                                what each part of the method is worth
  sega bench                                 measure this machine
  sega benchmark --out out/benchmark         evaluate on a set of recordings
"""
_EPILOG = """\
Every command takes --json (one JSON object on standard output) and --help.
Progress and messages go to standard error. Exit status: 0 done, 1 refused with a reason, 2 wrong usage.
Avatars are kept in $SEGA_AVATAR_DIR, else ~/.local/share/sega_ros/avatars; --dir names another directory.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; no command's code or libraries are loaded for it."""
    parser = argparse.ArgumentParser(
        'sega', description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def run(argv: list[str] | None = None) -> int:
    """Parse `argv`, run the command, report; returns the exit status."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as e:  # argparse has said what is wrong, or printed the help
        return int(e.code or OK)
    _quiet_libraries()
    with Output(args.json) as output:
        try:
            output.result(args.run(args, output))
        except SegaError as e:
            output.error(e)
            return FAILED
        except KeyboardInterrupt as e:
            print(f'sega: interrupted; {e or "nothing unfinished was kept"}', file=sys.stderr)
            return INTERRUPTED
    return OK


def _quiet_libraries() -> None:
    """Before any of them loads: no spinning OpenMP threads (they cost 8 ms a region on a shared core), no chatter."""
    os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # small matrices: threads cost more than they bring
    os.environ.setdefault('GLOG_minloglevel', '2')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
