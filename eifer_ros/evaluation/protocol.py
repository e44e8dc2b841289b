"""The protocol of an evaluation: data, split, models, seeds, in one file that pins them so that others can
repeat it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from ..config import Config, build, parameter
from ..errors import ConfigError, InputError
from ..simulation.seeds import HELD_OUT_FROM
from ..types import F64, Bools

Rows = Bools
PARTICIPANTS = tuple(range(HELD_OUT_FROM, HELD_OUT_FROM + 12))
"""Simulated people that area face judges by default."""


class SimulatedData(Config):
    """A simulated participant, without pictures."""

    seed: int = parameter(7, "who performs", ge=0)
    session: int = parameter(0, "which session", ge=0)
    program: Literal["session", "calibration", "emotions", "conversation", "free"] = parameter(
        "session", "what is performed"
    )
    seconds: float = parameter(120.0, "how long", unit="s", ge=20, le=36000)
    rate_hz: float = parameter(1000.0, "EMG sampling rate", unit="Hz", ge=200)


class Data(Config):
    """One recording: a bag, a session of MMM or MaM, or a simulated participant."""

    bag: str = parameter("", "recording with EMG and faces")
    mmm: str = parameter("", "folder with MMM.csv")
    session: str = parameter("", "session of it, as 99_2S")
    simulated: SimulatedData | None = Field(None, description="a simulated participant")
    faces: str = parameter("auto", "topic of the faces in a bag")

    @model_validator(mode="after")
    def _one(self) -> Data:
        if sum((bool(self.bag), bool(self.mmm), self.simulated is not None)) != 1:
            raise ValueError("give exactly one of bag, mmm and simulated")
        return self

    @property
    def name(self) -> str:
        """For tables."""
        if self.simulated is not None:
            return f"simulated {self.simulated.seed}/{self.simulated.session}"
        return Path(self.bag).name if self.bag else self.session


class Split(Config):
    """Which part is learnt from and which is judged; never shuffled frames.

    blocks: the recording in so many stretches (or clips), every `test_every`-th is judged. tail: the last
    `share` is judged. intervals: in s, given outright. Between learnt and judged rows lies `gap_s`.
    """

    kind: Literal["blocks", "tail", "intervals"] = parameter("blocks", "how the recording is split")
    blocks: int = parameter(12, "stretches", ge=2, le=1000)
    test_every: int = parameter(3, "every so many stretches one is judged", ge=2, le=100)
    share: float = parameter(0.3, "share at the end that is judged", gt=0, lt=1)
    test: list[tuple[float, float]] = parameter([], "judged intervals, s after the start")
    gap_s: float = parameter(1.0, "left out around judged rows", unit="s", ge=0, le=60)

    def rows(self, times: F64) -> tuple[Rows, Rows]:
        """(T,) which rows are learnt from, (T,) which are judged.

        Raises InputError where one of them is empty.
        """
        time = times - times[0]
        test_rows = np.zeros(len(time), bool)
        if self.kind == "intervals":
            for start, stop in self.test:
                test_rows |= (time >= start) & (time < stop)
        elif self.kind == "tail":
            test_rows = time >= (1 - self.share) * time[-1]
        else:
            # stretches of equal numbers of rows, so that a gap between clips is not half a stretch
            number = np.arange(len(time)) * self.blocks // len(time)
            test_rows = number % self.test_every == self.test_every - 1
        near = np.zeros(len(time), bool)
        edges = np.flatnonzero(test_rows[1:] != test_rows[:-1]) + 1
        for edge in edges.tolist():
            near |= np.abs(time - 0.5 * (time[edge - 1] + time[edge])) < self.gap_s
        train_rows = ~test_rows & ~near
        if not train_rows.any() or not test_rows.any():
            raise InputError(
                f"the split leaves {int(train_rows.sum())} rows to learn from and {int(test_rows.sum())} to be judged"
            )
        return train_rows, test_rows


class Protocol(Config):
    """An evaluation.

    version: raised when the meaning changes; results of another version are not compared.
    """

    name: str = parameter("default", "for the reader")
    version: int = parameter(1, "of the protocol's meaning", ge=1)
    area: Literal["mapping", "face", "emg"] = parameter("mapping", "what is evaluated")
    data: list[Data] = parameter([], "recordings; empty for simulated participants")
    split: Split = Field(default_factory=Split, description="learnt and judged rows")
    models: list[str] = parameter(
        ["rest", "ridge", "rff"], "rest, ridge, rff, mlp, tcn, tcn_centred, mlp_frame"
    )
    directions: list[Literal["emg2exp", "exp2emg"]] = parameter(
        ["emg2exp", "exp2emg"], "muscles to face, face to muscles"
    )
    spaces: list[str] = parameter(
        [], "parameter spaces of MMM data, as EIFER, SMIRK; empty for all that are there"
    )
    profiles: list[str] = parameter(["live", "rms100", "emg2face"], "filter profiles of area emg")
    topics: list[str] = parameter([], "face topics of area face; empty for all but the truth")
    seeds: list[int] = parameter([0], "one run per seed of models that are not deterministic")
    participants: list[int] = parameter(
        [], "area face: simulated people that perform everything, bare and under sensors; from 900000"
    )
    moments: int = parameter(4, "area face: pictures of each movement of each participant", ge=1, le=100)
    encoder: str = parameter(
        "face_encoder.onnx", "area face: encoder for faces under sensors, in models/ or a path"
    )
    encoder_bare: str = parameter(
        "face_encoder_bare.onnx", "area face: encoder trained on bare faces only, to compare with"
    )
    restorer: str = parameter("face_restorer.onnx", "area face: network that takes sensors off the picture")
    reference: str = parameter(
        "", "recording of the same person without electrodes, for the restored pictures of area face"
    )
    feature_network: str = parameter("", "ONNX network, picture to features, for the Fréchet distance")
    classifier: str = parameter("", "ONNX network, picture to class scores, for agreement of expressions")

    @property
    def digest(self) -> str:
        """Twelve characters that change with every value."""
        text = json.dumps(self.model_dump(exclude={"name"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def with_data(self) -> Protocol:
        """With the default data where none is named: for faces, people that no shipped network was trained
        on.
        """
        if self.data or self.participants:
            return self
        if self.area == "face":
            return self.model_copy(update={"participants": list(PARTICIPANTS)})
        participants = [Data(simulated=SimulatedData(seed=seed)) for seed in (7, 8)]
        return self.model_copy(update={"data": participants})


def load_protocol(path: Path | None, area: str) -> Protocol:
    """Read a protocol file, or the default of an area.

    Raises ConfigError that names the key, or where the area is another.
    """
    if path is None:
        return build(Protocol, {"area": area}, "protocol").with_data()
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: a protocol holds keys such as area, data, split, models")
    protocol = build(Protocol, {"area": area, **tree}, str(path))
    if protocol.area != area:
        raise ConfigError(f"{path}: is a protocol for 'eifer evaluate {protocol.area}', not {area}")
    base = path.parent.absolute()

    def absolute(name: str) -> str:
        return str(base / Path(name).expanduser()) if name else ""

    data = [
        one.model_copy(update={"bag": absolute(one.bag), "mmm": absolute(one.mmm)}) for one in protocol.data
    ]
    files = {
        name: absolute(getattr(protocol, name)) for name in ("reference", "feature_network", "classifier")
    }
    for name in (
        "encoder",
        "encoder_bare",
        "restorer",
    ):  # a name without a folder is one of models/, unless the file lies here
        file = Path(getattr(protocol, name)).expanduser()
        if len(file.parts) > 1 or (base / file).is_file():
            files[name] = str(base / file)
    return protocol.model_copy(update={"data": data, **files}).with_data()
