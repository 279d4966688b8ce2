#!/usr/bin/env python3
"""Write docs/parameters.md from the configuration dataclasses of the nodes."""

import sys
from pathlib import Path

from sega_ros.config import options
from sega_ros.nodes.avatar_builder import BuilderConfig
from sega_ros.nodes.avatar_display import DisplayConfig
from sega_ros.nodes.avatar_driver import DriverConfig
from sega_ros.nodes.avatar_web import WebConfig
from sega_ros.nodes.image_source import SourceConfig

PAGE = Path(__file__).resolve().parent.parent / 'docs' / 'parameters.md'
NODES = {'avatar_builder': BuilderConfig, 'avatar_driver': DriverConfig, 'avatar_display': DisplayConfig,
         'avatar_web': WebConfig, 'image_source': SourceConfig}
HEAD = """# Parameters

Written by `make docs` from the configuration dataclasses. Parameters marked with a dot can be changed while the node
runs; unknown parameters and values out of range are refused.
"""


def table(name: str, kind: type) -> str:
    """Return the section of one node."""
    rows = [f'\n## {name}\n', '| parameter | type | default | live | meaning |', '|---|---|---|---|---|']
    for found in options(kind):
        default = f"'{found.default}'" if found.kind is str else f'{found.default}'
        text = found.help.replace('|', '\\|')
        live = '' if found.read_only else '•'
        rows.append(f'| `{found.name}` | {found.kind.__name__} | `{default}` | {live} | {text} |')
    return '\n'.join(rows) + '\n'


def page() -> str:
    """Return the whole page."""
    return HEAD + ''.join(table(name, kind) for name, kind in NODES.items())


if __name__ == '__main__':
    PAGE.parent.mkdir(exist_ok=True)
    if sys.argv[1:] == ['--check']:
        sys.exit(PAGE.read_text(encoding='utf-8') != page())
    PAGE.write_text(page(), encoding='utf-8')
