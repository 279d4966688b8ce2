"""`sega ablate`: what each part of the method is worth, on held-out synthetic people."""

from sega_ros.cli.arguments import add_head, new_command

_DESCRIPTION = """\
Print the ablation table: full; no 2D prior; all static; all dynamic; no fine-tuning; no perceptual loss; no identity loss,
on held-out synthetic people at novel views, novel expressions, and both. --retrain makes the people, trains every variant at
one small budget and measures all of them; what is finished is kept, so it goes on after an interruption.

examples:
  sega ablate                                        the committed table
  sega ablate --retrain --out out/ablation           everything anew: hours on two cores
  sega ablate --retrain --variants full,all_static --weights runs/identity/weights.safetensors
  sega ablate --retrain --variants shipped           the package's own weights, on the same people
"""


def add_parser(commands) -> None:
    """Add the command to `sega`."""
    summary = 'print or repeat the ablation study'
    parser = new_command(commands, 'ablate', run, summary=summary, description=_DESCRIPTION)
    parser.add_argument('--results', metavar='JSON', help='results to print (default: docs/ablation/results.json)')
    parser.add_argument('--retrain', action='store_true', help='train and measure instead of printing what is known')
    parser.add_argument('--out', default='out/ablation', metavar='DIR', help='runs and results (default: out/ablation)')
    parser.add_argument('--data', metavar='DIR', help='synthetic people, made where absent (default: OUT/data)')
    parser.add_argument('--people', metavar='DIR', help='train on the prepared people of this folder instead')
    parser.add_argument('--weights', metavar='FILE',
                        help="take the identity encoder from here (default: the package's; where there is none, one is trained)")
    parser.add_argument('--variants', metavar='A,B,...', help='only these, by name (default: all)')
    parser.add_argument('--config', metavar='YAML', help='data, budget, people (default: config/ablation.yaml)')
    add_head(parser)


def run(args, output) -> dict:
    """Print the table, or make it."""
    import json
    from pathlib import Path

    from sega_ros.evaluation.ablation import RESULTS
    from sega_ros.evaluation.ablation_report import read_results, results_to_json, tables

    if args.retrain:
        results, source = _retrain(args, output), Path(args.out) / 'results.json'
    else:
        source = Path(args.results) if args.results else RESULTS
        results = read_results(source)
    return {'results': str(source), **json.loads(results_to_json(results)), 'text': tables(results)}


def _retrain(args, output):
    from pathlib import Path

    from sega_ros.cli.loading import load_head_and_embedding
    from sega_ros.config import load_yaml
    from sega_ros.errors import RequestError
    from sega_ros.evaluation.ablation import CONFIG, VARIANTS, AblationConfig, check_variants, retrain
    from sega_ros.models.uv import UvLayout

    names = tuple(n.strip() for n in args.variants.split(',')) if args.variants else tuple(VARIANTS)
    check_variants(list(names))
    for name in (args.weights, args.people):
        if name and not Path(name).exists():
            raise RequestError(f'{name}: no such file or folder')
    given = Path(args.config) if args.config else CONFIG
    config = load_yaml(AblationConfig, given) if args.config or given.is_file() else AblationConfig()
    head, embedding = load_head_and_embedding(args.head, output)
    with output.progress('ablation') as progress:
        return retrain(
            config, UvLayout.build(head), embedding, out=Path(args.out), data=Path(args.data or f'{args.out}/data'),
            people=Path(args.people) if args.people else None, weights=Path(args.weights) if args.weights else None,
            variants=names, progress=progress)
