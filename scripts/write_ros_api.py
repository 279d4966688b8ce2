#!/usr/bin/env python3
"""Write docs/ros_api.md: nodes from `sega_ros.nodes.api`, interfaces from their files, error codes from `sega_ros.errors`."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile

from sega_ros import errors
from sega_ros.config import Option, options
from sega_ros.nodes.api import EVERY_NODE, LIFECYCLE, NODES, Endpoint, NodeApi

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'ros_api.md'
HEAD = """# ROS API

Written by `make docs` from the code, the configuration dataclasses and the interface files; tests hold the tables against the
running nodes. Names are relative (remap them, or give a namespace), `~/` is the node's own. What each node needs is allowed in
`config/sros2_policy.xml`, nothing else.

A parameter that is *live* can be changed while the node runs. Unknown parameters, other types and values out of range are
refused, in YAML as on the command line. `ros2 param describe` tells the same.
"""
SECTIONS = {'msg': ('',), 'srv': ('Request', 'Response'), 'action': ('Goal', 'Result', 'Feedback')}
PLAIN_CODES = {errors.ErrorCode.OK: 'It worked.',
               errors.ErrorCode.INTERNAL: 'A defect of this software (the log has the trace), weights that do not fit, or a '
                                          'creating process that ended, e.g. without memory.'}
ROS_TYPES = {bool: 'bool', int: 'integer', float: 'double', str: 'string'}
LINE = re.compile(r'(?P<type>[\w/]+(?:<=\d+)?(?:\[[^\]]*\])?)\s+(?P<name>\w+)\s*'
                  r'(?:=\s*(?P<value>\S+))?\s*(?:#\s*(?P<text>.*))?$')


def cell(text: str) -> str:
    """Return `text` as it may stand in a table."""
    return text.replace('|', '\\|')


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; no rows, no table."""
    head, lines = list(head), ['| ' + ' | '.join(map(cell, row)) + ' |' for row in rows]
    return '\n'.join(['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *lines]) + '\n' if lines else ''


# --- nodes ----------------------------------------------------------------------------------------------------------

def reliability(profile: QoSProfile | None) -> str:
    """Return a QoS profile in words."""
    if profile is None:
        return ''
    durability = ', transient local' if profile.durability.name == 'TRANSIENT_LOCAL' else ''
    return f'{profile.reliability.name.lower().replace("_", " ")}, keep last {profile.depth}{durability}'


def condition(when: Mapping[str, Any]) -> str:
    """Return the parameters that an endpoint depends on, as they stand in YAML."""
    return ', '.join(f'`{name}: {str(value).lower()}`' for name, value in when.items())


def endpoints(found: Iterable[Endpoint], fixed: Mapping[str, Any]) -> str:
    """Return the table of topics, services and actions; conditions that `fixed` settles are left out."""
    rows = []
    for e in found:
        when = condition({k: v for k, v in e.when.items() if k not in fixed})
        rows.append((e.role.value, f'`{e.name}`', f'`{e.type}`', reliability(e.qos), f'{when}: ' * bool(when) + e.meaning))
    return table(('', 'name', 'type', 'QoS', 'meaning'), rows)


def limits(found: Option) -> str:
    """Return range or choices of an option."""
    if found.choices:
        return ', '.join(f'`{choice}`' for choice in found.choices)
    return '{:g} to {:g}'.format(*found.bounds) if found.bounds else ''


def parameters(kind: type) -> str:
    """Return the table of a node's parameters."""
    rows = ((f'`{o.name}`', ROS_TYPES[o.kind], f"`'{o.default}'`" if o.kind is str else f'`{str(o.default).lower()}`', o.unit,
             limits(o), 'read-only' if o.read_only else 'live', o.description) for o in options(kind))
    return table(('parameter', 'type', 'default', 'unit', 'range', '', 'meaning'), rows)


def node(api: NodeApi) -> str:
    """Return the section of one node."""
    shown = [e for e in api.own if all(api.fixed.get(k, v) == v for k, v in e.when.items())]
    plain = next(other.name for other in NODES if other.kind is api.kind and not other.fixed)
    text = f'Parameters: those of [{plain}](#{plain}).\n' if api.fixed else parameters(api.config)
    kind = 'Lifecycle node' if api.managed else 'Node'
    return f'## {api.name}\n\n{kind}. {api.summary}\n\n{endpoints(shown, api.fixed)}\n{text}'


def every_node() -> str:
    """Return the section of what all nodes have."""
    return f"""## Every node

{endpoints(EVERY_NODE, {})}
The lifecycle nodes also:

{endpoints(LIFECYCLE, {})}
Parameters of every ROS node (`use_sim_time`, `qos_overrides...`) are there too.

Lifecycle nodes declare in their constructor, load and offer their services when configured, and work when active. A transition
that fails is logged with its reason and leaves the node where it was. Services of a node that is not active answer
`ERROR_NOT_ACTIVE`.
"""


# --- interfaces -----------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Item:
    """A field or a constant (with a value) of an interface."""

    type: str
    name: str
    value: str
    text: str


def items(section: str) -> Iterator[Item]:
    """Yield fields and constants; a comment on lines of its own belongs to what follows."""
    before: list[str] = []
    for line in section.splitlines():
        if line.startswith('#'):
            before.append(line.lstrip('# '))
        elif line.strip():
            match = LINE.match(line)
            if match is None:
                raise ValueError(f'interface file: wanted TYPE NAME  # comment, found {line!r}')
            yield Item(match['type'], match['name'], match['value'] or '', ' '.join([*before, match['text'] or '']).strip())
            before = []


def fields(section: str) -> str:
    """Return the tables of one section of an interface: fields and constants, then its error codes in one line."""
    found = list(items(section))
    codes = [f'`{i.name}` {i.value}' for i in found if i.name.startswith('ERROR_')]
    rows = [(f'`{i.name}`' + (f' = {i.value}' if i.value else ''), f'`{i.type}`', i.text)
            for i in found if not i.name.startswith('ERROR_')]
    text = table(('field', 'type', 'meaning'), rows) or 'Nothing.\n'
    return text + (f'\nError codes: {", ".join(codes)}.\n' if codes else '')


def interface(path: Path) -> str:
    """Return the section of one interface file."""
    lines = path.read_text(encoding='utf-8').splitlines()
    count = next(k for k, line in enumerate(lines) if not line.startswith('#'))
    description, rest = ' '.join(line.lstrip('# ') for line in lines[:count]), '\n'.join(lines[count:])
    sections = zip(SECTIONS[path.parent.name], re.split('^---$', rest, flags=re.MULTILINE), strict=True)
    parts = [f'**{title}**\n\n{fields(section)}' if title else fields(section) for title, section in sections]
    return '\n'.join([f'### {path.parent.name}/{path.stem}\n\n{description}\n', *parts])


def error_codes() -> str:
    """Return the table of error codes: what a service answers, and what Python and the command line raise."""
    raised = {kind.code: kind for _, kind in inspect.getmembers(errors, inspect.isclass)
              if issubclass(kind, errors.SegaError) and 'code' in vars(kind) and kind is not errors.SegaError}
    rows = [(str(code.value), f'`ERROR_{code.name}`', f'`{raised[code].__name__}`' if code in raised else '',
             PLAIN_CODES.get(code) or inspect.getdoc(raised[code])) for code in errors.ErrorCode]
    return table(('code', 'constant', 'exception', 'meaning'), rows)


def page() -> str:
    """Return the whole page."""
    files = [p for folder in SECTIONS for p in sorted((ROOT / folder).glob(f'*.{folder}'))]
    return '\n'.join([HEAD, *map(node, NODES), every_node(), '## Error codes\n', error_codes(), '## Interfaces\n',
                      *map(interface, files)])


if __name__ == '__main__':
    if sys.argv[1:] == ['--check']:
        sys.exit(PAGE.read_text(encoding='utf-8') != page())
    PAGE.write_text(page(), encoding='utf-8')
