"""Networks from files and from bytes: the one place that opens a session.

They run on one thread, so that every machine and every run gives the same numbers, and are checked against
what the caller needs before the first picture. onnxruntime runs them. OpenVINO (extra `openvino`) may, with
its precision pinned to float32: left alone it computes in bfloat16 where the processor can, and two machines
no longer agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from .. import resources
from ..errors import InputError, MissingExtra, ModelError
from ..types import Array

Backend = Literal["onnxruntime", "openvino"]


Sizes = Mapping[str, tuple[int | str | None, ...]]
"""Size of every dimension by name of input or output; a word or None where it is free."""


class Network(Protocol):
    """What runs: named inputs and outputs, a description as the file states it.

    name: its file, or what it is part of, for messages.
    """

    name: str
    inputs: Sizes
    outputs: Sizes
    about: Mapping[str, Any]

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Outputs in the order of `names`."""
        ...


def locate(name: str) -> Path:
    """A network in models/ or at a path. Raises ModelError where there is none."""
    try:
        return resources.model(name)
    except InputError as error:
        raise ModelError(f"network '{name}' is not installed: {error}") from None


def installed(name: str) -> bool:
    """Whether `name` is a network in models/ or a file."""
    try:
        return resources.model(name).is_file()
    except InputError:
        return False


def open_network(source: str | Path, backend: Backend = "onnxruntime") -> Network:
    """Open a network.

    Parameters
    ----------
    source
        A file; a plain string may also name one of models/.
    backend
        What runs it.

    Raises
    ------
    ModelError
        Where there is no such file, or it is no network.
    MissingExtra
        Where OpenVINO is not installed.
    """
    path = locate(source) if isinstance(source, str) else source
    return _Openvino(path) if backend == "openvino" else _Onnx(str(path), str(path))


def open_shipped(name: str) -> Network:
    """The network models/`name`, whatever lies in the working directory.

    Raises
    ------
    InputError
        Where it is not installed.
    ModelError
        Where it is no network.
    """
    return open_network(resources.find("models", name))


def open_bytes(graph: bytes, name: str) -> Network:
    """Open a network that is part of another file.

    Parameters
    ----------
    graph
        The ONNX file's content.
    name
        What it is part of, for messages.

    Raises
    ------
    ModelError
        Where the bytes are no network.
    """
    return _Onnx(name, graph)


def _about(name: str, text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        about = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{name}: its description is not JSON ({error})") from None
    if not isinstance(about, dict):
        raise ModelError(f"{name}: its description is a {type(about).__name__}; it must be an object")
    return about


class _Onnx:
    def __init__(self, name: str, source: str | bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.name = name
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no base class
            raise ModelError(f"{name}: not a readable network ({str(error).splitlines()[0]})") from None
        self.inputs: Sizes = {one.name: tuple(one.shape) for one in self._session.get_inputs()}
        self.outputs: Sizes = {one.name: tuple(one.shape) for one in self._session.get_outputs()}
        self.about = _about(name, self._session.get_modelmeta().custom_metadata_map.get("eifer", ""))

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(value) for value in self._session.run(list(names), dict(feed))]


class _Openvino:
    def __init__(self, path: Path) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtra("openvino", "openvino", "running networks with OpenVINO") from None
        self.name = str(path)
        plain = _Onnx(self.name, self.name)  # the description is read where it was written
        self.inputs = plain.inputs
        self.outputs = plain.outputs
        self.about = plain.about
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except Exception as error:  # openvino raises RuntimeError and its own kinds
            raise ModelError(f"{path}: OpenVINO cannot run it ({str(error).splitlines()[0]})") from None

    def run(self, names: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        tensors = self._compiled(dict(feed))
        return [np.array(tensors[name]) for name in names]


def require(
    network: Network, kind: str, expected: Mapping[str, Any], outputs: Mapping[str, tuple[int, ...]]
) -> None:
    """Check what a file says about itself and its outputs (shapes without the first, batch dimension).

    Raises ModelError that names the first thing that does not fit and what to do.
    """
    path = network.name
    about = network.about
    if about.get("kind") != kind:
        said = f"a '{about['kind']}'" if "kind" in about else "of unknown kind"
        raise ModelError(
            f"{path} is {said}, not a '{kind}': give a file that eifer exported as one (docs/faces_under_sensors.md)"
        )
    for key, value in expected.items():
        if key not in about:
            raise ModelError(f"{path} does not say its '{key}': export it anew with this version of eifer")
        actual = about[key]
        actual = tuple(actual) if isinstance(actual, list) else actual
        if actual != value:
            if key == "head_fingerprint":
                raise ModelError(
                    f"{path} was trained on another version of head model '{about.get('head_model')}': train or export it anew, "
                    "or use the head model it came with"
                )
            raise ModelError(
                f"{path}: its {key} is {_short(actual)}; this version of eifer needs {_short(value)}: train it anew"
            )
    if "picture" not in network.inputs:
        raise ModelError(
            f"{path} has inputs {', '.join(network.inputs)}; a '{kind}' has one called 'picture'"
        )
    for name, shape in outputs.items():
        if name not in network.outputs:
            has = ", ".join(network.outputs)
            raise ModelError(
                f"{path} has no output '{name}' (it has {has}): it is a network of another architecture"
            )
        found_shape = network.outputs[name]
        same = len(found_shape) == len(shape) + 1 and all(
            not isinstance(got, int) or got == want for got, want in zip(found_shape[1:], shape, strict=True)
        )
        if not same:
            words = " x ".join(map(str, found_shape[1:])) or "a single value"
            raise ModelError(
                f"{path}: output '{name}' is {words} a picture; it must be {' x '.join(map(str, shape)) or 'a single value'}"
            )


def _short(value: Any) -> str:
    text = f"{len(value)} numbers" if isinstance(value, tuple) else str(value)
    return text if len(text) < 60 else text[:57] + "..."
