"""`sega distil`: an avatar for small robots."""

from sega_ros.cli.arguments import add_avatar, add_head, new_command

_DESCRIPTION = """\
Make a smaller, faster avatar of one that is stored: its dynamic decoder becomes a few images that are linear in the expression.
What that loses (dB against the full decoder's pictures, where the face moves) and gains (ms a frame) is measured and printed.

examples:
  sega distil me --name me_small
  sega distil me --name me_tiny --bases 6
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    parser = new_command(commands, 'distil', run, summary='make an avatar smaller and faster', description=_DESCRIPTION)
    add_avatar(parser)
    parser.add_argument('--name', required=True, metavar='ID', help='id of the new avatar')
    parser.add_argument('--bases', type=int, default=10, metavar='N', help='images that are mixed, 1 to 48 (default: 10)')
    parser.add_argument('--replace', action='store_true', help='overwrite an avatar of that id')
    add_head(parser)


def run(args, output) -> dict:
    """Distil and store."""
    from dataclasses import asdict

    import torch

    from sega_ros.avatar.store import AvatarStore

    store = AvatarStore(args.dir)
    store.check_free(args.name, replace=args.replace)
    avatar, before = store.load(args.avatar), store.info(args.avatar).size

    from sega_ros.avatar.distil import distil
    from sega_ros.cli.loading import load_head

    torch.set_num_threads(1)  # what is timed
    with output.progress('distilling') as progress:
        small, report = distil(avatar, load_head(args.head, output), bases=args.bases,
                               progress=lambda share: progress('distilling', share))
    entry = store.save(args.name, small, replace=args.replace)
    return {
        'avatar': args.name, 'file': str(store.path(args.name)), 'bytes': entry.size, 'bytes_before': before, **asdict(report),
        'text': f'avatar {args.name}: {store.path(args.name)} ({entry.size / 1e6:.1f} MB for {before / 1e6:.1f}); '
                f'{report.psnr:.1f} dB against the full decoder ({report.static_psnr:.1f} dB without any), '
                f'{report.ms_after:.1f} ms a frame to bind for {report.ms_before:.1f}',
    }
