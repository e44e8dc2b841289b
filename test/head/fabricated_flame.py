"""Makes a FLAME file that never was: the official structure to the letter, the geometry of the open head
under another identity.

The pickle looks as Python 2 wrote the official ones: protocol 2, byte strings, chumpy arrays through
`copy_reg._reconstructor`, a scipy.sparse regressor; chumpy itself is not needed.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from eifer_ros.head.model import HeadModel

V, F = 5023, 9976


class _Python2Pickler(pickle._Pickler):
    """Writes strings and bytes as Python 2 did (BINSTRING), which Python 3's own pickler no longer does."""

    dispatch = pickle._Pickler.dispatch.copy()

    def _binstring(self, data: bytes, obj: object) -> None:
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    def save_bytes(self, obj: bytes) -> None:
        self._binstring(obj, obj)

    def save_str(self, obj: str) -> None:
        self._binstring(obj.encode("latin1"), obj)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


@functools.cache
def _chumpy_class(path: str) -> type:
    module, _, name = path.rpartition(".")

    def reduce_ex(self: Any, _protocol: int) -> tuple:
        return copyreg._reconstructor, (type(self), object, None), self.__dict__

    return type(name, (), {"__module__": module, "__reduce_ex__": reduce_ex})


def chumpy_array(values: np.ndarray, path: str = "chumpy.ch.Ch") -> Any:
    """An object that pickles as chumpy's array class does, of the class path given."""
    instance = _chumpy_class(path)()
    instance.__dict__.update(x=np.asarray(values), _dirty_vars={"x"}, _itr=None, _depends_on_deps={})
    return instance


def dump_python2(content: object) -> bytes:
    """`content` as a protocol 2 pickle with the module names of Python 2, numpy 1 and an early scipy."""
    classes: dict[str, types.ModuleType] = {}
    stack, seen = [content], set()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            stack.extend(value.values())
        elif type(value).__module__.startswith("chumpy"):
            module = classes.setdefault(type(value).__module__, types.ModuleType(type(value).__module__))
            setattr(module, type(value).__name__, type(value))
            stack.append(value.__dict__)
    for name in list(classes):
        parts = name.split(".")
        for i in range(1, len(parts)):
            classes.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    assert not set(classes) & set(sys.modules), "a real chumpy is installed"
    sys.modules.update(classes)
    try:
        buffer = io.BytesIO()
        _Python2Pickler(buffer, protocol=2, fix_imports=True).dump(content)
    finally:
        for name in classes:
            del sys.modules[name]
    data = buffer.getvalue()
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n").replace(
        b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n"
    )


def _topology(head: HeadModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (5023, 3) into the open head with weights (5023, 3), and faces (9976, 3): skin and eyeballs,
    less of the back of the head.
    """
    names = [head.part_names[p] for p in head.parts]
    wanted = np.flatnonzero(
        [name == "skin" or name.startswith(("eye_", "iris_", "pupil_")) for name in names]
    )
    front = wanted[np.argsort(-head.template[wanted, 2])]
    keep = np.sort(front[:4800])
    faces = head.faces[np.isin(head.faces, keep).all(axis=1)]
    keep = np.unique(faces)
    faces = np.searchsorted(keep, faces)
    corners = np.repeat(keep[:, None], 3, axis=1)
    weights = np.tile([1.0, 0.0, 0.0], (len(keep), 1))
    extra = V - len(keep)  # a vertex in the middle of a triangle: one vertex and two triangles more
    points = head.template[keep]
    a, b, c = (points[faces[:, k]] for k in range(3))
    largest = np.argsort(-np.linalg.norm(np.cross(b - a, c - a), axis=1))[:extra]
    split = faces[largest]
    centre = len(keep) + np.arange(extra)
    corners = np.vstack([corners, keep[split]])
    weights = np.vstack([weights, np.full((extra, 3), 1 / 3)])
    faces = np.delete(faces, largest, axis=0)
    for i in range(3):
        faces = np.vstack([faces, np.column_stack([split[:, i], split[:, (i + 1) % 3], centre])])
    # the number of triangles: drop, or repeat, some at the very back
    depth = (head.template[corners] * weights[..., None]).sum(axis=1)[faces, 2].mean(axis=1)
    order = np.argsort(-depth)
    faces = faces[order[:F]] if len(faces) >= F else np.vstack([faces, faces[order[::-1][: F - len(faces)]]])
    return corners, weights, faces.astype(np.uint32)


def fabricate(head: HeadModel, seed: int = 0) -> dict[str, Any]:
    """The arrays of the file, dense and float64, plus `mixing` (52, 100): which ARKit actions each expression
    coefficient is made of.
    """
    rng = np.random.default_rng(seed)
    corners, weights, faces = _topology(head)

    def spread(values: np.ndarray) -> np.ndarray:
        return np.einsum("vc,vc...->v...", weights, values[corners].astype(np.float64))

    shape = np.zeros(head.shape_size)
    shape[:6] = rng.normal(size=6) * 0.7
    shift = np.array([0.004, -0.021, 0.013])
    template = 1.03 * spread(head.neutral(shape)) + shift
    shapedirs = np.zeros((V, 3, 400))
    shared = min(300, head.shape_size)
    shapedirs[:, :, :shared] = 1.03 * spread(head.shape_basis[:, :, :shared])
    mixing = rng.normal(size=(52, 100)) / np.sqrt(100)
    shapedirs[:, :, 300:] = 1.03 * spread(head.expression_basis) @ mixing
    actions = spread(head.expression_basis)
    joint_weights = np.zeros((V, 5))
    opening = np.linalg.norm(actions[:, :, 24], axis=1)
    joint_weights[:, 2] = 0.95 * opening / opening.max()
    part = np.array([head.part_names[p] for p in head.parts])[corners[:, 0]]
    for joint, name in ((3, "eye_left"), (4, "eye_right")):
        ball = np.char.endswith(part, name[3:])  # eye_left, iris_left, pupil_left
        joint_weights[ball] = 0.0
        joint_weights[ball, joint] = 1.0
    joint_weights[:, 1] = (1 - joint_weights.sum(axis=1)) * np.clip(
        (template[:, 1] - template[:, 1].min()) / 0.15, 0, 1
    )
    joint_weights[:, 0] = 1 - joint_weights.sum(axis=1)
    regressor = np.zeros((5, V))
    for joint in range(5):
        if joint > 2:
            regressor[joint, np.flatnonzero(joint_weights[:, joint] == 1.0)] = 1.0
        else:
            place = 1.03 * head.joint_template[head.joints.index(("root", "neck", "jaw")[joint])] + shift
            near = np.argsort(np.linalg.norm((template - place) * [0.2, 1, 1], axis=1))[
                :60
            ]  # both sides alike
            regressor[joint, near] = rng.uniform(0.5, 1.0, len(near))
        regressor[joint] /= regressor[joint].sum()
    return {
        "v_template": template,
        "f": faces,
        "shapedirs": shapedirs,
        "posedirs": rng.normal(size=(V, 3, 36)) * 1e-3,
        "J_regressor": regressor,
        "weights": joint_weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "mixing": mixing,
    }


def official(arrays: dict[str, Any]) -> dict[str, Any]:
    """The dictionary of the official file, chumpy arrays where it has them."""
    return {
        "f": arrays["f"],
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "kintree_table": arrays["kintree_table"],
        "J": chumpy_array(arrays["J_regressor"] @ arrays["v_template"], "chumpy.reordering.Select"),
        "weights": chumpy_array(arrays["weights"]),
        "posedirs": chumpy_array(arrays["posedirs"]),
        "v_template": chumpy_array(arrays["v_template"]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "shapedirs": chumpy_array(np.asfortranarray(arrays["shapedirs"])),
    }


def write(path: Path, arrays: dict[str, Any]) -> Path:
    """The file itself."""
    path.write_bytes(dump_python2(official(arrays)))
    return path


def dense_reference(
    arrays: dict[str, Any], shape: np.ndarray, expression: np.ndarray, pose: np.ndarray
) -> np.ndarray:
    """FLAME's equations written out with dense float64 matrices; pose (5, 3) axis-angle of root, neck, jaw,
    left and right eye.
    """
    from scipy.spatial.transform import Rotation

    rest = arrays["v_template"] + np.tensordot(
        arrays["shapedirs"], np.concatenate([shape, expression]), axes=1
    )
    joints = arrays["J_regressor"] @ rest
    turns = [Rotation.from_rotvec(p).as_matrix() for p in pose]
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    corrected = rest + np.tensordot(arrays["posedirs"], feature, axes=1)
    world: list[np.ndarray] = []
    for joint, parent in enumerate([-1, 0, 1, 1, 1]):
        step = np.eye(4)
        step[:3, :3] = turns[joint]
        step[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        world.append(step if parent < 0 else world[parent] @ step)
    out = np.zeros((V, 3))
    for joint in range(5):
        unposed = np.eye(4)
        unposed[:3, 3] = -joints[joint]
        moved = np.column_stack([corrected, np.ones(V)]) @ (world[joint] @ unposed).T
        out += arrays["weights"][:, joint : joint + 1] * moved[:, :3]
    return out
