"""What is public says what it takes, gives and refuses, in numpydoc's sections."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {
    "GL08": "no docstring",
    "PR01": "parameters that are not described",
    "PR02": "descriptions of parameters that are not there",
    "PR07": "a parameter without a description",
    "PR10": "a parameter without a space before its colon",
    "RT01": "no Returns section",
    "RT03": "a return value without a description",
    "YD01": "no Yields section",
}
"""Rules of numpydoc.validate that hold."""


def _modules() -> list[str]:
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "tools" / "docs_pages.py")
    assert spec is not None and spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return [f"eifer_ros.{name}" for names in pages.API.values() for name in names]


def _takes_arguments(kind: type) -> bool:
    """Whether a class is made by calling it with arguments of its own: no enum, no exception that is only a name, no
    config, whose fields describe themselves, no protocol, no named tuple, which has Attributes.
    """
    plain = issubclass(kind, Enum | BaseModel | tuple) or (
        issubclass(kind, Exception) and "__init__" not in vars(kind)
    )
    return not plain and not getattr(kind, "_is_protocol", False)


def _inherits_its_text(kind: type, name: str) -> bool:
    """Whether a method keeps the contract of a base class of eifer, which describes it."""
    return any(name in vars(base) and base.__module__.startswith("eifer_ros.") for base in kind.__mro__[1:])


def public(module: ModuleType) -> Iterator[tuple[str, set[str]]]:
    """Dotted names of functions, classes and methods with the rules that hold for each."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        dotted = f"{module.__name__}.{name}"
        if inspect.isfunction(inspect.unwrap(value)) if callable(value) else False:
            yield dotted, set(CHECKS)
        elif inspect.isclass(value):
            yield dotted, set(CHECKS) if _takes_arguments(value) else {"GL08"}
            yield from _methods(value, dotted)


def _methods(kind: type, dotted: str) -> Iterator[tuple[str, set[str]]]:
    for name, value in vars(kind).items():
        method: Any = getattr(value, "__func__", value)
        if not name.startswith("_") and inspect.isfunction(method):
            yield f"{dotted}.{name}", {"GL08"} if _inherits_its_text(kind, name) else set(CHECKS)


@pytest.mark.parametrize("module", _modules())
@pytest.mark.filterwarnings("ignore")
def test_everything_public_is_described(module: str) -> None:
    validate = pytest.importorskip("numpydoc.validate", reason="pip install 'eifer_ros[test]'").validate
    wrong = []
    names = list(public(importlib.import_module(module)))
    assert names
    for dotted, rules in names:
        errors = [f"{code} {text}" for code, text in validate(dotted)["errors"] if code in rules]
        wrong += [f"{dotted}: {'; '.join(errors)}"] if errors else []
    assert not wrong, "\n" + "\n".join(wrong)
