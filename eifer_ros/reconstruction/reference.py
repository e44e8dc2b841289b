"""A person's resting face as the zero of expression.

What a reconstruction reads from a face at rest is not zero: anatomy that the shape space does not hold, and
whatever the electrodes do to the picture, end up in the expression. It is the same in every picture of one
person, so it is measured once at rest and taken off. The rest of the range is stretched so that a full
expression still reaches its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..types import F32, FaceState, FaceStatus, Marker

REST = "Face-At-Rest"
MIN_FACES = 10


@dataclass(frozen=True)
class Reference:
    """offset: (E,) expression at rest of `head_model`, read from `faces` faces."""

    head_model: str
    offset: F32
    faces: int

    @staticmethod
    def of(faces: Iterable[FaceState]) -> Reference:
        """The median expression of faces at rest.

        Raises InputError for fewer than ten, or of several head models.
        """
        tracked = [state for state in faces if state.status != FaceStatus.LOST]
        if len(tracked) < MIN_FACES:
            raise InputError(
                f"{len(tracked)} faces at rest; a reference needs at least {MIN_FACES} in which the face was found"
            )
        models = {state.head_model for state in tracked}
        if len(models) > 1:
            raise InputError(
                f"faces of several head models ({', '.join(sorted(models))}); a reference belongs to one"
            )
        offset = np.median(np.stack([state.expression for state in tracked]), axis=0)
        return Reference(tracked[0].head_model, offset.astype(np.float32), len(tracked))

    @staticmethod
    def of_recording(faces: Sequence[FaceState], markers: Iterable[Marker]) -> Reference:
        """From the faces between the start and end markers of `Face-At-Rest`."""
        spans = []
        start = None
        for marker in sorted(markers, key=lambda marker: marker.stamp):
            if marker.label == REST and marker.phase == "start":
                start = marker.stamp
            elif marker.label == REST and marker.phase == "end" and start is not None:
                spans.append((start, marker.stamp))
        if not spans:
            raise InputError(f"no movement '{REST}' is marked; without a face at rest there is no reference")
        return Reference.of(
            state for state in faces if any(begin <= state.stamp < end for begin, end in spans)
        )

    def apply(self, state: FaceState) -> FaceState:
        """`state` with its expression counted from rest, 0..1; a lost face or one of another head model is
        returned as it is.
        """
        if state.status == FaceStatus.LOST or state.head_model != self.head_model:
            return state
        room = np.maximum(1.0 - self.offset, 0.2)
        return replace(state, expression=np.clip((state.expression - self.offset) / room, 0.0, 1.0))
