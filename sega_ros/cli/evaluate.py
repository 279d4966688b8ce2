"""`sega evaluate`: recorded cameras in, figures, a report, a clip and a bag out."""

from sega_ros.cli.arguments import add_directory, add_head, new_command

_DESCRIPTION = """\
Replay recordings through an avatar, without ROS, and measure every frame. A recording is a rosbag2 (folder, .mcap or .db3;
sqlite3 or mcap, compressed or not), a clip, or a folder of pictures.

protocols:
  self        an avatar of the first good frontal frame; the rest drives it and is what it is compared with (default)
              (with --avatar or --photo: of that person, and every frame is measured)
  cross       --avatar or --photo of somebody else; nothing true to compare with: expression, pose, motion, identity
  expression  recorded sega_ros/msg/FlameExpression messages drive --avatar or --photo
  rendered    --rendered BAG: an avatar's pictures recorded with a live system, compared with the frames of their stamps

DIR holds report.html (open it first), frames.csv, summary.json, side_by_side.mp4, bag/ (expressions and pictures, mcap),
timing.csv and run.json. Two runs give the same frames.csv, summary.json and messages, byte for byte. With several recordings
or topics each has a folder of its own in DIR. An interrupted run goes on when the same command is given again.

examples:
  sega evaluate ride.mcap --out out/ride
  sega evaluate day1 day2 --topic /head_camera/image_raw --out out/days
  sega evaluate talk.mp4 --protocol cross --avatar me --out out/talk
  sega evaluate ride.mcap --protocol rendered --rendered recorded.mcap --out out/live
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    from sega_ros.evaluation.replay.config import EvaluateConfig

    summary = 'replay recordings through an avatar and measure every frame'
    parser = new_command(commands, 'evaluate', run, summary=summary, description=_DESCRIPTION)
    parser.add_argument('recordings', nargs='+', metavar='BAG|CLIP|FOLDER')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the results')
    parser.add_argument('--topic', action='append', default=[], metavar='TOPIC',
                        help='of the driving pictures; repeat it for several (default: the only one)')
    parser.add_argument('--expression-topic', default='', metavar='TOPIC', help='of the messages (default: the only one)')
    person = parser.add_mutually_exclusive_group()
    person.add_argument('--avatar', metavar='ID', help='a stored avatar')
    person.add_argument('--photo', metavar='FILE', help='make the avatar of this photo')
    parser.add_argument('--rendered', metavar='BAG', help='recorded pictures of the avatar (protocol rendered)')
    parser.add_argument('--rendered-topic', default='', metavar='TOPIC', help='their topic (default: the only one)')
    parser.add_argument('--fps', type=float, default=30.0, metavar='HZ', help='of a folder of pictures (default: 30)')
    parser.add_argument('--overwrite', action='store_true', help='replace the run that DIR holds')
    _add_options(parser, EvaluateConfig)
    add_directory(parser)
    add_head(parser)


def _add_options(parser, kind) -> None:
    """Arguments of a configuration's options."""
    from sega_ros.config import options

    for option in options(kind):
        name = '--' + option.name.replace('_', '-')
        if option.kind is bool:
            parser.add_argument(name, action='store_true', dest=option.name, help=option.description)
        else:
            parser.add_argument(name, type=option.kind, default=option.default, dest=option.name, choices=option.choices or None,
                                metavar=None if option.choices else option.name.upper(),
                                help=f'{option.description} (default: {option.default or "none"})'.replace('%', '%%'))


def run(args, output) -> dict:
    """Evaluate every recording, and every topic of it."""
    from dataclasses import fields

    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.config import from_dict
    from sega_ros.evaluation.replay.config import EvaluateConfig
    from sega_ros.evaluation.replay.many import Request, evaluate_all

    config = from_dict(EvaluateConfig, {f.name: getattr(args, f.name) for f in fields(EvaluateConfig)})
    head, embedding = load_head_and_embedding(args.head, output)
    request = Request(args.recordings, args.out, config, topics=tuple(args.topic), expression_topic=args.expression_topic,
                      avatar=args.avatar, photo=args.photo, avatars=args.dir, rendered=args.rendered,
                      rendered_topic=args.rendered_topic, fps=args.fps, overwrite=args.overwrite)
    try:
        with output.progress('evaluating') as progress:
            results = evaluate_all(request, head, embedding, progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('frames that were measured are kept, and the same command goes on from there') from None
    for result in results:
        for warning in result.summary['warnings']:
            output.warn(f'{result.name}: {warning}')
    return {'out': args.out, 'runs': [{'name': r.name, 'folder': str(r.folder), **r.summary} for r in results],
            'text': '\n'.join(r.text for r in results)}
