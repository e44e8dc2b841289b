"""Mappings, faces and envelopes against the truth or against peers, by a protocol that others can repeat."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from .. import __version__
from ..component import Emission
from ..emg.emg_processing import EmgConfig, EmgProcessing
from ..errors import EiferError, InputError, MissingExtra
from ..evaluation import face as under_sensors
from ..evaluation.evaluation_figures import dots_figure, traces_figure
from ..evaluation.evaluation_report import markdown, write_csv
from ..evaluation.metrics import displacement_basis, rigid_vertex_error_mm, smape, spearman, vertex_error_mm
from ..evaluation.paper_metrics import PictureNetwork, agreement, frechet_distance, mse, rms
from ..evaluation.peers import SEEDED, Prediction, predict
from ..evaluation.pictures import SAME_DB, psnr_db, ssim
from ..evaluation.problems import Problem, from_mmm, from_series
from ..evaluation.protocol import Data, Protocol, load_protocol
from ..evaluation.simulated import items as simulated_items
from ..head.model import load_head
from ..mapping.scores import scores
from ..reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
from ..recording.reader import Bag
from ..simulation.performer import PerformerConfig, simulate
from ..source_tree import source_tree
from ..types import NS, EmgChunk, FaceState, FaceStatus, Frame, Item, Marker, MuscleActivity, Stamp
from .common import Progress, new_folder
from .fit import series_of
from .session import Session, load_session

AREAS = ("mapping", "face", "emg")
BENCH = {"mapping": ("mapping",), "face": ("foundation", "face", "micro"), "emg": ("emg",)}
"""Benchmarks whose figures belong to an area."""
BENCHES = ("foundation", "emg", "mapping", "face", "drive", "view", "data", "ros", "micro")
"""Every benchmark; those whose file is in the source tree are run."""
PACKAGES = ("numpy", "scipy", "onnxruntime", "opencv-python-headless", "torch", "numba")


@dataclass
class Evaluation:
    """What an evaluation came to.

    Parameters
    ----------
    protocol : Protocol
        Everything that was asked, pinned.
    rows : list[dict[str, object]], optional
        The table.
    each : list[dict[str, object]], optional
        Every single value, for the figures.
    figures : list[str], optional
        Names of the files.
    bench : list[dict[str, object]], optional
        Figures of the benchmarks.
    notes : list[str], optional
        For people.
    """

    protocol: Protocol
    rows: list[dict[str, Any]] = field(default_factory=list)
    each: list[dict[str, Any]] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    bench: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes None.

        Returns
        -------
        dict[str, object]
            Every field.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [plain(inner) for inner in value]
            return None if isinstance(value, float) and np.isnan(value) else value

        return {
            "protocol": self.protocol.name,
            "protocol_digest": self.protocol.digest,
            "area": self.protocol.area,
            "eifer": __version__,
            "versions": versions(),
            "machine": platform.machine(),
            "seeds": self.protocol.seeds,
            "rows": plain(self.rows),
            "bench": plain(self.bench),
            "figures": self.figures,
            "notes": self.notes,
        }


def versions() -> dict[str, str]:
    """Python and the libraries that compute.

    Returns
    -------
    dict[str, str]
        By name.
    """
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return packages


def evaluate(
    area: str,
    out: Path,
    protocol: Path | Protocol | None = None,
    *,
    bench: bool = False,
    quick: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate one area by a protocol.

    Leaves in `out`: protocol.yaml (everything that was asked, pinned), table.csv, table.md, each.csv,
    figures/*.svg, results.json.

    Parameters
    ----------
    area : str
        `mapping`, `face` or `emg`.
    out : Path
        Folder; new or empty.
    protocol : Path or Protocol, optional
        A protocol or its file; None for the default one on simulated participants.
    bench : bool, optional
        Run the benchmarks of the area as well and put their figures beside (from a source tree).
    quick : bool, optional
        The short ones.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    Evaluation
        Rows, single values and figures.

    Raises
    ------
    InputError
        An unknown area, or data that cannot be used.
    ConfigError
        The protocol is wrong.
    ModelError
        A model is missing.
    MissingExtra
        Torch is not installed, for networks.
    """
    if area not in AREAS:
        raise InputError(f"area '{area}': evaluate mapping, face or emg")
    settings = protocol.with_data() if isinstance(protocol, Protocol) else load_protocol(protocol, area)
    if bench:
        source_tree("bench", "benchmarks")
    new_folder(out)
    (out / "figures").mkdir()
    (out / "protocol.yaml").write_text(
        f"# digest {settings.digest}; repeat with: eifer evaluate {area} --protocol protocol.yaml\n"
        + yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False),
        encoding="utf-8",
    )
    result = Evaluation(settings)
    report_progress = progress or (lambda done, total, words: None)
    {"mapping": _mapping, "face": _face, "emg": _emg}[area](result, out / "figures", report_progress)
    if bench:
        for name in BENCH[area]:
            result.bench += bench_figures(name, quick, report_progress)
        if result.bench:
            write_csv(out / "bench.csv", result.bench)
    write_csv(out / "table.csv", result.rows)
    write_csv(out / "each.csv", result.each)
    heading = f"# {settings.name}: {area} (protocol {settings.digest}, eifer {__version__})\n\n"
    benched = f"\n## Benchmarks\n\n{markdown(result.bench)}" if result.bench else ""
    (out / "table.md").write_text(heading + markdown(result.rows) + benched, encoding="utf-8")
    (out / "results.json").write_text(json.dumps(result.as_dict(), indent=2) + "\n", encoding="utf-8")
    return result


@dataclass
class EvaluationSuite:
    """Every area and benchmark; one that fails does not keep the others from running.

    Parameters
    ----------
    areas : dict[str, Evaluation], optional
        Evaluations by area.
    bench : list[dict[str, object]], optional
        Figures of the benchmarks.
    failures : dict[str, str], optional
        What could not be done, and why.
    """

    areas: dict[str, Evaluation] = field(default_factory=dict)
    bench: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON.

        Returns
        -------
        dict[str, object]
            Every field.
        """
        return {
            "areas": {name: evaluation.as_dict() for name, evaluation in self.areas.items()},
            "bench": self.bench,
            "failures": self.failures,
        }


def evaluate_all(
    out: Path,
    *,
    bench: bool = False,
    quick: bool = True,
    areas: tuple[str, ...] = AREAS,
    benches: tuple[str, ...] = BENCHES,
    progress: Progress | None = None,
) -> EvaluationSuite:
    """Every area on simulated participants, each in a folder of `out`, and with `bench` every benchmark of the
    source tree.

    Leaves in `out` besides: results.json, and with `bench` bench.csv, bench.jsonl (what `python -m
    bench.table` reads), bench.md. One that fails does not keep the others from running.

    Parameters
    ----------
    out : Path
        Folder; new or empty.
    bench : bool, optional
        Run the benchmarks.
    quick : bool, optional
        The short ones.
    areas : tuple[str, ...], optional
        Which.
    benches : tuple[str, ...], optional
        Which benchmarks.
    progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    EvaluationSuite
        Evaluations, figures and failures.

    Raises
    ------
    InputError
        `out` is not empty, or benchmarks are asked for outside a source tree.
    """
    if bench:
        source_tree("bench", "benchmarks")
    new_folder(out)
    result = EvaluationSuite()
    report_progress = progress or (lambda done, total, words: None)
    for name in areas:
        try:
            result.areas[name] = evaluate(name, out / name, progress=progress)
        except EiferError as error:
            result.failures[name] = str(error)
    for name in benches if bench else ():
        try:
            result.bench += bench_figures(name, quick, report_progress)
        except InputError as error:
            result.failures[f"bench {name}"] = str(error)
        if result.bench:  # after each, so that a run that is stopped leaves what it has
            write_csv(out / "bench.csv", result.bench)
            (out / "bench.md").write_text(markdown(result.bench), encoding="utf-8")
            (out / "bench.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in result.bench), encoding="utf-8"
            )
    (out / "results.json").write_text(json.dumps(result.as_dict(), indent=2) + "\n", encoding="utf-8")
    return result


# ---- mapping ----------------------------------------------------------------------------------------------------------------


def _mapping(result: Evaluation, figures: Path, report_progress: Progress) -> None:
    protocol = result.protocol
    problems = [problem for data in protocol.data for problem in problems_of(data, protocol.spaces)]
    runs = [
        (p, d, m, s)
        for p in problems
        for d in protocol.directions
        for m in protocol.models
        for s in _seeds(protocol, m)
    ]
    predictions: dict[tuple[str, str, str], Prediction] = {}
    for done, (problem, direction, model, seed) in enumerate(runs):
        train_rows, test_rows = protocol.split.rows(problem.times)
        prediction = predict(model, direction, problem, train_rows, test_rows, seed)
        row, each = mapping_scores(problem, direction, prediction)
        key = {
            "data": problem.name,
            "space": problem.space,
            "direction": direction,
            "model": model,
            "seed": seed,
        }
        result.rows.append(
            {
                **key,
                **row,
                "late_ms": 1e3 * prediction.late_s,
                "judged_s": len(prediction.rows) * problem.period_s,
            }
        )
        result.each += [{**key, **one} for one in each]
        if direction == "exp2emg" and problem is problems[0] and seed == protocol.seeds[0]:
            predictions[(problem.name, problem.space, model)] = prediction
        report_progress(done + 1, len(runs), f"{problem.name} {problem.space} {direction} {model}")
    _mapping_figures(result, figures, problems[0], predictions)


def _seeds(protocol: Protocol, model: str) -> list[int]:
    return protocol.seeds if model in SEEDED else protocol.seeds[:1]


def problems_of(data: Data, spaces: list[str]) -> list[Problem]:
    """The mapping problems of one recording: one, or one per parameter space of an MMM session.

    Parameters
    ----------
    data : Data
        The recording.
    spaces : list[str]
        Parameter spaces of an MMM session.

    Returns
    -------
    list[Problem]
        One, or one per space.
    """
    if data.mmm:
        return from_mmm(Path(data.mmm), data.session, spaces)
    session = session_of(data)
    series, envelope = series_of(session)
    return [from_series(data.name, series, envelope, session.head)]


def session_of(data: Data) -> Session:
    """Activity, faces and movements of a recording, calibrated.

    Parameters
    ----------
    data : Data
        The recording.

    Returns
    -------
    Session
        Calibrated.
    """
    if data.bag:
        return load_session(Path(data.bag), faces=data.faces).calibrated()
    assert data.simulated is not None
    processing = EmgProcessing(EmgConfig())
    processing.setup()
    session = Session(Path(data.name), faces_from="truth/face")
    for _, item in _simulated(data):
        if isinstance(item, EmgChunk):
            session.activity += [
                emission.item
                for emission in processing.handle("emg/raw", item)
                if isinstance(emission.item, MuscleActivity)
            ]
        elif isinstance(item, FaceState):
            session.faces.append(item)
        elif isinstance(item, Marker):
            session.markers.append(item)
    return session.calibrated()


def _simulated(data: Data) -> Iterator[Emission]:
    recipe = data.simulated
    assert recipe is not None
    config = PerformerConfig(
        seed=recipe.seed,
        session=recipe.session,
        program=recipe.program,
        rate_hz=recipe.rate_hz,
        chunk_samples=256,
    )
    return simulated_items(config, recipe.seconds)


def mapping_scores(
    problem: Problem, direction: str, prediction: Prediction
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Scores of one prediction.

    emg2exp: Pearson r and R2 per coefficient (medians in the row), vertex error in mm where the space has a
    head here, beside that of the mean face. exp2emg: per muscle MSE and RMS in uV of the envelope (activation
    put back onto the muscle's own range), SMAPE in per cent, Spearman's rho, r and R2.

    Parameters
    ----------
    problem : Problem
        What was to be predicted.
    direction : str
        `emg2exp` or `exp2emg`.
    prediction : Prediction
        What was predicted.

    Returns
    -------
    tuple[dict[str, float], list[dict[str, object]]]
        The table's row, and one entry per output.
    """
    r, r2 = scores(prediction.truth, prediction.estimate)
    names = problem.face_names if direction == "emg2exp" else problem.muscle_names
    each: list[dict[str, Any]] = [
        {"output": name, "r": float(a), "r2": float(b)} for name, a, b in zip(names, r, r2, strict=True)
    ]
    row = {"r": _median(r), "r2": _median(r2)}
    if direction == "emg2exp":
        if problem.basis is not None:
            every = slice(None, None, max(1, len(prediction.truth) // 1000))
            row["vertex_mm"] = float(
                vertex_error_mm(problem.basis, prediction.estimate[every], prediction.truth[every]).mean()
            )
            mean = np.tile(prediction.truth.mean(axis=0), (len(prediction.truth), 1))
            row["vertex_mean_face_mm"] = float(
                vertex_error_mm(problem.basis, mean[every], prediction.truth[every]).mean()
            )
        return row, each
    estimate = microvolts(problem, prediction.estimate)
    truth = microvolts(problem, prediction.truth)
    rho = spearman(estimate, truth)
    columns = {
        "mse_uv2": mse(estimate, truth),
        "rms_uv": rms(estimate, truth),
        "smape_pct": smape(estimate, truth),
        "spearman": rho,
    }
    for name, values in columns.items():
        row[name] = _median(values)
        for one, value in zip(each, values, strict=True):
            one[name] = float(value)
    return row, each


def microvolts(problem: Problem, activation: Any) -> Any:
    """Envelopes of activations: envelope^2 = (activation P99)^2 + rest^2, both fitted to the problem's own rows.

    Parameters
    ----------
    problem : Problem
        Knows activations and envelopes.
    activation : object
        (N, M) 0..1.

    Returns
    -------
    object
        (N, M) uV.
    """
    a2 = np.clip(problem.muscles, 0, 1).astype(np.float64) ** 2
    e2 = problem.envelope.astype(np.float64) ** 2
    centred = a2 - a2.mean(axis=0)
    slope = np.maximum((centred * e2).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12), 0.0)
    rest = np.maximum(e2.mean(axis=0) - slope * a2.mean(axis=0), 0.0)
    return np.sqrt(np.clip(activation, 0, 1).astype(np.float64) ** 2 * slope + rest)


def _median(values: Any) -> float:
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(np.median(finite)) if len(finite) else float("nan")


def _mapping_figures(
    result: Evaluation, figures: Path, problem: Problem, predictions: dict[tuple[str, str, str], Prediction]
) -> None:
    for direction, metric, label in (
        ("emg2exp", "r", "Pearson r, one dot per coefficient, bar: median"),
        ("emg2exp", "r2", "R2, one dot per coefficient, bar: median"),
        ("exp2emg", "spearman", "Spearman rho, one dot per muscle, bar: median"),
        ("exp2emg", "smape_pct", "SMAPE in per cent"),
    ):
        groups: dict[str, list[float]] = {}
        several = len({(one["space"]) for one in result.each}) > 1
        for one in result.each:
            if one["direction"] == direction and metric in one:
                name = f"{one['model']} {one['space']}" if several else one["model"]
                groups.setdefault(name, []).append(one[metric])
        if groups:
            path = figures / f"{direction}_{metric}.svg"
            words = "Muscles to face" if direction == "emg2exp" else "Face to muscles"
            title = f"{words}: {', '.join(dict.fromkeys(p.name for p in result.protocol.data))}"
            _draw(result, dots_figure, path, title, label, list(groups.items()))
    for (name, space, model), prediction in list(predictions.items())[-1:]:
        estimate = microvolts(problem, prediction.estimate)
        truth = microvolts(problem, prediction.truth)
        moves = np.argsort(-truth.std(axis=0))[:4]
        curves = [
            (problem.muscle_names[k].replace("_", " "), "uV", truth[:, k], estimate[:, k])
            for k in moves.tolist()
        ]
        title = f"{model} on {name} ({space}), judged rows only"
        path = figures / "exp2emg_traces.svg"
        _draw(result, traces_figure, path, title, problem.times[prediction.rows], curves)


def _draw(result: Evaluation, figure: Callable[..., None], path: Path, *content: Any) -> None:
    """Write one figure; without the library for it, the tables stand alone and a note says why."""
    try:
        figure(path, *content)
    except MissingExtra as error:
        if str(error) not in result.notes:
            result.notes.append(str(error))
    else:
        result.figures.append(path.name)


# ---- face -------------------------------------------------------------------------------------------------------------------


def _face(result: Evaluation, figures: Path, report_progress: Progress) -> None:
    protocol = result.protocol
    networks = {
        name: PictureNetwork(Path(path))
        for name, path in (("features", protocol.feature_network), ("classes", protocol.classifier))
        if path
    }
    result.notes += [f"{name}: network of SHA-256 {network.digest}" for name, network in networks.items()]
    if protocol.participants:
        _faces_under_sensors(result, figures, report_progress)
    for index, data in enumerate(protocol.data):
        if data.mmm:
            raise InputError(
                "area face needs a truth beside the faces; MMM has none (eifer evaluate mapping compares its methods)"
            )
        faces, pictures = _faces_and_pictures(data, protocol, bool(networks or protocol.reference))
        truth = faces.pop("truth/face", [])
        if not truth:
            raise InputError(
                f"{data.name}: no truth/face in this recording; area face needs one (eifer simulate makes it)"
            )
        for topic, states in faces.items():
            if protocol.topics and topic not in protocol.topics:
                continue
            row, each = face_scores(states, truth)
            key = {"data": data.name, "topic": topic}
            result.rows.append({**key, **row})
            result.each += [{**key, **one} for one in each]
        if protocol.reference:
            result.rows += _picture_rows(data.name, pictures, protocol, networks)
        report_progress(index + 1, len(protocol.data), data.name)
    groups: dict[str, list[float]] = {}
    for one in result.each:
        if "topic" in one:
            groups.setdefault(one["topic"], []).append(one["r"])
    if groups:
        label = "Pearson r, one dot per coefficient, bar: median"
        path = figures / "face_r.svg"
        _draw(result, dots_figure, path, "Face against the truth", label, list(groups.items()))


def _faces_under_sensors(result: Evaluation, figures: Path, report_progress: Progress) -> None:
    """Every estimator on simulated people, bare and under sensors; a table, dots by movement, and the faces
    side by side.
    """
    protocol = result.protocol
    head = load_head()
    methods = under_sensors.methods_by_name(head, protocol.encoder, protocol.encoder_bare, protocol.restorer)
    lacking = [name for name in ("E_N", "E_S", "restored") if name not in methods]
    if lacking:
        result.notes.append(f"not judged, as their networks are not installed: {', '.join(lacking)}")
    total = len(protocol.participants)
    readings = under_sensors.collect_readings(
        protocol.participants,
        methods,
        protocol.moments,
        source=under_sensors.scenes,
        progress=lambda done, _: report_progress(done, total, f"{done} of {total} participants"),
    )
    results = under_sensors.scores(readings, head)
    result.rows += under_sensors.rows(results)
    result.each += under_sensors.each(results)
    closure = under_sensors.gap_closure(results)
    if np.isfinite(closure):
        alone = under_sensors.gap_closure(results, "expression_mm")
        result.notes.append(
            f"gap closure of the vertex error {closure:.3f}, of the expression alone {alone:.3f}"
        )
    label = "vertex error in mm, one dot per movement, bar: median"
    groups = [
        (f"{one.method}, {one.variant}", [vertex for vertex, _ in one.movements.values()]) for one in results
    ]
    _draw(result, dots_figure, figures / "movements.svg", "Faces under sensors", label, groups)
    for seed in protocol.participants[:3]:
        some = list(under_sensors.scenes(seed, 1))
        path = figures / f"faces_{seed}.png"
        cv2.imwrite(str(path), under_sensors.side_by_side(some, methods, head)[:, :, ::-1])
        result.figures.append(path.name)


def _faces_and_pictures(
    data: Data, protocol: Protocol, want_pictures: bool
) -> tuple[dict[str, list[FaceState]], dict[str, dict[Stamp, Any]]]:
    faces: dict[str, list[FaceState]] = {}
    pictures: dict[str, dict[Stamp, Any]] = {}

    def take(topic: str, item: Item) -> None:
        if isinstance(item, FaceState):
            faces.setdefault(topic, []).append(item)
        elif isinstance(item, Frame) and want_pictures:
            pictures.setdefault(topic, {})[item.stamp] = item.image

    if data.bag:
        with Bag(Path(data.bag)) as bag:
            for _, topic, item in bag.items():
                take(topic, item)
        return faces, pictures
    assert data.simulated is not None
    one = data.simulated
    config = PerformerConfig(
        seed=one.seed, session=one.session, program=one.program, width=320, height=240, fps=15.0
    )
    reconstruction = Reconstruction(ReconstructionConfig())
    reconstruction.setup()
    for topic, item in simulate(min(one.seconds, 30.0) / 60, config, emg=False):
        take(topic, item)
        if isinstance(item, Frame):
            for emission in reconstruction.handle(topic, item):
                take(emission.port, emission.item)
    return faces, pictures


def face_scores(
    states: list[FaceState], truth: list[FaceState]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Scores of faces.

    tracked: share of faces that are not lost. vertex_mm: expression alone, against `vertex_resting_mm` of a
    face that never moves. rigid_mm: shape and expression after the best rigid alignment, mean over up to 60
    faces. r, r2: medians over coefficients that move.

    Parameters
    ----------
    states : list[FaceState]
        Estimated faces.
    truth : list[FaceState]
        True faces.

    Returns
    -------
    tuple[dict[str, float], list[dict[str, object]]]
        The table's row, and one entry per coefficient.
    """
    head = load_head(truth[0].head_model)
    tracked = [state for state in states if state.status != FaceStatus.LOST]
    if not tracked or tracked[0].head_model != head.id:
        return {"faces": len(states), "tracked": 0.0}, []
    base = truth[0].stamp
    truth_s = np.array([(state.stamp - base) / NS for state in truth])
    values = np.stack([state.expression for state in truth])
    times = np.array([(state.stamp - base) / NS for state in tracked])
    inside = (times >= truth_s[0] - 1e-6) & (times <= truth_s[-1] + 1e-6)
    tracked = [state for state, covered in zip(tracked, inside, strict=True) if covered]
    times = times[inside]
    true = np.stack([np.interp(times, truth_s, column) for column in values.T], axis=1)
    estimate = np.stack([state.expression for state in tracked])
    basis = displacement_basis(head)
    r, r2 = scores(true, estimate)
    moving = true.std(axis=0) > 0.03
    rest = np.tile(np.median(values, axis=0), (len(true), 1))
    region = head.regions["face"]
    sample = np.unique(np.linspace(0, len(tracked) - 1, min(60, len(tracked))).astype(int))
    nearest = [truth[int(np.argmin(np.abs(truth_s - times[k])))] for k in sample]
    rigid = [
        rigid_vertex_error_mm(head.state_vertices(tracked[k])[region], head.state_vertices(other)[region])
        for k, other in zip(sample.tolist(), nearest, strict=True)
    ]
    row = {
        "faces": len(states),
        "tracked": len(tracked) / len(states),
        "vertex_mm": float(vertex_error_mm(basis, estimate, true).mean()),
        "vertex_resting_mm": float(vertex_error_mm(basis, rest, true).mean()),
        "rigid_mm": float(np.mean(rigid)),
        "r": _median(r[moving]),
        "r2": _median(r2[moving]),
    }
    names = head.expression_names
    each = [
        {"output": names[k], "r": float(r[k]), "r2": float(r2[k])} for k in np.flatnonzero(moving).tolist()
    ]
    return row, each


def _picture_rows(
    name: str, pictures: dict[str, dict[Stamp, Any]], protocol: Protocol, networks: dict[str, PictureNetwork]
) -> list[dict[str, Any]]:
    """Pictures with electrodes and restored ones against those of the same person without.

    psnr_db, ssim: means over the pictures that have a twin, one of the same stamp and size; a simulated
    participant can give one.
    """
    with Bag(Path(protocol.reference)) as bag:
        bare = {
            stamp: item.image
            for stamp, _, item in bag.items(topics=["camera/image_raw"])
            if isinstance(item, Frame)
        }
    rows = []
    for topic, stamped in pictures.items():
        row: dict[str, Any] = {"data": name, "topic": topic}
        if "features" in networks:
            row["frechet"] = frechet_distance(
                networks["features"](stamped.values()), networks["features"](bare.values())
            )
        both = sorted(set(stamped) & set(bare))
        if "classes" in networks and both:
            classes = networks["classes"]
            row["agreement"] = agreement(classes(stamped[s] for s in both), classes(bare[s] for s in both))
        twins = [stamp for stamp in both if stamped[stamp].shape == bare[stamp].shape]
        if twins:
            row["pairs"] = len(twins)
            row["psnr_db"] = float(np.mean([min(psnr_db(stamped[s], bare[s]), SAME_DB) for s in twins]))
            row["ssim"] = float(np.mean([ssim(stamped[s], bare[s]) for s in twins]))
        rows.append(row)
    return rows


# ---- emg --------------------------------------------------------------------------------------------------------------------


def _emg(result: Evaluation, figures: Path, report_progress: Progress) -> None:
    protocol = result.protocol
    total = len(protocol.data) * len(protocol.profiles)
    for index, data in enumerate(protocol.data):
        chunks, truth, markers = _raw_and_truth(data)
        for number, profile in enumerate(protocol.profiles):
            row, each = emg_scores(chunks, truth, markers, profile)
            key = {"data": data.name, "profile": profile}
            result.rows.append({**key, **row})
            result.each += [{**key, **one} for one in each]
            report_progress(index * len(protocol.profiles) + number + 1, total, f"{data.name} {profile}")
    for metric, label in (
        ("r", "Pearson r of envelope and true activation, one dot per muscle"),
        ("snr_db", "P99 over rest in dB"),
    ):
        groups: dict[str, list[float]] = {}
        for one in result.each:
            if metric in one:
                groups.setdefault(one["profile"], []).append(one[metric])
        if groups:
            path = figures / f"emg_{metric}.svg"
            _draw(result, dots_figure, path, "Envelopes by filter profile", label, list(groups.items()))


def _raw_and_truth(data: Data) -> tuple[list[EmgChunk], list[MuscleActivity], list[Marker]]:
    chunks: list[EmgChunk] = []
    truth: list[MuscleActivity] = []
    markers: list[Marker] = []

    def take(topic: str, item: Item) -> None:
        if isinstance(item, EmgChunk):
            chunks.append(item)
        elif isinstance(item, MuscleActivity) and topic == "truth/muscles":
            truth.append(item)
        elif isinstance(item, Marker):
            markers.append(item)

    if data.mmm:
        raise InputError("area emg needs raw EMG; MMM publishes envelopes only")
    if data.bag:
        with Bag(Path(data.bag)) as bag:
            for _, topic, item in bag.items():
                take(topic, item)
    else:
        for topic, item in _simulated(data):
            take(topic, item)
    if not chunks:
        raise InputError(f"{data.name}: no emg/raw in this recording; area emg needs raw EMG")
    return chunks, truth, markers


def emg_scores(
    chunks: list[EmgChunk], truth: list[MuscleActivity], markers: list[Marker], profile: str
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Scores of EMG processing.

    r: Pearson r of envelope and true activation at the lag at which it is greatest, `delay_ms` (truth known
    only in simulation). snr_db: 20 log10 of 99th percentile over median envelope. quality: mean contact
    score.

    Parameters
    ----------
    chunks : list[EmgChunk]
        Raw EMG.
    truth : list[MuscleActivity]
        True activity, empty where there is none.
    markers : list[Marker]
        Movements.
    profile : str
        Filter profile.

    Returns
    -------
    tuple[dict[str, float], list[dict[str, object]]]
        The table's row, and one entry per channel.

    Raises
    ------
    InputError
        There is no EMG.
    """
    processing = EmgProcessing(EmgConfig.model_validate({"profile": profile}))
    processing.setup()
    activity = [
        emission.item
        for chunk in chunks
        for emission in processing.handle("emg/raw", chunk)
        if isinstance(emission.item, MuscleActivity)
    ]
    settled = [item for item in activity if np.isfinite(item.envelope).all()]
    if len(settled) < 200:
        raise InputError(
            f"profile {profile}: {len(settled)} instants with an envelope on every channel; at least 200 are needed"
        )
    envelope = np.stack([item.envelope for item in settled]).astype(np.float64)
    base = settled[0].stamp
    times = np.array([(item.stamp - base) / NS for item in settled])
    middle = np.median(envelope, axis=0)
    top = np.percentile(envelope, 99, axis=0)
    snr = 20 * np.log10(np.maximum(top, 1e-12) / np.maximum(middle, 1e-12))
    each: list[dict[str, Any]] = [
        {"output": name, "snr_db": float(v)} for name, v in zip(settled[0].muscles, snr, strict=True)
    ]
    quality = np.stack([item.quality for item in settled])
    row = {
        "snr_db": _median(snr),
        "quality": float(np.nanmean(quality)) if np.isfinite(quality).any() else float("nan"),
    }
    shared = [name for name in settled[0].muscles if truth and name in truth[0].muscles]
    if shared:
        at = np.array([(item.stamp - base) / NS for item in truth])
        values = np.stack([item.activation for item in truth])[
            :, [truth[0].muscles.index(name) for name in shared]
        ]
        measured = envelope[:, [settled[0].muscles.index(name) for name in shared]]
        best, delay = _best_lag(times, measured, at, values)
        row |= {"r": _median(best), "delay_ms": 1e3 * _median(delay)}
        by_name = {one["output"]: one for one in each}
        for name, value, late in zip(shared, best, delay, strict=True):
            by_name[name] |= {"r": float(value), "delay_ms": 1e3 * float(late)}
    return row, each


def _best_lag(times: Any, measured: Any, at: Any, values: Any) -> tuple[Any, Any]:
    """Per column the greatest correlation over delays 0..200 ms of `measured` behind `values`, and that delay in
    s.
    """
    delays = np.arange(0.0, 0.201, 0.005)
    correlation = np.stack(
        [
            scores(np.stack([np.interp(times - delay, at, column) for column in values.T], axis=1), measured)[
                0
            ]
            for delay in delays
        ]
    )
    filled = np.where(np.isfinite(correlation), correlation, -np.inf)
    best = filled.argmax(axis=0)
    top = filled[best, np.arange(correlation.shape[1])]
    return np.where(np.isfinite(top), top, np.nan), np.where(np.isfinite(top), delays[best], np.nan)


# ---- benchmarks -------------------------------------------------------------------------------------------------------------


def bench_figures(
    area: str, quick: bool = True, report_progress: Progress | None = None
) -> list[dict[str, Any]]:
    """The figures of `python -m bench AREA`.

    Parameters
    ----------
    area : str
        Of the benchmark.
    quick : bool, optional
        The short ones.
    report_progress : Progress, optional
        See `common.Progress`.

    Returns
    -------
    list[dict[str, object]]
        One dictionary each; empty where this area has no benchmark.

    Raises
    ------
    InputError
        Outside a source tree; benchmarks are not installed.
    """
    root = source_tree("bench", "benchmarks")
    if not (root / "bench" / f"{area}.py").is_file():
        return []
    command = [sys.executable, "-m", "bench", area, *(["--quick"] if quick else [])]
    start = time.perf_counter()
    figures: list[dict[str, Any]] = []
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                figures.append({"area": area, **json.loads(line)})
                if report_progress is not None:
                    report_progress(len(figures), 0, f"bench {area}: {figures[-1]['figure']}")
        said = process.stderr.read() if process.stderr is not None else ""
    if process.returncode:
        last = said.strip().splitlines()[-1] if said.strip() else f"exit code {process.returncode}"
        raise InputError(f"python -m bench {area} failed after {time.perf_counter() - start:.0f} s: {last}")
    return figures
