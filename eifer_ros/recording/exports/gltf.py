"""An animated head as binary glTF 2.0 (`.glb`): Blender, three.js, Unreal and Windows open it.

One mesh of the person's neutral head; expression coefficients (and lids, where the head has a basis for them)
as morph targets with their names; root, neck, jaw and eyes as a skin; one animation with weights, joint
rotations and head pose. Metres, y up, as glTF wants. Morph targets are added before skinning, exactly as the
head model does it; two things glTF has no word for: FLAME's pose-dependent correctives (left out, said in the
report) and lid offsets added after skinning (added before it here).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ...errors import InputError
from ...head.model import HeadModel
from ...head.projection import FACING
from ...render.head_sheet import colours
from ...types import F32, NS, Array, FaceState, FaceStatus, Floats

FLOAT = 5126
UINT = 5125
USHORT = 5123
_SIZE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
ARRAY_BUFFER = 34962
ELEMENT_BUFFER = 34963


@dataclass
class _Document:
    """The JSON part and the binary part as they grow."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add(
        self,
        array: Array,
        *,
        target: int | None = None,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        """Store an array (N,) or (N, K); returns the accessor's index."""
        code = {np.dtype(np.float32): FLOAT, np.dtype(np.uint32): UINT, np.dtype(np.uint16): USHORT}[
            array.dtype
        ]
        self.data += b"\0" * (-len(self.data) % 4)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes}
        if target is not None:
            view["target"] = target
        self.views.append(view)
        self.data += np.ascontiguousarray(array).tobytes()
        width = 1 if array.ndim == 1 else array.shape[1]
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": code,
            "count": len(array),
            "type": _SIZE[width],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _quaternions(vectors: npt.ArrayLike) -> F32:
    """(T, 4) x, y, z, w of (T, 3) axis-angle rad, signs chosen so that neighbours interpolate the short way."""
    turns = Rotation.from_rotvec(np.asarray(vectors, np.float64)).as_quat()
    for index in range(1, len(turns)):
        if turns[index] @ turns[index - 1] < 0:
            turns[index] = -turns[index]
    return np.asarray(turns, np.float32)


def export_gltf(
    states: Sequence[FaceState], head: HeadModel, path: Path, *, pose: bool = True
) -> dict[str, Any]:
    """Faces of `head` as an animation, one key per face; lost faces are left out and the face in between is
    interpolated.

    pose: let the head move as before the camera, relative to its first pose. Returns what is in the file.
    Raises InputError where no face was seen or the file exists.
    """
    tracked = [
        state for state in states if state.status != FaceStatus.LOST and np.isfinite(state.expression).all()
    ]
    if not tracked:
        raise InputError(f"{path}: no face to animate; every face of the recording is lost")
    if path.exists():
        raise InputError(f"{path}: exists; an export is never overwritten, give another --out")
    for state in tracked:
        if state.head_model != head.id:
            raise InputError(f"a face of head model '{state.head_model}' was given to '{head.id}'")
    shape = np.median(np.stack([np.nan_to_num(state.shape) for state in tracked]), axis=0)
    document = _Document()
    names = list(head.expression_names) + (
        ["eyelid.left", "eyelid.right"] if head.eyelid_basis is not None else []
    )
    mesh = _mesh(document, head, shape, names)
    nodes, joints, skin = _skeleton(document, head, shape)
    keys = _keys(document, tracked, head, pose)
    # fmt: off
    gltf = {
        "asset": {"version": "2.0", "generator": "eifer", "copyright": head.licence},
        "scene": 0, "scenes": [{"nodes": [0, 1]}], "nodes": nodes, "meshes": [mesh], "skins": [skin], "animations": [keys],
        "materials": [{"name": "face", "doubleSided": True, "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.7}}],
        "accessors": document.accessors, "bufferViews": document.views, "buffers": [{"byteLength": len(document.data)}],
    }
    # fmt: on
    _write(path, gltf, bytes(document.data))
    left_out = ["pose-dependent correctives"] if head.pose_basis is not None else []
    return {
        "frames": len(tracked),
        "lost": len(states) - len(tracked),
        "morph_targets": len(names),
        "joints": len(joints),
        "vertices": len(head.template),
        "left_out": left_out,
        "bytes": path.stat().st_size,
    }


def _mesh(document: _Document, head: HeadModel, shape: Floats, names: list[str]) -> dict[str, Any]:
    neutral = np.asarray(head.neutral(shape), np.float32)
    weights, joints = _strongest_four(head.skin_weights)
    corners = neutral[head.faces]
    normals = np.zeros_like(neutral)
    np.add.at(
        normals,
        head.faces.ravel(),
        np.repeat(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), 3, axis=0),
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0]).astype(
        np.float32
    )
    # vertex colours are linear in glTF, those of the pictures are sRGB
    attributes = {
        "POSITION": document.add(neutral, target=ARRAY_BUFFER, bounds=True),
        "NORMAL": document.add(normals, target=ARRAY_BUFFER),
        "COLOR_0": document.add(np.asarray(colours(head) ** 2.2, np.float32), target=ARRAY_BUFFER),
        "JOINTS_0": document.add(joints, target=ARRAY_BUFFER),
        "WEIGHTS_0": document.add(weights, target=ARRAY_BUFFER),
    }
    if head.uv is not None:
        down = np.stack([head.uv[:, 0], 1 - head.uv[:, 1]], axis=1)  # glTF counts v from the top
        attributes["TEXCOORD_0"] = document.add(down.astype(np.float32), target=ARRAY_BUFFER)
    bases = [head.expression_basis] + ([head.eyelid_basis] if head.eyelid_basis is not None else [])
    offsets = np.concatenate(bases, axis=2)
    targets = [
        {
            "POSITION": document.add(
                np.ascontiguousarray(offsets[:, :, index], np.float32), target=ARRAY_BUFFER, bounds=True
            )
        }
        for index in range(offsets.shape[2])
    ]
    indices = document.add(head.faces.astype(np.uint32).ravel(), target=ELEMENT_BUFFER)
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "targets": targets}
    return {
        "name": head.id,
        "primitives": [primitive],
        "weights": [0.0] * len(targets),
        "extras": {"targetNames": names},
    }


def _strongest_four(
    weights: F32,
) -> tuple[F32, npt.NDArray[np.uint16]]:
    """The four greatest skin weights of each vertex, summing to 1, and their joints."""
    order = np.argsort(-weights, axis=1)[:, :4]
    best = np.take_along_axis(weights, order, axis=1)
    if order.shape[1] < 4:
        pad = 4 - order.shape[1]
        order = np.pad(order, ((0, 0), (0, pad)))
        best = np.pad(best, ((0, 0), (0, pad)))
    order[best == 0] = 0
    return (best / best.sum(axis=1, keepdims=True)).astype(np.float32), order.astype(np.uint16)


def _skeleton(
    document: _Document, head: HeadModel, shape: Floats
) -> tuple[list[dict[str, Any]], list[int], dict[str, Any]]:
    """Node 0 carries the head pose and the joints, node 1 the mesh, which only the joints move."""
    places = head.joint_positions(shape).astype(np.float64)
    first = 2
    nodes: list[dict[str, Any]] = [{"name": "head"}, {"name": head.id, "mesh": 0, "skin": 0}]
    for index, name in enumerate(head.joints):
        parent = int(head.parents[index])
        offset = places[index] - (places[parent] if parent >= 0 else 0.0)
        nodes.append({"name": name, "translation": offset.tolist()})
        above = nodes[first + parent] if parent >= 0 else nodes[0]
        above.setdefault("children", []).append(first + index)
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(places), 1, 1))
    inverse[:, :3, 3] = -places
    matrices = document.add(
        np.ascontiguousarray(inverse.transpose(0, 2, 1)).reshape(-1, 16)
    )  # glTF stores columns first
    joints = [first + index for index in range(len(places))]
    return nodes, joints, {"joints": joints, "inverseBindMatrices": matrices, "skeleton": first}


def _keys(document: _Document, tracked: list[FaceState], head: HeadModel, pose: bool) -> dict[str, Any]:
    times = np.array([(state.stamp - tracked[0].stamp) / NS for state in tracked], np.float32)
    clock = document.add(times, bounds=True)
    samplers: list[dict[str, Any]] = []
    channels: list[dict[str, Any]] = []

    def channel(node: int, path: str, values: F32) -> None:
        samplers.append({"input": clock, "output": document.add(values), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    weights = np.stack([state.expression for state in tracked])
    if head.eyelid_basis is not None:
        weights = np.concatenate(
            [weights, np.nan_to_num(np.stack([state.eyelids for state in tracked]))], axis=1
        )
    channel(1, "weights", np.ascontiguousarray(weights, np.float32).ravel())
    turns = {"neck": "neck", "jaw": "jaw"}
    for index, name in enumerate(head.joints):
        if name in turns:
            vectors = np.stack([getattr(state, turns[name]) for state in tracked])
        elif name in ("eye_left", "eye_right"):
            vectors = np.stack([state.eyes[0 if name == "eye_left" else 1] for state in tracked])
        else:
            continue
        channel(2 + index, "rotation", _quaternions(np.nan_to_num(vectors)))
    posed = np.stack([state.head_pose for state in tracked])
    if pose and np.isfinite(posed).all():
        start = FACING.T @ posed[0, :3, 3]
        channel(0, "rotation", _quaternions(Rotation.from_matrix(FACING.T @ posed[:, :3, :3]).as_rotvec()))
        channel(0, "translation", (posed[:, :3, 3] @ FACING - start).astype(np.float32))
    return {"name": "performance", "samplers": samplers, "channels": channels}


def _write(path: Path, gltf: dict[str, Any], data: bytes) -> None:
    text = json.dumps(gltf, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(data)))
            file.write(struct.pack("<I4s", len(text), b"JSON") + text)
            file.write(struct.pack("<I4s", len(data), b"BIN\0") + data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None
