"""The encoder that phase 1 starts from: a run's `encoder.pt`, SMIRK's checkpoint, or the shipped ONNX file
turned back into weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from eifer_ros import resources
from eifer_ros.errors import InputError, MissingExtra, ModelError
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import HeadModel
from eifer_ros.head.torch_model import TorchHead
from eifer_ros.reconstruction.encoder.face_encoder import ENCODER
from eifer_ros.training.tensors import check_names, read_tensors
from research.faces.face_encoder import FaceEncoder
from research.faces.face_models import FaceModel, OpenFace, SmirkFace
from research.faces.smirk_encoder import SmirkEncoder, load_checkpoint


def load_start(path: Path | None, head: HeadModel) -> FaceEncoder | SmirkEncoder:
    """The encoder in the file `path`, or the one in models/ where that is None.

    Raises InputError or ModelError for a file that is missing, damaged, of another architecture, or made for
    another head model.
    """
    source = resources.model(ENCODER) if path is None else path
    if not source.is_file():
        raise InputError(f"{source}: no such encoder")
    encoder: FaceEncoder | SmirkEncoder
    if source.suffix == ".onnx":
        encoder = from_onnx(source, head)
    else:
        content = read_tensors(source)
        encoder = _from_run(source, content) if "widths" in content else load_checkpoint(source)
    if isinstance(encoder, FaceEncoder) and (encoder.expression_size, encoder.shape_size) != (
        head.expression_size,
        head.shape_size,
    ):
        raise ModelError(
            f"{source}: gives {encoder.expression_size} expression and {encoder.shape_size} shape coefficients; head model '{head.id}' has "
            f"{head.expression_size} and {head.shape_size}: an encoder belongs to the head model it was trained with"
        )
    return encoder


def _from_run(path: Path, content: dict[str, Any]) -> FaceEncoder:
    try:
        encoder = FaceEncoder(int(content["sizes"][0]), int(content["sizes"][1]), tuple(content["widths"]))
        weights = content["average"]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"{path}: not a face encoder of a training run ({error} is missing or wrong)"
        ) from None
    check_names(path, "a face encoder", encoder.state_dict(), weights)
    encoder.load_state_dict(weights)
    return encoder


def from_onnx(path: Path, head: HeadModel) -> FaceEncoder:
    """The weights of an exported face encoder.

    Its normalisations were merged into the convolutions; here they become plain shifts.

    Raises ModelError for another network.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError:
        raise MissingExtra("onnx", "train", "training from an exported network") from None
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base
        raise ModelError(f"{path}: not a readable network ({type(error).__name__})") from None
    about = json.loads(next((one.value for one in model.metadata_props if one.key == "eifer"), "{}"))
    if about.get("kind") != "face_encoder":
        raise ModelError(f"{path}: not a face encoder of eifer")
    if about.get("head_model") != head.id or about.get("head_fingerprint") != fingerprint(head):
        raise ModelError(
            f"{path}: was trained for head model '{about.get('head_model')}'; this is '{head.id}' or another version of it"
        )
    values = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    layers = [
        [torch.from_numpy(np.array(values[name], np.float32)) for name in node.input[1:3] if name in values]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    widths = [int(layers[i][0].shape[0]) for i in (0, 1, 4, 9)] if len(layers) > 9 else []
    sizes = head.expression_size, head.shape_size
    encoder = FaceEncoder(*sizes, (widths[0], widths[1], widths[2], widths[3])) if widths else None
    if encoder is None or not _fill(encoder, layers):
        raise ModelError(f"{path}: its layers are not those of this version's face encoder")
    encoder.eval()
    return encoder


def _fill(encoder: FaceEncoder, layers: list[list[torch.Tensor]]) -> bool:
    """Put layers, in the order in which they are computed, into the network; False where they do not fit."""
    modules = [
        module for module in encoder.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    ]
    filters = [module for module in modules if not isinstance(module, nn.BatchNorm2d)]
    norms = iter([module for module in modules if isinstance(module, nn.BatchNorm2d)])
    if len(filters) != len(layers):
        return False
    with torch.no_grad():
        for module, layer in zip(filters, layers, strict=True):
            if len(layer) != 2 or layer[0].shape != module.weight.shape:
                return False
            module.weight.copy_(layer[0])
            if isinstance(module, nn.Linear):
                module.bias.copy_(layer[1])
                continue
            norm = next(norms)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
            norm.weight.fill_(1.0)
            norm.bias.copy_(layer[1])
    return True


def face_model(
    encoder: FaceEncoder | SmirkEncoder, head: HeadModel, device: torch.device
) -> Callable[[], FaceModel]:
    """Makes copies of the start encoder, ready to be trained on `head`."""
    torch_head = TorchHead(head, device)

    def make() -> FaceModel:
        fresh = copy.deepcopy(encoder)
        return OpenFace(fresh, torch_head) if isinstance(fresh, FaceEncoder) else SmirkFace(fresh, torch_head)

    return make
