"""The node's parameters: declared from the table, validated, read as one immutable object."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from aopsam_ros.errors import BundleError, OptionError
from aopsam_ros.options import OPTIONS, OptionSpec, SegmenterOptions, Value
from aopsam_ros.prompting.sources import without_effect
from aopsam_ros.ros.parameter_table import (
    CHANGEABLE,
    FIXED,
    TABLE,
    FrameConfiguration,
    Startup,
    configuration_of,
)
from aopsam_ros.segmentation.segmenter import Segmenter


class Parameters:
    """The parameters of `node`; `segmenter` is the configured node's, if it is configured.

    Humble has no callback after a set, and one before it must not act on values that another
    callback may still refuse. So nothing is kept up to date: `configuration` reads the parameters
    anew, and is to be called where no set can run at the same time, in a callback of the node's
    default group, the one that the parameter services are in.
    """

    def __init__(self, node: Node, segmenter: Callable[[], Segmenter | None]) -> None:
        """Declare all parameters.

        Raises:
            OptionError: if a value given at start is impossible.
            rclpy.exceptions.ParameterException: likewise, where rclpy can tell.
        """
        self._node = node
        self._segmenter = segmenter
        # Options that nobody set take the bundle's values; these are the ones they took last.
        self._followed: dict[str, Value] = {}
        for name, spec in TABLE.items():
            self._declare(name, spec)
        self._warn_of_misspelt()
        self._read = self._values()
        self._configuration = configuration_of(self._read)
        node.add_on_set_parameters_callback(self._validate)

    def _declare(self, name: str, spec: OptionSpec) -> None:
        # Declared without a default first: that tells whether a value was given at start.
        kind = Parameter.Type.from_parameter_value(spec.default)
        if self._node.declare_parameter(name, kind, descriptor_of(name, spec)).value is None:
            self._node.set_parameters([Parameter(name, value=spec.default)])
            if name in OPTIONS:
                self._followed[name] = spec.default

    def _warn_of_misspelt(self) -> None:
        """Name values given at start that no parameter takes: ROS ignores them in silence.

        Only what is in one of our groups or resembles a name: a file may be for other nodes, too.
        """
        groups = tuple({f"{name.partition('.')[0]}." for name in TABLE if "." in name})
        # rclpy shows what was given nowhere else.
        for name in getattr(self._node, "_parameter_overrides", {}):
            near = difflib.get_close_matches(name, TABLE, n=1, cutoff=0.8)
            if (near or name.startswith(groups)) and not self._node.has_parameter(name):
                hint = f", did you mean {near[0]}? It" if near else ": it"
                self._node.get_logger().warning(f"there is no parameter {name}{hint} has no effect")

    def _value(self, name: str) -> Any:  # noqa: ANN401  (the table gives the type)
        return self._node.get_parameter(name).value

    def follow(self, defaults: SegmenterOptions) -> None:
        """Set the options that nobody has set to a bundle's own values.

        Raises:
            OptionError: if the node refuses one.
        """
        values = {name: value for name, value in defaults.flat().items() if self._follows(name)}
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        if parameters:
            result = self._node.set_parameters_atomically(parameters)
            if not result.successful:
                raise OptionError(f"the bundle's defaults cannot be used: {result.reason}")
        self._followed = values

    def _follows(self, name: str) -> bool:
        return name in self._followed and self._value(name) == self._followed[name]

    @property
    def chosen(self) -> list[str]:
        """Names of the options that somebody has set, at start or since."""
        return [name for name in OPTIONS if not self._follows(name)]

    @property
    def autostart(self) -> bool:
        """Whether the node is to configure and activate itself."""
        return bool(self._value("autostart"))

    @property
    def executor(self) -> str:
        """What is to wait for messages.

        Raises:
            OptionError: if there is no such executor.
        """
        return self._chosen("executor")

    def startup(self) -> Startup:
        """Return what to configure with.

        Raises:
            OptionError: if images are asked for in a way that this release cannot take.
        """
        self._chosen("image_transport")
        names = (field.name for field in dataclasses.fields(Startup))
        return Startup(**{name: self._value(name.replace("labels_", "labels.")) for name in names})

    def _chosen(self, name: str) -> str:
        value, choices = str(self._value(name)), TABLE[name].choices
        if value not in choices:
            raise OptionError(f"{name} '{value}' is not available: use {' or '.join(choices)}")
        return value

    def configuration(self) -> FrameConfiguration:
        """Return the configuration as of now: the same object until a value changes."""
        values = self._values()
        if values != self._read:
            self._configuration, self._read = configuration_of(values), values
        return self._configuration

    def _values(self) -> dict[str, Any]:
        return {name: self._value(name) for name in (*OPTIONS, *CHANGEABLE)}

    def without_effect(self, names: Iterable[str]) -> str:
        """Say which parameters the configured node has no use for now, and why; "" for none."""
        segmenter, rule = self._segmenter(), self._value("asf.filtering")
        if segmenter is None:
            return ""
        source, engine = segmenter.source, segmenter.engine
        reasons = (
            without_effect(name, source, rule, lambda: engine.accepts_mask_input) for name in names
        )
        try:
            return "; ".join(filter(None, reasons))
        except BundleError as error:  # replaced meanwhile; what was set is set all the same
            return str(error)

    def _validate(self, parameters: Iterable[Parameter]) -> SetParametersResult:
        """Judge a set of changes as a whole, without acting on it."""
        changes = {parameter.name: parameter.value for parameter in parameters}
        fixed = [n for n, value in changes.items() if n in FIXED and value != self._value(n)]
        if reason := self._objection(fixed, changes):
            return SetParametersResult(successful=False, reason=reason)
        try:
            configuration_of({**self._values(), **changes})
        except OptionError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _objection(self, fixed: Sequence[str], changes: Mapping[str, Any]) -> str:
        """Return why parameters of `FIXED` cannot be changed now, or not to that; "": they can."""
        for name in fixed:
            choices = TABLE[name].choices
            if choices and changes[name] not in choices:
                return f"{name} must be one of {', '.join(choices)}, not {changes[name]!r}"
            if name == "executor":
                return "executor is read when the process starts: give it there"
            if self._segmenter() is not None:
                return (
                    f"{name} is fixed while the node is configured: deactivate and clean up first"
                )
        return ""


def descriptor_of(name: str, spec: OptionSpec) -> ParameterDescriptor:
    """Return description, range and choices as parameter tools show them."""
    fixed = " (fixed while the node is configured)" if name in FIXED else ""
    descriptor = ParameterDescriptor(description=spec.description + fixed)
    if spec.choices:
        descriptor.additional_constraints = f"one of: {', '.join(spec.choices)}"
    if spec.minimum is None or spec.maximum is None:
        return descriptor
    low, high = spec.minimum, spec.maximum
    if spec.value_type is int:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
