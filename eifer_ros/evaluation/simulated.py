"""A simulated session without pictures: raw sEMG, movement markers and the true face at the camera's rate.

Some hundred times real time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from .. import topics
from ..component import Emission
from ..recording.writer import BagWriter
from ..simulation.performer import PerformerConfig, PerformerEmg

FACE = topics.TRUE_FACE.name


def items(config: PerformerConfig, duration_s: float, face_topic: str = FACE) -> Iterator[Emission]:
    """EMG, true muscles, markers and faces of `duration_s` seconds, in the order of their stamps."""
    source = PerformerEmg(config.model_copy(update={"speed": 0, "duration_s": duration_s}))
    source.setup()
    participant = source.participant

    def faces() -> Iterator[Emission]:
        for number in range(int(duration_s * config.fps)):
            yield Emission(face_topic, participant.face_at(config.start_s + number / config.fps))

    yield Emission(topics.HEAD_MODEL.name, participant.head.info(participant.stamp(config.start_s)))
    yield from heapq.merge(source.produce(), faces(), key=lambda emission: emission.item.stamp)


def write(
    out: Path, config: PerformerConfig, duration_s: float, *, session: dict[str, object] | None = None
) -> Path:
    """`items` as the recording `out`, small: EMG packets of 256 samples."""
    config = config.model_copy(update={"chunk_samples": 256})
    about = {
        "participant": f"simulated {config.seed}",
        "seed": config.seed,
        "session": config.session,
        **(session or {}),
    }
    with BagWriter(out, session=about, wait=True) as bag:
        for emission in items(config, duration_s):
            bag.write(*emission)
    return out
