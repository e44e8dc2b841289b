"""Message classes from one source, eifer_msgs/*.msg: rosidl's under ROS, else built by the `rosbags`
typestore.

The two families differ in what their constructors take; `make` hides that. Everything else reads messages by
attribute.
"""

from __future__ import annotations

import array
import functools
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from .. import resources
from ..errors import WireError, did_you_mean

PACKAGE = "eifer_msgs"
_SECTIONS = {"srv": ("Request", "Response"), "action": ("Goal", "Result", "Feedback")}


def definitions(folder: Path) -> Iterator[tuple[str, str]]:
    """(type name, definition text) of every message in `folder`, the parts of services and actions included."""
    for path in sorted((folder / "msg").glob("*.msg")):
        yield f"{PACKAGE}/msg/{path.stem}", path.read_text(encoding="utf-8")
    for kind, parts in _SECTIONS.items():
        for path in sorted((folder / kind).glob(f"*.{kind}")):
            texts = path.read_text(encoding="utf-8").split("\n---\n")
            if len(texts) != len(parts):
                raise WireError(
                    f"{path}: {len(texts)} parts separated by '---'; {kind} files have {len(parts)}"
                )
            for part, text in zip(parts, texts, strict=True):
                yield f"{PACKAGE}/{kind}/{path.stem}_{part}", text


@functools.cache
def store() -> Typestore:
    """The types of ROS 2 Jazzy plus eifer_msgs."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in definitions(resources.message_definitions()):
        # rosbags files service parts under pkg/srv/msg/; ROS calls them pkg/srv/
        types |= {
            key.replace("/srv/msg/", "/srv/"): value for key, value in get_types_from_msg(text, name).items()
        }
    typestore.register(types)
    return typestore


def serialise(message: Any) -> bytes:
    """A `rosbags` message as CDR bytes (little endian, with the 4-byte header)."""
    return bytes(store().serialize_cdr(message, message.__msgtype__))


def deserialise(data: bytes | memoryview, type_name: str) -> Any:
    """CDR bytes as a `rosbags` message. Raises WireError where the bytes do not hold one."""
    try:
        return store().deserialize_cdr(data, type_name)
    except KeyError:
        raise WireError(
            f"unknown message type '{type_name}'{did_you_mean(type_name, store().types)}"
        ) from None
    except Exception as error:  # rosbags raises struct, index, unicode and assertion errors on bad bytes
        raise WireError(f"{len(data)} bytes are not a {type_name}: {error or type(error).__name__}") from None


class Family(Protocol):
    """Makes messages from plain values: numbers, strings, sequences, arrays and nested messages."""

    def make(self, type_name: str, **fields: Any) -> Any:
        """A message of `type_name`; every field must be named."""


def _check_names(type_name: str, expected: Mapping[str, Any] | list[str], fields: Mapping[str, Any]) -> None:
    for name in fields:
        if name not in expected:
            raise WireError(f"{type_name} has no field '{name}'{did_you_mean(name, expected)}")
    missing = [name for name in expected if name not in fields]
    if missing:
        raise WireError(f"{type_name}: field '{missing[0]}' is missing")


class RosbagsFamily:
    """Messages of the `rosbags` typestore: arrays must be ndarrays of the exact type; bounds are checked
    here.
    """

    def make(self, type_name: str, **fields: Any) -> Any:
        """A message of `type_name`; every field must be named.

        Raises WireError for an unknown or missing field, a wrong size or an exceeded bound.
        """
        description = dict(store().fielddefs[type_name][1])
        _check_names(type_name, description, fields)
        values = {
            name: self._value(f"{type_name}.{name}", description[name], value)
            for name, value in fields.items()
        }
        return store().types[type_name](**values)

    def _value(self, where: str, description: Any, value: Any) -> Any:
        kind, detail = description
        if kind not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            return value
        (element_kind, element), bound = detail[0], detail[1]
        count = len(value)
        if kind == Nodetype.ARRAY and count != bound:
            raise WireError(f"{where} has {count} elements; it must have exactly {bound}")
        if kind == Nodetype.SEQUENCE and bound and count > bound:
            raise WireError(f"{where} has {count} elements; at most {bound} are allowed")
        if element_kind == Nodetype.BASE and element[0] != "string":
            return np.ascontiguousarray(value, dtype=element[0].replace("octet", "uint8"))
        return list(value)


def ros_class(type_name: str) -> Any:
    """The class that rosidl generated for `std_msgs/msg/Header`, a service or an action.

    Raises WireError where it is not installed.
    """
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError):
        raise WireError(
            f"{type_name} is not installed in this ROS 2 environment (package {package})"
        ) from None


class RosidlFamily:
    """Messages of the Python classes that rosidl generated: `array.array` for sequences, ndarrays for fixed
    arrays.
    """

    def make(self, type_name: str, **fields: Any) -> Any:
        """A message of `type_name`; every field must be named."""
        cls = ros_class(type_name)
        types: dict[str, str] = cls.get_fields_and_field_types()
        _check_names(type_name, types, fields)
        try:
            return cls(**{name: self._value(types[name], value) for name, value in fields.items()})
        except AssertionError as error:
            raise WireError(f"{type_name}: {str(error).strip().splitlines()[0]}") from None

    def _value(self, declared: str, value: Any) -> Any:
        if isinstance(value, np.ndarray) and declared.startswith("sequence<"):
            element = declared[len("sequence<") :].split(",")[0].rstrip(">").strip()
            code = {
                "float": "f",
                "double": "d",
                "uint8": "B",
                "octet": "B",
                "int16": "h",
                "uint16": "H",
                "int32": "i",
                "uint32": "I",
            }
            if element in code:
                return array.array(
                    code[element], np.ascontiguousarray(value, dtype=np.dtype(code[element])).tobytes()
                )
            return list(value)
        if isinstance(value, tuple):
            return list(value)
        return value


ROSBAGS: Family = RosbagsFamily()


def rosidl() -> Family:
    """The family of a ROS 2 environment. Raises WireError where eifer_msgs was not built and sourced."""
    try:
        # the source folder eifer_msgs/ is importable as an empty namespace package: only the class proves the
        # build
        importlib.import_module("eifer_msgs.msg").FlameParameters  # noqa: B018
    except (ImportError, AttributeError):
        raise WireError(
            "eifer_msgs is not built: colcon build --packages-select eifer_msgs, then source install/setup.bash"
        ) from None
    return RosidlFamily()
