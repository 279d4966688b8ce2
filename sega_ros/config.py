"""Configuration: a frozen dataclass beside the code that uses it is the only place where a default is written.

YAML files and ROS parameters are generated from its fields. Nested dataclasses are named with
dots (`tracking.smoothing`). Values are bool, int, float or str.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from sega_ros.errors import ConfigError

Config = TypeVar('Config')
KINDS = (bool, int, float, str)


def option(default, description: str, *, unit: str = '', bounds: tuple[float, float] | None = None,
           choices: tuple[str | int, ...] = (), read_only: bool = False) -> Any:
    """Return a dataclass field that carries what users need to know of an option.

    `bounds` are inclusive; `read_only` means that a running node does not let it change.
    """
    metadata = {'description': description, 'unit': unit, 'bounds': bounds, 'choices': choices, 'read_only': read_only}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One option of a configuration, nested ones flattened."""

    name: str  # dotted
    kind: type
    default: Any
    description: str = ''
    unit: str = ''
    bounds: tuple[float, float] | None = None
    choices: tuple[str | int, ...] = ()
    read_only: bool = False

    @property
    def help(self) -> str:
        """Return one sentence: what it is, unit, range or choices."""
        notes = [self.unit] if self.unit else []
        if self.bounds:
            notes.append(f'{self.bounds[0]:g} to {self.bounds[1]:g}')
        if self.choices:
            notes.append(' | '.join(str(choice) or "''" for choice in self.choices))
        return self.description + (f' ({"; ".join(notes)})' if notes else '')

    def check(self, value: Any) -> Any:
        """Return `value` as this option's type; raise ConfigError when type, range or choice don't fit."""
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        found: type = type(value)
        if found is not self.kind:
            raise ConfigError(f'{self.name}: wanted {self.kind.__name__}, found {found.__name__} {value!r}')
        if isinstance(value, str) and '\0' in value:
            raise ConfigError(f'{self.name}: found a text with a zero byte, which no file name and no message can hold')
        if self.bounds and not self.bounds[0] <= value <= self.bounds[1]:
            raise ConfigError(f'{self.name}: wanted {self.bounds[0]:g} to {self.bounds[1]:g}'
                              f'{" " + self.unit if self.unit else ""}, found {value!r}')
        if self.choices and value not in self.choices:
            raise ConfigError(f'{self.name}: wanted one of {", ".join(map(repr, self.choices))}, found {value!r}')
        return value


def options(config: Any, prefix: str = '') -> Iterator[Option]:
    """Yield the options of a configuration dataclass (defaults) or instance (its values)."""
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    for field in dataclasses.fields(config):
        kind = hints[field.name]
        value = _default(field) if isinstance(config, type) else getattr(config, field.name)
        if dataclasses.is_dataclass(kind):
            yield from options(value, f'{prefix}{field.name}.')
        elif kind in KINDS:
            yield Option(prefix + field.name, kind, value, **field.metadata)
        else:
            raise TypeError(f'{prefix}{field.name}: wanted bool, int, float, str or a dataclass, found {kind}')


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f'{field.name}: every option of a configuration has a default')


def flatten(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested mappings as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f'{prefix}{key}'
        flat.update(flatten(value, f'{name}.') if isinstance(value, Mapping) else {name: value})
    return flat


def from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Return a configuration with `values` (nested or dotted keys) over the defaults.

    Raises ConfigError that names every unknown key and every value that doesn't fit.
    """
    known, problems, checked = {o.name: o for o in options(kind)}, [], {}
    for name, value in flatten(values).items():
        if name not in known:
            problems.append(f'{name}: unknown; known are {", ".join(known)}')
            continue
        try:
            checked[name] = known[name].check(value)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError('\n'.join(problems))
    return _build(kind(), checked, '')


def _build(default: Any, checked: Mapping[str, Any], prefix: str) -> Any:
    changes = {}
    for field in dataclasses.fields(default):
        name, value = prefix + field.name, getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = _build(value, checked, f'{name}.')
        elif name in checked:
            changes[field.name] = checked[name]
    return dataclasses.replace(default, **changes)


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries, as `from_dict` reads them."""
    return dataclasses.asdict(config)


def load_yaml(kind: type[Config], path: str | Path) -> Config:
    """Read a configuration; raise ConfigError when the file can't be read or doesn't fit."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path}: can\'t be read as YAML: {error}') from error
    if not isinstance(values or {}, Mapping):
        raise ConfigError(f'{path}: wanted a mapping of options, found {type(values).__name__}')
    try:
        return from_dict(kind, values or {})
    except ConfigError as error:
        raise ConfigError(f'{path}: {error}') from error


def dump_yaml(config: Any) -> str:
    """Return a configuration as commented YAML."""
    lines: list[str] = []
    for found in options(config):
        *parents, name = found.name.split('.')
        for depth, parent in enumerate(parents):
            if f'{"  " * depth}{parent}:' not in lines:
                lines.append(f'{"  " * depth}{parent}:')
        value = yaml.safe_dump(found.default, default_flow_style=True, width=10**6).splitlines()[0]
        lines.append(f'{"  " * len(parents)}{name}: {value}' + (f'  # {found.help}' if found.help else ''))
    return '\n'.join(lines) + '\n'
