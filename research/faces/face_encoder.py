"""The network that reads a face, bare or under sensors: one picture of a tracked crop in; expression, points,
rotation, shape out.

Plain 3 x 3 convolutions with residuals (He et al. 2016) on 128 x 128 pixels. It is small because it runs in
every frame on one core, and dense because dense convolutions train faster than depthwise ones of a quarter
the size on a CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from eifer_ros.errors import ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, POINTS, SIZE

WIDTHS = (16, 32, 64, 128)
OUTPUTS = ("expression", "expression_std", "landmarks", "rotation", "shape", "readable")


class _Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(inner)))


def _halve(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class FaceEncoder(nn.Module):  # type: ignore[misc, unused-ignore]
    """(N, 3, SIZE, SIZE) RGB 0..1 of a face crop to what is seen of the face.

    Returns `expression` (N, E), not clipped, and `expression_log_std` (N, E); `landmarks` (N, L, 2) of
    `face_crop.POINTS` in crop units 0..1; `rotation` (N, 3, 3) of the head along the ray through the crop;
    `shape` (N, S); `readable` (N,) logit.
    """

    def __init__(
        self, expression_size: int = 52, shape_size: int = 60, widths: tuple[int, int, int, int] = WIDTHS
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.expression_size = expression_size
        self.shape_size = shape_size
        self.widths = tuple(widths)
        self.trunk = nn.Sequential(
            _halve(3, a, 5),
            _halve(a, b),
            _Residual(b),
            _halve(b, c),
            _Residual(c),
            _Residual(c),
            _halve(c, d),
            _Residual(d),
            _Residual(d),
        )
        self.squeeze = nn.Sequential(
            nn.Conv2d(d, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU(inplace=True)
        )
        side = SIZE // 16
        self.mix = nn.Sequential(nn.Flatten(), nn.Linear(48 * side * side, 384), nn.ReLU(inplace=True))
        self.sizes = (expression_size, expression_size, 2 * len(POINTS), 6, shape_size, 1)
        self.heads = nn.Linear(384, sum(self.sizes))

    def features(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, 384)."""
        return self.mix(self.squeeze(self.trunk((picture - 0.45) * 4.0)))

    def forward(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, SIZE, SIZE) RGB 0..1 to the outputs named in the class."""
        expression, log_std, flat, six, shape, readable = torch.split(
            self.heads(self.features(picture)), self.sizes, dim=1
        )
        return {
            "expression": 0.25 * expression,
            "expression_log_std": log_std - 2.0,
            "landmarks": 0.5 + 0.25 * flat.reshape(-1, len(POINTS), 2),
            "rotation": rotation_of(six),
            "shape": shape,
            "readable": readable[:, 0],
        }


def rotation_of(six: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) from six numbers by Gram-Schmidt (Zhou et al.

    2019), around the rotation of a face that looks at the camera.
    """
    first = six[:, :3] * 0.25 + six.new_tensor([1.0, 0.0, 0.0])
    second = six[:, 3:] * 0.25 + six.new_tensor([0.0, -1.0, 0.0])
    x = first / torch.linalg.norm(first, dim=1, keepdim=True).clamp_min(1e-6)
    y = second - (x * second).sum(1, keepdim=True) * x
    y = y / torch.linalg.norm(y, dim=1, keepdim=True).clamp_min(1e-6)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=2)


class _Exported(nn.Module):  # type: ignore[misc, unused-ignore]
    """What runs later: bounds applied, deviations and probabilities instead of logs and logits."""

    def __init__(self, encoder: FaceEncoder, lower: torch.Tensor, upper: torch.Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("lower", lower)
        self.register_buffer("upper", upper)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.encoder(picture)
        lower: Any = self.lower
        upper: Any = self.upper
        return (
            torch.minimum(torch.maximum(outputs["expression"], lower), upper),
            torch.exp(outputs["expression_log_std"]),
            outputs["landmarks"],
            outputs["rotation"],
            outputs["shape"],
            torch.sigmoid(outputs["readable"]),
        )


def export(encoder: FaceEncoder, head: HeadModel, path: Path, about: dict[str, object]) -> None:
    """Write `encoder` as ONNX with half-precision weights. `about`: what the model card says of its training.

    Raises ModelError where the encoder was made for another head model.
    """
    import onnx

    if (encoder.expression_size, encoder.shape_size) != (head.expression_size, head.shape_size):
        mine = (encoder.expression_size, encoder.shape_size)
        theirs = (head.expression_size, head.shape_size)
        raise ModelError(
            f"the encoder gives {mine} expression and shape coefficients; head model '{head.id}' has {theirs}"
        )
    bounds = torch.as_tensor(head.expression_bounds, dtype=torch.float32)
    module = _Exported(encoder.to(memory_format=torch.contiguous_format), bounds[:, 0], bounds[:, 1]).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.onnx")
    torch.onnx.export(
        module,
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(partial),
        input_names=["picture"],
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "n"} for name in ("picture", *OUTPUTS)},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    halve_weights(model)
    content = {
        "kind": "face_encoder",
        "size": SIZE,
        "margin": MARGIN,
        "points": list(POINTS),
        "head_model": head.id,
        "head_fingerprint": fingerprint(head),
        **about,
    }
    model.metadata_props.add(key="eifer", value=json.dumps(content))
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    partial.replace(path)


def halve_weights(model: Any) -> None:
    """Store the large weights of an ONNX model in half precision, cast to single when it is loaded: half the
    file, the same speed.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    casts = []
    for weights in list(graph.initializer):
        values = numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < 512 or np.abs(values).max() > 6e4:
            continue
        name = weights.name
        half = numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        graph.initializer.remove(weights)
        graph.initializer.append(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
