"""Faces under sensors: simulated people that no network has seen, real faces under real sensors, speed, and
what `auto` chooses.

Figures of networks that are not installed are reported as None. Shape and expression count in the vertex
errors (after the best rigid alignment); the expression alone has figures of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench import note, report, shared_data
from bench.sensor_sheet import SHEET
from eifer_ros.evaluation import restoration, sensor_sheet
from eifer_ros.evaluation.face import (
    Method,
    Scene,
    Scores,
    collect_readings,
    gap_closure,
    methods_by_name,
    scenes,
    scores,
)
from eifer_ros.evaluation.protocol import PARTICIPANTS
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.inference.network import installed
from eifer_ros.reconstruction.encoder.face_crop import POINTS, crop_of
from eifer_ros.reconstruction.encoder.face_encoder import ENCODER, ENCODER_BARE, FaceEncoder, cut
from eifer_ros.reconstruction.encoder.sensor_estimator import SensorEstimator
from eifer_ros.reconstruction.encoder.sensor_fit import SensorFitSettings
from eifer_ros.reconstruction.face_reconstruction import CAMERA, Reconstruction, ReconstructionConfig
from eifer_ros.reconstruction.restore import RESTORER, FaceRestorer, paste
from eifer_ros.types import F32, U8, Frame


def sheet() -> None:
    """`real_sensor_movement_acc`: what a user of the reconstruction gets, each picture as the first of a
    stream.

    Beside it without the choice of `auto` (`_sensors`), and the network alone, on one crop (`_crop`) and on
    the mean of seven (`_7_crops`).
    """
    path = shared_data(SHEET)
    names = [f"real_sensor_movement_acc{end}" for end in ("", "_sensors", "_crop", "_7_crops")]
    if path is None or not installed(ENCODER):
        for name in names:
            report(
                name,
                None,
                "no encoder installed" if path is not None else "the sheet is not on this machine",
                0,
            )
        return
    estimators: Sequence[sensor_sheet.Estimator] = (
        sensor_sheet.component_estimator(ReconstructionConfig()),
        sensor_sheet.component_estimator(ReconstructionConfig(estimator="sensors")),
        sensor_sheet.encoder_estimator(),
        sensor_sheet.encoder_estimator(shifts=7),
    )
    for name, estimator in zip(names, estimators, strict=True):
        found = sensor_sheet.measure(path, estimator)
        note(found.table())
        report(name, found.right, "of 20 movements of real faces under real sensors", 20)
        out = os.environ.get("EIFER_BENCH_OUT", "")
        if out:
            Path(out).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(Path(out) / f"{name}.png"), sensor_sheet.picture(path, found)[:, :, ::-1])


def simulated(quick: bool) -> None:
    """Errors of every way, gap closure, correlation and shape spread on unseen people."""
    head = load_head()
    chosen = methods_by_name(head)
    if quick:  # the ways that the figures need
        chosen = {name: way for name, way in chosen.items() if name in ("E_N", "E_S")}
    participants = PARTICIPANTS[:2] if quick else PARTICIPANTS
    found = scores(collect_readings(participants, chosen, 1 if quick else 4), head)
    by = {(one.method, one.variant): one for one in found}
    words = {
        "E_N": "encoder of bare faces",
        "E_S": "encoder of faces under sensors",
        "landmarks": "landmark fit",
        "restored": "landmark fit after restoring",
        "E_S crop": "encoder alone, true crop",
    }
    for one in found:
        name = f"{one.method.lower().replace(' ', '_').replace('e_', 'e')}_{one.variant}"
        report(
            f"face_error_{name}_mm",
            one.vertex_mm,
            f"mm, {words[one.method]}, {one.variant} pictures; expression alone "
            f"{one.expression_mm:.2f} mm, r {one.r:.3f}, found {100 * one.detected:.0f} %",
            one.moments,
        )
    _ratios(by, found, len(participants))


def _ratios(by: dict[tuple[str, str], Scores], found: Sequence[Scores], participants: int) -> None:
    judged = f"{participants} people"
    closure = gap_closure(found)
    alone = gap_closure(found, "expression_mm")
    report(
        "face_gap_closure",
        closure if np.isfinite(closure) else None,
        f"of the gap, shape and expression, {judged}",
        participants,
    )
    report(
        "face_gap_closure_expression",
        alone if np.isfinite(alone) else None,
        f"of the gap, expression alone, {judged}",
        participants,
    )
    mine = by.get(("E_S", "sensors"))
    own = by.get(("E_S", "bare"))
    bare = by.get(("E_N", "bare"))
    other = by.get(("E_N", "sensors"))
    report(
        "face_expression_r_ratio",
        mine.r / own.r if mine and own else None,
        "r under sensors over r on the same bare faces",
        participants,
    )
    report(
        "face_expression_r_ratio_en",
        mine.r / bare.r if mine and bare else None,
        "r under sensors over E_N's r on bare faces",
        participants,
    )
    spread = mine.shape_spread_mm / other.shape_spread_mm if mine and other else None
    report(
        "face_shape_spread_ratio",
        spread,
        "spread of one person's shape over E_N's, under sensors",
        participants,
    )


def restored(quick: bool) -> None:
    """`restored_psnr_db`, `restored_ssim`, `restored_detect_pct`."""
    if not installed(RESTORER):
        for name in ("restored_psnr_db", "restored_ssim", "restored_detect_pct"):
            report(name, None, "no restorer installed", 0)
        return
    participants = 2 if quick else restoration.PEOPLE
    for name, measure, unit in (
        ("restored_psnr_db", restoration.restored_psnr_db, "dB on the face"),
        ("restored_ssim", restoration.restored_ssim, "on the face"),
        (
            "restored_detect_pct",
            restoration.restored_detect_pct,
            "% of restored pictures in which a landmark detector finds the face",
        ),
    ):
        value, count = measure(participants)
        report(name, value, unit, count)
    every = restoration.shipped(participants)
    report(
        "sensors_detect_pct", every.sensors_detect_pct, "% of the same pictures under sensors", every.frames
    )


def _median_ms(work: Callable[[Scene], Any], some: Sequence[Scene], turns: int) -> float:
    for scene in some:
        work(scene)
    times = []
    for _ in range(turns):
        for scene in some:
            start = time.perf_counter()
            work(scene)
            times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def speed(quick: bool) -> None:
    """`encoder_path_ms` (crop, encoder, fit, head), `restore_path_ms` (and the restored picture),
    `encoder_speed_ratio_smirk`.
    """
    names = ("encoder_path_ms", "restore_path_ms", "encoder_speed_ratio_smirk")
    if not installed(ENCODER):
        for name in names:
            report(name, None, "no encoder installed", 0)
        return
    head = load_head()
    some = list(scenes(PARTICIPANTS[0], 1, size=(640, 480)))
    turns = 3 if quick else 20
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if before is not None:
        os.sched_setaffinity(0, {min(before)})
    try:
        estimator = SensorEstimator(head, SensorFitSettings())
        estimator.warm_up()
        path = _encoder_path(head, estimator)
        alone = _median_ms(path, some, turns)
        report("encoder_path_ms", alone, "ms, median, one core: crop, encoder, fit, head", turns * len(some))
        restore = None
        if installed(RESTORER):
            restorer = FaceRestorer()

            def both(scene: Scene) -> None:
                points = path(scene)
                if points is not None:
                    restored = restorer.restore_crop(scene.sensors, crop_of(points[list(POINTS), :2]))
                    paste(scene.sensors, restored)

            restore = _median_ms(both, some, turns)
        report(
            "restore_path_ms",
            restore,
            "ms, median, one core: encoder path and restored picture",
            turns * len(some),
        )
        report("encoder_speed_ratio_smirk", *_against_smirk(head, some, turns))
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


def _encoder_path(head: HeadModel, estimator: SensorEstimator) -> Callable[[Scene], F32 | None]:
    def work(scene: Scene) -> F32 | None:
        found = estimator.estimate(scene.frame("sensors"), scene.intrinsics, 0.033)
        if found is None or found.landmarks is None:
            return None
        head.state_vertices(found.state(head, scene.face.stamp))
        return found.landmarks.points

    return work


def _against_smirk(head: HeadModel, some: Sequence[Scene], turns: int) -> tuple[float | None, str, int]:
    """SMIRK's three networks in plain PyTorch over this encoder, each with its own crop, on one thread."""
    try:
        import torch

        from eifer_ros.reconstruction.encoder.smirk_estimator import SIZE as SMIRK_SIZE
        from research.faces.smirk_encoder import SmirkEncoder
    except ImportError:
        return None, "torch is not installed", 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = SmirkEncoder().eval()
    encoder = FaceEncoder(head)

    def theirs(scene: Scene) -> None:
        patch = cut(scene.sensors, scene.crop, SMIRK_SIZE)
        with torch.inference_mode():
            network(torch.from_numpy(patch).permute(2, 0, 1)[None].float() / 255.0)

    smirk = _median_ms(theirs, some, turns)
    mine = _median_ms(lambda scene: encoder.read(scene.sensors, [scene.crop]), some, turns)
    torch.set_num_threads(threads)
    return (
        smirk / mine,
        f"times faster; SMIRK's encoder in PyTorch {smirk:.1f} ms, this one {mine:.1f} ms, one thread",
        turns * len(some),
    )


def chosen_by_auto(pictures: Sequence[U8], step_ns: int = 41_666_667) -> dict[str, float | int | str]:
    """Health of an `auto` reconstruction after `pictures`, with the share of pictures read by each way."""
    component = Reconstruction(ReconstructionConfig(estimator="auto"))
    component.setup()
    used: list[str] = []
    for number, picture in enumerate(pictures):
        list(component.handle(CAMERA, Frame(number * step_ns, picture)))
        used.append(str(component.health().values["estimator_used"]))
    return {
        **component.health().values,
        "share_landmarks": used.count("landmarks") / max(len(used), 1),
        "pictures": len(used),
    }


def auto(quick: bool) -> None:
    """What `auto` takes on a bare photograph, on a real video of a bare face, and on the twenty faces under
    sensors.
    """
    try:
        from skimage import data

        picture = np.ascontiguousarray(data.astronaut()[:300, 60:400])
        found = chosen_by_auto([picture] * 30)
        report(
            "auto_astronaut",
            str(found["estimator_used"]),
            f"{found['estimator_reason']}; residual {found['residual_pct_iod']} %",
            30,
        )
    except ImportError:
        report("auto_astronaut", None, "scikit-image is not installed", 0)
    sheet_path = shared_data(SHEET)
    video = shared_data("crying_woman_pexels.mp4")
    if video is None or sheet_path is None:
        report("auto_video", None, "the video is not on this machine", 0)
        return
    capture = cv2.VideoCapture(str(video))
    frames: list[U8] = []
    while len(frames) < (60 if quick else 472):
        good, image = capture.read()
        if not good:
            break
        frames.append(np.ascontiguousarray(image[:, :, ::-1]))
    found = chosen_by_auto(frames)
    report(
        "auto_video",
        str(found["estimator_used"]),
        f"{100 * float(found['share_landmarks']):.0f} % of pictures by landmarks, "
        f"{found['lost']} lost; {found['estimator_reason']}",
        len(frames),
    )
    taken = [
        chosen_by_auto([tile])["estimator_used"]
        for row in sensor_sheet.tiles(sheet_path)
        for tile in (row[:1] if quick else row)
    ]
    report(
        "auto_real_sensors",
        taken.count("sensors"),
        f"of {len(taken)} real faces under sensors read by the encoder",
        len(taken),
    )


def run(quick: bool) -> None:
    """All figures of this area."""
    lacking = [name for name in (ENCODER, ENCODER_BARE, RESTORER) if not installed(name)]
    if lacking:
        note(f"not installed: {', '.join(lacking)}")
    sheet()
    speed(quick)
    auto(quick)
    restored(quick)
    simulated(quick)


__all__ = ["Method", "chosen_by_auto", "run", "sheet"]
