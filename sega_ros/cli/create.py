"""`sega create`: one photo becomes an avatar file."""

from sega_ros.cli.arguments import add_directory, add_head, new_command

_DESCRIPTION = """\
Make an avatar of one photo: a frontal, sharp, well lit face of at least 128 px, hair and ears in the picture.
It never asks anything. Use photos only of people who agree, and say so with --consent: the words are kept in the file.

examples:
  sega create me.jpg --name me --consent "my own photo"
  sega create ann.png --name ann --quality preview --dir ./avatars --replace
  sega create me.jpg --name even --lighting neutral --figure light.png
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    parser = new_command(commands, 'create', run, summary='make an avatar of a photo', description=_DESCRIPTION)
    parser.add_argument('photo', metavar='PHOTO', help='JPEG, PNG, WebP, BMP or TIFF; the largest face in it is used')
    parser.add_argument('--name', required=True, metavar='ID', help='id of the avatar: 1 to 64 letters, digits, _ or -')
    add_directory(parser)
    parser.add_argument('--quality', choices=('preview', 'standard', 'high'), default='standard',
                        help='time against likeness: seconds, under a minute, minutes (default: standard)')
    parser.add_argument('--consent', default='', metavar='TEXT',
                        help='what the person agreed to; without it the file records "not stated"')
    parser.add_argument('--no-bust', dest='bust', action='store_false', help='leave the shoulders out')
    parser.add_argument('--lighting', choices=('photo', 'neutral'), default='photo',
                        help='keep the photo\'s light, or put soft light from the front in its place (default: photo)')
    parser.add_argument('--figure', metavar='PNG', help='with --lighting neutral: before and after, side by side')
    parser.add_argument('--distilled', action='store_true', help='for small robots: as `sega distil` would make it')
    parser.add_argument('--replace', action='store_true', help='overwrite an avatar of that id')
    add_head(parser)


def run(args, output) -> dict:
    """Create and store the avatar."""
    from time import perf_counter

    from sega_ros.avatar.store import AvatarStore
    from sega_ros.errors import RequestError
    from sega_ros.io.images import read_photo, write_png

    if args.figure and args.lighting != 'neutral':
        raise RequestError('--figure shows what --lighting neutral does: give both')
    start = perf_counter()
    store = AvatarStore(args.dir)
    store.check_free(args.name, replace=args.replace)
    photo = read_photo(args.photo)

    from sega_ros.avatar.create import create_avatar
    from sega_ros.cli.loading import load_head_and_embedding

    head, embedding = load_head_and_embedding(args.head, output)
    figure = None
    with output.progress('creating') as progress:
        def report(stage: str, share: float, picture) -> None:
            nonlocal figure
            figure = picture if stage == 'relight' else figure
            progress(stage, share, picture)

        avatar = create_avatar(photo.image, head=head, embedding=embedding, quality=args.quality,
                               consent=args.consent.strip() or 'not stated', bust=args.bust, lighting=args.lighting,
                               distilled=args.distilled, progress=report, cancelled=lambda: False)
    for warning in getattr(avatar, 'warnings', ()):
        output.warn(warning)
    entry = store.save(args.name, avatar, replace=args.replace)
    if args.figure:
        write_png(args.figure, figure)
    took = perf_counter() - start
    return {
        'avatar': args.name, 'file': str(store.path(args.name)), 'bytes': entry.size, 'seconds': round(took, 2),
        'metadata': entry.metadata,
        'text': f'avatar {args.name}: {store.path(args.name)} ({entry.size / 1e6:.1f} MB, {took:.1f} s)',
    }
