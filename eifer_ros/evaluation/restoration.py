"""How well the face restorer takes sensors off: on simulated people that no network has seen, against the
same moment without sensors.

People are `Participant(900000 + k)`; one moment in the middle of each of the 17 movements. Pictures are
compared as the network gives them (its crop, cut around the true landmarks), within the hull of the
landmarks. Faces are looked for in whole pictures, into which the restored face was put back as
`face/restored` shows it. Deterministic: no randomness but the people's seeds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import InputError
from ..head import projection
from ..reconstruction.encoder.face_crop import POINTS, SIZE, crop_of
from ..reconstruction.encoder.face_encoder import cut
from ..reconstruction.landmarks.attention_mesh import Crop
from ..reconstruction.restore import FaceRestorer, Restored, paste
from ..simulation.participant import Participant
from ..simulation.script import MOVEMENTS
from ..simulation.seeds import HELD_OUT_FROM, check_held_out
from ..types import F64, U8
from .pictures import SAME_DB, FaceFinder, Mask, face_mask, psnr_db, ssim

PEOPLE = 12


@dataclass(frozen=True)
class Moment:
    """One moment of one person. bare, sensors: (H, W, 3) uint8.

    landmarks: (L, 2) pixels of `face_crop.POINTS`; crop: around them.
    """

    person: int
    movement: str
    bare: U8
    sensors: U8
    landmarks: F64
    crop: Crop

    @property
    def face(self) -> Mask:
        """(SIZE, SIZE) the face within the crop."""
        inverse = np.linalg.inv(np.vstack([self.crop.matrix(SIZE), [0.0, 0.0, 1.0]]))
        return face_mask(self.landmarks @ inverse[:2, :2].T + inverse[:2, 2], (SIZE, SIZE))


@dataclass(frozen=True)
class RestorationScores:
    """Means over `frames` moments of `people` persons.

    psnr_db, ssim: on the face, restored against bare; `sensors_`: before restoring.

    detect_pct: pictures in which a landmark detector finds a face, likewise for sensors and bare.
    unchanged_db: PSNR of bare faces that went through the restorer, equal ones counted as `SAME_DB`. covered,
    covered_bare: share of the face called covered, with sensors and bare.
    """

    people: int
    frames: int
    psnr_db: float
    ssim: float
    detect_pct: float
    sensors_psnr_db: float
    sensors_ssim: float
    sensors_detect_pct: float
    bare_detect_pct: float
    unchanged_db: float
    covered: float
    covered_bare: float


def moments(seed: int, size: tuple[int, int] = (480, 360)) -> Iterator[Moment]:
    """The middle of each movement of the participant `seed`, with and without sensors.

    Raises InputError for a seed used in training.
    """
    check_held_out(seed)
    participant = Participant(seed, size=size)
    done = set()
    for take in participant.script.takes(0.0, participant.script.cycle_s):
        if take.label not in MOVEMENTS or take.label in done:
            continue
        done.add(take.label)
        time_s = (take.start_s + take.end_s) / 2.0
        face = participant.face_at(time_s)
        view = participant.camera.render_pair(face.shape, face.expression, face.eyes, face.head_pose, time_s)
        vertices = participant.head.vertices(face.shape, face.expression, eyes=face.eyes)
        points = participant.head.points(vertices)[list(POINTS)]
        flat = projection.project(points, face.head_pose, participant.camera.intrinsics)[:, :2]
        yield Moment(seed, take.label, view.bare, view.with_sensors, flat, crop_of(flat))


def evaluate(
    restorer: FaceRestorer | None = None,
    participants: int = PEOPLE,
    on_moment: Callable[[Moment, Restored], None] | None = None,
) -> RestorationScores:
    """Scores of `restorer` (the shipped one by default) on that many unseen people; `on_moment` is given each
    moment and its restored face.

    Raises ModelError where no restorer is installed and InputError for fewer than one person.
    """
    if participants < 1:
        raise InputError(f"at least one person is needed to judge a restorer; got {participants}")
    network = FaceRestorer() if restorer is None else restorer
    find = FaceFinder()
    rows = []
    for seed in range(HELD_OUT_FROM, HELD_OUT_FROM + participants):
        for moment in moments(seed):
            bare = cut(moment.bare, moment.crop)
            sensors = cut(moment.sensors, moment.crop)
            face = moment.face
            restored = network.restore(sensors, moment.crop)
            again = network.restore(bare, moment.crop)
            rows.append(
                (
                    psnr_db(restored.picture, bare, face),
                    ssim(restored.picture, bare, face),
                    100.0 * find(paste(moment.sensors, restored)),
                    psnr_db(sensors, bare, face),
                    ssim(sensors, bare, face),
                    100.0 * find(moment.sensors),
                    100.0 * find(moment.bare),
                    min(psnr_db(again.picture, bare, face), SAME_DB),
                    restored.covered,
                    again.covered,
                )
            )
            if on_moment is not None:
                on_moment(moment, restored)
    return RestorationScores(participants, len(rows), *(float(value) for value in np.mean(rows, axis=0)))


@functools.lru_cache(maxsize=4)
def shipped(participants: int = PEOPLE) -> RestorationScores:
    """`evaluate` of the shipped restorer, once per process."""
    return evaluate(participants=participants)


def restored_psnr_db(participants: int = PEOPLE) -> tuple[float, int]:
    """PSNR on the face in dB, and over how many pictures."""
    scores = shipped(participants)
    return scores.psnr_db, scores.frames


def restored_ssim(participants: int = PEOPLE) -> tuple[float, int]:
    """SSIM on the face, and over how many pictures."""
    scores = shipped(participants)
    return scores.ssim, scores.frames


def restored_detect_pct(participants: int = PEOPLE) -> tuple[float, int]:
    """Per cent of restored pictures in which a landmark detector finds the face, and over how many pictures."""
    scores = shipped(participants)
    return scores.detect_pct, scores.frames


def side_by_side(moment: Moment, restored: Restored) -> U8:
    """(SIZE, 4 SIZE, 3): with sensors, restored, bare, what counts as covered."""
    mask = np.asarray(restored.occlusion * 255.0 + 0.5, np.uint8)
    parts = [
        cut(moment.sensors, moment.crop),
        restored.picture,
        cut(moment.bare, moment.crop),
        cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB),
    ]
    return np.asarray(np.hstack(parts), np.uint8)
