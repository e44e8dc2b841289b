"""Blendshapes and head turn -> joint positions within their ranges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..head import bounded
from ..types import F64, Indices
from .joint_map import SOURCES, JointMap


@dataclass(frozen=True)
class _Group:
    """A coupling, ready to solve for the joints' distance from neutral."""

    joints: Indices
    gram: F64
    amounts: F64  # (joints, sources): target = wanted @ sources
    lower: F64
    upper: F64


class JointSolver:
    """position = neutral + direction * weights @ sources, clipped; coupled joints by bounded least squares.

    For a coupling with features f, joint contributions C and wanted amounts t = S sources: minimise over q in
    the ranges sum_f weight_f (C q - t)_f^2 + rest |q|^2, with q the distance from neutral.
    """

    def __init__(self, joint_map: JointMap) -> None:
        joints = joint_map.config.joints
        self.names = joint_map.names
        self.neutral = np.array([joint.neutral for joint in joints.values()])
        self.lower = np.array([joint.range[0] for joint in joints.values()])
        self.upper = np.array([joint.range[1] for joint in joints.values()])
        self._direct = np.zeros((len(joints), len(SOURCES)))
        for row, joint in enumerate(joints.values()):
            for source, weight in joint.blendshapes.items():
                self._direct[row, SOURCES.index(source)] = joint.direction * weight
        self._groups = []
        directions = np.array([joint.direction for joint in joints.values()])
        for coupling in joint_map.config.couplings.values():
            names = sorted(
                {name for feature in coupling.features.values() for name in feature.joints},
                key=self.names.index,
            )
            rows = np.array([self.names.index(name) for name in names])
            gives = np.zeros((len(coupling.features), len(names)))
            wants = np.zeros((len(coupling.features), len(SOURCES)))
            for k, feature in enumerate(coupling.features.values()):
                root = feature.weight**0.5
                for name, amount in feature.joints.items():
                    gives[k, names.index(name)] = root * amount * directions[self.names.index(name)]
                for source, amount in feature.blendshapes.items():
                    wants[k, SOURCES.index(source)] = root * amount
            gram = gives.T @ gives + coupling.rest * np.mean(np.diag(gives.T @ gives)) * np.eye(len(names))
            self._groups.append(
                _Group(
                    rows,
                    gram,
                    gives.T @ wants,
                    (self.lower - self.neutral)[rows],
                    (self.upper - self.neutral)[rows],
                )
            )

    def __call__(self, weights: npt.ArrayLike, head: npt.ArrayLike = (0.0, 0.0, 0.0)) -> F64:
        """(J,) rad from (52,) weights and the head's (yaw, pitch, roll) rad. All must be finite."""
        sources = np.concatenate([np.asarray(weights, np.float64), np.asarray(head, np.float64)])
        positions = self.neutral + self._direct @ sources
        for group in self._groups:
            away = bounded.solve(group.gram, group.amounts @ sources, group.lower, group.upper)
            positions[group.joints] = self.neutral[group.joints] + away
        return np.asarray(np.clip(positions, self.lower, self.upper))
