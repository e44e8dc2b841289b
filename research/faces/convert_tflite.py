"""Converts MediaPipe's face networks from TensorFlow Lite to ONNX, once, so that one runtime serves
everything.

    python -m research.faces.convert_tflite short_range.tflite models/face_detector.onnx --range -1 1
    python -m research.faces.convert_tflite face_landmark_with_attention.tflite models/face_landmarks.onnx

Only the operators that these networks use are known; any other is refused by name. Half-precision weights
stay half precision in the file (the runtime widens them when it loads), so the numbers are those of the
original.

The graph takes a picture as the camera gives it: `image`, uint8 (1, H, W, 3) RGB. A network with "attention"
(one that refines lips and eyes) gets the outputs `landmarks` (478, 3), in pixels of the input picture, and
`presence` (1,), 0..1; other networks keep the outputs of the original.

Operator semantics: TensorFlow Lite's reference kernels; the three custom operators of the attention network
are described by mediapipe/util/tflite/operations (Apache-2.0): a box around a subset of landmarks becomes an
affine map (rotation by two of them, enlarged by `scale`), features are sampled through the map, refined
points go back through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eifer_ros.errors import InputError, MissingExtra, ModelError
from research.common.recipe import parser, run

OPSET = 17
MESH = 468
PARTS = ("lips", "left_eye", "right_eye")
"""The refined parts in the order in which the attention network computes them."""
EYE_CONTOUR = 16
"""The first points of each eye's subset are its lid contour; their mean depth is the iris's."""

Array = npt.NDArray[Any]


class Converter:
    """Walks one TensorFlow Lite graph and writes the same graph in ONNX, feature maps as (1, C, H, W)."""

    def __init__(self, data: bytes) -> None:
        try:
            import onnx
            import tflite
            from flatbuffers import flexbuffers  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtra(error.name or "onnx", "train", "converting a network") from None
        self._onnx = onnx
        self._tflite = tflite
        self._flex = flexbuffers
        self._operators = {
            value: name for name, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)
        }
        if not tflite.Model.ModelBufferHasIdentifier(data, 0):
            raise InputError("not a TensorFlow Lite file")
        self._model = tflite.Model.GetRootAsModel(data, 0)
        self._graph = self._model.Subgraphs(0)
        self._constants: dict[int, Array] = {}
        self._names: dict[int, str] = {}
        self._subsets: list[list[int]] = []
        self._tables: dict[int, str] = {}
        self._nodes: list[Any] = []
        self._initializers: dict[str, Array] = {}

    # --- reading

    def _shape(self, tensor: int) -> list[int]:
        return [int(n) for n in self._graph.Tensors(tensor).ShapeAsNumpy()]

    def _constant(self, tensor: int) -> Array | None:
        """Value of a constant tensor, None for an activation. Half precision is kept."""
        if tensor in self._constants:
            return self._constants[tensor]
        entry = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(entry.Buffer()).DataAsNumpy()
        if isinstance(buffer, int) or len(buffer) == 0:
            return None
        kinds = {
            self._tflite.TensorType.FLOAT32: "<f4",
            self._tflite.TensorType.FLOAT16: "<f2",
            self._tflite.TensorType.INT32: "<i4",
        }
        if entry.Type() not in kinds:
            raise ModelError(
                f"tensor '{entry.Name().decode()}' has element type {entry.Type()}; float32, float16 or int32 are read"
            )
        value: Array = np.frombuffer(bytes(buffer), kinds[entry.Type()]).reshape(self._shape(tensor))
        return value

    def _need(self, tensor: int) -> Array:
        value = self._constant(tensor)
        if value is None:
            raise ModelError(f"tensor '{self._graph.Tensors(tensor).Name().decode()}' must be constant")
        return value

    def _options(self, operator: Any, name: str) -> Any:
        options = getattr(self._tflite, name)()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    # --- writing

    def _store(self, hint: str, value: Array) -> str:
        """A constant; half precision becomes an initializer and a cast, which the runtime folds when it loads
        the file.
        """
        name = f"{hint}_{len(self._initializers)}"
        self._initializers[name] = np.ascontiguousarray(value)
        return (
            self._node("Cast", [name], to=self._onnx.TensorProto.FLOAT) if value.dtype == np.float16 else name
        )

    def _node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        names = [f"{kind.lower()}_{len(self._nodes)}_{k}" for k in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def _floats(self, *values: float) -> str:
        return self._store("c", np.array(values, np.float32))

    def _ints(self, *values: int) -> str:
        return self._store("i", np.array(values, np.int64))

    def _input(self, tensor: int) -> str:
        if tensor not in self._names:
            self._names[tensor] = self._store("w", self._need(tensor))
        return self._names[tensor]

    def _activate(self, name: str, function: int) -> str:
        kinds = self._tflite.ActivationFunctionType
        if function == kinds.NONE:
            return name
        if function == kinds.RELU:
            return self._node("Relu", [name])
        if function == kinds.RELU6:
            return self._node("Clip", [name, self._floats_scalar(0.0), self._floats_scalar(6.0)])
        raise ModelError(f"fused activation {function} is not known; none, relu and relu6 are")

    def _floats_scalar(self, value: float) -> str:
        return self._store("c", np.array(value, np.float32))

    def _pads(
        self,
        padding: int,
        source: list[int],
        target: list[int],
        kernel: tuple[int, int],
        strides: tuple[int, int],
    ) -> list[int]:
        if padding == self._tflite.Padding.VALID:
            return [0, 0, 0, 0]
        total = [max((target[1 + a] - 1) * strides[a] + kernel[a] - source[1 + a], 0) for a in (0, 1)]
        begin = [t // 2 for t in total]
        return [*begin, *(t - b for t, b in zip(total, begin, strict=True))]

    def _convolution(self, operator: Any, inputs: list[int], output: int, depthwise: bool) -> str:
        options = self._options(operator, "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions")
        weights = self._need(inputs[1])
        groups = weights.shape[3] if depthwise else 1  # (1, kh, kw, C) against (out, kh, kw, in)
        weights = weights.transpose(3, 0, 1, 2) if depthwise else weights.transpose(0, 3, 1, 2)
        strides = (options.StrideH(), options.StrideW())
        kernel = (weights.shape[2], weights.shape[3])
        pads = self._pads(options.Padding(), self._shape(inputs[0]), self._shape(output), kernel, strides)
        name = self._node(
            "Conv",
            [self._input(inputs[0]), self._store("w", weights), self._store("b", self._need(inputs[2]))],
            group=groups,
            strides=list(strides),
            pads=pads,
            kernel_shape=list(kernel),
            dilations=[options.DilationHFactor(), options.DilationWFactor()],
        )
        return self._activate(name, options.FusedActivationFunction())

    def _pool(self, operator: Any, inputs: list[int], output: int) -> str:
        options = self._options(operator, "Pool2DOptions")
        kernel = (options.FilterHeight(), options.FilterWidth())
        strides = (options.StrideH(), options.StrideW())
        pads = self._pads(options.Padding(), self._shape(inputs[0]), self._shape(output), kernel, strides)
        name = self._node(
            "MaxPool", [self._input(inputs[0])], kernel_shape=list(kernel), strides=list(strides), pads=pads
        )
        return self._activate(name, options.FusedActivationFunction())

    def _reshape(self, inputs: list[int], output: int) -> str:
        name = self._input(inputs[0])
        if len(self._shape(inputs[0])) == 4:
            name = self._node("Transpose", [name], perm=[0, 2, 3, 1])
        shape = self._shape(output)
        if len(shape) == 4 and shape[1:3] != [1, 1]:
            raise ModelError("a reshape into a feature map is not known")
        return self._node("Reshape", [name, self._ints(*([1, shape[3], 1, 1] if len(shape) == 4 else shape))])

    def _concatenate(self, operator: Any, inputs: list[int], output: int) -> str:
        axis = self._options(operator, "ConcatenationOptions").Axis()
        if len(self._shape(output)) == 4:
            axis = [0, 2, 3, 1][axis]
        return self._node("Concat", [self._input(i) for i in inputs], axis=axis)

    def _pad(self, inputs: list[int]) -> str:
        amounts = self._need(inputs[1])[[0, 3, 1, 2]]
        return self._node("Pad", [self._input(inputs[0]), self._ints(*amounts[:, 0], *amounts[:, 1])])

    # --- the attention network's own operators

    def _box_map(self, operator: Any, inputs: list[int]) -> str:
        """Rows (a, b, t) of the affine map from crop to feature coordinates around a subset of landmarks: (2,
        3).
        """
        options = self._flex.Loads(bytes(operator.CustomOptionsAsNumpy()))
        self._subsets.append([int(i) for i in options["subset_idxs"]])
        points = self._node(
            "Slice", [self._input(inputs[0]), self._ints(0), self._ints(2), self._ints(2)]
        )  # (1, 468, 2)
        points = self._node("Reshape", [points, self._ints(MESH, 2)])
        ends = [
            self._node("Gather", [points, self._ints(options[key])], axis=0)
            for key in ("left_rotation_idx", "right_rotation_idx")
        ]
        along = self._node("Sub", [ends[1], ends[0]])  # (1, 2)
        along = self._node("Div", [along, self._node("ReduceL2", [along], axes=[1], keepdims=1)])
        cosine = self._node("Slice", [along, self._ints(0), self._ints(1), self._ints(1)])  # (1, 1)
        sine = self._node("Slice", [along, self._ints(1), self._ints(2), self._ints(1)])
        minus = self._node("Neg", [sine])
        turn = self._node(
            "Concat",
            [  # rows are the axes of the crop in the picture
                self._node("Concat", [cosine, sine], axis=1),
                self._node("Concat", [minus, cosine], axis=1),
            ],
            axis=0,
        )
        subset = self._node("Gather", [points, self._ints(*self._subsets[-1])], axis=0)
        turned = self._node("MatMul", [subset, self._node("Transpose", [turn], perm=[1, 0])])
        low = self._node("ReduceMin", [turned], axes=[0], keepdims=1)
        high = self._node("ReduceMax", [turned], axes=[0], keepdims=1)
        middle = self._node("Mul", [self._node("Add", [low, high]), self._floats(0.5)])
        centre = self._node("MatMul", [middle, turn])  # (1, 2)
        size = (options["output_width"], options["output_height"])
        step = self._node(
            "Mul",
            [
                self._node("Sub", [high, low]),
                self._store(
                    "c", np.array([[options["scale_x"] / size[0], options["scale_y"] / size[1]]], np.float32)
                ),
            ],
        )  # (1, 2)
        linear = self._node("Mul", [self._node("Transpose", [turn], perm=[1, 0]), step])  # columns scaled
        half = self._store("c", np.array([[size[0] / 2.0], [size[1] / 2.0]], np.float32))
        shift = self._node(
            "Sub", [self._node("Transpose", [centre], perm=[1, 0]), self._node("MatMul", [linear, half])]
        )
        return self._node("Concat", [linear, shift], axis=1)

    def _sample(self, operator: Any, inputs: list[int]) -> str:
        """Bilinear sampling of a feature map through a map, zero outside, corners aligned at half pixels."""
        options = self._flex.Loads(bytes(operator.CustomOptionsAsNumpy()))
        height = options["output_height"]
        width = options["output_width"]
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
        grid = np.stack([columns.ravel(), rows.ravel(), np.ones(height * width, np.float32)])
        _, source_height, source_width, _ = self._shape(inputs[0])
        count = height * width
        at = self._node("MatMul", [self._input(inputs[1]), self._store("c", grid.astype(np.float32))])
        at = self._node("Sub", [at, self._floats(0.5)])  # (2, h w) pixel coordinates, x above y
        # rows of a (H W, C) table are gathered: the runtime's own GridSample takes seven times as long
        if inputs[0] not in self._tables:
            rows_first = self._node("Transpose", [self._input(inputs[0])], perm=[0, 2, 3, 1])
            self._tables[inputs[0]] = self._node(
                "Reshape", [rows_first, self._ints(source_height * source_width, -1)]
            )
        table = self._tables[inputs[0]]
        zero, last = (
            self._floats_scalar(0.0),
            self._store("c", np.array([[source_width - 1.0], [source_height - 1.0]], np.float32)),
        )

        def inward(places: str) -> str:
            return self._node("Max", [self._node("Min", [places, last]), zero])

        inside = self._node("Cast", [self._node("Equal", [at, inward(at)])], to=self._onnx.TensorProto.FLOAT)
        corner = self._node("Floor", [at])
        right = self._node("Mul", [self._node("Sub", [at, corner]), inside])
        shares = self._node("Concat", [self._node("Sub", [inside, right]), right], axis=0)
        shares = self._node("Reshape", [shares, self._ints(2, 2, count)])  # (corner, axis, h w)
        share_x, share_y = (
            self._node("Gather", [shares, self._store("i", np.array(axis, np.int64))], axis=1)
            for axis in (0, 1)
        )
        weight = self._node(
            "Mul",
            [  # of the four corners, x changing fastest
                self._node("Reshape", [share_y, self._ints(2, 1, count)]),
                self._node("Reshape", [share_x, self._ints(1, 2, count)]),
            ],
        )
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)[:, :, None]
        place = inward(self._node("Add", [corner, self._store("c", corners)]))  # (4, 2, h w)
        flat = self._node("MatMul", [self._store("c", np.array([[1.0, source_width]], np.float32)), place])
        index = self._node(
            "Reshape", [self._node("Cast", [flat], to=self._onnx.TensorProto.INT32), self._ints(4, count)]
        )
        weight = self._node("Reshape", [weight, self._ints(4, count, 1)])
        taken = self._node("Mul", [self._node("Gather", [table, index], axis=0), weight])
        result = self._node("ReduceSum", [taken, self._ints(0)], keepdims=0)
        cropped = self._node("Reshape", [result, self._ints(1, height, width, -1)])
        return self._node("Transpose", [cropped], perm=[0, 3, 1, 2])

    def _prelu(self, inputs: list[int]) -> str:
        """max(x, 0) + a min(x, 0) as a x + (1 - a) max(x, 0), the products as depthwise convolutions.

        The runtime's PRelu leaves the blocked layout of its convolutions and is the slowest part of the
        network; this form stays in it.
        """
        slope = self._need(inputs[1]).reshape(-1, 1, 1, 1).astype(np.float32)
        source = self._input(inputs[0])
        part = self._node(
            "Conv",
            [self._node("Relu", [source]), self._store("w", 1.0 - slope)],
            group=len(slope),
            kernel_shape=[1, 1],
        )
        whole = self._node("Conv", [source, self._store("w", slope)], group=len(slope), kernel_shape=[1, 1])
        return self._node("Add", [whole, part])

    def _back(self, inputs: list[int]) -> str:
        """Refined points (1, n, 2) from the crop back through a map."""
        linear = self._node("Slice", [self._input(inputs[1]), self._ints(0), self._ints(2), self._ints(1)])
        shift = self._node("Slice", [self._input(inputs[1]), self._ints(2), self._ints(3), self._ints(1)])
        turned = self._node(
            "MatMul", [self._input(inputs[0]), self._node("Transpose", [linear], perm=[1, 0])]
        )
        return self._node("Add", [turned, self._node("Transpose", [shift], perm=[1, 0])])

    def _scale(self, inputs: list[int]) -> str:
        factor = self._need(inputs[1])
        if factor.shape == (
            1,
            4,
            4,
        ):  # the maps are kept as their first two rows without the unused third column
            factor = factor[0][:2][:, [0, 1, 3]]
        return self._node("Mul", [self._input(inputs[0]), self._store("c", factor.astype(np.float32))])

    def _finish_attention(self, outputs: dict[str, int]) -> None:
        """One (478, 3) array out of the mesh and its refined parts, as mediapipe's landmark refinement does."""
        mesh = self._node("Reshape", [self._input(outputs["output_mesh_identity"]), self._ints(MESH, 3)])
        plane = self._node("Slice", [mesh, self._ints(0), self._ints(2), self._ints(1)])
        depth = self._node("Slice", [mesh, self._ints(2), self._ints(3), self._ints(1)])
        iris = []
        for part, subset in zip(PARTS, self._subsets, strict=True):
            points = self._node(
                "Reshape", [self._input(outputs[f"output_{part}"]), self._ints(len(subset), 2)]
            )
            plane = self._node(
                "ScatterND", [plane, self._store("i", np.array(subset, np.int64)[:, None]), points]
            )
            if part != "lips":
                centre = self._node(
                    "Reshape",
                    [self._input(outputs[f"output_{part.replace('eye', 'iris')}"]), self._ints(5, 2)],
                )
                lid = self._node("Gather", [depth, self._ints(*subset[:EYE_CONTOUR])], axis=0)
                mean = self._node(
                    "Expand", [self._node("ReduceMean", [lid], axes=[0], keepdims=1), self._ints(5, 1)]
                )
                iris.append(self._node("Concat", [centre, mean], axis=1))
        whole = self._node("Concat", [plane, depth], axis=1)
        self._nodes.append(self._onnx.helper.make_node("Concat", [whole, *iris], ["landmarks"], axis=0))
        flag = self._node("Reshape", [self._input(outputs["conv_faceflag"]), self._ints(1)])
        self._nodes.append(self._onnx.helper.make_node("Sigmoid", [flag], ["presence"]))

    # --- the whole

    def convert(self, value_range: tuple[float, float]) -> Any:
        """The ONNX model; pixels 0..255 are mapped to `value_range` first."""
        source = int(self._graph.InputsAsNumpy()[0])
        _, height, width, _ = self._shape(source)
        low, high = value_range
        pixels = self._node(
            "Transpose", ["image"], perm=[0, 3, 1, 2]
        )  # a quarter of the bytes that floats would be
        pixels = self._node("Cast", [pixels], to=self._onnx.TensorProto.FLOAT)
        pixels = self._node("Mul", [pixels, self._floats_scalar((high - low) / 255.0)])
        self._names[source] = self._node("Add", [pixels, self._floats_scalar(low)]) if low else pixels
        for index in range(self._graph.OperatorsLength()):
            self._operator(self._graph.Operators(index))
        outputs = {self._graph.Tensors(t).Name().decode(): int(t) for t in self._graph.OutputsAsNumpy()}
        helper = self._onnx.helper
        kind = self._onnx.TensorProto
        if self._subsets:
            self._finish_attention(outputs)
            described = [("landmarks", [MESH + 10, 3]), ("presence", [1])]
        else:
            described = [(name, self._shape(tensor)) for name, tensor in outputs.items()]
            for name, tensor in outputs.items():
                last = self._input(tensor)
                if len(self._shape(tensor)) == 4:
                    last = self._node("Transpose", [last], perm=[0, 2, 3, 1])
                self._nodes.append(helper.make_node("Identity", [last], [name]))
        graph = helper.make_graph(
            self._nodes,
            "eifer",
            [helper.make_tensor_value_info("image", kind.UINT8, [1, height, width, 3])],
            [helper.make_tensor_value_info(name, kind.FLOAT, shape) for name, shape in described],
            [self._onnx.numpy_helper.from_array(value, name) for name, value in self._initializers.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="eifer"
        )
        model.ir_version = 8
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _operator(self, operator: Any) -> None:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        # the enum outgrew its first field: the larger of the two is the code
        kind = self._operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if kind == "CUSTOM":
            kind = code.CustomCode().decode()
        inputs = [int(i) for i in operator.InputsAsNumpy()]
        output = int(operator.OutputsAsNumpy()[0])
        if kind == "DEQUANTIZE":
            self._constants[output] = self._need(inputs[0])
            return
        supported: dict[str, Callable[[], str]] = {
            "CONV_2D": lambda: self._convolution(operator, inputs, output, False),
            "DEPTHWISE_CONV_2D": lambda: self._convolution(operator, inputs, output, True),
            "RELU": lambda: self._node("Relu", [self._input(inputs[0])]),
            "PRELU": lambda: self._prelu(inputs),
            "ADD": lambda: self._activate(
                self._node("Add", [self._input(i) for i in inputs]),
                self._options(operator, "AddOptions").FusedActivationFunction(),
            ),
            "PAD": lambda: self._pad(inputs),
            "MAX_POOL_2D": lambda: self._pool(operator, inputs, output),
            "RESHAPE": lambda: self._reshape(inputs, output),
            "CONCATENATION": lambda: self._concatenate(operator, inputs, output),
            "MUL": lambda: self._scale(inputs),
            "STRIDED_SLICE": lambda: self._whole(inputs, output),
            "Landmarks2TransformMatrix": lambda: self._box_map(operator, inputs),
            "TransformTensorBilinear": lambda: self._sample(operator, inputs),
            "TransformLandmarks": lambda: self._back(inputs),
        }
        if kind not in supported:
            raise ModelError(f"operator {kind} is not known; known are {', '.join(sorted(supported))}")
        self._names[output] = supported[kind]()

    def _whole(self, inputs: list[int], output: int) -> str:
        if self._shape(inputs[0]) != self._shape(output):
            raise ModelError("a strided slice that leaves something out is not known")
        return self._input(inputs[0])


def convert(source: Path, target: Path, value_range: tuple[float, float] = (0.0, 1.0)) -> None:
    """Read `source` (.tflite), write `target` (.onnx). Errors: InputError, ModelError, MissingExtra."""
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror or error})") from None
    model = Converter(data).convert(value_range)
    target.write_bytes(model.SerializeToString())


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the converter."""
    options = parser(__doc__)
    options.add_argument("source", type=Path)
    options.add_argument("target", type=Path)
    options.add_argument(
        "--range", type=float, nargs=2, default=(0.0, 1.0), help="what pixel values 0 and 255 become"
    )
    values = options.parse_args(arguments)
    convert(values.source, values.target, tuple(values.range))


if __name__ == "__main__":
    run(main)
