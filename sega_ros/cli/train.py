"""`sega train`: the networks, one stage after the other."""

from sega_ros.cli.arguments import add_head, new_command

_DESCRIPTION = """\
Train SEGA's networks. Stages follow each other: identity (a VQ-VAE on pictures), static, dynamic (the decoders, on people
from several sides with many expressions). Synthetic people need no licence; yours come from `sega data prepare`.

examples:
  sega train identity --synthetic 2000 --data people --out runs/identity
  sega train static   --synthetic 2000 --data people --out runs/static --weights runs/identity/weights.safetensors
  sega train dynamic  --synthetic 2000 --data people --out runs/dynamic --weights runs/static/weights.safetensors
  sega train static   --data prepared --config my.yaml --out runs/mine --weights runs/identity/weights.safetensors
  sega train static ... --perceptual vgg16.pth --identity backbone.pth   losses in networks whose weights you have
  torchrun --nproc-per-node 2 -m sega_ros.cli train static ...           several devices or processes

A run goes on where its folder was left. Progress: tensorboard --logdir runs
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'train the networks'
    parser = new_command(commands, 'train', run, summary=summary, description=_DESCRIPTION)
    parser.add_argument('stage', choices=('identity', 'static', 'dynamic'))
    parser.add_argument('--out', required=True, metavar='DIR', help='checkpoint, weights, TensorBoard files')
    parser.add_argument('--data', default='', metavar='DIR', help='prepared people; with --synthetic, where those are kept')
    parser.add_argument('--synthetic', type=int, metavar='N', help='train on N synthetic people, made when first needed')
    parser.add_argument('--weights', metavar='FILE', help='weights of the stage before')
    parser.add_argument('--perceptual', metavar='FILE', help="static, dynamic: VGG-16 for the perceptual loss, torchvision's "
                                                             'state dict as .safetensors or .pth (default: the identity encoder)')
    parser.add_argument('--identity', metavar='FILE', help="static, dynamic: ArcFace for the identity loss, insightface's "
                                                           'backbone as .safetensors or .pth (default: the identity encoder)')
    parser.add_argument('--config', metavar='YAML', help='sizes, losses, steps: any part of what --print-config prints')
    parser.add_argument('--steps', type=int, metavar='N', help='steps in all (default: of the configuration)')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='of PyTorch in each process (default: 1)')
    parser.add_argument('--print-config', action='store_true', help='print the effective configuration and stop')
    add_head(parser)


def run(args, output) -> dict:
    """Train a stage."""
    from dataclasses import replace
    from pathlib import Path

    import torch

    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.config import dump_yaml, load_yaml, to_dict
    from sega_ros.errors import RequestError
    from sega_ros.losses import LossNetworks
    from sega_ros.models.uv import UvLayout
    from sega_ros.training.stages import TrainConfig, train_stage

    if args.stage == 'identity' and (args.perceptual or args.identity):
        raise RequestError('stage identity: its loss has neither VGG-16 nor ArcFace: leave out --perceptual and --identity')
    config = load_yaml(TrainConfig, args.config) if args.config else TrainConfig()
    if args.data:
        config = replace(config, data=replace(config.data, folder=args.data))
    if args.synthetic is not None:
        config = replace(config, data=replace(config.data, synthetic=args.synthetic))
    if args.perceptual:
        config = replace(config, perceptual_weights=args.perceptual)
    if args.identity:
        config = replace(config, identity_weights=args.identity)
    if args.steps is not None:
        config = replace(config, run=replace(config.run, steps=args.steps))
    if args.print_config:
        return {'config': to_dict(config), 'text': dump_yaml(config)}
    torch.set_num_threads(max(1, args.threads))
    # Tried before the head model is built, which may take minutes.
    LossNetworks.load(perceptual=config.perceptual_weights, identity=config.identity_weights)
    head, embedding = load_head_and_embedding(args.head, output)
    with output.progress(f'stage {args.stage}') as progress:
        def report(step: int, terms: dict[str, float]) -> None:
            progress(f'loss {terms["loss"]:.4f}', step / config.run.steps)

        figures = train_stage(args.stage, Path(args.out), UvLayout.build(head), embedding, config,
                              start=Path(args.weights) if args.weights else None, report=report)
    text = f'{args.out}: ' + ', '.join(f'{k} {v:.4g}' for k, v in figures.items())
    return {'stage': args.stage, 'out': str(args.out), 'figures': figures, 'text': text}
