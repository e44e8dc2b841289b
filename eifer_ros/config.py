"""YAML in ROS 2 parameter format -> validated pydantic models.

The same file serves the local host and `ros2 run --params-file`:

    /**:
      reconstruction:
        ros__parameters:
          min_confidence: 0.5

A parameter is data: its description, unit, range and whether it may change at run time stand beside it, once,
and feed YAML validation, ROS parameter descriptors and the docs:

    class ReconstructionConfig(Config):
        min_confidence: float = parameter(0.5, "below this a face counts as lost", ge=0, le=1)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from .errors import ConfigError, did_you_mean

T = TypeVar("T", bound="Config")


class Config(BaseModel):
    """Base of every component's parameters: unknown keys are refused, values are checked on change, NaN is
    refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DeviceConfig(Config):
    """Base of the parameters of whatever a URL opens (`registry.py`): what a URL says is text, and becomes the
    list, number or choice that the parameter holds.
    """

    usage: ClassVar[str] = ""
    """How the URL is written, such as `gaze:HOST`; a plug-in says it here."""
    url_field: ClassVar[str] = ""
    """The parameter that takes what follows the colon of the URL."""
    aliases: ClassVar[dict[str, str]] = {"rate": "rate_hz"}
    """Short names of parameters, for URLs only."""

    @classmethod
    def from_address(cls, address: str) -> dict[str, Any]:
        """Parameters that the address sets, for a device whose address is more than one of them.

        Parameters
        ----------
        address : str
            What stands between the colon and the question mark of the URL; may be empty.

        Returns
        -------
        dict of str to Any
            Values by parameter name.

        Raises
        ------
        ValueError
            The address cannot be understood; the message says what would be right.
        """
        if address and not cls.url_field:
            raise ValueError(f"takes no address, '{address}' is left over")
        return {cls.url_field: address} if address else {}

    @field_validator("*", mode="before")
    @classmethod
    def _from_text(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        origin = get_origin(annotation)
        if origin in (tuple, list):
            if isinstance(value, str):
                return [part.strip() for part in value.split(",") if part.strip()]
            # a ROS parameter file cannot hold an empty list; it writes [""]
            return [] if isinstance(value, list) and value == [""] else value
        if origin is Literal and isinstance(value, str):
            return next((choice for choice in get_args(annotation) if str(choice) == value), value)
        return value


def parameter(
    default: Any, description: str, *, unit: str = "", read_only: bool = True, **limits: Any
) -> Any:
    """One parameter.

    Parameters
    ----------
    default : object
        Value where nothing is said.
    description : str
        What it does, one plain phrase.
    unit : str, optional
        SI, empty for none.
    read_only : bool, optional
        Fixed once the component is set up, as in rcl_interfaces/ParameterDescriptor.
    **limits : object
        Pydantic's (`ge`, `le`, `gt`, `lt`, `min_length`, `pattern`, ...).

    Returns
    -------
    object
        A pydantic field.
    """
    return Field(
        default, description=description, json_schema_extra={"unit": unit, "read_only": read_only}, **limits
    )


Kind = Literal["bool", "int", "float", "text", "texts", "numbers"]
"""What a parameter holds; `numbers` is a number per name, `texts` a list of texts."""


@dataclass(frozen=True, slots=True)
class ParameterField:
    """One parameter as data, for ROS descriptors and for the docs.

    Parameters
    ----------
    name : str
        Of the field.
    kind : Kind
        What it holds.
    default : object
        Value where nothing is said.
    description : str
        What it does.
    unit : str, optional
        SI, empty for none.
    read_only : bool, optional
        Fixed once the component is set up.
    low, high : float or int, optional
        Bounds of a number, None where there is none.
    low_open, high_open : bool, optional
        The bound itself is not allowed.
    choices : tuple[object, ...], optional
        The only values allowed, empty where any is.
    rule : str, optional
        What a text must look like, empty where anything goes.
    """

    name: str
    kind: Kind
    default: Any
    description: str
    unit: str = ""
    read_only: bool = True
    low: float | int | None = None
    high: float | int | None = None
    low_open: bool = False
    high_open: bool = False
    choices: tuple[Any, ...] = ()
    rule: str = ""

    @property
    def constraint(self) -> str:
        """What is allowed, in words; empty where anything of the kind is."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        low = None if self.low is None else f"{'above' if self.low_open else 'at least'} {self.low}"
        high = None if self.high is None else f"{'below' if self.high_open else 'at most'} {self.high}"
        return ", ".join(part for part in (low, high, self.rule) if part)


_KINDS: dict[str, Kind] = {
    "boolean": "bool",
    "integer": "int",
    "number": "float",
    "string": "text",
    "array": "texts",
    "object": "numbers",
}


def parameter_fields(model: type[BaseModel]) -> tuple[ParameterField, ...]:
    """Every parameter of a config, in the order in which they are written.

    Parameters
    ----------
    model : type[BaseModel]
        A config.

    Returns
    -------
    tuple[ParameterField, ...]
        In the order in which they are written.
    """
    fields = []
    for name, schema in model.model_json_schema()["properties"].items():
        choices = tuple(schema.get("enum", ())) or ((schema["const"],) if "const" in schema else ())
        rule = (
            f"matches {schema['pattern']}"
            if "pattern" in schema
            else "not empty"
            if schema.get("minLength")
            else ""
        )
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        fields.append(
            ParameterField(
                name,
                _KINDS[schema["type"]],
                model.model_fields[name].default,
                schema.get("description", ""),
                schema.get("unit", ""),
                schema.get("read_only", True),
                low,
                high,
                "exclusiveMinimum" in schema,
                "exclusiveMaximum" in schema,
                choices,
                rule,
            )
        )
    return tuple(fields)


def explain(error: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    """A pydantic error as one line: where, which key, what was given, what would be right.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    model : type[BaseModel]
        The config.
    where : str
        File and section, for the message.

    Returns
    -------
    ConfigError
        To be raised.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = list(model.model_fields)
        return ConfigError(
            f"{where}: unknown key '{key}'{did_you_mean(key, fields)}; known keys are {', '.join(sorted(fields)) or 'none'}"
        )
    reason = first["msg"][0].lower() + first["msg"][1:]
    more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    return ConfigError(f"{where}: {key} = {first['input']!r}: {reason}{more}")


def build(model: type[T], values: dict[str, Any], where: str) -> T:
    """`values` as a validated `model`, or a ConfigError that names `where`.

    Parameters
    ----------
    model : type[T]
        A config.
    values : dict[str, object]
        By key.
    where : str
        File and section, for the message.

    Returns
    -------
    T
        Validated.

    Raises
    ------
    ConfigError
        An unknown key or a bad value, with `where`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise explain(error, model, where) from None


def load_yaml(path: Path) -> dict[str, dict[str, Any]]:
    """Parameters by node name from a ROS 2 parameter file. `/**` or a namespace at the top is looked through.

    Values under `/**: ros__parameters:` apply to every node and stand under the key `*`.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict[str, dict[str, object]]
        Values by key, by node.

    Raises
    ------
    ConfigError
        The file cannot be read, is no YAML, or is not in this format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{line}: {getattr(error, 'problem', error)}") from None
    nodes: dict[str, dict[str, Any]] = {}

    def walk(node: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: '{node}' must hold 'ros__parameters:', found {value!r}")
        for key, inner in value.items():
            if key == "ros__parameters":
                if inner is not None and not isinstance(inner, dict):
                    raise ConfigError(
                        f"{path}: ros__parameters of '{node}' must be a mapping, found {inner!r}"
                    )
                nodes.setdefault(node, {}).update(inner or {})
            elif str(key).strip("/") in ("**", "*"):
                walk("*", inner)
            else:
                walk(str(key).strip("/").split("/")[-1], inner)

    if tree is not None:
        if not isinstance(tree, dict):
            raise ConfigError(f"{path}: the top level must be a mapping of node names")
        for key, value in tree.items():
            walk("*" if str(key).strip("/") in ("**", "*") else str(key).strip("/").split("/")[-1], value)
    return nodes


@dataclass(frozen=True)
class ConfigFile:
    """Parameters by section, of one file that ROS reads as well.

    Parameters
    ----------
    sections : mapping
        Values by section name.
    shared : mapping
        Values that stand under `/**: ros__parameters:` and hold for every section that has such a key.
    path : Path or None
        Where they come from; None for no file.
    """

    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shared: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @classmethod
    def read(cls, path: Path | None, section_names: Iterable[str]) -> ConfigFile:
        """Read a file; None is a file without a section.

        Parameters
        ----------
        path : Path or None
            YAML in ROS 2 parameter format.
        section_names : iterable of str
            Names that a section may have.

        Returns
        -------
        ConfigFile
            Values by section.

        Raises
        ------
        ConfigError
            The file cannot be read, or has a section of another name; the nearest is named.
        """
        if path is None:
            return cls()
        nodes = load_yaml(path)
        shared = nodes.pop("*", {})
        names = tuple(section_names)
        for name in nodes:
            if name not in names:
                hint = did_you_mean(name, names)
                raise ConfigError(
                    f"{path}: unknown section '{name}'{hint}; sections are {', '.join(sorted(names))}"
                )
        return cls(nodes, shared, path)

    def values(self, section: str, model: type[BaseModel]) -> dict[str, Any]:
        """What the file says for a section: its own values over the shared ones that the model has.

        The empty list of a ROS parameter file, `[""]`, is an empty list.

        Parameters
        ----------
        section : str
            Its name.
        model : type[BaseModel]
            The config that it is for.

        Returns
        -------
        dict[str, object]
            Values by key.
        """
        values = {key: value for key, value in self.shared.items() if key in model.model_fields}
        values |= {
            key: value for key, value in self.sections.get(section, {}).items() if key != "use_sim_time"
        }
        return {key: [] if value == [""] else value for key, value in values.items()}

    def config(self, section: str, model: type[T], **overrides: Any) -> T:
        """A section as a validated config.

        Parameters
        ----------
        section : str
            Its name.
        model : type[T]
            A config.
        **overrides : object
            Values that go before the file's; None for none.

        Returns
        -------
        T
            Validated.

        Raises
        ------
        ConfigError
            An unknown key or a bad value, with file and section.
        """
        values = self.values(section, model) | {k: v for k, v in overrides.items() if v is not None}
        return build(model, values, f"{self.path}: {section}" if self.path else section)

    def require(self, sections: Iterable[str]) -> None:
        """Check that the file has a section that is used here; no file is well.

        Parameters
        ----------
        sections : Iterable[str]
            Names, any of which will do.

        Raises
        ------
        ConfigError
            The file has none of these sections.
        """
        names = tuple(sections)
        if self.path is None or self.shared or any(name in self.sections for name in names):
            return
        present = ", ".join(sorted(self.sections)) or "none"
        requirement = (
            f"a section '{names[0]}'" if len(names) == 1 else f"one of the sections {', '.join(names)}"
        )
        raise ConfigError(f"{self.path}: {requirement} is needed here; the file has {present}")


def load(model: type[T], node: str, path: Path | None = None, **overrides: Any) -> T:
    """Parameters of `node` from `path` (or all defaults), with `overrides` that are not None on top.

    Parameters
    ----------
    model : type[T]
        A config.
    node : str
        Section of the file.
    path : Path, optional
        The file; None for all defaults.
    **overrides : object
        Values that go before the file's.

    Returns
    -------
    T
        Validated.

    Raises
    ------
    ConfigError
        As `load_yaml` and `build`.
    """
    nodes = {} if path is None else load_yaml(path)
    file = ConfigFile(nodes, nodes.pop("*", {}), path)
    file.require([node])
    return file.config(node, model, **overrides)
