"""Muscles move the face: excitation of 22 muscles -> skin after a lag -> the 52 ARKit actions.

The matrix is signed and sparse and follows the Facial Action Coding System (Ekman & Friesen 1978: which
muscle makes which action unit, e.g. zygomaticus major AU12, corrugator AU4, orbicularis oculi AU6/7). Muscles
carry the numbers of Fridlund & Cacioppo (1986): odd on the subject's right, even on the left. Four actuators
have no electrode over them: the jaw opener (digastric and lateral pterygoid, deep and helped by gravity), the
air pressure behind puffed cheeks, and the two lid muscles (relaxing and contracting the levator palpebrae).
They are why sEMG alone can never know the whole face.

The chain from excitation to skin: activation dynamics (faster up than down), a pure delay of 10 ms and a
critically damped second order (lip mechanics as in the speech literature). Its total lag, the mean group
delay, is a setting: 70 ms by default, the median that emg2face (arXiv 2610.09304) measured per participant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ..emg.montage import FRIDLUND
from ..errors import InputError
from ..types import ARKIT_52, F64, I64
from .seeds import generator

BASE_MUSCLES: tuple[str, ...] = tuple(name.removesuffix("_right") for name in FRIDLUND.muscles[::2])
"""The 11 muscles of one side in the order of Fridlund & Cacioppo: muscle b has the numbers 2 b + 1 (right), 2
b + 2 (left).
"""

MUSCLES: tuple[str, ...] = FRIDLUND.names
HIDDEN: tuple[str, ...] = ("jaw_opener", "cheek_pressure", "lid_closer", "lid_raiser")
"""Actuators that no electrode sees."""
ACTUATORS: tuple[str, ...] = MUSCLES + HIDDEN

GRID_HZ = 500.0
"""Rate at which excitation and skin are computed; between grid points they are interpolated linearly."""
BLOCK_S = 4.0
WARM_UP_S = 1.5
"""Memory of the skin dynamics: with the longest lag, 150 ms, what lies further back has decayed below 1e-9.
"""

DELAY_S = 0.010
LID_LAG_S = 0.020
"""Lids follow their muscles within 5-15 ms plus a short damping."""
LAG_RANGE_S = (0.030, 0.150)

# fmt: off
_SIDED: dict[str, dict[str, float]] = {
    "medial_frontalis": {"browInnerUp": 0.60, "browOuterUp{side}": 0.12, "eyeWide{side}": 0.08},
    "lateral_frontalis": {"browOuterUp{side}": 0.95, "browInnerUp": 0.08, "eyeWide{side}": 0.10, "browDown{side}": -0.30},
    "corrugator_supercilii": {"browDown{side}": 0.75, "browInnerUp": 0.10, "eyeSquint{side}": 0.15, "browOuterUp{side}": -0.25},
    "depressor_supercilii": {"browDown{side}": 0.55, "browInnerUp": -0.35, "noseSneer{side}": 0.15, "eyeWide{side}": -0.2},
    "levator_labii_superioris": {
        "mouthUpperUp{side}": 0.85, "noseSneer{side}": 0.85, "cheekSquint{side}": 0.20, "mouthShrugUpper": 0.10,
        "mouthRollUpper": -0.2, "browDown{side}": 0.08,
    },
    "orbicularis_oris": {
        "mouthPucker": 0.60, "mouthFunnel": 0.18, "mouthPress{side}": 0.35, "mouthStretch{side}": -0.30,
        "mouthSmile{side}": -0.25, "mouthClose": 0.06, "mouthRollUpper": 0.10, "mouthRollLower": 0.08, "mouthLowerDown{side}": -0.2,
    },
    "depressor_anguli_oris": {
        "mouthFrown{side}": 0.90, "mouthLowerDown{side}": 0.62, "mouthStretch{side}": 0.40, "mouthSmile{side}": -0.45,
        "mouthDimple{side}": -0.1,
    },
    "mentalis": {
        "mouthShrugLower": 0.50, "mouthShrugUpper": 0.15, "mouthPress{side}": 0.20, "mouthRollLower": 0.12, "mouthPucker": 0.08,
        "mouthLowerDown{side}": -0.30,
    },
    "orbicularis_oculi": {
        "eyeSquint{side}": 0.85, "cheekSquint{side}": 0.55, "eyeBlink{side}": 0.18, "eyeWide{side}": -0.60, "browDown{side}": 0.12,
        "browOuterUp{side}": -0.10,
    },
    "zygomaticus_major": {
        "mouthSmile{side}": 1.00, "cheekSquint{side}": 0.40, "mouthDimple{side}": 0.22, "mouthStretch{side}": 0.10,
        "mouthUpperUp{side}": 0.20, "mouthFrown{side}": -0.50, "mouthPucker": -0.25, "mouth{side}": 0.25, "mouth{other}": -0.25,
        "mouthPress{side}": -0.1,
    },
    "masseter": {"jawOpen": -0.45, "mouthPress{side}": 0.15, "jawForward": 0.04, "jaw{side}": 0.10, "jaw{other}": -0.10},
}
# fmt: on
_HIDDEN: dict[str, dict[str, float]] = {
    # gravity opens the jaw as soon as its closers let go: a small excitation moves it far
    "jaw_opener": {
        "jawOpen": 1.25,
        "mouthLowerDownLeft": 0.10,
        "mouthLowerDownRight": 0.10,
        "mouthPressLeft": -0.5,
        "mouthPressRight": -0.5,
        "mouthShrugLower": -0.3,
    },
    "cheek_pressure": {"cheekPuff": 1.15, "mouthFunnel": -0.1, "mouthPucker": -0.1},
    "lid_closer": {"eyeBlinkLeft": 1.6, "eyeBlinkRight": 1.6, "eyeWideLeft": -1.0, "eyeWideRight": -1.0},
    "lid_raiser": {"eyeWideLeft": 0.95, "eyeWideRight": 0.95, "eyeSquintLeft": -0.4, "eyeSquintRight": -0.4},
}
_GAZE_RANGE_RAD = {"yaw": 0.44, "up": 0.31, "down": 0.38}
"""Eye rotation at weight 1 of the eyeLook actions, as in the open head."""


def muscle_index(base: str, side: str) -> int:
    """Index into `MUSCLES` (and `ACTUATORS`) of `base` on `side` ("right" or "left")."""
    return 2 * BASE_MUSCLES.index(base) + (0 if side == "right" else 1)


@functools.cache
def reference_matrix() -> F64:
    """(52, A) signed weights from actuators to ARKit actions, before a participant's variation.

    Do not modify.
    """
    matrix = np.zeros((len(ARKIT_52), len(ACTUATORS)))
    for base, links in _SIDED.items():
        for side, other in (("Right", "Left"), ("Left", "Right")):
            column = muscle_index(base, side.lower())
            for action, weight in links.items():
                matrix[ARKIT_52.index(action.format(side=side, other=other)), column] += weight
    for name, links in _HIDDEN.items():
        for action, weight in links.items():
            matrix[ARKIT_52.index(action), ACTUATORS.index(name)] += weight
    matrix.flags.writeable = False
    return matrix


def _unsided(action: str) -> str:
    return action.removesuffix("Left").removesuffix("Right")


def saturate(force: F64, knee: float = 0.03) -> F64:
    """Weights 0..1 from net pull: nothing where antagonists win, about linear below 0.5, never above 1.

    A soft rectifier (softplus of width `knee`) followed by tanh; zero pull gives exactly 0.
    """
    pulled = np.maximum(knee * (np.logaddexp(0.0, force / knee) - np.log(2.0)), 0.0)
    return np.asarray(np.tanh(1.25 * pulled), np.float64)


class MuscleMap:
    """One participant's muscles -> ARKit actions: the reference matrix with its non-zero weights varied by
    `seed`.

    matrix: (52, A). The variation (log-normal, 15 %, a third as much between the sides) belongs to the person
    and stays the same in every session.
    """

    def __init__(self, seed: int, variation: float = 0.15) -> None:
        rng = generator(seed, "muscle map")
        actions = sorted({_unsided(name) for name in ARKIT_52})
        row = [actions.index(_unsided(name)) for name in ARKIT_52]
        column = [
            *(index // 2 for index in range(len(MUSCLES))),
            *range(len(BASE_MUSCLES), len(BASE_MUSCLES) + len(HIDDEN)),
        ]
        # both sides share most of the variation; a face is more alike left and right than two faces are
        shared = rng.normal(0.0, variation, (len(actions), max(column) + 1))[np.ix_(row, column)]
        sided = rng.normal(0.0, 0.35 * variation, shared.shape)
        self.matrix: F64 = reference_matrix() * np.exp(shared + sided)

    def expression(self, activation: npt.ArrayLike) -> F64:
        """(..., 52) weights 0..1 from skin-side activation (..., A)."""
        return saturate(np.asarray(activation, np.float64) @ self.matrix.T)


def gaze_weights(yaw_rad: npt.ArrayLike, pitch_rad: npt.ArrayLike) -> F64:
    """(..., 52) eyeLook weights for both eyes looking the same way; yaw > 0 to the subject's left, pitch > 0
    up.
    """
    yaw, pitch = np.broadcast_arrays(np.asarray(yaw_rad, np.float64), np.asarray(pitch_rad, np.float64))
    weights = np.zeros((*yaw.shape, len(ARKIT_52)))

    def put(action: str, value: F64) -> None:
        weights[..., ARKIT_52.index(action)] = np.clip(value, 0.0, 1.0)

    left = yaw / _GAZE_RANGE_RAD["yaw"]
    right = -yaw / _GAZE_RANGE_RAD["yaw"]
    put("eyeLookOutLeft", left)
    put("eyeLookInRight", left)
    put("eyeLookInLeft", right)
    put("eyeLookOutRight", right)
    for side in ("Left", "Right"):
        put(f"eyeLookUp{side}", pitch / _GAZE_RANGE_RAD["up"])
        put(f"eyeLookDown{side}", -pitch / _GAZE_RANGE_RAD["down"])
    return weights


class SkinConstants(NamedTuple):
    """Time constants of the chain from excitation to skin, each (A,) in seconds; `delay` in whole grid steps."""

    delay: I64
    rise: F64
    fall: F64
    damping: F64


def skin_constants(lag_s: float) -> SkinConstants:
    """Constants whose group delays add up to `lag_s`: delay + mean of rise and fall + 2 x damping.

    Lids have their own lag.

    Raises InputError where `lag_s` is outside 0.03..0.15.
    """
    if not LAG_RANGE_S[0] <= lag_s <= LAG_RANGE_S[1]:
        raise InputError(f"muscle-to-skin lag {lag_s} s; it must lie in {LAG_RANGE_S[0]}..{LAG_RANGE_S[1]} s")
    lid = np.array([name.startswith("lid_") for name in ACTUATORS])
    lag = np.where(lid, LID_LAG_S, lag_s)
    delay = np.where(lid, round(0.004 * GRID_HZ), round(DELAY_S * GRID_HZ)).astype(np.int64)
    third = (lag - delay / GRID_HZ) / 3.0
    return SkinConstants(delay, 0.7 * third, 1.3 * third, third)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow(
    excitation: F64,
    delay: I64,
    rise: F64,
    fall: F64,
    damping: F64,
    step: float,
) -> F64:
    """Run the chain over (T, A) samples from rest at the first sample."""
    count, actuators = excitation.shape
    skin = np.empty_like(excitation)
    for a in range(actuators):
        activation = excitation[0, a]
        first = activation
        second = activation
        # backward Euler: the group delay of each stage is its time constant exactly, whatever the step
        damp = step / (damping[a] + step)
        up = step / (rise[a] + step)
        down = step / (fall[a] + step)
        for t in range(count):
            u = excitation[max(t - delay[a], 0), a]
            activation += (up if u > activation else down) * (u - activation)
            first += damp * (activation - first)
            second += damp * (first - second)
            skin[t, a] = second
    return skin


def follow(excitation: npt.ArrayLike, lag_s: float) -> F64:
    """(T, A) skin-side activation from excitation (T, A) sampled at `GRID_HZ`, starting at rest on the first
    sample.
    """
    c = skin_constants(lag_s)
    return np.asarray(
        _follow(
            np.ascontiguousarray(excitation, np.float64), c.delay, c.rise, c.fall, c.damping, 1.0 / GRID_HZ
        ),
        np.float64,
    )


class MuscleTimeline:
    """Excitation and skin at any time, computed in fixed blocks of 4 s and kept for a while.

    excitation: (T,) s -> (T, A), a pure function. A block depends on its own time only, so two timelines of
    the same function agree.
    """

    def __init__(self, excitation: Callable[[F64], F64], lag_s: float) -> None:
        skin_constants(lag_s)
        self.lag_s = lag_s
        self._excitation = excitation
        self._steps = round(BLOCK_S * GRID_HZ)
        self.excitation_block = functools.lru_cache(maxsize=16)(self._excitation_block)
        self._skin_cached = functools.lru_cache(maxsize=16)(self._skin_block)

    def _excitation_block(self, block: int) -> F64:
        steps = block * self._steps + np.arange(self._steps)
        return self._excitation(steps / GRID_HZ)

    def _skin_block(self, block: int) -> F64:
        warm = round(WARM_UP_S * GRID_HZ)
        before = self.excitation_block(block - 1)[-warm:]
        return follow(np.concatenate([before, self.excitation_block(block)]), self.lag_s)[warm:]

    def _at(self, times: npt.ArrayLike, block_of: Callable[[int], F64]) -> F64:
        position = np.asarray(times, np.float64) * GRID_HZ
        low = np.floor(position).astype(np.int64)
        part = (position - low)[..., None]
        return self._rows(low, block_of) * (1.0 - part) + self._rows(low + 1, block_of) * part

    def _rows(self, steps: I64, block_of: Callable[[int], F64]) -> F64:
        blocks, rows = np.divmod(steps, self._steps)
        out = np.empty((*steps.shape, len(ACTUATORS)))
        for block in np.unique(blocks):
            here = blocks == block
            out[here] = block_of(int(block))[rows[here]]
        return out

    def excitation(self, times: npt.ArrayLike) -> F64:
        """(..., A) excitation 0..1 at `times` in seconds."""
        return self._at(times, self.excitation_block)

    def skin(self, times: npt.ArrayLike) -> F64:
        """(..., A) activation that has reached the skin at `times` in seconds."""
        return self._at(times, self._skin_cached)

    def grid(self, first: int, count: int) -> F64:
        """(count, A) excitation at the grid steps `first` .. `first + count - 1`."""
        return self._rows(first + np.arange(count), self.excitation_block)
