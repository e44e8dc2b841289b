"""A head model as one binary block for a page that draws it itself: a JSON header and the arrays behind it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..head.model import HeadModel
from ..render.head_sheet import Studio
from ..types import F32, Array


def pack(header: dict[str, Any], arrays: dict[str, Array]) -> bytes:
    """uint32 length of the header, the header (JSON, padded to 4 bytes), the arrays one behind the other,
    each padded to 4 bytes.

    The header's `arrays` gives name, type (`f4 f2 u1 u2 u4`) and shape of each.
    """
    entries = []
    blobs = []
    for name, array in arrays.items():
        kind = {"float32": "f4", "float16": "f2", "uint8": "u1", "uint16": "u2", "uint32": "u4"}[
            array.dtype.name
        ]
        entries.append({"name": name, "type": kind, "shape": list(array.shape)})
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        blobs.append(data + bytes(-len(data) % 4))
    text = json.dumps({**header, "arrays": entries}).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([len(text).to_bytes(4, "little"), text, *blobs])


def head_block(head: HeadModel, shape: F32 | None) -> bytes:
    """Resting vertices of the person (shape baked in), triangles, colours and the expression displacements of
    every vertex that moves.

    Displacements are float16 (E, V, 3) in units of 1/10 mm, so that none is lost to rounding that could be
    seen.
    """
    studio = Studio(head)
    basis = np.transpose(head.expression_basis, (2, 0, 1))
    eyes = []
    for name in ("eye_left", "eye_right"):
        if name in head.joints:
            joint = head.joints.index(name)
            centre = head.joint_positions(shape)[joint]
            eyes.append(
                {
                    "vertices": np.flatnonzero(head.skin_weights[:, joint] > 0.5).tolist(),
                    "centre": centre.tolist(),
                }
            )
    skin = head.template[head.parts == 0]
    pivot = [
        float(studio.centre[0]),
        float(studio.centre[1]) - 0.01,
        float(skin[:, 2].min() + skin[:, 2].max()) / 2,
    ]
    header = {
        "id": head.id,
        "expression": list(head.expression_names),
        "centre": [float(x) for x in studio.centre],
        "pivot": pivot,
        "eyes": eyes,
    }
    indices = head.faces.astype(np.uint16 if len(head.template) < 65536 else np.uint32)
    return pack(
        header,
        {
            "vertices": head.neutral(shape).astype(np.float32),
            "faces": indices,
            "colours": np.round(255 * studio.colours).astype(np.uint8),
            "skin": (head.parts == 0).astype(np.uint8),
            "basis": (1e4 * basis).astype(np.float16),
        },
    )
