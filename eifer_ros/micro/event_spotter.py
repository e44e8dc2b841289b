"""Faces, displacements of the skin and muscle activity in; micro-expressions out as they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .. import topics
from ..component import Component, Emission, Health, Level
from ..config import Config, parameter
from ..emg.filters import design, profile_named
from ..errors import InputError
from ..head.model import DEFAULT_HEAD, load_head
from ..types import (
    NS,
    FaceDisplacement,
    FaceEvent,
    FaceState,
    Frame,
    Item,
    MuscleActivity,
    Stamp,
    nanoseconds,
)
from .senses import EmgRows, VisionRows, brightness
from .spotter import EventSpotter, SpotterSettings
from .verifier import Verifiers

FACE = topics.FACE_VISION.name
DISPLACEMENT = topics.FACE_DISPLACEMENT.name
ACTIVITY = topics.EMG_ACTIVITY.name
IMAGE = topics.CAMERA_IMAGE.name
EVENTS = topics.FACE_EVENTS.port
FAST_HZ = 95.0
"""Pictures a second from which short events are seen whole; a little below 100, because cameras are."""
NOMINAL_RATE_HZ = 2048.0
"""Sampling rate whose filter delay is taken off the stamps of activity: it hardly depends on the rate."""
SLOW_ADVICE = "spotting needs 100 frames/s or more; events longer than 0.2 s may still be seen"


class SpotterConfig(Config):
    """Parameters of `Spotter`."""

    model: str = parameter(
        "",
        "networks of the spotter (.onnx from research.micro.spotting); empty: those that come with eifer",
    )
    head: str = parameter(DEFAULT_HEAD, "head model the face is described in")
    threshold: float = parameter(0.33, "probability from which a brief movement is an event", gt=0, lt=1)
    sure: float = parameter(0.5, "probability of a class below which an event's label is unknown", ge=0, lt=1)
    longest_s: float = parameter(
        0.6, "what the skin shows for longer is no micro-expression", unit="s", gt=0.1, le=2
    )
    lag_s: float = parameter(
        0.07, "skin behind muscle until enough events have told it", unit="s", ge=0, le=0.3
    )
    use_emg: bool = parameter(True, "spot in the muscles too, and join both")
    watch_light: bool = parameter(
        True, "look at the brightness of the pictures, so that flicker is told from movement"
    )


class Spotter(Component):
    """Micro-expressions from the picture, from EMG, or from both, 0.3 s after their apex.

    A face is joined with the displacement of the same stamp, in whatever order they come. Muscle activity may
    be of any causal filter profile; its delay is taken off.

    Parameters
    ----------
    config : SpotterConfig, optional
        Parameters; None for the defaults.
    verifiers : Verifiers, optional
        The networks that judge; None for those in models/.
    """

    config_type = SpotterConfig
    inputs = (
        topics.FACE_VISION.port,
        topics.FACE_DISPLACEMENT.port,
        topics.EMG_ACTIVITY.port,
        topics.CAMERA_IMAGE.port,
    )
    outputs = (EVENTS,)

    def __init__(self, config: SpotterConfig | None = None, verifiers: Verifiers | None = None) -> None:
        self.config = config or SpotterConfig()
        self._verifiers = verifiers
        self._spotter: EventSpotter | None = None
        self._rows: VisionRows | None = None
        self._delays: dict[str, int] = {}
        self._refused = ""
        self._counts = {"vision": 0, "emg": 0, "fused": 0}
        self._clear()

    def setup(self) -> None:
        """Load head model and weights. Raises ModelError."""
        c = self.config
        if self._verifiers is None:
            self._verifiers = Verifiers.load(Path(c.model).expanduser() if c.model else None)
        self._rows = VisionRows(load_head(c.head))
        self._spotter = EventSpotter(
            self._verifiers,
            SpotterSettings(threshold=c.threshold, sure=c.sure, longest_s=c.longest_s, lag_s=c.lag_s),
        )

    def _clear(self) -> None:
        self._face: FaceState | None = None
        self._displacement: FaceDisplacement | None = None
        self._light: deque[tuple[Stamp, float]] = deque(maxlen=16)
        self._emg = EmgRows()
        self._periods: deque[Stamp] = deque(maxlen=50)
        self._face_stamp: Stamp | None = None
        self._emg_stamp: Stamp | None = None

    def reset(self) -> None:
        """Forget both streams; the lag has to be learnt again."""
        self._clear()
        if self._spotter is not None:
            self._spotter.restart()
        if self._rows is not None:
            self._rows.restart()

    def handle(self, port: str, item: Item) -> Iterable[Emission]:
        """Take one item; give the events that are decided by it."""
        if self._spotter is None:
            raise InputError("the spotter was given an item before it was set up")
        events: list[FaceEvent] = []
        if isinstance(item, FaceState):
            events = self._take_face(self._spotter, item)
        elif isinstance(item, FaceDisplacement):
            events = self._take_displacement(self._spotter, item)
        elif isinstance(item, MuscleActivity):
            events = self._take_activity(self._spotter, item) if self.config.use_emg else []
        elif isinstance(item, Frame):
            if self.config.watch_light:
                self._light.append((item.stamp, brightness(item)))
        else:
            raise InputError(
                f"{port} carries faces, displacements, activity or pictures; got {type(item).__name__}"
            )
        for event in events:
            self._counts[event.origin.name.lower()] += 1
        return [Emission(EVENTS.name, event) for event in events]

    # --- the picture ---------------------------------------------------------------------------------------------------

    def _take_face(self, spotter: EventSpotter, face: FaceState) -> list[FaceEvent]:
        if self._face_stamp is not None and face.stamp <= self._face_stamp:
            if face.stamp < self._face_stamp - NS:
                self.reset()
            else:
                return []
        if self._face_stamp is not None:
            self._periods.append(face.stamp - self._face_stamp)
        self._face_stamp = face.stamp
        # the face before waited for a displacement that may come after it; now it has waited long enough
        events = self._use(spotter)
        self._face = face
        if self._displacement is None or self._displacement.stamp >= face.stamp:
            events += self._use(spotter)
        return events

    def _take_displacement(self, spotter: EventSpotter, displacement: FaceDisplacement) -> list[FaceEvent]:
        self._displacement = displacement
        if self._face is not None and displacement.stamp == self._face.stamp:
            return self._use(spotter)
        return []

    def _use(self, spotter: EventSpotter) -> list[FaceEvent]:
        face = self._face
        self._face = None
        if face is None or self._rows is None:
            return []
        if face.head_model != self._rows.head.id:
            self._refused = f"the spotter was set up for head model '{self._rows.head.id}'; the faces are of '{face.head_model}'"
            return []
        belongs = self._displacement is not None and self._displacement.stamp == face.stamp
        row = self._rows.row(face, self._displacement if belongs else None, self._brightness(face.stamp))
        return spotter.push_vision(face.stamp, row)

    def _brightness(self, stamp: Stamp) -> float:
        """Of the picture this face was seen in, or of the newest before; 0 where nobody sends pictures."""
        for when, value in reversed(self._light):
            if when <= stamp:
                return value
        return self._light[0][1] if self._light else 0.0

    # --- the muscles ---------------------------------------------------------------------------------------------------

    def _take_activity(self, spotter: EventSpotter, activity: MuscleActivity) -> list[FaceEvent]:
        if self._emg_stamp is not None and activity.stamp < self._emg_stamp - NS:
            self.reset()
        self._emg_stamp = activity.stamp
        try:
            row, changed = self._emg.row(activity)
            delay = self._delay(activity.profile)
        except InputError as error:
            self._refused = str(error)
            return []
        if changed:
            spotter.emg.restart()
        return spotter.push_emg(activity.stamp - delay, row)

    def _delay(self, profile: str) -> int:
        """Of the envelope, ns. Raises InputError for a profile that is not causal."""
        if profile not in self._delays:
            self._delays[profile] = (
                nanoseconds(design(profile_named(profile), NOMINAL_RATE_HZ).delay_s) if profile else 0
            )
        return self._delays[profile]

    # --- health --------------------------------------------------------------------------------------------------------

    @property
    def rate_hz(self) -> float:
        """Faces a second, by the median of the last distances; NaN before there are some."""
        return NS / float(np.median(self._periods)) if len(self._periods) >= 5 else float("nan")

    def health(self) -> Health:
        """Events so far, rate of the faces, lag; WARN where the camera is too slow, ERROR for items that
        cannot be used.
        """
        values: dict[str, float | int | str] = {
            f"events_{name}": count for name, count in self._counts.items()
        }
        if self._spotter is not None:
            values |= {"candidates": self._spotter.candidates, "lag_ms": round(1e3 * self._spotter.lag_s, 1)}
            values |= {
                f"not_{name.replace(' ', '_')}": count for name, count in self._spotter.disturbed.items()
            }
        rate = self.rate_hz
        if np.isfinite(rate):
            values["faces_hz"] = round(rate, 1)
        if self._emg_stamp is not None:
            values["emg_channels"] = self._emg.usable
        if self._refused:
            return Health(Level.ERROR, self._refused, values)
        if self._face_stamp is None and self._emg_stamp is None:
            return Health(Level.OK, "waiting for faces or EMG", values)
        if rate < FAST_HZ:
            return Health(Level.WARN, f"{rate:.0f} faces/s: {SLOW_ADVICE}", values)
        senses = [
            name
            for name, here in (("picture", self._face_stamp), ("EMG", self._emg_stamp))
            if here is not None
        ]
        return Health(Level.OK, f"spotting in {' and '.join(senses)}", values)
