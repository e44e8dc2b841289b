"""A recorded session as what the fitting needs: muscle activity, faces, and when which movement was made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import topics
from ..config import ConfigFile
from ..emg.calibration import Calibration, calibrate_recording
from ..emg.emg_processing import EmgConfig, EmgProcessing
from ..errors import InputError
from ..head.model import HeadModel, load_head
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..reconstruction.reference import Reference
from ..recording.reader import Bag
from ..recording.sync import Sync
from ..types import EmgChunk, FaceState, Frame, Marker, MuscleActivity
from .common import Progress

ACTIVITY = topics.EMG_ACTIVITY.name
RAW = topics.EMG_RAW.name
PICTURES = topics.CAMERA_IMAGE.name
MARKERS = (topics.MARKERS.name, topics.TRUE_MOVEMENT.name)
FACES = (topics.FACE_VISION.name, topics.TRUE_FACE.name)
"""What a mapping may be fitted to: no face that a mapping made."""


@dataclass
class Session:
    """A recording, read once.

    faces_from: the topic the faces come from, or `pictures` where they were reconstructed here.
    """

    path: Path
    activity: list[MuscleActivity] = field(default_factory=list)
    faces: list[FaceState] = field(default_factory=list)
    markers: list[Marker] = field(default_factory=list)
    faces_from: str = ""
    calibration: Calibration | None = None
    reference: Reference | None = None

    def referenced(self, reference: Reference | None = None) -> Session:
        """With expression counted from the participant's resting face: `reference`, or one made from the
        marked rest.

        Raises InputError where rest is not marked or no face was found in it.
        """
        rest = reference or Reference.of_recording(self.faces, self.markers)
        return replace(self, faces=[rest.apply(state) for state in self.faces], reference=rest)

    @property
    def head(self) -> HeadModel:
        """The head model of the faces."""
        if not self.faces:
            raise InputError(f"{self.path}: no faces in this recording")
        return load_head(self.faces[0].head_model)

    def calibrated(self, calibration: Calibration | None = None, *, participant: str = "") -> Session:
        """With activations. Without a calibration, one is made from the recording's own movements.

        Raises InputError where neither is possible.
        """
        if not self.activity:
            raise InputError(f"{self.path}: no EMG in this recording (looked for {RAW} and {ACTIVITY})")
        scales = calibration
        if scales is None:
            if not self.markers:
                raise InputError(
                    f"{self.path}: no movement is marked in this recording and no calibration was given: --calibration FILE"
                )
            scales = calibrate_recording(
                self.activity,
                self.markers,
                profile=self.activity[0].profile or "live",
                participant=participant,
            )
        first = self.activity[0]
        matched = scales.matched(first.scheme, first.profile or scales.profile, first.muscles)
        rows = [
            replace(item, activation=np.asarray(matched.activation(item.envelope), np.float32))
            for item in self.activity
        ]
        return replace(self, activity=rows, calibration=matched)


def load_session(
    path: Path,
    *,
    faces: str = "auto",
    config: ConfigFile | None = None,
    progress: Progress | None = None,
    synced: bool = True,
) -> Session:
    """Read a recording.

    faces: `auto` takes face/vision, else reconstructs the pictures, else the simulation's truth; or the name
    of a topic, or `pictures`, or `none`. config: how raw EMG becomes activity and pictures become faces
    (sections `emg` and `reconstruction`); recorded activity is used only where there is no raw EMG. synced:
    bring the stamps of faces onto the amplifier's clock where `eifer sync` found out how. Raises
    RecordingError, and InputError where the topic asked for is not there.
    """
    session = Session(path)
    with Bag(path) as bag:
        present = {stream.port for _, stream in bag.streams}
    source = _face_source(path, faces, present)
    file = config or ConfigFile()
    processing = EmgProcessing(file.config("emg", EmgConfig))
    processing.setup()
    reconstruction = Reconstruction(file.config("reconstruction", ReconstructionConfig))
    if source == "pictures":
        reconstruction.setup()
    session.faces_from = source
    topics = {RAW if RAW in present else ACTIVITY, PICTURES if source == "pictures" else source, *MARKERS} & (
        present | {PICTURES}
    )
    with Bag(path) as bag:
        for count, (_, _, item) in enumerate(bag.items(topics=sorted(topics))):
            if isinstance(item, EmgChunk):
                session.activity += [
                    emission.item
                    for emission in processing.handle(RAW, item)
                    if isinstance(emission.item, MuscleActivity)
                ]
            elif isinstance(item, MuscleActivity):
                session.activity.append(item)
            elif isinstance(item, Frame):
                session.faces += [
                    emission.item
                    for emission in reconstruction.handle(PICTURES, item)
                    if isinstance(emission.item, FaceState)
                ]
            elif isinstance(item, FaceState):
                session.faces.append(item)
            elif isinstance(item, Marker):
                session.markers.append(item)
            if progress is not None and count % 50 == 0:
                progress(count, 0, "reading")
    clocks = Sync.load(path) if synced else None
    if clocks is not None:
        session.faces = [replace(state, stamp=clocks.correct(state.stamp)) for state in session.faces]
    return session


def _face_source(path: Path, faces: str, present: set[str]) -> str:
    if faces == "auto":
        for name in (FACES[0], "pictures", FACES[1]):
            if name in present or (name == "pictures" and PICTURES in present):
                return name
        return FACES[0]
    if faces == "pictures" and PICTURES not in present:
        raise InputError(f"{path}: no pictures in this recording; it has {', '.join(sorted(present))}")
    if faces not in ("pictures", "none") and faces not in present:
        raise InputError(f"{path}: no '{faces}' in this recording; it has {', '.join(sorted(present))}")
    return faces
