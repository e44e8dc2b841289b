"""Parameters of the reconstruction, and what every estimator is made from."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from ..config import Config, parameter
from ..errors import ConfigError
from ..head.model import DEFAULT_HEAD
from ..registry import ESTIMATORS
from .encoder.face_encoder import ENCODER
from .restore import RESTORER


class ReconstructionConfig(Config):
    """Parameters of the reconstruction."""

    estimator: str = parameter(
        "auto",
        "how a face is read: sensors (encoder for faces under electrodes), landmarks (bare faces), auto looks which is better; "
        "smirk:FILE.onnx on a FLAME head; a plug-in by its name",
    )
    head_model: str = parameter(DEFAULT_HEAD, "head model in models/, or the path of an .npz")
    encoder: str = parameter(ENCODER, "encoder for faces under sensors: a file of models/ or a path (.onnx)")
    restorer: str = parameter(
        RESTORER, "network that takes sensors off the picture: a file of models/ or a path (.onnx)"
    )
    backend: Literal["onnxruntime", "openvino"] = parameter(
        "onnxruntime", "what runs encoder and restorer, in float32 either way"
    )
    both_ways: bool = parameter(
        True, "the encoder reads the mirrored face as well and takes the mean: about 2 ms more, errs less"
    )
    min_confidence: float = parameter(
        0.3, "a face below this confidence counts as lost", ge=0.0, le=1.0, read_only=False
    )
    min_presence: float = parameter(0.5, "a crop below this is searched anew", ge=0.0, le=1.0)
    min_detection: float = parameter(0.5, "score a detected face must reach", ge=0.05, le=1.0)
    memory: int = parameter(
        60,
        "pictures during which a face that returns is looked for where it was lost",
        unit="frames",
        ge=0,
        le=100000,
    )
    expression_rate: float = parameter(
        4.0, "how fast a coefficient may wander; smaller is smoother", unit="1/sqrt(s)", gt=0.0, le=100.0
    )
    shape_memory: float = parameter(
        200.0, "pictures over which the person's shape is learnt", unit="frames", ge=1.0, le=1e6
    )
    micro: bool = parameter(
        False,
        "follow small, fast motion by dense flow: face/vision is corrected by it, face/displacement says where the skin is besides",
    )
    micro_stride: int = parameter(
        1,
        "with micro, the estimator reads every n-th picture and flow alone those between; 4 suits 100 frames/s or more",
        ge=1,
        le=64,
    )

    @field_validator("estimator")
    @classmethod
    def _is_registered(cls, estimator: str) -> str:
        try:
            ESTIMATORS.scheme(estimator)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return estimator
