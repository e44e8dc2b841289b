"""The simulated participant: one person, one session, and everything about them as a function of time.

`Participant(7).face_at(12.5)` and `Participant(7).emg(12.0, 13.0)` in two processes on two machines describe
the same performance. Times are seconds since the performance began; stamps are `start` plus that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..emg.montage import FRIDLUND
from ..head.model import DEFAULT_HEAD, HeadModel, load_head, rotation_matrix
from ..head.projection import default_intrinsics
from ..types import (
    F32,
    F64,
    EmgChannelInfo,
    FaceEvent,
    FaceOrigin,
    FaceState,
    Frame,
    Marker,
    MuscleActivity,
    MuscleOrigin,
    Stamp,
    nanoseconds,
)
from .artefacts import USUAL, Artefacts, choose, drift_ppm
from .camera.scene import ParticipantCamera
from .micro_expressions import MICRO_CLASSES, LocalSkin, MicroEvent, on_skin
from .muscles import ACTUATORS, GRID_HZ, MUSCLES, MuscleMap, MuscleTimeline, gaze_weights
from .script import MICRO_PROGRAMS, Script
from .seeds import generator
from .semg import SAMPLE_BLOCK, Electrodes, Mode, Semg, amplitude_law, nominal_gain, own_rms

START: Stamp = 1_767_225_600_000_000_000
"""2026-01-01 00:00 UTC, the stamp of time 0 unless another is given."""


class Participant:
    """Participant `seed` in `session`.

    The seed makes the person: face shape, skin, strength, how muscles move the face, motor units, and roughly
    where electrodes sit. The session varies timing, repeats, noise and the placement by a millimetre. lag_s:
    muscle to skin, 0.03..0.15 s. sensors: whether the camera sees electrodes and cables. size: picture width
    and height in pixels. scheme: `fridlund`, `kuramoto`, `both` or a scheme file. emg_mode: `fast` (shaped
    noise) or `units` (motor units). draw_threads: how many draw one picture.
    """

    def __init__(
        self,
        seed: int,
        session: int = 0,
        *,
        program: str = "session",
        lag_s: float = 0.07,
        sensors: bool = True,
        size: tuple[int, int] = (640, 480),
        scheme: str = "fridlund",
        rate_hz: float = 2048.0,
        emg_mode: Mode = "fast",
        artefacts: Sequence[str] = USUAL,
        mains_hz: float = 50.0,
        head: str = DEFAULT_HEAD,
        start: Stamp = START,
        draw_threads: int = 1,
    ) -> None:
        self.seed = seed
        self.session = session
        self.start = start
        self.sensors = sensors
        self.size = size
        self._draw_threads = draw_threads
        self.lag_s = lag_s
        self.scheme = scheme
        self.rate_hz = rate_hz
        self.artefacts = choose(artefacts)
        self.drift_ppm = drift_ppm(seed, session) if "drift" in self.artefacts else 0.0
        self.true_rate_hz = rate_hz * (1.0 + 1e-6 * self.drift_ppm)
        """Samples per second of true time; the nominal rate where the clock does not drift."""
        self.script = Script(seed, session, program)
        self.timeline = MuscleTimeline(self.script.excitation, lag_s)
        self.muscle_map = MuscleMap(seed)
        self._emg_mode: Mode = emg_mode
        self._mains_hz = mains_hz
        self._head_name = head
        self._block = functools.lru_cache(maxsize=8)(self._recorded_block)

    # --- time ----------------------------------------------------------------------------------------------------------

    def stamp(self, time_s: float) -> Stamp:
        """The stamp of a time in seconds."""
        return self.start + nanoseconds(time_s)

    def time(self, stamp: Stamp) -> float:
        """The time in seconds of a stamp."""
        return (stamp - self.start) / 1e9

    # --- the face ------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def head(self) -> HeadModel:
        """The head model the face is described in."""
        return load_head(self._head_name)

    @functools.cached_property
    def shape(self) -> F32:
        """(S,) identity coefficients in standard deviations."""
        return np.clip(generator(self.seed, "shape").standard_normal(self.head.shape_size), -2.5, 2.5).astype(
            np.float32
        )

    @functools.cached_property
    def _camera_pose(self) -> tuple[F64, F64, float, F64]:
        """Face centre and neck pivot in model coordinates, distance of the camera, and head -> camera
        rotation at rest.
        """
        joints = self.head.joint_positions(self.shape)
        eyes = (
            joints[[self.head.joints.index("eye_left"), self.head.joints.index("eye_right")]]
            .mean(axis=0)
            .astype(np.float64)
        )
        rng = generator(self.seed, self.session, "camera")
        distance = rng.uniform(0.62, 0.90)
        below = rng.uniform(0.12, 0.28)
        turn = rng.normal(0.0, 0.03)
        facing = np.diag(
            [1.0, -1.0, -1.0]
        )  # model x left, y up, z out of the face -> camera x right, y down, z away
        rotation = rotation_matrix([-below, 0.0, 0.0]) @ facing @ rotation_matrix([0.0, turn, 0.0])
        centre = eyes + np.array([0.0, -0.025, 0.02])
        pivot = eyes + np.array([0.0, -0.10, -0.09])
        return centre, pivot, float(distance), rotation

    def head_pose(self, time_s: float) -> F64:
        """(4, 4) model coordinates -> camera optical frame, m: a camera slightly below the face at 0.6 to 0.9
        m.
        """
        centre, pivot, distance, facing = self._camera_pose
        motion = self.script.head_motion(time_s)
        moved = rotation_matrix(motion[:3])
        pose = np.eye(4)
        pose[:3, :3] = facing @ moved
        pose[:3, 3] = facing @ (pivot - moved @ pivot + motion[3:] - centre) + [0.0, 0.0, distance]
        return pose

    def expression_at(self, times: float | F64) -> F64:
        """(..., 52) ARKit weights at `times`, gaze included."""
        gaze = self.script.gaze(times)
        weights = self.muscle_map.expression(self.timeline.skin(times))
        return np.asarray(weights + gaze_weights(gaze[..., 0], gaze[..., 1]), np.float64)

    def face_at(self, time_s: float) -> FaceState:
        """The true face at `time_s`."""
        expression = self.expression_at(time_s).astype(np.float32)
        closed = np.array([expression[self._blink[0]], expression[self._blink[1]]], np.float32)
        return FaceState(
            self.stamp(time_s),
            self.head.id,
            FaceOrigin.TRUTH,
            self.shape,
            expression,
            np.zeros_like(expression),
            np.zeros(3, np.float32),
            np.zeros(3, np.float32),
            self.head.gaze(expression),
            closed,
            self.head_pose(time_s),
            1.0,
        )

    @functools.cached_property
    def _blink(self) -> tuple[int, int]:
        names = self.head.expression_names
        return names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")

    @functools.cached_property
    def intrinsics(self) -> F64:
        """(3, 3) camera matrix: a lens that lets a head fill about the height of the picture, as in the
        recordings of MMM.
        """
        width, height = self.size
        K = default_intrinsics(width, height)
        K[0, 0] = K[1, 1] = (
            min(width, height)
            * self._camera_pose[2]
            / generator(self.seed, self.session, "lens").uniform(0.28, 0.33)
        )
        return K

    @functools.cached_property
    def camera(self) -> ParticipantCamera:
        """The camera that looks at this participant; building it takes a moment, so an EMG-only participant
        never does.
        """
        return ParticipantCamera(
            self.seed, self.sensors, self.size, self.intrinsics, head=self.head, threads=self._draw_threads
        )

    def frame_at(self, time_s: float, state: FaceState | None = None) -> Frame:
        """The picture at `time_s`; `state` if the caller has `face_at(time_s)` already."""
        face = self.face_at(time_s) if state is None else state
        offsets = self.local_offsets(time_s) if self.script.program in MICRO_PROGRAMS else None
        image = self.camera.render(
            face.shape, face.expression, face.eyes, face.head_pose, time_s, offsets=offsets
        )
        return Frame(face.stamp, image, self.camera.intrinsics)

    # --- micro-expressions ---------------------------------------------------------------------------------------------

    @functools.cached_property
    def _local_skin(self) -> LocalSkin:
        return LocalSkin(self.seed, self.head, self.shape)

    @functools.cached_property
    def _neutral(self) -> F32:
        return self.head.neutral(self.shape)

    def local_offsets(self, time_s: float) -> F32:
        """(V, 3) m, model coordinates: how the skin departs from what the expression says; zero in programmes
        without micro-expressions.
        """
        if self.script.program not in MICRO_PROGRAMS:
            return np.zeros_like(self.head.template)
        above = self.timeline.skin(time_s) - self.script.tone(np.array([time_s - self.lag_s]))[0]
        return self._local_skin.offsets(above)

    def vertices_at(self, time_s: float) -> F32:
        """(V, 3) m, model coordinates: where every vertex of the head truly is, the local motion of the skin
        included.
        """
        expression = self.expression_at(time_s).astype(np.float32)
        posed = self.head.vertices(
            self.shape, expression, eyes=self.head.gaze(expression), neutral=self._neutral
        )
        return np.asarray(posed + self.local_offsets(time_s), np.float32)

    def micro_events(self, begin_s: float, end_s: float) -> list[MicroEvent]:
        """Micro-expressions whose apex the skin shows within [begin, end), in time order, with the times of
        the skin.
        """
        shown = []
        for event in self.script.micro_events(begin_s - 1.0, end_s):
            begin = event.start_s - 0.02
            times = (
                begin
                + np.arange(round((event.rise_s + event.plateau_s + event.fall_s + 1.0) * GRID_HZ)) / GRID_HZ
            )
            course = np.zeros((len(times), len(ACTUATORS)))
            self.script.micro_pulse(replace(event, levels=np.ones(len(ACTUATORS)))).add(times, course)
            shown.append(on_skin(event, course[:, 0], begin, self.lag_s))
        return [event for event in shown if begin_s <= event.apex_s < end_s]

    def face_events(self, begin_s: float, end_s: float) -> list[FaceEvent]:
        """The same as items of origin TRUTH: score is the intensity, lead_s the true lead of the muscles over
        the skin.
        """
        events = []
        for event in self.micro_events(begin_s, end_s):
            early = next(
                e
                for e in self.script.micro_events(event.apex_s - 1.0, event.apex_s)
                if e.start_s == event.start_s
            )
            certain = np.array([label == event.label for label in MICRO_CLASSES], np.float32)
            events.append(
                FaceEvent(
                    self.stamp(event.apex_s),
                    self.stamp(event.onset_s),
                    self.stamp(event.offset_s),
                    event.regions[0],
                    event.regions,
                    event.label,
                    MICRO_CLASSES,
                    certain,
                    event.intensity,
                    FaceOrigin.TRUTH,
                    event.onset_s - early.onset_s,
                )
            )
        return events

    # --- muscles and electrodes ----------------------------------------------------------------------------------------

    @functools.cached_property
    def semg(self) -> Semg:
        """The sEMG simulation; building it takes seconds, so a camera-only participant never does."""
        return Semg(
            self.seed,
            self.session,
            self.timeline,
            scheme=self.scheme,
            rate_hz=self.rate_hz,
            true_rate_hz=self.true_rate_hz,
            mode=self._emg_mode,
        )

    @property
    def electrodes(self) -> Electrodes:
        """Where the electrodes sit."""
        return self.semg.electrodes

    @functools.cached_property
    def noise(self) -> Artefacts:
        """The artefacts of this session."""
        return Artefacts(
            self.seed,
            self.session,
            self.script,
            self.electrodes,
            self.true_rate_hz,
            self.artefacts,
            self._mains_hz,
        )

    def channel_info(self, stamp: Stamp | None = None) -> EmgChannelInfo:
        """Names and places of the channels of `emg`."""
        e = self.electrodes
        return EmgChannelInfo(
            self.start if stamp is None else stamp,
            e.names,
            e.muscles,
            e.scheme,
            e.kind,
            self.rate_hz,
            e.positions.astype(np.float32),
        )

    def _recorded_block(self, number: int) -> F32:
        return self.noise.apply(number, self.semg.block(number))

    def samples(self, first: int, count: int) -> F32:
        """(count, C) volts: recorded samples number `first` and following; sample n is taken at n /
        true_rate_hz.
        """
        numbers = range(first // SAMPLE_BLOCK, (first + count - 1) // SAMPLE_BLOCK + 1)
        blocks = [self._block(number) for number in numbers]
        if not blocks:
            return np.zeros((0, len(self.electrodes.names)), np.float32)
        skip = first - numbers[0] * SAMPLE_BLOCK
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return whole[skip : skip + count]

    def sample_index(self, time_s: float) -> int:
        """Number of the first sample at or after `time_s`."""
        return int(np.ceil(time_s * self.true_rate_hz))

    def emg(self, start_s: float, end_s: float) -> F32:
        """(N, C) volts recorded within [start, end).

        However the time is cut, the pieces join to the same samples.
        """
        first = self.sample_index(start_s)
        return self.samples(first, self.sample_index(end_s) - first)

    @functools.cached_property
    def _amplitude(self) -> tuple[F64, F64]:
        levels, law = amplitude_law(nominal_gain(self.seed, self.rate_hz))
        return levels, law * own_rms()[:, None]

    def muscles_at(self, time_s: float) -> MuscleActivity:
        """What the 22 muscles really do at `time_s`.

        activation: excitation 0..1 of the muscle's maximum. envelope: RMS in volts it gives on its own,
        exactly placed pair.
        """
        excitation = self.timeline.excitation(time_s)[: len(MUSCLES)]
        levels, law = self._amplitude
        envelope = np.array([np.interp(u, levels, row) for u, row in zip(excitation, law, strict=True)])
        return MuscleActivity(
            self.stamp(time_s),
            FRIDLUND.name,
            FRIDLUND.muscles,
            envelope.astype(np.float32),
            excitation.astype(np.float32),
            np.ones(len(MUSCLES), np.float32),
            MuscleOrigin.TRUTH,
        )

    def markers(self, start_s: float, end_s: float) -> list[Marker]:
        """Where movements start and end within [start, end)."""
        return [
            Marker(self.stamp(time), label, phase)
            for time, label, phase in self.script.markers(start_s, end_s)
        ]
