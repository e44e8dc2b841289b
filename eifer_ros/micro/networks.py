"""The learnt part of small motion, as an ONNX file (`models/micro_dynamic.onnx`).

Dynamic-encoded module: what the linear solver found, as a code in the directions in which faces move, and the
static estimator's code of the face (expression, shape, view) -> correction of the change of expression. It is
homogeneous: the code is divided by the size of the motion and the output is multiplied with it, so that what
was learnt on macro movements scaled down holds at any scale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..head.fingerprint import fingerprint
from ..head.model import HeadModel
from ..inference.network import installed, open_network
from ..types import F64
from .core import Motion, MotionPrior

DYNAMIC = "micro_dynamic.onnx"
VERSION = 1
SHAPES = 20
"""So many shape coefficients are part of the static code."""
_LEAST = 0.05
_UNIT = 0.02
_UNKNOWN = ("eyeLook", "eyeBlink", "tongue")


class StaticCode:
    """What the dynamic module is told.

    Rows of `unknowns`: expression and local modes as the solver orders them.
    """

    def __init__(self, head: HeadModel, prior: MotionPrior) -> None:
        if prior.factor is None or prior.own is None:
            raise ModelError(
                "the learnt modules need a prior that was measured (models/micro_motion.npz), not a plain one"
            )
        self._code = np.linalg.pinv(prior.factor / np.sqrt(prior.own)[:, None]) / np.sqrt(prior.own)
        self.free = np.array([0.0 if name.startswith(_UNKNOWN) else _UNIT for name in head.expression_names])
        """(E,) size of what the network may change per unit; gaze and lids are left as they are."""

    def features(
        self, unknowns: F64, misfit_px: float, expression: npt.ArrayLike, shape: npt.ArrayLike, pose: F64
    ) -> tuple[F64, float]:
        """(I,) inputs and the size that the output is multiplied with."""
        code = self._code @ unknowns
        size = float(np.linalg.norm(code)) / 8.0 + _LEAST
        static = np.asarray(expression, np.float64), 0.5 * np.asarray(shape, np.float64)[:SHAPES]
        return np.concatenate([code / size, [np.log(size), misfit_px / 0.05], pose[:3, 2], *static]), size


def available(head: HeadModel, prior: MotionPrior) -> bool:
    """Whether the network is installed and was made for `head`."""
    if prior.factor is None or not installed(DYNAMIC):
        return False
    return bool(open_network(DYNAMIC).about.get("head_fingerprint") == fingerprint(head))


class DynamicNetwork:
    """The network behind the solver.

    Raises ModelError where the file is missing, damaged or of another version.
    """

    def __init__(self, head: HeadModel, prior: MotionPrior) -> None:
        self._code = StaticCode(head, prior)
        network = open_network(DYNAMIC)
        self._network = network
        about = network.about
        if about.get("kind") != "micro_dynamic" or about.get("version") != VERSION:
            raise ModelError(
                f"{network.name} is not a 'micro_dynamic' of version {VERSION}: python -m research.micro.micro_networks"
            )

    def correction(self, motion: Motion, expression: npt.ArrayLike, shape: npt.ArrayLike, pose: F64) -> F64:
        """(E,) what the change of expression lacks.

        expression, shape, pose: of the face in the key picture.
        """
        inputs, size = self._code.features(motion.unknowns, motion.misfit_px, expression, shape, pose)
        (out,) = self._network.run(["change"], {"features": inputs[None].astype(np.float32)})
        return np.asarray(out[0] * size * self._code.free, np.float64)
