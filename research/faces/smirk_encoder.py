"""SMIRK's encoder (Retsinas et al., CVPR 2024), written anew with the parameter names of its published
checkpoint.

Three MobileNetV3-minimal trunks (Howard et al. 2019, "Searching for MobileNetV3"; the minimalistic variants:
3 x 3 kernels, ReLU, no squeeze-and-excitation) as converted from TensorFlow, known as
`tf_mobilenetv3_small_minimal_100` (head rotation and camera) and `tf_mobilenetv3_large_minimal_100` (shape;
expression, lids and jaw). TensorFlow's padding: a convolution of stride 2 pads at the far end first, so that
224 pixels pad nothing at the top and left; batch normalisation with epsilon 0.001.

A checkpoint is read with torch's restricted loader: it can hold tensors, not programs. What it gives are
FLAME coefficients, so it belongs to an imported FLAME head (`eifer head import-flame`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from eifer_ros.errors import MissingExtra, ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.reconstruction.encoder.smirk_estimator import MARGIN, OUTPUTS, SIZE, UPRIGHT
from eifer_ros.training.tensors import check_names, read_tensors

N_SHAPE = 300
N_EXPRESSION = 50
PREFIX = "smirk_encoder."
EPSILON = 1e-3

_Stage = tuple[tuple[int, int, int], ...]
"""Blocks of one stage: (stride, expanded channels, output channels)."""

SMALL: tuple[_Stage, ...] = (
    ((2, 16, 16),),
    ((2, 72, 24), (1, 88, 24)),
    ((2, 96, 40), (1, 240, 40), (1, 240, 40)),
    ((1, 120, 48), (1, 144, 48)),
    ((2, 288, 96), (1, 576, 96), (1, 576, 96)),
)
LARGE: tuple[_Stage, ...] = (
    ((1, 16, 16),),
    ((2, 64, 24), (1, 72, 24)),
    ((2, 72, 40), (1, 120, 40), (1, 120, 40)),
    ((2, 240, 80), (1, 200, 80), (1, 184, 80), (1, 184, 80)),
    ((1, 480, 112), (1, 672, 112)),
    ((2, 672, 160), (1, 960, 160), (1, 960, 160)),
)
SMALL_WIDTH = 576
LARGE_WIDTH = 960


class _Conv(nn.Conv2d):  # type: ignore[misc, unused-ignore]
    """A convolution without bias that pads as TensorFlow does ("same"): what is odd goes to the right and to
    the bottom.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel = self.kernel_size[0]
        stride = self.stride[0]
        if kernel > 1:
            (top, bottom), (left, right) = (_same(int(side), kernel, stride) for side in x.shape[2:])
            x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=EPSILON)


class _Separable(nn.Module):  # type: ignore[misc, unused-ignore]
    """Depthwise, then pointwise: the first stage."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _Conv(inputs, inputs, 3, stride, inputs)
        self.bn1 = _norm(inputs)
        self.conv_pw = _Conv(inputs, outputs)
        self.bn2 = _norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn2(self.conv_pw(torch.relu(self.bn1(self.conv_dw(x)))))
        return x + y if self.skip else y


class _Inverted(nn.Module):  # type: ignore[misc, unused-ignore]
    """Widen, depthwise, narrow (Sandler et al. 2018)."""

    def __init__(self, inputs: int, expanded: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_pw = _Conv(inputs, expanded)
        self.bn1 = _norm(expanded)
        self.conv_dw = _Conv(expanded, expanded, 3, stride, expanded)
        self.bn2 = _norm(expanded)
        self.conv_pwl = _Conv(expanded, outputs)
        self.bn3 = _norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn2(self.conv_dw(torch.relu(self.bn1(self.conv_pw(x))))))
        out: torch.Tensor = self.bn3(self.conv_pwl(y))
        return x + out if self.skip else out


class _Last(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = _Conv(inputs, outputs)
        self.bn1 = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn1(self.conv(x)))


class MobileNetV3Minimal(nn.Module):  # type: ignore[misc, unused-ignore]
    """The trunk: (N, 3, H, W) to (N, width), the mean over the last feature map."""

    def __init__(self, stages: tuple[_Stage, ...], width: int) -> None:
        super().__init__()
        self.conv_stem = _Conv(3, 16, 3, 2)
        self.bn1 = _norm(16)
        channels = 16
        built = []
        for number, stage in enumerate(stages):
            blocks: list[nn.Module] = []
            for stride, expanded, outputs in stage:
                blocks.append(
                    _Separable(channels, outputs, stride)
                    if number == 0
                    else _Inverted(channels, expanded, outputs, stride)
                )
                channels = outputs
            built.append(nn.Sequential(*blocks))
        built.append(nn.Sequential(_Last(channels, width)))
        self.blocks = nn.Sequential(*built)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(torch.relu(self.bn1(self.conv_stem(picture)))).mean(dim=(2, 3))
        return features


class _Branch(nn.Module):  # type: ignore[misc, unused-ignore]
    """A trunk and one linear layer, under the name that the checkpoint gives it."""

    def __init__(self, stages: tuple[_Stage, ...], width: int, layers: str, outputs: int) -> None:
        super().__init__()
        self.encoder = MobileNetV3Minimal(stages, width)
        self._layers = layers
        self.add_module(layers, nn.Sequential(nn.Linear(width, outputs)))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self.get_submodule(self._layers)(self.encoder(picture))
        return values


class SmirkEncoder(nn.Module):  # type: ignore[misc, unused-ignore]
    """(N, 3, 224, 224) RGB 0..1 to FLAME coefficients.

    Returns `shape` (N, 300), `expression` (N, 50), `eyelids` (N, 2) 0..1, `jaw` (N, 3) axis-angle (opening
    not negative, the other two within 0.2 rad), `rotation` (N, 3) axis-angle of the head, `camera` (N, 3):
    scale, shift right, shift up of an orthographic camera over a crop of -1..1.
    """

    def __init__(self, n_shape: int = N_SHAPE, n_expression: int = N_EXPRESSION) -> None:
        super().__init__()
        self.n_shape = n_shape
        self.n_expression = n_expression
        self.pose_encoder = _Branch(SMALL, SMALL_WIDTH, "pose_cam_layers", 6)
        self.shape_encoder = _Branch(LARGE, LARGE_WIDTH, "shape_layers", n_shape)
        self.expression_encoder = _Branch(LARGE, LARGE_WIDTH, "expression_layers", n_expression + 5)

    def forward(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        """(N, 3, H, W) RGB 0..1 to the outputs named in the class."""
        pose = self.pose_encoder(picture)
        rest = self.expression_encoder(picture)
        n = self.n_expression
        jaw = torch.cat([torch.relu(rest[:, n + 2 : n + 3]), torch.clamp(rest[:, n + 3 :], -0.2, 0.2)], dim=1)
        return {
            "shape": self.shape_encoder(picture),
            "expression": rest[:, :n],
            "eyelids": torch.clamp(rest[:, n : n + 2], 0.0, 1.0),
            "jaw": jaw,
            "rotation": pose[:, :3],
            "camera": pose[:, 3:],
        }


def load_checkpoint(path: Path) -> SmirkEncoder:
    """The encoder in SMIRK's checkpoint at `path`. No code in the file is run.

    Raises InputError for a file that is missing or no checkpoint, ModelError for a checkpoint that holds
    programs or belongs to another architecture.
    """
    weights = _encoder_weights(path, read_tensors(path))
    sizes = {
        name: weights.get(name)
        for name in ("shape_encoder.shape_layers.0.weight", "expression_encoder.expression_layers.0.weight")
    }
    n_shape, n_rest = (len(value) if value is not None and value.ndim == 2 else 0 for value in sizes.values())
    if n_shape < 1 or n_rest < 6:
        missing = (
            ", ".join(name for name, value in sizes.items() if value is None)
            or "its output layers have no usable size"
        )
        raise ModelError(f"{path}: not SMIRK's encoder: {missing}")
    encoder = SmirkEncoder(n_shape, n_rest - 5)
    check_names(path, "SMIRK's encoder", encoder.state_dict(), weights)
    encoder.load_state_dict(weights)
    encoder.eval()
    return encoder


def _encoder_weights(path: Path, content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    inner = content.get("state_dict", content)
    if not isinstance(inner, Mapping):
        raise ModelError(f"{path}: its 'state_dict' is no table of tensors")
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, torch.Tensor)}
    encoder_tensors = {
        name[len(PREFIX) :]: value for name, value in tensors.items() if name.startswith(PREFIX)
    }
    return encoder_tensors or tensors


def check_head(encoder: SmirkEncoder, head: HeadModel) -> None:
    """Raise ModelError where `head` cannot take the encoder's coefficients: it must be a FLAME head with
    eyelids.
    """
    needs = (
        ("shape", encoder.n_shape, head.shape_size),
        ("expression", encoder.n_expression, head.expression_size),
    )
    for what, mine, theirs in needs:
        if mine > theirs:
            words = f"the checkpoint gives {mine} {what} coefficients; head model '{head.id}' has {theirs}"
            raise ModelError(f"{words}: import FLAME (eifer head import-flame)")
    if "jaw" not in head.joints or head.pose_basis is None:
        raise ModelError(
            f"head model '{head.id}' is not a FLAME head; SMIRK's coefficients mean nothing to it (eifer head import-flame)"
        )


class _Flat(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, encoder: SmirkEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.encoder(picture)
        return tuple(outputs[name] for name in OUTPUTS)


def export(
    encoder: SmirkEncoder, path: Path, head: HeadModel, about: Mapping[str, object] | None = None
) -> None:
    """Write `encoder` as ONNX: `picture` (n, 3, 224, 224) RGB 0..1 to `OUTPUTS`; what they mean is in the
    metadata `eifer`.

    Raises ModelError where `head` cannot take its coefficients, MissingExtra without `onnx`.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingExtra("onnx", "train", "storing a network") from None
    check_head(encoder, head)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.onnx")
    torch.onnx.export(
        _Flat(encoder).eval(),
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(partial),
        input_names=["picture"],
        output_names=list(OUTPUTS),
        dynamic_axes={name: {0: "n"} for name in ("picture", *OUTPUTS)},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(partial))
    content = {
        "kind": "smirk_encoder",
        "size": SIZE,
        "margin": MARGIN,
        "crop": UPRIGHT,
        "head_model": head.id,
        "head_fingerprint": fingerprint(head),
        "shape_size": encoder.n_shape,
        "expression_size": encoder.n_expression,
        **(about or {}),
    }
    model.metadata_props.add(key="eifer", value=json.dumps(content))
    onnx.checker.check_model(model)
    onnx.save(model, str(partial))
    partial.replace(path)
