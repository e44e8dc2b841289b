"""Figures of the foundation: landmarks, landmark fit on renders with known parameters, and a real video."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from bench import report, shared_data
from eifer_ros.component import Component
from eifer_ros.head import projection
from eifer_ros.head.model import HeadModel, load_head
from eifer_ros.reconstruction.face_reconstruction import (
    CAMERA,
    VISION,
    Reconstruction,
    ReconstructionConfig,
    depth_at,
)
from eifer_ros.reconstruction.landmarks.attention_mesh import FaceLandmarker, Landmarks
from eifer_ros.reconstruction.landmarks.detector import FaceDetector
from eifer_ros.reconstruction.landmarks.landmark_fit import LandmarkFit, load_table
from eifer_ros.reconstruction.landmarks.landmark_model import LandmarkModel
from eifer_ros.reconstruction.landmarks.tracker import FaceTracker
from eifer_ros.render import rasteriser as raster
from eifer_ros.types import FaceState, FaceStatus, Frame
from research.faces.landmark_calibration import Samples, collect
from research.faces.random_faces import SIZE, visible_actions

SEED = 987_654
"""Of the people and expressions of the figures; no table or prior was made from it."""
MOVES = 0.05
"""A coefficient moves where its true standard deviation over all pictures is above this."""


def rigid_errors(estimate: np.ndarray, truth: np.ndarray, scaled: bool = False) -> np.ndarray:
    """(N,) distances after the best rotation and shift (and scale) of `estimate` (N, 3) onto `truth` (Kabsch
    1976, Umeyama 1991).
    """
    a = estimate - estimate.mean(axis=0)
    b = truth - truth.mean(axis=0)
    u, values, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (values * sign).sum() / (a**2).sum() if scaled else 1.0
    return np.asarray(np.linalg.norm(scale * a @ (u * sign) @ vt - b, axis=1))


def depth_at_landmarks(head: HeadModel, samples: Samples, index: int, rng: np.random.Generator) -> np.ndarray:
    """(478,) what a depth camera sees where the landmarks were found: the true surface with 2 mm of noise in
    every pixel.
    """
    vertices = head.vertices(samples.shapes[index], samples.expressions[index])
    pixels = projection.project(vertices, samples.poses[index], samples.intrinsics[index])
    _, _, depth = raster.rasterise(pixels, head.faces, SIZE, SIZE)
    noisy = np.where(np.isfinite(depth) & (depth > 0), depth + rng.normal(0.0, 2e-3, depth.shape), 0.0)
    return depth_at(noisy.astype(np.float32), Landmarks(samples.landmarks[index].astype(np.float32), 1.0))


def fit_samples(head: HeadModel, samples: Samples, with_depth: bool = False) -> dict[str, np.ndarray]:
    """Fit every person's pictures in order, one second apart; found coefficients, errors in mm, times in ms."""
    rng = np.random.default_rng(SEED)
    model = LandmarkModel.of(head)
    fit = LandmarkFit(model, load_table(head, model))
    face = head.regions["face"]
    rows: dict[str, list[np.ndarray | float]] = {
        "found": [],
        "rigid": [],
        "scaled": [],
        "ms": [],
        "residual": [],
    }
    for index, points in enumerate(samples.landmarks):
        if index == 0 or samples.person[index] != samples.person[index - 1]:
            fit.reset()
        fit.reset_motion()
        depth = depth_at_landmarks(head, samples, index, rng) if with_depth else None
        start = time.perf_counter()
        result = fit.fit(Landmarks(points.astype(np.float32), 1.0), samples.intrinsics[index], 1.0, depth)
        rows["ms"].append((time.perf_counter() - start) * 1e3)
        found = result.face[: model.expression_size]
        truth = head.vertices(samples.shapes[index], samples.expressions[index])[face].astype(np.float64)
        guess = head.vertices(result.shape, found)[face].astype(np.float64)
        rows["found"].append(found)
        rows["residual"].append(result.residual)
        rows["rigid"].append(float(rigid_errors(guess, truth).mean()) * 1e3)
        rows["scaled"].append(float(rigid_errors(guess, truth, scaled=True).mean()) * 1e3)
    return {name: np.array(values) for name, values in rows.items()}


def correlations(head: HeadModel, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pearson r of every visible coefficient that moves."""
    moving = [i for i in visible_actions(head.expression_names) if truth[:, i].std() > MOVES]
    return np.array(
        [np.corrcoef(found[:, i], truth[:, i])[0, 1] if found[:, i].std() > 1e-9 else 0.0 for i in moving]
    )


def fit_on_renders(quick: bool) -> None:
    """`fit_vertex_error_mm`, `fit_expression_r`: known identities and expressions, yaw within 0.5 rad, one
    camera, no depth.
    """
    head = load_head()
    participants, pictures = (4, 10) if quick else (20, 30)
    samples = collect(head, participants, pictures, SEED)
    rows = fit_samples(head, samples)
    count = len(rows["rigid"])
    r = correlations(head, rows["found"], samples.expressions)
    moving = [i for i in visible_actions(head.expression_names) if samples.expressions[:, i].std() > MOVES]
    report(
        "fit_vertex_error_mm",
        float(rows["rigid"].mean()),
        "mm, face region, rigid alignment, no depth camera",
        count,
    )
    report(
        "fit_vertex_error_scaled_mm",
        float(rows["scaled"].mean()),
        "mm, the same with the head's size aligned too",
        count,
    )
    depth = fit_samples(head, samples, with_depth=True)
    report(
        "fit_vertex_error_depth_mm",
        float(depth["rigid"].mean()),
        "mm, face region, rigid alignment, with a depth camera",
        count,
    )
    pooled = float(
        np.corrcoef(rows["found"][:, moving].ravel(), samples.expressions[:, moving].ravel())[0, 1]
    )
    report(
        "fit_expression_r",
        pooled,
        f"Pearson r over all values of the {len(moving)} coefficients that move",
        count,
    )
    report(
        "fit_expression_r_each",
        float(r.mean()),
        f"mean over {len(r)} coefficients of each one's own Pearson r",
        count,
    )


def speed(quick: bool) -> None:
    """`landmarks_ms` and `fit_ms` per picture while tracking, one thread."""
    picture = _portrait()
    tracker = FaceTracker(FaceDetector(), FaceLandmarker())
    head = load_head()
    model = LandmarkModel.of(head)
    fit = LandmarkFit(model, load_table(head, model))
    K = np.array([[600.0, 0.0, picture.shape[1] / 2], [0.0, 600.0, picture.shape[0] / 2], [0.0, 0.0, 1.0]])
    times = np.zeros((100 if quick else 500, 2))
    for row in times:
        start = time.perf_counter()
        seen = tracker.track(picture)
        middle = time.perf_counter()
        if seen is None:
            raise RuntimeError("no face was found in the bench picture")
        fit.fit(seen, K, 1 / 30)
        row[:] = middle - start, time.perf_counter() - middle
    warm = np.median(times[20:], axis=0) * 1e3
    report("landmarks_ms", float(warm[0]), "ms, median, one thread", len(times) - 20)
    report("fit_ms", float(warm[1]), "ms, median, one thread", len(times) - 20)


def _portrait() -> np.ndarray:
    """A rendered face, 640 x 480."""
    from research.faces import random_faces

    head = load_head()
    rng = np.random.default_rng(SEED)
    view = random_faces.random_view(rng, head, 0.1)
    small = random_faces.render(head, head.template, random_faces.paint(head, rng), view, rng)
    return cv2.copyMakeBorder(small, 80, 80, 160, 160, cv2.BORDER_CONSTANT, value=(90, 90, 90))


def run_video(component: Component, path: Path, limit: int | None = None) -> dict[str, float]:
    """Every picture of a video file through `component`.

    Counts, frames/s (decoding included), p99 of picture -> FaceState in ms, mean residual in % of the eye
    distance.
    """
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    latencies = []
    residuals = []
    tracked = 0
    total = 0
    begin = time.perf_counter()
    while limit is None or total < limit:
        good, image = capture.read()
        if not good:
            break
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        start = time.perf_counter()
        out = component.handle(CAMERA, Frame(round(total / rate * 1e9), image))
        states = [item.item for item in out if item.port == VISION]
        latencies.append((time.perf_counter() - start) * 1e3)
        total += 1
        for state in states:
            if isinstance(state, FaceState) and state.status == FaceStatus.TRACKING:
                tracked += 1
                residuals.append(float(component.health().values["residual_pct_iod"]))
    elapsed = time.perf_counter() - begin
    return {
        "total": total,
        "tracked": tracked,
        "fps": total / elapsed,
        "p99_ms": float(np.quantile(latencies, 0.99)),
        "residual_pct": float(np.mean(residuals)) if residuals else float("nan"),
    }


def video(quick: bool) -> None:
    """`video_tracked_frames`, `video_residual_pct_iod`, `video_fps`, `frame_to_face_p99_ms` on the real
    video, one process.

    The landmark fit; what `auto` makes of the same video has `_auto` at its figures' ends.
    """
    path = shared_data("crying_woman_pexels.mp4")
    if path is None:
        report("video_tracked_frames", None, "the video is not on this machine", 0)
        return
    estimators: tuple[tuple[Literal["landmarks", "auto"], str], ...] = (("landmarks", ""), ("auto", "_auto"))
    for estimator, end in estimators:
        component = Reconstruction(ReconstructionConfig(estimator=estimator))
        component.setup()
        found = run_video(component, path, 120 if quick else None)
        total = int(found["total"])
        report(f"video_tracked_frames{end}", int(found["tracked"]), f"of {total} frames", total)
        report(
            f"video_residual_pct_iod{end}",
            found["residual_pct"],
            "% of the distance of the outer eye corners",
            int(found["tracked"]),
        )
        report(f"video_fps{end}", found["fps"], "frames/s", total)
        report(f"frame_to_face_p99_ms{end}", found["p99_ms"], "ms", total)


def run(quick: bool) -> None:
    """All figures of this area."""
    speed(quick)
    video(quick)
    fit_on_renders(quick)
    try:
        from bench import flame_import
    except ImportError:
        return
    flame_import.flame_import_max_error(quick)
