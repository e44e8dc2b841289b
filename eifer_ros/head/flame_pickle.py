"""Reads the official FLAME pickles without chumpy and without executing code.

A pickle is a program: it names functions and calls them. This reader knows the few names that an official
FLAME file needs, answers each with an inert stand-in of its own, and refuses any other by its name before
anything is called. Not even the real numpy and scipy reconstructors are handed out.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import ModelError
from ..types import F64, Array

_NUMPY_CORES = (
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)
_BUILTINS = ("__builtin__", "builtins")
_COPYREG = ("copy_reg", "copyreg")
_SPARSE = {
    "csc_matrix": "csc",
    "csr_matrix": "csr",
    "coo_matrix": "coo",
    "csc_array": "csc",
    "csr_array": "csr",
    "coo_array": "coo",
}
_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    ImportError,
)
"""What the unpickler raises on a file that is cut off or not a pickle at all."""


class StandIn:
    """An object of a class that is not there: it keeps what the file says about it and does nothing."""

    path: str = ""
    state: dict[str, Any]

    def __new__(cls, *_args: object) -> StandIn:
        instance = super().__new__(cls)
        instance.state = {}
        return instance

    def __setstate__(self, state: object) -> None:
        self.state = dict(state) if isinstance(state, dict) else {"state": state}


def _stand_in(module: str, name: str) -> type[StandIn]:
    return type(name, (StandIn,), {"path": f"{module}.{name}"})


def _make_array(kind: object, shape: Any = (0,), code: object = b"b") -> Array:
    """`numpy.core.multiarray._reconstruct`: an empty array that the state fills."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("an array of a class that is not numpy.ndarray")
    return np.empty((0,), np.uint8)


def _make_object(kind: Any, base: object = object, state: object = None) -> object:
    """`copy_reg._reconstructor`, for stand-ins only."""
    if isinstance(kind, type) and issubclass(kind, StandIn):
        return kind()
    if kind is object:
        return StandIn()
    raise pickle.UnpicklingError(f"copyreg._reconstructor of {kind!r}")


def _make_bytes(text: object, encoding: object = "latin1") -> bytes:
    """`_codecs.encode`, as Python 3 writes byte strings at protocol 2; no codec is looked up by name."""
    if not isinstance(text, str) or str(encoding).lower() not in ("latin1", "latin-1", "iso-8859-1"):
        raise pickle.UnpicklingError(f"_codecs.encode with the encoding {encoding!r}")
    return text.encode("latin1")


def _make_scalar(dtype: Any, data: Any = b"") -> Any:
    """`numpy.core.multiarray.scalar`."""
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, np.dtype(dtype))[0]


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        exact: dict[tuple[str, str], Callable[..., object]] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        exact |= {(core, "_reconstruct"): _make_array for core in _NUMPY_CORES}
        exact |= {(core, "scalar"): _make_scalar for core in _NUMPY_CORES}
        exact |= {(copyreg, "_reconstructor"): _make_object for copyreg in _COPYREG}
        exact |= {(builtins, "object"): object for builtins in _BUILTINS} | {
            (builtins, "set"): set for builtins in _BUILTINS
        }
        exact |= {("_codecs", "encode"): _make_bytes}
        if (module, name) in exact:
            return exact[module, name]
        if "." not in name:  # a dotted name walks through attributes: none of the names below needs that
            if module == "chumpy" or module.startswith("chumpy."):
                return _stand_in(module, name)
            if (module == "scipy.sparse" or module.startswith("scipy.sparse.")) and name in _SPARSE:
                return _stand_in(module, name)
        raise ModelError(
            f"{self._path}: refused, the pickle names '{module}.{name}', which a FLAME file does not need; nothing in it was run"
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        raise ModelError(
            f"{self._path}: refused, the pickle refers to the outside object {pid!r}; a FLAME file does not"
        )


def read_pickle(path: Path) -> dict[str, Any]:
    """The top-level dictionary of a FLAME pickle; arrays are numpy arrays, anything of chumpy or scipy a
    `StandIn`.

    Raises ModelError where the file is missing, not a pickle, cut off, names any global outside the list
    above, or holds something other than a dictionary.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            if start == b"PK":
                raise ModelError(f"{path}: this is a zip archive; unpack it and give the .pkl inside")
            content = _Reader(file, path).load()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _BROKEN as error:
        raise ModelError(f"{path}: not a readable FLAME pickle ({error or type(error).__name__})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}; a FLAME pickle holds a dictionary")
    return {str(key): value for key, value in content.items()}


def dense(value: object, name: str, path: Path) -> F64:
    """An array, chumpy array or sparse matrix of the file as a dense float64 array.

    Raises ModelError by `name`.
    """
    for _ in range(4):  # a chumpy array may hold another one; a file that holds itself ends here too
        if not isinstance(value, StandIn):
            break
        module, _, kind = value.path.rpartition(".")
        if module.startswith("scipy.sparse"):
            return _dense_sparse(value, _SPARSE[kind], name, path)
        if "x" not in value.state:
            raise ModelError(
                f"{path}: {name} is a {value.path} without values; chumpy arrays keep theirs in 'x'"
            )
        value = value.state["x"]
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError):
        raise ModelError(
            f"{path}: {name} is a {type(value).__name__}; it must be an array of numbers"
        ) from None


def _dense_sparse(value: StandIn, kind: str, name: str, path: Path) -> F64:
    """Compressed columns, compressed rows or coordinates, as scipy keeps them, into a dense matrix."""
    state = value.state
    try:
        rows, columns = (int(n) for n in state.get("_shape", state.get("shape")))  # type: ignore[union-attr]
        data = np.asarray(state["data"], np.float64)
        if kind == "coo":
            pair = state["coords"] if "coords" in state else (state["row"], state["col"])
            row, column = (np.asarray(part, np.int64) for part in pair)
        else:
            counts = np.diff(np.asarray(state["indptr"], np.int64)).astype(np.int64)
            along = np.repeat(np.arange(columns if kind == "csc" else rows), counts)
            across = np.asarray(state["indices"], np.int64)
            row, column = (across, along) if kind == "csc" else (along, across)
        if min(rows, columns) < 0 or rows * columns > 10**8:
            raise ValueError(f"{rows} x {columns}")
        matrix = np.zeros((rows, columns))
        np.add.at(matrix, (row, column), data)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"{path}: {name} is a damaged sparse matrix ({error})") from None
    return matrix
