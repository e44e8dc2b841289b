"""How every recipe is run: `python -m research.faces.pretrain ...`, one parser, one way to end.

Options that are settings of a recipe are the fields of its dataclass: name, type, default and help stand there, once.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eifer_ros.errors import ConfigError, EiferError

T = TypeVar("T")
Main = Callable[..., None]


def option(default: T, text: str, flags: Sequence[str] = (), least: float | None = None) -> T:
    """A field of a settings dataclass that is an option of the command line.

    Parameters
    ----------
    default
        Its default.
    text
        What `--help` says of it.
    flags
        Other names than `--field-name`.
    least
        Smallest value that is accepted.
    """
    metadata = {"help": text, "flags": tuple(flags), "least": least}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def required(text: str, flags: Sequence[str] = ()) -> Any:
    """A field that is an option which must be given."""
    return option(dataclasses.MISSING, text, flags)


def parser(description: str | None, *settings: type, prog: str | None = None) -> argparse.ArgumentParser:
    """A parser that shows the module's text and the options of every dataclass in `settings`, with their defaults."""
    built = argparse.ArgumentParser(prog=prog, description=description, formatter_class=_Help)
    for kind in settings:
        hints = get_type_hints(kind)
        for field in _options(kind):
            flags = field.metadata["flags"] or ("--" + field.name.replace("_", "-"),)
            help_text = field.metadata["help"].replace("%", "%%")
            built.add_argument(*flags, dest=field.name, help=help_text, **_kind_of(hints[field.name], field))
    return built


def settings_of(kind: type[T], arguments: argparse.Namespace, **more: Any) -> T:
    """The dataclass `kind` from parsed options; `more`: fields that are no options.

    Raises ConfigError for a value below the least one.
    """
    for field in _options(kind):
        least = field.metadata["least"]
        value = getattr(arguments, field.name)
        if least is not None and not value >= least:
            raise ConfigError(f"--{field.name.replace('_', '-')} {value}: at least {least} is needed")
    return kind(**{field.name: getattr(arguments, field.name) for field in _options(kind)}, **more)


def run(main: Main) -> None:
    """Run a recipe as a program: an error of eifer is one line and its exit code, as of `eifer` itself."""
    try:
        main(None)
    except EiferError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.required:
            return action.help
        return super()._get_help_string(action)


def _options(kind: type) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if "help" in field.metadata]


def _kind_of(hint: Any, field: dataclasses.Field[Any]) -> dict[str, Any]:
    """What argparse needs to know of a field."""
    required = field.default is dataclasses.MISSING
    options: dict[str, Any] = {"required": True} if required else {"default": field.default}
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [one for one in get_args(hint) if one is not type(None)]
    if hint is bool:
        return options | {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return options | {"choices": get_args(hint)}
    return options | {"type": hint}
