"""Parameters of a node, declared from the configs of what it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..config import Config, ParameterField, build, explain, load_yaml, parameter_fields
from ..errors import ConfigError, did_you_mean
from ..wire.messages import ros_class

_BUILT_IN = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_EMPTY = [""]
"""An empty list of texts: rcl cannot tell the type of `[]`."""
_FEW = 25
"""So many names may be listed in a complaint."""


@dataclass(frozen=True, slots=True)
class Section:
    """Parameters of one config; `prefix` stands before their names (`camera.`, or nothing).

    what: named in complaints.
    """

    prefix: str
    model: type[Config]
    what: str


def to_ros(value: Any) -> Any:
    """A config's value as a ROS parameter's."""
    return list(value) or list(_EMPTY) if isinstance(value, tuple | list) else value


def from_ros(value: Any) -> Any:
    """A ROS parameter's value as a config's: sequences without the empty text that stands for an empty one."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return value
    return [entry for entry in value if entry != ""]


def descriptor(field: ParameterField) -> Any:
    """A `ParameterDescriptor`: description with unit, what is allowed in words and as a range, and whether it
    may change.
    """
    text = f"{field.description} [{field.unit}]" if field.unit else field.description
    message = ros_class("rcl_interfaces/msg/ParameterDescriptor")(
        name=field.name, description=text, additional_constraints=field.constraint, read_only=field.read_only
    )
    if field.low is None and field.high is None:
        return message
    if field.kind == "int" and not field.choices:
        low = -(2**63) if field.low is None else int(field.low)
        high = 2**63 - 1 if field.high is None else int(field.high)
        message.integer_range = [
            ros_class("rcl_interfaces/msg/IntegerRange")(from_value=low, to_value=high, step=0)
        ]
    elif field.kind == "float":
        least = -sys.float_info.max if field.low is None else float(field.low)
        most = sys.float_info.max if field.high is None else float(field.high)
        message.floating_point_range = [
            ros_class("rcl_interfaces/msg/FloatingPointRange")(from_value=least, to_value=most, step=0.0)
        ]
    return message


def overrides(node: Any) -> dict[str, Any]:
    """Values from the command line and its parameter files for this node, those of rclpy itself left out.

    Declaring them automatically would do as well, if rclpy did not fail on an empty list (its type is
    unknown).
    """
    from rclpy.parameter import Parameter

    with node.handle:
        parameters = node.handle.get_parameters(Parameter)
    return {
        name: [] if each.value is None else each.value
        for name, each in parameters.items()
        if not name.startswith(_BUILT_IN)
    }


class Parameters:
    """Declares what `sections` say, with the values of the command line and its parameter files; `files` are
    poorer than those.

    initial: `overrides(node)`, if the caller has it. Nothing is raised here: `problems` says what is wrong, a
    key that nobody knows included, and the node refuses to configure until it is right.
    """

    def __init__(
        self,
        node: Any,
        sections: Iterable[Section],
        files: Mapping[str, Mapping[str, Any]] | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        self._node = node
        self.sections = tuple(sections)
        self._owner: dict[str, tuple[Section, ParameterField]] = {}
        self._explicit: set[str] = set()
        self._wrong: dict[str, str] = {}
        initial = overrides(node) if initial is None else initial
        for section in self.sections:
            self._declare(section, initial, (files or {}).get(section.prefix, {}))
        names = list(self._owner)
        hint = f"; known are {', '.join(sorted(names))}" if len(names) <= _FEW else ""
        for name in initial:
            self._wrong[name] = f"unknown parameter '{name}'{did_you_mean(name, names)}{hint}"
        node.add_on_set_parameters_callback(self._check)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the values given, one sentence each."""
        return list(dict.fromkeys(self._wrong.values()))

    def complain(self, key: str, problem: str) -> None:
        """Note something that is wrong besides."""
        self._wrong[key] = problem

    def config(self, section: Section) -> Config:
        """The validated config of a section. Raises ConfigError."""
        return build(section.model, self._values(section), section.what)

    def _values(self, section: Section, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, (owner, field) in self._owner.items():
            if owner is not section:
                continue
            value = (changed or {}).get(name, self._node.get_parameter(name).value)
            key = name.removeprefix(section.prefix)
            if field.kind == "numbers":
                values.setdefault(field.name, {})[key.removeprefix(f"{field.name}.")] = value
            elif name in self._explicit or name in (changed or {}) or to_ros(field.default) != value:
                values[field.name] = from_ros(value)
        return values

    def _declare(self, section: Section, initial: dict[str, Any], from_file: Mapping[str, Any]) -> None:
        fields = parameter_fields(section.model)
        requested: dict[str, Any] = dict(from_file)
        for field in fields:
            name = section.prefix + field.name
            if field.kind == "numbers":
                inner = {key: initial.pop(key) for key in list(initial) if key.startswith(f"{name}.")}
                if inner:
                    requested[field.name] = dict(requested.get(field.name, {})) | {
                        key.removeprefix(f"{name}."): inner[key] for key in inner
                    }
            elif name in initial:
                requested[field.name] = from_ros(initial.pop(name))
        values = self._checked(section, requested)
        for field in fields:
            name = section.prefix + field.name
            if field.kind == "numbers":
                for key, value in values.get(field.name, {}).items():
                    self._add(f"{name}.{key}", section, field, float(value))
                continue
            if field.name in requested:
                self._explicit.add(name)
            self._add(name, section, field, to_ros(values.get(field.name, field.default)))

    def _add(self, name: str, section: Section, field: ParameterField, value: Any) -> None:
        self._owner[name] = (section, field)
        self._node.declare_parameter(
            name, value, descriptor(field), ignore_override=True
        )  # overrides were looked at already

    def _checked(self, section: Section, requested: dict[str, Any]) -> dict[str, Any]:
        """What of `requested` is right, as the model sees it; what is wrong is noted."""
        good = dict(requested)
        for _ in range(len(requested) + 1):
            try:
                return section.model.model_validate(good).model_dump(include=set(good))
            except ValidationError as error:
                bad = {str(each["loc"][0]) for each in error.errors() if each["loc"]} & set(good)
                problem = str(explain(error, section.model, section.what))
                for key in bad or set(good):
                    self._wrong[section.prefix + key] = problem
                    del good[key]
        return {}

    def _check(self, parameters: Sequence[Any]) -> Any:
        """On-set validation: a value its config would refuse is refused, with the reason."""
        result = ros_class("rcl_interfaces/msg/SetParametersResult")
        changed = {
            parameter.name: parameter.value for parameter in parameters if parameter.name in self._owner
        }
        for section in {id(self._owner[name][0]): self._owner[name][0] for name in changed}.values():
            try:
                build(section.model, self._values(section, changed), section.what)
            except ConfigError as error:
                return result(successful=False, reason=str(error))
        for name in changed:
            self._explicit.add(name)
            self._wrong.pop(name, None)
        return result(successful=True)


def sections_of_file(path: Path, sections: Iterable[Section]) -> dict[str, dict[str, Any]]:
    """What a parameter file of separate nodes says for the sections called `<node>.`, by prefix.

    Raises ConfigError.
    """
    nodes = load_yaml(path)
    shared = nodes.get("*", {})
    sections_found = {}
    for section in sections:
        fields = section.model.model_fields
        values = {key: value for key, value in shared.items() if key in fields}
        values |= {
            key: value
            for key, value in nodes.get(section.prefix.removesuffix("."), {}).items()
            if key != "use_sim_time"
        }
        if values:
            sections_found[section.prefix] = {key: from_ros(value) for key, value in values.items()}
    return sections_found
