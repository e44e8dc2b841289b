"""Small encoders as ONNX files: they find a bright blob and lay a resting face over it, through the whole
interface of the real one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from eifer_ros.head import projection
from eifer_ros.head.fingerprint import fingerprint
from eifer_ros.head.model import load_head
from eifer_ros.reconstruction.encoder.face_crop import MARGIN, POINTS, SIZE, crop_of


def resting_layout(head, pose=None, K=None):
    """(L, 2) crop units, and (3, 3) rotation, of the resting head straight ahead."""
    K = np.array([[600.0, 0, 320], [0, 600, 240], [0, 0, 1]]) if K is None else K
    centre = head.points(head.template)[4]
    pose = projection.facing_pose(0.6, centre=centre) if pose is None else pose
    flat = projection.project(head.points(head.template)[list(POINTS)].astype(np.float64), pose, K)[:, :2]
    crop = crop_of(flat)
    matrix = crop.matrix(1)
    return np.linalg.solve(matrix[:, :2], (flat - matrix[:, 2]).T).T, pose[:3, :3]


def about(head, **changes):
    """What an encoder's file says about itself."""
    values = {
        "kind": "face_encoder",
        "size": SIZE,
        "margin": MARGIN,
        "points": list(POINTS),
        "head_model": head.id,
        "head_fingerprint": fingerprint(head),
        "trained": "never",
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def blob_encoder(path: Path, *, std=0.1, sizes=None, drop=(), **changes) -> Path:
    """Landmarks of a resting face centred on the brightness, readable as bright as the picture is; `changes`
    to what it says of itself.

    sizes: other sizes of outputs by name; drop: outputs left out.
    """
    head = load_head()
    layout, rotation = resting_layout(head)
    sizes = {"expression": head.expression_size, "shape": head.shape_size} | (sizes or {})
    steps = (np.arange(SIZE, dtype=np.float32)) / SIZE
    constants = {
        "columns": steps.reshape(1, 1, 1, SIZE),
        "rows": steps.reshape(1, 1, SIZE, 1),
        "tiny": np.float32(1e-4),
        "layout": (layout - 0.5).astype(np.float32)[None],
        "turn": rotation.astype(np.float32)[None],
        "rest": np.full((1, sizes["expression"]), 0.1, np.float32),
        "spread": np.full((1, sizes["expression"]), std, np.float32),
        "usual": np.zeros((1, sizes["shape"]), np.float32),
        "gain": np.float32(8.0),
        "nought": np.float32(0),
        "one": np.float32(1),
        "axes": np.array([1, 2, 3], np.int64),
        "pair": np.array([-1, 1, 2], np.int64),
        "flat": np.array([-1], np.int64),
        "single": np.array([-1, 1], np.int64),
        "block": np.array([-1, 1, 1], np.int64),
    }
    # fmt: off
    nodes = [
        ("Mul", ["picture", "columns"], "px"), ("Mul", ["picture", "rows"], "py"),
        ("ReduceMean", ["picture", "axes"], "light", 0), ("ReduceMean", ["px", "axes"], "sx", 0), ("ReduceMean", ["py", "axes"], "sy", 0),
        ("Add", ["light", "tiny"], "safe"), ("Div", ["sx", "safe"], "cx"), ("Div", ["sy", "safe"], "cy"),
        ("Reshape", ["cx", "single"], "cx1"), ("Reshape", ["cy", "single"], "cy1"), ("Concat", ["cx1", "cy1"], "cxy", 1),
        ("Reshape", ["cxy", "pair"], "centre"), ("Add", ["layout", "centre"], "landmarks"),
        ("Mul", ["light", "gain"], "bright"), ("Clip", ["bright", "nought", "one"], "readable"), ("Mul", ["light", "nought"], "none"),
        ("Reshape", ["none", "single"], "none1"), ("Reshape", ["none", "block"], "none2"),
        ("Add", ["rest", "none1"], "expression"), ("Add", ["spread", "none1"], "expression_std"), ("Add", ["usual", "none1"], "shape"),
        ("Add", ["turn", "none2"], "rotation"),
    ]
    # fmt: on
    made = []
    for operator, inputs, output, *option in nodes:
        extra = (
            {"keepdims": option[0]}
            if operator == "ReduceMean"
            else {"axis": option[0]}
            if operator == "Concat"
            else {}
        )
        made.append(helper.make_node(operator, inputs, [output], **extra))
    shapes = {
        "expression": ["n", sizes["expression"]],
        "expression_std": ["n", sizes["expression"]],
        "landmarks": ["n", len(POINTS), 2],
        "rotation": ["n", 3, 3],
        "shape": ["n", sizes["shape"]],
        "readable": ["n"],
    }
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
        if name not in drop
    ]
    graph = helper.make_graph(
        made,
        "blob",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"eifer": json.dumps(about(head, **changes))})
    save(model, str(path))
    return path


def blob(size=(240, 320), at=(160, 120), radius=30, noise=8.0):
    """A bright uneven blob on black: (H, W, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    light = 190.0 * np.exp(-(((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2.0 * radius**2)))
    image = light[..., None] + rng.normal(0.0, noise, (*size, 3)) * (light[..., None] > 2)
    return np.clip(image, 0, 255).astype(np.uint8)
