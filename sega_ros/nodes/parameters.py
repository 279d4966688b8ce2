"""ROS parameters generated from a configuration dataclass."""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from sega_ros import config
from sega_ros.config import Option
from sega_ros.errors import ConfigError, SegaError

Config = TypeVar('Config')
# Declared by rclpy itself, or by the middleware's QoS overrides.
_ROS_PARAMETERS = ('use_sim_time', 'start_type_description_service')
_ROS_PREFIXES = ('qos_overrides.',)


def descriptor(found: Option) -> ParameterDescriptor:
    """Return what ROS tools show of an option: description with unit, range, read-only."""
    result = ParameterDescriptor(name=found.name, description=found.help, read_only=found.read_only)
    if found.bounds and found.kind is float:
        result.floating_point_range = [FloatingPointRange(from_value=found.bounds[0], to_value=found.bounds[1])]
    elif found.bounds:
        result.integer_range = [IntegerRange(from_value=int(found.bounds[0]), to_value=int(found.bounds[1]), step=1)]
    if found.choices:
        result.additional_constraints = f'one of {", ".join(map(repr, found.choices))}'
    return result


class Parameters(Generic[Config]):
    """The parameters of a node; `value` is always a complete, checked configuration.

    `check` is called with a changed configuration before it is accepted (raise a SegaError to refuse) and `changed`
    afterwards.
    """

    def __init__(self, node: Node, kind: type[Config], *, check: Callable[[Config], None] = lambda _: None,
                 changed: Callable[[Config], None] = lambda _: None) -> None:
        """Declare every option of `kind`.

        Raises:
            ConfigError: a given value doesn't fit its option.
        """
        self._node, self._kind, self._check, self._changed = node, kind, check, changed
        self._lock = threading.Lock()
        self._options = {found.name: found for found in config.options(kind)}
        problems = []
        for found in self._options.values():
            try:
                node.declare_parameter(found.name, found.default, descriptor(found))
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                problems.append(f'parameter {found.name}: {error} (wanted {found.kind.__name__}: {found.help})')
        if problems:
            raise ConfigError('\n'.join(problems))
        self.value: Config = kind()
        node.add_on_set_parameters_callback(self._on_set)

    def load(self) -> Config:
        """Read all parameters again and return them.

        Raises:
            ConfigError: a value that doesn't fit (or what `check` raises), or a given parameter that this node doesn't have.
        """
        # rclpy silently ignores overrides that nobody declares: a misspelt parameter would just have no effect.
        unknown = [name for name in self._node._parameter_overrides
                   if name not in self._options and name not in _ROS_PARAMETERS and not name.startswith(_ROS_PREFIXES)]
        if unknown:
            raise ConfigError(f'unknown parameters: {", ".join(sorted(unknown))}; known are {", ".join(self._options)}')
        value = config.from_dict(self._kind, {name: self._node.get_parameter(name).value for name in self._options})
        self._check(value)
        with self._lock:
            self.value = value
        return value

    def _on_set(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in self._options}
        if not changes:
            return SetParametersResult(successful=True)
        try:
            with self._lock:  # of two changes at once, none is lost
                values = config.flatten(config.to_dict(self.value))
                value = config.from_dict(self._kind, {**values, **changes})
                self._check(value)
                self.value = value
        except SegaError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._changed(value)
        return SetParametersResult(successful=True)
