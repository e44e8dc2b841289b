"""The head model: one `.npz`, one pure function of its parameters.

    v = skin(template + shape_basis @ shape + expression_basis @ expression + pose_basis @ (R(pose) - I)) +
    eyelid_basis @ eyelids

Linear blend skinning over blendshapes as in FLAME (Li et al. 2017, "Learning a model of facial shape and
expression from 4D scans"), written from the paper's equations. The same asset format holds the open head and
imported FLAME files.

Model coordinates: metres, x to the subject's left, y up, z out of the face; right-handed. Joints are called
`neck`, `jaw`, `eye_left`, `eye_right` (plus a `root`); the rotation of a joint is an axis-angle in rad in its
parent's frame.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import resources
from ..errors import ModelError
from ..types import F32, F64, I32, U8, Array, FaceState, HeadModelInfo, Indices, Stamp

FORMAT = 1
_STILL = np.eye(3)
DEFAULT_HEAD = "open_head"
EMBEDDINGS = ("landmarks_478", "landmarks_68", "electrodes_fridlund", "electrodes_kuramoto")


@dataclass(frozen=True)
class Embedding:
    """Named points on the surface of a head, L of them.

    Parameters
    ----------
    names : tuple[str, ...]
        (L,) what each point is called.
    triangles : ndarray of int32, shape (L,)
        Index of the face each lies on.
    weights : ndarray of float32, shape (L, 3)
        Barycentric coordinates on that face.
    """

    names: tuple[str, ...]
    triangles: I32
    weights: F32

    def points(self, vertices: Array, faces: I32) -> Array:
        """(L, 3) positions on `vertices` (V, 3).

        Parameters
        ----------
        vertices : ndarray, shape (V, 3)
            Positions.
        faces : ndarray of int32, shape (F, 3)
            Triangles.

        Returns
        -------
        ndarray, shape (L, 3)
            Positions of the points, in the unit of `vertices`.
        """
        corners = vertices[faces[self.triangles]]
        return np.asarray(np.einsum("lc,lcd->ld", self.weights, corners))

    def index(self, name: str) -> int:
        """Position of the point called `name`.

        Parameters
        ----------
        name : str
            Of a point.

        Returns
        -------
        int
            Its place in `names`.
        """
        return self.names.index(name)


@dataclass(frozen=True)
class HeadModel:
    """A head: V vertices, F triangles, S shape and E expression coefficients, J joints (joint 0 is the root).

    Parameters
    ----------
    id : str
        Name that faces refer to.
    template : ndarray of float32, shape (V, 3)
        Resting vertices, m.
    faces : ndarray of int32, shape (F, 3)
        Triangles.
    shape_basis : ndarray of float32, shape (V, 3, S)
        M per standard deviation.
    expression_basis : ndarray of float32, shape (V, 3, E)
        M per unit.
    expression_names : tuple[str, ...]
        (E,) names.
    expression_bounds : ndarray of float32, shape (E, 2)
        Least and greatest value.
    joints : tuple[str, ...]
        (J,) names.
    parents : ndarray of int32, shape (J,)
        Index of the parent, -1 for the root.
    joint_template : ndarray of float32, shape (J, 3)
        Joint centres at rest, m.
    joint_shape_basis : ndarray of float32, shape (J, 3, S)
        How they move with shape, m.
    joint_expression_basis : ndarray of float32, shape (J, 3, E)
        How they move with expression, m.
    skin_weights : ndarray of float32, shape (V, J)
        Rows sum to 1.
    regions : Mapping[str, ndarray of int32]
        Vertex indices by name (`face`, `lips`, `brows`, `eyelids`, `forehead`, `cheeks`, `nose`, `jaw`).
    parts : ndarray of uint8, shape (V,)
        Index into `part_names`.
    part_names : tuple[str, ...]
        `skin`, `eye_left`, `teeth_upper`, ...
    embeddings : Mapping[str, Embedding]
        Named points on the surface.
    licence, origin : str
        For people.
    pose_basis : ndarray of float32, optional
        (V, 3, 9 (J-1)) pose correctives, or None.
    eyelid_basis : ndarray of float32, shape (V, 3, 2), optional
        Added after skinning, or None.
    uv : ndarray of float32, shape (V, 2), optional
        Texture coordinates, or None.
    arkit : ndarray of float32, shape (52, E), optional
        Weights of `ARKIT_52` from this model's expression, or None where expression is ARKit already.
    arkit_jaw : ndarray of float32, shape (52, 3), optional
        Weights of `ARKIT_52` from the jaw's axis-angle, or None.
    arkit_gram : ndarray of float32, shape (52, 52), optional
        Inner products of the ARKit actions' motions, or None.
    gaze_basis : ndarray of float32, shape (2, 3, E), optional
        Axis-angle of the left and right eye per unit of expression (the eyeLook actions), or None.
    """

    id: str
    template: F32
    faces: I32
    shape_basis: F32
    expression_basis: F32
    expression_names: tuple[str, ...]
    expression_bounds: F32
    joints: tuple[str, ...]
    parents: I32
    joint_template: F32
    joint_shape_basis: F32
    joint_expression_basis: F32
    skin_weights: F32
    regions: Mapping[str, I32]
    parts: U8
    part_names: tuple[str, ...]
    embeddings: Mapping[str, Embedding]
    licence: str
    origin: str
    pose_basis: F32 | None = None
    eyelid_basis: F32 | None = None
    uv: F32 | None = None
    arkit: F32 | None = None
    arkit_jaw: F32 | None = None
    arkit_gram: F32 | None = None
    gaze_basis: F32 | None = None
    _joint_index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_joint_index", {name: index for index, name in enumerate(self.joints)})
        vertices = len(self.template)
        joints = len(self.joints)
        shapes = {
            "template": (vertices, 3),
            "shape_basis": (vertices, 3, self.shape_size),
            "expression_basis": (vertices, 3, self.expression_size),
            "expression_bounds": (self.expression_size, 2),
            "parents": (joints,),
            "joint_template": (joints, 3),
            "joint_shape_basis": (joints, 3, self.shape_size),
            "joint_expression_basis": (joints, 3, self.expression_size),
            "skin_weights": (vertices, joints),
            "parts": (vertices,),
            "faces": (len(self.faces), 3),
        }
        optional = {
            "pose_basis": (vertices, 3, 9 * (joints - 1)),
            "eyelid_basis": (vertices, 3, 2),
            "uv": (vertices, 2),
        }
        optional |= {"arkit": (52, self.expression_size), "arkit_jaw": (52, 3), "arkit_gram": (52, 52)}
        optional |= {"gaze_basis": (2, 3, self.expression_size)}
        shapes |= {name: shape for name, shape in optional.items() if getattr(self, name) is not None}
        for name, shape in shapes.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ModelError(f"head model '{self.id}': {name} has shape {got}; it must be {shape}")
        if len(self.faces) and (self.faces.min() < 0 or self.faces.max() >= vertices):
            raise ModelError(f"head model '{self.id}': faces point at vertices outside 0..{vertices - 1}")

    @property
    def shape_size(self) -> int:
        """S, the number of shape coefficients."""
        return int(self.shape_basis.shape[2])

    @property
    def expression_size(self) -> int:
        """E, the number of expression coefficients."""
        return len(self.expression_names)

    @functools.cached_property
    def _bases(self) -> tuple[F32, F32]:
        """Both bases as (3 V, n) matrices, contiguous for the matrix-vector product."""
        count = 3 * len(self.template)
        return (
            np.ascontiguousarray(self.shape_basis.reshape(count, -1)),
            np.ascontiguousarray(self.expression_basis.reshape(count, -1)),
        )

    def neutral(self, shape: npt.ArrayLike | None = None) -> F32:
        """Resting vertices of a person.

        Parameters
        ----------
        shape : array_like, optional
            Up to S coefficients; the rest are 0.

        Returns
        -------
        ndarray of float32, shape (V, 3)
            Metres.
        """
        if shape is None:
            return self.template
        coefficients = np.asarray(shape, np.float32)
        return self.template + (self._bases[0][:, : len(coefficients)] @ coefficients).reshape(-1, 3)

    def vertices(
        self,
        shape: npt.ArrayLike | None = None,
        expression: npt.ArrayLike | None = None,
        *,
        jaw: npt.ArrayLike | None = None,
        neck: npt.ArrayLike | None = None,
        eyes: npt.ArrayLike | None = None,
        eyelids: npt.ArrayLike | None = None,
        neutral: F32 | None = None,
    ) -> F32:
        """Vertices in model coordinates.

        Parameters
        ----------
        shape : array_like, optional
            Up to S coefficients; the rest are 0.
        expression : array_like, optional
            Up to E coefficients; the rest are 0.
        jaw, neck : array_like, shape (3,), optional
            Axis-angle, rad.
        eyes : array_like, shape (2, 3), optional
            Axis-angle, rad, left then right.
        eyelids : array_like, shape (2,), optional
            Closure, used only where the model has an eyelid basis.
        neutral : ndarray of float32, shape (V, 3), optional
            `self.neutral(shape)` where the caller has it, to save the larger product.

        Returns
        -------
        ndarray of float32, shape (V, 3)
            Metres.
        """
        shaped = self.neutral(shape) if neutral is None else neutral
        posed = shaped
        if expression is not None:
            coefficients = np.asarray(expression, np.float32)
            posed = shaped + (self._bases[1][:, : len(coefficients)] @ coefficients).reshape(-1, 3)
        rotations = self._rotations(jaw, neck, eyes)
        if rotations is not None:
            if self.pose_basis is not None:
                feature = (rotations[1:] - np.eye(3)).reshape(-1).astype(np.float32)
                posed = posed + self.pose_basis @ feature
            posed = self._skin(posed, rotations, self.joint_positions(shape, expression))
        if self.eyelid_basis is not None and eyelids is not None:
            posed = posed + self.eyelid_basis @ np.asarray(eyelids, np.float32)
        return np.asarray(posed, np.float32)

    def joint_positions(
        self, shape: npt.ArrayLike | None = None, expression: npt.ArrayLike | None = None
    ) -> F32:
        """Joint centres at rest.

        Parameters
        ----------
        shape : array_like, optional
            Up to S coefficients; the rest are 0.
        expression : array_like, optional
            Up to E coefficients; the rest are 0.

        Returns
        -------
        ndarray of float32, shape (J, 3)
            Metres.
        """
        joints = self.joint_template
        if shape is not None:
            coefficients = np.asarray(shape, np.float32)
            joints = joints + self.joint_shape_basis[:, :, : len(coefficients)] @ coefficients
        if expression is not None:
            coefficients = np.asarray(expression, np.float32)
            joints = joints + self.joint_expression_basis[:, :, : len(coefficients)] @ coefficients
        return joints

    def gaze(self, expression: npt.ArrayLike) -> F32:
        """Eye rotations that go with the eyeLook coefficients of an expression.

        Zero for a head whose expression space does not move the eyes (FLAME keeps gaze in `FaceState.eyes`
        alone).

        Parameters
        ----------
        expression : array_like, shape (E,)
            Coefficients.

        Returns
        -------
        ndarray of float32, shape (2, 3)
            Axis-angle of the left and right eye, rad.
        """
        if self.gaze_basis is None:
            return np.zeros((2, 3), np.float32)
        coefficients = np.asarray(expression, np.float32)
        return np.asarray(self.gaze_basis[:, :, : len(coefficients)] @ coefficients, np.float32)

    def look_weights(self, eyes: npt.ArrayLike) -> F32:
        """The eyeLook coefficients that belong to eye rotations: the inverse of `gaze` for directions within the
        bounds.

        Opposite actions are never both above zero.

        Parameters
        ----------
        eyes : array_like, shape (2, 3)
            Axis-angle of the left and right eye, rad.

        Returns
        -------
        ndarray of float32, shape (E,)
            Expression coefficients, zero but for the eyeLook actions.
        """
        weights = np.zeros(self.expression_size, np.float32)
        if self.gaze_basis is None:
            return weights
        turns = np.asarray(eyes, np.float32)
        size = np.sum(self.gaze_basis**2, axis=(0, 1))
        moves = size > 0
        along = np.einsum("sae,sa->e", self.gaze_basis, turns)
        weights[moves] = np.clip(
            along[moves] / size[moves], self.expression_bounds[moves, 0], self.expression_bounds[moves, 1]
        )
        return weights

    def state_vertices(self, state: FaceState, neutral: F32 | None = None) -> F32:
        """Vertices of a `FaceState` in model coordinates (head pose not applied).

        Parameters
        ----------
        state : FaceState
            A face of this head.
        neutral : ndarray of float32, shape (V, 3), optional
            `self.neutral(state.shape)` where the caller has it.

        Returns
        -------
        ndarray of float32, shape (V, 3)
            Metres.

        Raises
        ------
        ModelError
            The face is of another head model.
        """
        if state.head_model != self.id:
            raise ModelError(f"a face of head model '{state.head_model}' was given to '{self.id}'")
        return self.vertices(
            state.shape,
            state.expression,
            jaw=state.jaw,
            neck=state.neck,
            eyes=state.eyes,
            eyelids=state.eyelids,
            neutral=neutral,
        )

    def _rotations(
        self, jaw: npt.ArrayLike | None, neck: npt.ArrayLike | None, eyes: npt.ArrayLike | None
    ) -> F64 | None:
        """(J, 3, 3) local rotations, or None where nothing turns."""
        turned: dict[str, F64] = {}
        for name, value in (("jaw", jaw), ("neck", neck)):
            if value is not None:
                turned[name] = np.asarray(value, np.float64)
        if eyes is not None:
            turned["eye_left"], turned["eye_right"] = np.asarray(eyes, np.float64)
        turned = {
            name: value for name, value in turned.items() if name in self._joint_index and np.any(value)
        }
        if not turned:
            return None
        rotations = np.tile(np.eye(3), (len(self.joints), 1, 1))
        for name, value in turned.items():
            rotations[self._joint_index[name]] = rotation_matrix(value)
        return rotations

    def _skin(self, posed: F32, rotations: F64, joints: F32) -> F32:
        """Linear blend skinning. Only vertices of joints that turn, or hang on one that does, are touched."""
        moved = np.zeros(len(self.joints), bool)
        transforms = np.zeros((len(self.joints), 4, 4))
        transforms[:, 3, 3] = 1.0
        for index, parent in enumerate(self.parents):
            moved[index] = (parent >= 0 and moved[parent]) or not np.array_equal(rotations[index], _STILL)
            local = np.eye(4)
            local[:3, :3] = rotations[index]
            local[:3, 3] = joints[index] - (joints[parent] if parent >= 0 else 0.0)
            transforms[index] = local if parent < 0 else transforms[parent] @ local
        # subtract the resting joint position, so that a joint at rest moves nothing
        transforms[:, :3, 3] -= np.einsum("jab,jb->ja", transforms[:, :3, :3], joints)
        out = np.array(posed, np.float32)
        for index, (vertices, weights) in enumerate(self._touched):
            if not moved[index]:
                continue
            turn = (transforms[index, :3, :3] - _STILL).astype(np.float32)
            out[vertices] += weights * (
                posed[vertices] @ turn.T + transforms[index, :3, 3].astype(np.float32)
            )
        return out

    @functools.cached_property
    def _touched(self) -> list[tuple[Indices, F32]]:
        """For each joint, the vertices that it moves and their weights as a column."""
        columns = [np.flatnonzero(weights) for weights in self.skin_weights.T]
        return [
            (column, np.ascontiguousarray(self.skin_weights[column, j, None]))
            for j, column in enumerate(columns)
        ]

    def points(self, vertices: Array, which: str = "landmarks_478") -> Array:
        """Named surface points on posed vertices.

        Parameters
        ----------
        vertices : ndarray, shape (V, 3)
            Positions.
        which : str, optional
            One of `EMBEDDINGS`.

        Returns
        -------
        ndarray, shape (L, 3)
            Positions, in the unit of `vertices`.

        Raises
        ------
        ModelError
            The head has no such embedding.
        """
        return self.embedding(which).points(vertices, self.faces)

    def embedding(self, which: str) -> Embedding:
        """The embedding called `which`.

        Parameters
        ----------
        which : str
            One of `EMBEDDINGS`.

        Returns
        -------
        Embedding
            Names, triangles and weights.

        Raises
        ------
        ModelError
            The head has no such embedding.
        """
        try:
            return self.embeddings[which]
        except KeyError:
            available = ", ".join(self.embeddings) or "none"
            raise ModelError(f"head model '{self.id}' has no '{which}'; it has {available}") from None

    def part(self, name: str) -> Indices:
        """Indices of the vertices of part `name`.

        Parameters
        ----------
        name : str
            One of `part_names`.

        Returns
        -------
        ndarray of intp
            Vertex indices.
        """
        return np.flatnonzero(self.parts == self.part_names.index(name))

    def info(self, stamp: Stamp) -> HeadModelInfo:
        """What a subscriber must know about the coefficients.

        Parameters
        ----------
        stamp : int (ns)
            When it is said.

        Returns
        -------
        HeadModelInfo
            Names, bounds and sizes.
        """
        return HeadModelInfo(
            stamp,
            self.id,
            self.shape_size,
            self.expression_names,
            self.expression_bounds[:, 0],
            self.expression_bounds[:, 1],
            len(self.template),
            len(self.faces),
            self.licence,
            self.origin,
        )

    def save(self, path: Path, *, dtype: type = np.float32) -> None:
        """Write the asset.

        Parameters
        ----------
        path : Path
            The .npz.
        dtype : type, optional
            Of the bases on disk; float16 halves them.
        """
        arrays: dict[str, Any] = {"format": FORMAT}
        for name in (*_STORED, *_OPTIONAL):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value.astype(dtype) if name in _BASES else value
        for name, indices in self.regions.items():
            arrays[f"region/{name}"] = indices
        for name, embedding in self.embeddings.items():
            arrays[f"{name}/names"] = np.array(embedding.names)
            arrays[f"{name}/triangles"] = embedding.triangles
            arrays[f"{name}/weights"] = embedding.weights
        np.savez_compressed(path, **arrays)

    @staticmethod
    def load(path: Path) -> HeadModel:
        """Read an asset written by `save`.

        Parameters
        ----------
        path : Path
            The .npz.

        Returns
        -------
        HeadModel
            The head.

        Raises
        ------
        ModelError
            The file is missing, damaged or of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                data = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise ModelError(f"{path}: not a readable head model ({error})") from None
        except Exception as error:  # zipfile.BadZipFile and zlib errors have no common base
            raise ModelError(f"{path}: damaged head model ({error})") from None
        try:
            if int(data["format"]) != FORMAT:
                raise ModelError(
                    f"{path}: head model format {int(data['format'])}; this version reads format {FORMAT}"
                )
            return _from_arrays(data)
        except KeyError as error:
            raise ModelError(f"{path}: not a head model, {error} is missing") from None


_STORED: dict[str, type] = {
    "id": str,
    "template": np.float32,
    "faces": np.int32,
    "shape_basis": np.float32,
    "expression_basis": np.float32,
    "expression_names": tuple,
    "expression_bounds": np.float32,
    "joints": tuple,
    "parents": np.int32,
    "joint_template": np.float32,
    "joint_shape_basis": np.float32,
    "joint_expression_basis": np.float32,
    "skin_weights": np.float32,
    "parts": np.uint8,
    "part_names": tuple,
    "licence": str,
    "origin": str,
}
"""Fields that every asset holds, in its order, and what they are read as."""
_OPTIONAL = ("pose_basis", "eyelid_basis", "uv", "arkit", "arkit_jaw", "arkit_gram", "gaze_basis")
_BASES = ("shape_basis", "expression_basis", "skin_weights", "pose_basis", "eyelid_basis")
"""The large ones, whose element type `save` chooses."""


def _from_arrays(data: dict[str, Any]) -> HeadModel:
    def read(name: str, kind: type = np.float32) -> Any:
        if kind is str:
            return str(data[name])
        if kind is tuple:
            return tuple(str(word) for word in data[name])
        return np.ascontiguousarray(data[name], kind)

    values = {name: read(name, kind) for name, kind in _STORED.items()}
    values |= {name: read(name) for name in _OPTIONAL if name in data}
    values["skin_weights"] = values["skin_weights"] / values["skin_weights"].sum(axis=1, keepdims=True)
    values["embeddings"] = {
        which: Embedding(
            read(f"{which}/names", tuple), read(f"{which}/triangles", np.int32), read(f"{which}/weights")
        )
        for which in EMBEDDINGS
        if f"{which}/names" in data
    }
    values["regions"] = {
        key.split("/", 1)[1]: read(key, np.int32) for key in data if key.startswith("region/")
    }
    return HeadModel(**values)


def rotation_matrix(axis_angle: npt.ArrayLike) -> F64:
    """Rotation matrix of an axis-angle (Rodrigues).

    Parameters
    ----------
    axis_angle : array_like, shape (3,)
        Rad.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Rotation.
    """
    vector = np.asarray(axis_angle, np.float64)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-8:
        return np.asarray(np.eye(3) + cross)
    return np.asarray(
        np.eye(3) + np.sin(angle) / angle * cross + (1.0 - np.cos(angle)) / angle**2 * (cross @ cross)
    )


@functools.lru_cache(maxsize=4)
def load_head(name: str = DEFAULT_HEAD) -> HeadModel:
    """The head model called `name` in models/, or the `.npz` at that path. Kept in memory.

    Parameters
    ----------
    name : str, optional
        Name in models/, or path of an `.npz`.

    Returns
    -------
    HeadModel
        The head.

    Raises
    ------
    ModelError
        There is no such head, or its file is damaged.
    """
    path = Path(name)
    if path.suffix == ".npz" and path.exists():
        return HeadModel.load(path)
    return HeadModel.load(resources.model(f"{path.name.removesuffix('.npz')}.npz"))
