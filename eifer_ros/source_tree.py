"""The door to what is in the source tree and not in the wheel: training recipes and benchmarks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import InputError, MissingExtra

PACKAGE = Path(__file__).resolve().parent


def source_tree(folder: str, purpose: str) -> Path:
    """The source tree that this package lies in: a clone, or one that was installed with `pip install -e`.

    Parameters
    ----------
    folder
        The part that is needed: `research` or `bench`.
    purpose
        What for, in the plural, as the error begins with it.

    Returns
    -------
    Path
        Its root.

    Raises
    ------
    InputError
        Where the package was installed without its source tree.
    """
    root = PACKAGE.parent
    if not ((root / folder / "__init__.py").is_file() and (root / "pyproject.toml").is_file()):
        raise InputError(
            f"{purpose} are part of the source tree, not of the installed package: clone eifer's repository and install "
            "it from there with pip install -e '.[train]'"
        )
    return root


def import_research(name: str, purpose: str) -> ModuleType:
    """A module of `research/`, from wherever the program runs; no other folder of that name is taken for it.

    Parameters
    ----------
    name
        Below `research`, as in `faces.pretrain`.
    purpose
        What for, for the error about a missing library.

    Returns
    -------
    ModuleType
        The module.

    Raises
    ------
    InputError
        Outside a source tree.
    MissingExtra
        Where torch or another library of the extra `train` is not installed.
    """
    init = source_tree("research", "training recipes") / "research" / "__init__.py"
    loaded = sys.modules.get("research")
    if loaded is None or Path(loaded.__file__ or "").resolve() != init:
        spec = importlib.util.spec_from_file_location(
            "research", init, submodule_search_locations=[str(init.parent)]
        )
        if spec is None or spec.loader is None:
            raise InputError(f"{init}: not a readable package")
        package = importlib.util.module_from_spec(spec)
        sys.modules["research"] = package
        spec.loader.exec_module(package)
    try:
        return importlib.import_module(f"research.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("research", "eifer_ros"):
            raise
        raise MissingExtra(error.name, "train", purpose) from None
