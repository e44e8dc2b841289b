"""The head model seen only at its 478 landmarks: a small linear model, fast enough to fit in every frame.

Blendshapes are linear, and a landmark is a fixed mixture of three vertices, so the landmarks are linear in
the coefficients too. A jaw that is a joint (FLAME) is entered as three more columns, its secant over a usual
opening; the same for a separate eyelid basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import ModelError
from ...head.model import HeadModel
from ...types import F32, F64
from .attention_mesh import COUNT, IRIS_LEFT, IRIS_RIGHT

_JAW_OPENING_RAD = 0.2
_JAW_BOUNDS_RAD = ((-0.05, 0.5), (-0.15, 0.15), (-0.15, 0.15))


@dataclass(frozen=True)
class LandmarkModel:
    """L = 478 landmarks, C face columns (E expression, then jaw and eyelids where the head has them), S shape
    columns.

    template: (L, 3) m. basis: (L, 3, C + S), face columns first. lower, upper: (C,). jaw, eyelids: which
    columns they are. gaze: columns that follow the eyes' rotation and are not fitted (ARKit's eyeLook*).
    blink: columns that close the left and right lids, or none.
    eye_centres, iris: (2, 3) at rest, left then right; eye_basis (2, 3, C + S) how the centres move.
    """

    template: F64
    basis: F32
    expression_size: int
    lower: F64
    upper: F64
    jaw: slice
    eyelids: slice
    gaze: tuple[int, ...]
    eye_centres: F64
    eye_basis: F64
    iris: F64
    blink: tuple[int, ...] = ()

    @property
    def face_size(self) -> int:
        """C."""
        return len(self.lower)

    @property
    def shape_size(self) -> int:
        """S."""
        return int(self.basis.shape[2]) - self.face_size

    @staticmethod
    def of(head: HeadModel) -> LandmarkModel:
        """The landmark model of `head`. Raises ModelError where the head has no landmark embedding."""
        embedding = head.embedding("landmarks_478")
        if len(embedding.names) != COUNT:
            raise ModelError(
                f"head model '{head.id}': landmarks_478 has {len(embedding.names)} points; it must have {COUNT}"
            )
        corners = head.faces[embedding.triangles]
        mix = embedding.weights.astype(np.float64)

        def at(values: F32) -> F64:
            return np.asarray(np.einsum("lc,lc...->l...", mix, values[corners].astype(np.float64)))

        columns = [at(head.expression_basis)]
        bounds = [head.expression_bounds.astype(np.float64)]
        size = head.expression_size
        jaw = slice(size, size)
        eyelids = slice(size, size)
        if "jaw" in head.joints and "jawOpen" not in head.expression_names:
            jaw = slice(size, size + 3)
            columns.append(np.stack([_secant(head, axis, at) for axis in range(3)], axis=-1))
            bounds.append(np.array(_JAW_BOUNDS_RAD))
        if head.eyelid_basis is not None:
            eyelids = slice(jaw.stop, jaw.stop + 2)
            columns.append(at(head.eyelid_basis))
            bounds.append(np.array([[0.0, 1.0], [0.0, 1.0]]))
        limits = np.concatenate(bounds)
        basis = np.concatenate([*columns, at(head.shape_basis)], axis=2)
        template = at(head.template)
        eyes = [head.joints.index(name) for name in ("eye_left", "eye_right") if name in head.joints]
        eye_basis = np.zeros((2, 3, basis.shape[2]))
        iris = template[[IRIS_LEFT, IRIS_RIGHT]]
        centres = iris - (0.0, 0.0, 0.012)
        if len(eyes) == 2:
            centres = head.joint_template[eyes].astype(np.float64)
            eye_basis[:, :, : head.expression_size] = head.joint_expression_basis[eyes]
            eye_basis[:, :, len(limits) :] = head.joint_shape_basis[eyes]
        gaze = tuple(i for i, name in enumerate(head.expression_names) if name.startswith("eyeLook"))
        return LandmarkModel(
            template,
            np.ascontiguousarray(basis, np.float32),
            size,
            limits[:, 0].copy(),
            limits[:, 1].copy(),
            jaw,
            eyelids,
            gaze,
            centres,
            eye_basis,
            iris,
            tuple(
                head.expression_names.index(name)
                for name in ("eyeBlinkLeft", "eyeBlinkRight")
                if name in head.expression_names
            ),
        )

    def points(self, face: F64, shape: F64) -> F64:
        """(L, 3) landmarks in model coordinates."""
        return np.asarray(self.template + self.basis @ np.concatenate([face, shape]))


def _secant(head: HeadModel, axis: int, at: object) -> F64:
    turned = np.zeros(3)
    turned[axis] = _JAW_OPENING_RAD
    moved = (head.vertices(jaw=turned) - head.template) / _JAW_OPENING_RAD
    return np.asarray(at(moved))  # type: ignore[operator]
