"""Muscles to face, face to muscles, lag and fusion, on simulated participants.

Each participant makes two sessions of the whole programme. Everything is fitted to the first (its own
calibration included) and judged on the second, whose timing, strengths, noise and electrode places differ.
sEMG: motor units with the usual artefacts in the full run, the fast mode (shaped noise) with --quick. Faces
the mappings are fitted to: the truth at 30 Hz as a landmark fit would give it (`camera_faces`: gain and
offset errors per coefficient, slow and white noise); judged against the truth itself. The camera of the
fusion is the same, 40 ms late.
"""

from __future__ import annotations

import functools
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import eifer_ros.threads  # noqa: F401
from eifer_ros.component import Emission
from eifer_ros.emg.calibration import Calibration, calibrate_recording
from eifer_ros.emg.emg_processing import EmgConfig, EmgProcessing
from eifer_ros.evaluation.metrics import displacement_basis, smape, spearman, vertex_error_mm
from eifer_ros.head.model import load_head
from eifer_ros.mapping.features import training_pairs
from eifer_ros.mapping.fit import FitSettings, fit
from eifer_ros.mapping.lag import estimate
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.mapping.muscle_mapping import EMG_FACE, FUSED, MappingConfig, MuscleMapping
from eifer_ros.mapping.scores import scores
from eifer_ros.mapping.series import Series, assemble
from eifer_ros.simulation.participant import Participant
from eifer_ros.training.trainers import network_trainer
from eifer_ros.types import NS, EmgChunk, FaceOrigin, FaceState, MuscleActivity, nanoseconds, seconds
from eifer_ros.workflows.fit import filter_delay_s

from . import note, report

MODELS = {
    "ridge, no lags": FitSettings(kind="ridge", longest_s=0.0, lags=1),
    "ridge": FitSettings(kind="ridge"),
    "rff": FitSettings(),
    "mlp": FitSettings(kind="mlp"),
    "tcn": FitSettings(kind="tcn"),
}
CAMERA_HZ = 30.0
CAMERA_LATENCY_S = 0.040
BLIND_EVERY_S = 15.0
BLIND_S = 5.0
MARGIN_S = 0.3
"""Rest that counts as part of a movement on either side when muscles are judged."""
DELAY_S = filter_delay_s("live")
LAGS_S = (0.03, 0.07, 0.11, 0.15)
REGIONS = ("forehead", "brows", "eyelids", "nose", "cheeks", "lips", "face")


@dataclass
class Recorded:
    """One session: activity before calibration, camera-like faces, truth at 100 Hz."""

    person: Participant
    activity: list[MuscleActivity]
    faces: list[FaceState]
    times: np.ndarray[Any, Any]
    truth: np.ndarray[Any, Any]


def run(quick: bool) -> None:
    """All figures of the mapping."""
    seeds = [101] if quick else list(range(101, 109))
    length, mode = (126.0, "fast") if quick else (180.0, "units")
    models = list(MODELS) if not quick else ["ridge, no lags", "ridge", "rff"]
    aheads = (0.0, 0.04) if quick else (0.0, 0.02, 0.04, 0.06)
    note(
        f"mapping: {len(seeds)} participants, two sessions of {length:.0f} s, sEMG '{mode}', faces: truth with landmark-fit-like noise"
    )
    judge = functools.partial(_participant, length=length, mode=mode, models=models, aheads=aheads)
    with ProcessPoolExecutor(max_workers=2) as pool:
        results = []
        for seed, result in zip(seeds, pool.map(judge, seeds), strict=True):
            note(f"  participant {seed} done")
            results.append(result)
    _tables(results, models)
    rff = [result["models"]["rff"] for result in results]
    count = len(results)
    report(
        "emg2exp_r",
        float(np.median([row["r"] for row in rff])),
        "median over participants of median over coefficients",
        count,
    )
    report(
        "emg2exp_r2",
        float(np.median([row["r2"] for row in rff])),
        "median over participants of median over coefficients",
        count,
    )
    for name in models:
        figure = (
            "emg2exp_vertex_ratio"
            if name == "rff"
            else f"emg2exp_vertex_ratio_{name.replace(', ', '_').replace(' ', '_')}"
        )
        report(
            figure,
            float(np.mean([result["models"][name]["ratio"] for result in results])),
            "of the mean face's error",
            count,
        )
    ahead = {value: float(np.median([result["ahead"][value] for result in results])) for value in aheads}
    note(
        "R2 against look-ahead: " + ", ".join(f"{1e3 * value:.0f} ms {r2:.3f}" for value, r2 in ahead.items())
    )
    report("lookahead40_r2_loss", ahead[0.0] - ahead[0.04], "R2", count)
    report(
        "exp2emg_rho",
        float(np.median(np.concatenate([result["rho"] for result in results]))),
        "Spearman",
        count,
    )
    report(
        "exp2emg_smape", float(np.median(np.concatenate([result["smape"] for result in results]))), "%", count
    )
    fusion = [result["fusion"] for result in results]
    report(
        "fusion_blind_ratio",
        float(np.mean([row["blind"] for row in fusion])),
        "of the EMG-only error, mean",
        count,
    )
    report(
        "fusion_good_ratio",
        float(max(row["good"] for row in fusion)),
        "of vision alone live, worst participant",
        count,
    )
    report(
        "fusion_perfect_ratio",
        float(max(row["perfect"] for row in fusion)),
        "of a camera without error live, worst participant",
        count,
    )
    report(
        "fusion_back_ms",
        float(max(row["back_ms"] for row in fusion)),
        "ms after the camera sees again, worst participant",
        count,
    )
    report(
        "lag_error_ms",
        float(max(result["lag_error_ms"] for result in results)),
        "ms, worst of 30..150 ms with +-200 ppm",
        count,
    )
    _timing(seeds[0], length)


# ---------------------------------------------------------------- one participant


def record(participant: Participant, length_s: float, seed: int) -> Recorded:
    """Stream the sEMG through the live processing."""
    processing = EmgProcessing(EmgConfig(scheme="fridlund"))
    processing.setup()
    activity = [item for item, _ in _activity(participant, processing, length_s, 410)]
    times = np.arange(0.0, length_s, 0.01)
    truth = participant.expression_at(times).astype(np.float32)
    return Recorded(participant, activity, camera_faces(participant, times, truth, seed), times, truth)


def _activity(participant: Participant, processing: EmgProcessing, length_s: float, chunk: int) -> Any:
    """(activity, chunk that completed it) in order."""
    names = participant.channel_info().channels
    total = participant.sample_index(length_s)
    for first in range(0, total, chunk):
        samples = participant.samples(first, min(chunk, total - first))
        item = EmgChunk(
            participant.stamp(first / participant.true_rate_hz), participant.rate_hz, names, samples, first
        )
        for made in processing.handle("emg/raw", item):
            if isinstance(made.item, MuscleActivity):
                yield made.item, item


def camera_faces(
    participant: Participant, times: Any, truth: Any, seed: int, noise: float = 1.0
) -> list[FaceState]:
    """The truth as a landmark fit sees it: gain 5 %, offset 0.015, slow error 0.025 (0.5 s), white error 0.02
    per coefficient.
    """
    rng = np.random.default_rng(seed)
    when = np.arange(0.0, times[-1], 1.0 / CAMERA_HZ)
    clean = np.stack([np.interp(when, times, column) for column in truth.T], axis=1)
    keep = np.exp(-1.0 / CAMERA_HZ / 0.5)
    slow = np.zeros_like(clean)
    steps = rng.standard_normal(clean.shape)
    for row in range(1, len(slow)):
        slow[row] = keep * slow[row - 1] + np.sqrt(1 - keep**2) * steps[row]
    gain = 1 + noise * rng.normal(0.0, 0.05, 52)
    offset = noise * np.abs(rng.normal(0.0, 0.015, 52))
    seen = np.clip(
        clean * gain + offset + noise * (0.025 * slow + rng.normal(0.0, 0.02, clean.shape)), 0.0, 1.0
    ).astype(np.float32)
    names = participant.head.expression_names
    lids = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    none = np.zeros(3, np.float32)
    std = np.full(52, max(0.035 * noise, 0.005), np.float32)
    return [
        FaceState(
            participant.stamp(float(at)),
            participant.head.id,
            FaceOrigin.VISION,
            participant.shape,
            row,
            std,
            none,
            none,
            np.zeros((2, 3), np.float32),
            row[lids],
            np.eye(4),
            1.0,
        )
        for at, row in zip(when, seen, strict=True)
    ]


def _series(recorded: Recorded, calibration: Calibration, faces: list[FaceState]) -> tuple[Series, Any]:
    envelope = np.stack([item.envelope for item in recorded.activity])
    rows = [
        replace(item, activation=calibration.activation(item.envelope).astype(np.float32))
        for item in recorded.activity
    ]
    return assemble(rows, faces, recorded.person.head.expression_names), envelope


def _fit(series: Series, envelope: Any, participant: Participant, settings: FitSettings) -> Mapping:
    bounds = participant.head.expression_bounds
    return fit(
        series,
        profile="live",
        lower=bounds[:, 0],
        upper=bounds[:, 1],
        shape=participant.shape,
        envelope=envelope,
        filter_delay_s=DELAY_S,
        settings=settings,
        train_network=network_trainer(settings.kind),
    )[0]


def _participant(
    seed: int, *, length: float, mode: Any, models: list[str], aheads: tuple[float, ...]
) -> dict[str, Any]:
    first = record(Participant(seed, 0, emg_mode=mode), length, seed)
    second = record(Participant(seed, 1, emg_mode=mode), length, seed + 1)
    calibration = calibrate_recording(first.activity, first.person.markers(0.0, length))
    series, envelope = _series(first, calibration, first.faces)
    held, _ = _series(
        second, calibration, camera_faces(second.person, second.times, second.truth, 0, noise=0.0)
    )
    mean_face = np.nanmean(series.face, axis=0)[:52]
    out: dict[str, Any] = {"models": {}, "ahead": {}}
    for name in models:
        mapping = _fit(series, envelope, first.person, MODELS[name])
        out["models"][name] = _judged(mapping, held, mean_face, second)
        if name == "rff":
            out["ahead"][0.0] = out["models"][name]["r2"]
            seen, _ = _series(second, calibration, second.faces)
            out["rho"], out["smape"] = _muscles(mapping, seen, first, second)
            out["fusion"] = _fusion(mapping, second, calibration)
    for ahead in aheads[1:]:
        mapping = _fit(series, envelope, first.person, replace(MODELS["rff"], ahead_s=ahead))
        out["ahead"][ahead] = _judged(mapping, held, mean_face, second)["r2"]
    out["lag_error_ms"] = _lags(first, calibration, seed)
    return out


def _judged(mapping: Mapping, held: Series, mean_face: Any, recorded: Recorded) -> dict[str, Any]:
    """Correlation and R2 of moving coefficients, vertex errors by region and by movement."""
    clean = mapping.trust.apply(held.activation, held.quality)
    features, truth, rows = training_pairs(held, mapping.emg2exp.spec, clean, held.face)
    predicted = mapping.emg2exp.predict(features)[:, :52]
    truth = truth[:, :52]
    moving = (truth.std(axis=0) > 0.03) & mapping.emg2exp.learnt[:52]
    r, r2 = scores(truth[:, moving], predicted[:, moving])
    head = recorded.person.head
    thin = slice(None, None, 10)
    regions: dict[str, tuple[float, float]] = {}
    movements: dict[str, list[tuple[float, float]]] = {}
    still = _without_gaze(np.tile(mean_face, (len(truth), 1)), truth, head)
    ours = _without_gaze(predicted, truth, head)
    for region in REGIONS:
        basis = displacement_basis(head, region)
        error = vertex_error_mm(basis, ours[thin], truth[thin])
        base = vertex_error_mm(basis, still[thin], truth[thin])
        regions[region] = float(error.mean()), float(base.mean())
    times = held.times[rows][thin] + seconds(held.start - recorded.person.start)
    for take in recorded.person.script.takes(0.0, float(recorded.times[-1])):
        inside = (times >= take.start_s) & (times < take.end_s)
        if inside.any():
            movements.setdefault(take.label, []).append(
                (float(error[inside].mean()), float(base[inside].mean()))
            )
    return {
        "r": float(np.median(np.nan_to_num(r))),
        "r2": float(np.median(r2)),
        "ratio": regions["face"][0] / regions["face"][1],
        "regions": regions,
        "movements": {label: tuple(np.mean(values, axis=0)) for label, values in movements.items()},
    }


def _without_gaze(estimate: Any, truth: Any, head: Any) -> Any:
    """`estimate` with the gaze of `truth`: no electrode sees it, and it does not enter."""
    gaze = [place for place, name in enumerate(head.expression_names) if name.startswith("eyeLook")]
    out = np.array(estimate)
    out[:, gaze] = truth[:, gaze]
    return out


def _true_envelopes(recorded: Recorded) -> Any:
    """(T, 22) what each muscle alone would give through the envelope filter, as a share of its 99th
    percentile.
    """
    from scipy import signal

    levels, law = recorded.person._amplitude
    excitation = recorded.person.timeline.excitation(recorded.times)[:, : len(law)]
    volts = np.stack([np.interp(u, levels, row) for u, row in zip(excitation.T, law, strict=True)], axis=1)
    smooth = signal.bessel(2, 6.0, norm="mag", fs=100.0, output="sos")
    volts = volts[0] + signal.sosfilt(smooth, volts - volts[0], axis=0)
    return volts / np.percentile(volts, 99, axis=0)


def _muscles(mapping: Mapping, seen: Series, first: Recorded, second: Recorded) -> tuple[Any, Any]:
    """Spearman and SMAPE of every muscle that reaches 0.3 of its 99th percentile in a movement, over that
    movement.
    """
    spec = replace(mapping.exp2emg.spec, ahead_s=0.0)
    features, _, rows = training_pairs(seen, spec, seen.face, seen.activation)
    scale = np.sqrt((mapping.envelope_scale**2).sum(axis=1))
    activation = mapping.exp2emg.predict(features)
    estimate = (
        np.sqrt((activation * mapping.envelope_scale[:, 1]) ** 2 + mapping.envelope_scale[:, 0] ** 2) / scale
    )
    times = seen.times[rows] + mapping.exp2emg.spec.ahead_s + seconds(seen.start - second.person.start)
    truth = np.stack([np.interp(times, second.times, column) for column in _true_envelopes(second).T], axis=1)
    rho = []
    error = []
    for take in second.person.script.takes(0.0, float(second.times[-1])):
        inside = (times >= take.start_s - MARGIN_S) & (times < take.end_s + MARGIN_S)
        if inside.sum() < 50 or take.label in ("Face-At-Rest", "Conversation", "Free"):
            continue
        active = np.percentile(truth[inside], 90, axis=0) > 0.3
        rho.append(spearman(estimate[inside][:, active], truth[inside][:, active]))
        error.append(smape(estimate[inside][:, active], truth[inside][:, active]))
    return np.concatenate(rho), np.concatenate(error)


def _lags(recorded: Recorded, calibration: Calibration, seed: int) -> float:
    """Largest error in ms over lags from 30 to 150 ms, the camera's clock 200 ppm fast or slow.

    The muscles stay the same.
    """
    participant = recorded.person
    worst = 0.0
    for number, lag_s in enumerate(LAGS_S):
        other = Participant(
            participant.seed, participant.session, lag_s=lag_s, emg_mode=participant._emg_mode
        )
        faces = camera_faces(other, recorded.times, other.expression_at(recorded.times), seed)
        drift = 200e-6 * (-1) ** number
        drifting = [
            replace(face, stamp=face.stamp + round((face.stamp - participant.start) * drift))
            for face in faces
        ]
        found = estimate(_series(recorded, calibration, drifting)[0], DELAY_S)
        worst = max(worst, 1e3 * abs(found.lag_s - lag_s - drift * recorded.times[-1] / 2))
    return worst


# ---------------------------------------------------------------- fusion


def _live(
    mapping: Mapping, recorded: Recorded, calibration: Calibration, faces: list[FaceState], end_s: float
) -> dict[str, Any]:
    """The component, fed as live: activity at once, faces late, one tick each 10 ms.

    Values (T, 52) by kind at the ticks.
    """
    component = MuscleMapping(MappingConfig(), mapping)
    component.setup()
    participant = recorded.person
    arrivals: list[tuple[int, str, Any]] = [
        (
            item.stamp,
            "emg/activity",
            replace(item, activation=calibration.activation(item.envelope).astype(np.float32)),
        )
        for item in recorded.activity
        if item.stamp < participant.stamp(end_s)
    ]
    arrivals += [
        (face.stamp + nanoseconds(CAMERA_LATENCY_S), "face/vision", face)
        for face in faces
        if face.stamp < participant.stamp(end_s)
    ]
    arrivals += [(participant.stamp(float(at)) + 1, "tick", None) for at in np.arange(2.0, end_s, 0.01)]
    held: dict[str, Any] = {}
    rows: dict[str, list[Any]] = {"times": [], "fused": [], "emg": [], "vision": []}
    for now, port, item in sorted(arrivals, key=lambda arrival: arrival[0]):
        made: list[Emission] = list(component.tick(now) if port == "tick" else component.handle(port, item))
        for emission in made:
            if isinstance(emission.item, FaceState):
                held[emission.port] = emission.item.expression
        if port == "face/vision":
            held["vision"] = item.expression
        if port == "tick" and {FUSED, EMG_FACE, "vision"} <= held.keys():
            rows["times"].append(seconds(now - participant.start))
            for kind, name in (("fused", FUSED), ("emg", EMG_FACE), ("vision", "vision")):
                rows[kind].append(held[name])
    return {name: np.array(values) for name, values in rows.items()}


def _fusion(
    mapping: Mapping, recorded: Recorded, calibration: Calibration, end_s: float = 62.0
) -> dict[str, float]:
    """Errors live: everything is compared with the truth at the instant it is given out."""
    head = recorded.person.head
    basis = displacement_basis(head)[::4]

    def errors(faces: list[FaceState]) -> tuple[Any, dict[str, Any]]:
        rows = _live(mapping, recorded, calibration, faces, end_s)
        truth = recorded.person.expression_at(rows["times"])
        return rows["times"], {
            kind: vertex_error_mm(basis, _without_gaze(rows[kind], truth, head), truth)
            for kind in ("fused", "emg", "vision")
        }

    def covered(at: Any) -> Any:
        return (at % BLIND_EVERY_S >= BLIND_EVERY_S - BLIND_S) & (at > BLIND_S)

    times, good = errors(recorded.faces)
    _, perfect = errors(camera_faces(recorded.person, recorded.times, recorded.truth, 0, noise=0.0))
    _, blind = errors(
        [face for face in recorded.faces if not covered(seconds(face.stamp - recorded.person.start))]
    )
    dark = covered(times - CAMERA_LATENCY_S)
    # mean error by time since the camera came back, beside that of a camera never covered
    since = (times - CAMERA_LATENCY_S) % BLIND_EVERY_S
    seen = (since < 2.0) & (times > BLIND_EVERY_S)
    steps = np.arange(0.0, 1.0, 0.05)
    again, usual = (
        np.array([error["fused"][seen & (since >= s) & (since < s + 0.05)].mean() for s in steps])
        for error in (blind, good)
    )
    late = np.flatnonzero(again > 1.1 * usual)
    return {
        "good": float(good["fused"].mean() / good["vision"].mean()),
        "perfect": float(perfect["fused"].mean() / perfect["vision"].mean()),
        "blind": float(blind["fused"][dark].mean() / blind["emg"][dark].mean()),
        "back_ms": float(1e3 * (steps[late[-1]] + 0.05)) if len(late) else 0.0,
        "fused_mm": float(good["fused"].mean()),
        "vision_mm": float(good["vision"].mean()),
        "emg_mm": float(good["emg"].mean()),
        "dark_fused_mm": float(blind["fused"][dark].mean()),
        "dark_emg_mm": float(blind["emg"][dark].mean()),
    }


# ---------------------------------------------------------------- time and tables


def _timing(seed: int, length: float) -> None:
    """Fit, prediction and the way from sample to face, alone on the machine."""
    recorded = record(Participant(seed, 0), length, seed)
    calibration = calibrate_recording(recorded.activity, recorded.person.markers(0.0, length))
    series, envelope = _series(recorded, calibration, recorded.faces)
    spent = {}
    for name in ("ridge", "rff"):
        start = time.perf_counter()
        mapping = _fit(series, envelope, recorded.person, MODELS[name])
        spent[name] = time.perf_counter() - start
    note(f"fit of {length:.0f} s: ridge {spent['ridge']:.1f} s, rff {spent['rff']:.1f} s")
    report("fit_s", max(spent.values()), "s", 1)
    features = training_pairs(series, mapping.emg2exp.spec, series.activation, series.face)[0]
    took = []
    for row in features[:2000]:
        start = time.perf_counter()
        mapping.emg2exp.predict_one(row)
        took.append(time.perf_counter() - start)
    report("predict_ms", 1e3 * float(np.median(took)), "ms, median", len(took))
    processing = EmgProcessing(EmgConfig(scheme="fridlund"))
    component = MuscleMapping(MappingConfig(), mapping)
    for each in (processing, component):
        each.setup()
    processing.use_calibration(calibration)
    late = []
    participant = recorded.person
    names = participant.channel_info().channels
    chunk = 20
    for first in range(0, participant.sample_index(30.0), chunk):
        item = EmgChunk(
            participant.stamp(first / participant.true_rate_hz),
            participant.rate_hz,
            names,
            participant.samples(first, chunk),
            first,
        )
        start = time.perf_counter()
        for made in processing.handle("emg/raw", item):
            for face in component.handle("emg/activity", made.item):
                if face.port == EMG_FACE:
                    late.append((item.end_stamp - face.item.stamp) / NS + time.perf_counter() - start)
    report(
        "emg_to_face_p99_ms",
        1e3 * float(np.percentile(late, 99)),
        "ms from the sample, chunks of 9.8 ms included",
        len(late),
    )


def _tables(results: list[dict[str, Any]], models: list[str]) -> None:
    note("vertex error over the mean face's, by region:")
    note(f"{'model':16s} {'r':>6s} {'R2':>6s} " + " ".join(f"{region:>9s}" for region in REGIONS))
    for name in models:
        rows = [result["models"][name] for result in results]
        ratios = [
            np.mean([row["regions"][region][0] / row["regions"][region][1] for row in rows])
            for region in REGIONS
        ]
        r, r2 = (float(np.median([row[key] for row in rows])) for key in ("r", "r2"))
        note(f"{name:16s} {r:6.3f} {r2:6.3f} " + " ".join(f"{ratio:9.2f}" for ratio in ratios))
    note(
        f"{'movement':16s} "
        + " ".join(f"{name:>15s}" for name in models)
        + "       mean face   (mm on the face)"
    )
    for label in results[0]["models"][models[0]]["movements"]:
        cells = [
            [
                result["models"][name]["movements"][label]
                for result in results
                if label in result["models"][name]["movements"]
            ]
            for name in models
        ]
        note(
            f"{label:16s} "
            + " ".join(f"{np.mean(cell, axis=0)[0]:15.2f}" for cell in cells)
            + f" {np.mean(cells[0], axis=0)[1]:15.2f}"
        )
    keys = ("fused_mm", "vision_mm", "emg_mm", "dark_fused_mm", "dark_emg_mm")
    means = {key: float(np.mean([result["fusion"][key] for result in results])) for key in keys}
    note(
        "live errors, mm: "
        + ", ".join(f"{key.removesuffix('_mm')} {value:.2f}" for key, value in means.items())
    )


if __name__ == "__main__":
    load_head()
    run(quick=True)
