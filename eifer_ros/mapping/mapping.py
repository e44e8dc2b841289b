"""A fitted mapping: muscles to face and back, for one participant, in one file without pickle.

The file is an `.npz`: arrays, and a JSON header that says what the mapping was fitted for. A mapping refuses
muscles, scheme, filter profile or head model it was not fitted for, by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as MappingType
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ModelError
from ..types import F32, Array, Bools, Floats
from .features import FeatureSpec, Trust
from .lag import Lag
from .network import Network
from .regression import Basis, Curve, Linear

FORMAT = 1


class Regressor(Protocol):
    """Anything that predicts K targets and their noise variance from F features."""

    @property
    def noise(self) -> F32:
        """(K,) variance of a prediction in the middle of what was learnt."""

    def predict(self, features: Floats) -> F32:
        """Predict rows.

        Parameters
        ----------
        features : ndarray of float, shape (N, F)
            Inputs.

        Returns
        -------
        ndarray of float32, shape (N, K)
            Outputs.
        """

    def predict_one(self, features: F32) -> tuple[F32, float]:
        """Predict one row.

        Parameters
        ----------
        features : ndarray of float32, shape (F,)
            Inputs.

        Returns
        -------
        tuple[ndarray of float32, float]
            (K,) outputs, and the factor >= 1 by which `noise` grows there.
        """

    def arrays(self) -> dict[str, Array]:
        """For the file.

        Returns
        -------
        dict[str, ndarray]
            By name.
        """


@dataclass(frozen=True)
class Direction:
    """One direction of a mapping, K outputs.

    Parameters
    ----------
    kind : str
        `ridge`, `rff`, `mlp` or `tcn`.
    spec : FeatureSpec
        Layout of the features.
    regressor : Regressor
        What predicts.
    inputs, outputs : tuple[str, ...]
        Names.
    learnt : ndarray of bool, shape (K,)
        Which outputs moved enough to be learnt; the others stay at `rest`.
    rest : ndarray of float32, shape (K,)
        Values at rest.
    lower, upper : ndarray of float32, shape (K,)
        Bounds.
    deviation : ndarray of float32, shape (K,)
        Standard deviation of the error on held-out rows.
    """

    kind: str
    spec: FeatureSpec
    regressor: Regressor
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    learnt: Bools
    rest: F32
    lower: F32
    upper: F32
    deviation: F32

    def spread(self, learnt_values: F32) -> F32:
        """Put predictions in their places, the rest filled in, within bounds.

        Parameters
        ----------
        learnt_values : ndarray of float32, shape (N, L)
            Predictions of the L outputs that were learnt.

        Returns
        -------
        ndarray of float32, shape (N, K)
            Outputs.
        """
        out = np.tile(self.rest, (len(learnt_values), 1))
        out[:, self.learnt] = learnt_values
        return np.clip(out, self.lower, self.upper)

    def predict(self, features: Floats) -> F32:
        """Outputs for many rows.

        Parameters
        ----------
        features : ndarray of float, shape (N, F)
            Lagged features.

        Returns
        -------
        ndarray of float32, shape (N, K)
            Outputs.
        """
        return self.spread(self.regressor.predict(features))

    def predict_one(self, features: F32) -> tuple[F32, F32]:
        """Outputs for one row.

        Parameters
        ----------
        features : ndarray of float32, shape (F,)
            Lagged features.

        Returns
        -------
        tuple[ndarray of float32, ndarray of float32]
            (K,) outputs and (K,) their standard deviation.
        """
        values, factor = self.regressor.predict_one(features)
        deviation = np.array(self.deviation)
        deviation[self.learnt] *= np.sqrt(factor)
        return self.spread(values[None])[0], deviation


@dataclass(frozen=True)
class Mapping:
    """Both directions and all that a user of them must match: M muscles, K face values.

    Parameters
    ----------
    scheme : str
        Electrode scheme.
    muscles : tuple[str, ...]
        (M,) names.
    profile : str
        Filter profile of the activity.
    head_model : str
        Id of the head model.
    face_names : tuple[str, ...]
        (K,) expression coefficients, jaw and eyelids.
    period_s : float
        Step of the time base.
    lag : Lag
        Skin behind muscle.
    trust : Trust
        How quality weighs a channel.
    emg2exp : Direction
        Muscles to face.
    exp2emg : Direction
        Face to muscles.
    envelope_scale : ndarray of float32, shape (M, 2)
        Rest and P99 of each muscle's envelope, V: envelope = sqrt((activation P99)^2 + rest^2).
    shape : ndarray of float32, shape (S,)
        Shape coefficients of the participant.
    statistics : dict[str, object], optional
        Cross-validated figures and where the data came from, for people.
    """

    scheme: str
    muscles: tuple[str, ...]
    profile: str
    head_model: str
    face_names: tuple[str, ...]
    period_s: float
    lag: Lag
    trust: Trust
    emg2exp: Direction
    exp2emg: Direction
    envelope_scale: F32
    """(M, 2) rest and P99 of each muscle's envelope, V: envelope = sqrt((activation P99)^2 + rest^2)."""
    shape: F32
    """(S,) shape coefficients of the participant."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """Cross-validated figures and where the data came from, for people."""

    def check(self, *, scheme: str, muscles: tuple[str, ...], profile: str) -> None:
        """Check that muscle activity is what this mapping was fitted to.

        Parameters
        ----------
        scheme : str
            Of the activity.
        muscles : tuple[str, ...]
            Of the activity.
        profile : str
            Of the activity, empty where unknown.

        Raises
        ------
        ModelError
            One of them is another; says which.
        """
        if scheme != self.scheme:
            raise ModelError(
                f"this mapping was fitted to scheme '{self.scheme}', the activity is of scheme '{scheme}'"
            )
        if profile and self.profile and profile != self.profile:
            raise ModelError(
                f"this mapping was fitted to filter profile '{self.profile}', the activity was made with '{profile}'; "
                "set emg_processing profile to match, or fit again"
            )
        if muscles != self.muscles:
            missing = [name for name in self.muscles if name not in muscles]
            extra = [name for name in muscles if name not in self.muscles]
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"unknown {', '.join(extra)}"] if extra else []
            what = "; ".join(parts) or "the same in another order"
            raise ModelError(
                f"this mapping was fitted to {len(self.muscles)} muscles, the activity has {len(muscles)}: {what}"
            )

    def check_head(self, head_model: str) -> None:
        """Check that faces are of the head model this mapping was fitted to.

        Parameters
        ----------
        head_model : str
            Of the faces.

        Raises
        ------
        ModelError
            It is another.
        """
        if head_model != self.head_model:
            raise ModelError(
                f"this mapping was fitted to head model '{self.head_model}', the faces are of '{head_model}'"
            )

    def envelope(self, activation: F32) -> F32:
        """Envelope of an activation.

        Parameters
        ----------
        activation : ndarray of float32, shape (..., M)
            0..1.

        Returns
        -------
        ndarray of float32, shape (..., M)
            Volts.
        """
        rest, top = self.envelope_scale.T
        return np.asarray(np.sqrt((activation * top) ** 2 + rest**2), np.float32)

    def save(self, path: Path) -> None:
        """Write the file.

        Parameters
        ----------
        path : Path
            The .npz.
        """
        arrays: dict[str, Any] = {
            "trust/mean": self.trust.mean,
            "trust/covariance": self.trust.covariance,
            "envelope_scale": self.envelope_scale,
            "shape": self.shape,
        }
        directions = {}
        for name in ("emg2exp", "exp2emg"):
            direction: Direction = getattr(self, name)
            for key in ("learnt", "rest", "lower", "upper", "deviation"):
                arrays[f"{name}/{key}"] = getattr(direction, key)
            arrays |= {f"{name}/model/{key}": value for key, value in direction.regressor.arrays().items()}
            directions[name] = {
                "kind": direction.kind,
                "inputs": direction.inputs,
                "outputs": direction.outputs,
                "spec": asdict(direction.spec),
            }
        header = {
            "what": "eifer mapping",
            "format": FORMAT,
            "scheme": self.scheme,
            "muscles": self.muscles,
            "profile": self.profile,
            "head_model": self.head_model,
            "face_names": self.face_names,
            "period_s": self.period_s,
            "lag": asdict(self.lag),
            "directions": directions,
            "statistics": self.statistics,
        }
        arrays["header"] = np.array(json.dumps(header))
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: Path) -> Mapping:
        """Read a file written by `save`; nothing in it is run.

        Parameters
        ----------
        path : Path
            The .npz.

        Returns
        -------
        Mapping
            The mapping.

        Raises
        ------
        ModelError
            It is missing, damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                data = {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise ModelError(
                f"{path}: no such mapping; make one with eifer fit SESSION --out {path}"
            ) from None
        except Exception as error:  # zip, zlib and numpy errors have no common base
            raise ModelError(f"{path}: not a readable mapping ({error})") from None
        try:
            header = json.loads(str(data["header"]))
            if header["what"] != "eifer mapping" or header["format"] != FORMAT:
                raise ModelError(
                    f"{path}: mapping format {header.get('format')}; this version reads format {FORMAT}"
                )
            return _from_file(header, data)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path}: not a mapping ({error} is missing or wrong)") from None


def _direction(header: MappingType[str, Any], name: str, data: MappingType[str, Any]) -> Direction:
    part = header["directions"][name]
    prefix = f"{name}/model/"
    arrays = {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}
    spec = FeatureSpec(tuple(part["spec"]["steps"]), part["spec"]["period_s"], part["spec"]["ahead_s"])
    f32 = {
        key: np.asarray(data[f"{name}/{key}"], np.float32) for key in ("rest", "lower", "upper", "deviation")
    }
    return Direction(
        part["kind"],
        spec,
        regressor_of(part["kind"], arrays),
        tuple(part["inputs"]),
        tuple(part["outputs"]),
        data[f"{name}/learnt"].astype(bool),
        **f32,
    )


def _from_file(header: MappingType[str, Any], data: MappingType[str, Any]) -> Mapping:
    trust = Trust(
        np.asarray(data["trust/mean"], np.float64), np.asarray(data["trust/covariance"], np.float64)
    )
    return Mapping(
        header["scheme"],
        tuple(header["muscles"]),
        header["profile"],
        header["head_model"],
        tuple(header["face_names"]),
        header["period_s"],
        Lag(**header["lag"]),
        trust,
        _direction(header, "emg2exp", data),
        _direction(header, "exp2emg", data),
        np.asarray(data["envelope_scale"], np.float32),
        np.asarray(data["shape"], np.float32),
        header["statistics"],
    )


def linear_of(arrays: MappingType[str, Array]) -> Linear:
    """A `Linear` from what `Linear.arrays` gave.

    Parameters
    ----------
    arrays : MappingType[str, ndarray]
        By name.

    Returns
    -------
    Linear
        The regressor.
    """
    f32 = {key: np.ascontiguousarray(value, np.float32) for key, value in arrays.items() if key != "weight"}
    basis = Basis(
        f32["mean"], f32["basis_deviation"], f32["frequencies"], f32["phases"], float(arrays["weight"])
    )
    curve = (
        Curve(f32["curve_lower"], f32["curve_upper"], f32["curve_values"]) if "curve_values" in f32 else None
    )
    return Linear(basis, f32["weights"], f32["noise"], f32["factor"], curve)


def regressor_of(kind: str, arrays: MappingType[str, Array]) -> Regressor:
    """The regressor of `kind` from its arrays.

    Parameters
    ----------
    kind : str
        `ridge`, `rff`, `mlp` or `tcn`.
    arrays : MappingType[str, ndarray]
        By name.

    Returns
    -------
    Regressor
        The regressor.

    Raises
    ------
    ModelError
        An unknown kind.
    """
    if kind in ("ridge", "rff"):
        return linear_of(arrays)
    if kind in ("mlp", "tcn"):
        return Network.of(arrays)
    raise ModelError(f"unknown kind of mapping '{kind}'; known are ridge, rff, mlp, tcn")


def bounds(face_names: tuple[str, ...], lower: F32, upper: F32) -> tuple[F32, F32]:
    """Bounds of a face vector: the head model's for expression, generous for jaw, 0..1 for lids.

    Parameters
    ----------
    face_names : tuple[str, ...]
        (K,) names.
    lower, upper : ndarray of float32, shape (E,)
        Bounds of the expression.

    Returns
    -------
    tuple[ndarray of float32, ndarray of float32]
        (K,) lower and (K,) upper bounds.
    """
    extra = len(face_names) - len(lower)
    low = np.concatenate([lower, np.full(extra, -1.0), np.zeros(0)])
    high = np.concatenate([upper, np.full(extra, 1.0), np.zeros(0)])
    for place, name in enumerate(face_names):
        if name.startswith("eyelid"):
            low[place] = 0.0
    return low.astype(np.float32), high.astype(np.float32)
