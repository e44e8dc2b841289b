"""Turns JSON lines of the benchmarks into the table of docs/benchmarks.md: figure, target, value.

Usage: `python -m bench foundation > figures.jsonl; python -m bench.table figures.jsonl`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# fmt: off
TARGETS: dict[str, dict[str, str]] = {
    "foundation": {
        "video_tracked_frames": "at least 460", "video_residual_pct_iod": "at most 2.5", "video_fps": "at least 60",
        "frame_to_face_p99_ms": "at most 20", "fit_vertex_error_mm": "at most 2.5", "fit_expression_r": "at least 0.75",
        "landmarks_ms": "at most 5", "fit_ms": "at most 5", "flame_import_max_error": "at most 10 um",
    },
    "emg": {
        "emg64_core_pct": "at most 1.5", "envelope_t50_ms": "at most 40", "lsl_age_ms": "at most 2", "lsl_dejitter_sd_ms": "at most 0.5",
        "lsl_lost": "0", "sim_emg_x_realtime": "at least 3", "sim_camera_fps": "at least 30",
    },
    "mapping": {
        "emg2exp_r": "at least 0.90", "emg2exp_r2": "at least 0.80", "emg2exp_vertex_ratio": "at most 0.6",
        "lookahead40_r2_loss": "at most 0.02",
        "exp2emg_rho": "at least 0.80",
        "exp2emg_smape": "at most 35", "fusion_blind_ratio": "at most 1.5", "fusion_good_ratio": "at most 1",
        "fusion_back_ms": "at most 200", "emg_to_face_p99_ms": "at most 15", "fit_s": "at most 5", "predict_ms": "at most 0.2",
        "lag_error_ms": "at most 10",
    },
    "live": {"live_face_at_avatar_hz": "100", "live_emg_lost": "0"},
    "drive": {
        "avatar_channels_wrong": "0", "avatar_core_pct": "at most 3", "joint_p99_ms": "at most 3", "joint_limit_violations": "0",
        "neutral_s": "at most 1.2", "legible_emotions": "6 of 6",
    },
    "view": {
        "view_fps": "at least 25", "view_core_pct": "at most 20", "view_latency_ms": "at most 60",
        "report_s": "at most 20", "report_mb": "at most 8",
    },
    "face": {
        "real_sensor_movement_acc": "at least 19 of 20", "face_gap_closure": "at least 0.90", "face_expression_r_ratio": "at least 0.90",
        "face_shape_spread_ratio": "at most 0.5", "restored_psnr_db": "at least 24", "restored_ssim": "at least 0.85",
        "restored_detect_pct": "at least 95", "encoder_path_ms": "at most 12", "restore_path_ms": "at most 25",
    },
    "ros": {
        "ros_face_hz": "100", "ros_activity_hz": "100", "ros_camera_hz": "30", "ros_emg_lost": "0",
        "ros_camera_to_face_p99_ms": "at most 33", "ros_cores": "at most 1.2",
    },
    "micro": {
        "micro_motion_error_ratio": "at most 0.5", "micro_motion_r": "at least 0.7", "micro_still_mm": "at most 0.05",
        "micro_f1_vision": "at least 0.80", "micro_f1_fused": "at least 0.85", "micro_ms": "at most 8",
    },
    "house": {
        "file_circles": "0", "room_circles": "0", "arrows_up": "0", "session_openers": "1", "z_buffers_numba": "1", "z_buffers_torch": "1",
        "topic_tables": "0 beside topics.py", "graph_builders": "1", "training_loops": "1", "wheel_lines": "at most 40000",
    },
    "data": {"batch_speedup_2": "at least 1.7", "batch_lost": "0"},
}
# fmt: on


def rows(lines: list[str]) -> list[dict[str, str]]:
    """One row per figure, the last value of each, in the order of `TARGETS` and then of appearance."""
    found = {line["figure"]: line for line in map(json.loads, lines) if "figure" in line}
    order = [figure for figures in TARGETS.values() for figure in figures]
    areas = {figure: area for area, figures in TARGETS.items() for figure in figures}
    known = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    out = []
    for name in known:
        value = found[name]["value"]
        shown = (
            "not measured"
            if value is None
            else f"{value:g}"
            if isinstance(value, (int, float))
            else str(value)
        )
        target = TARGETS[areas[name]][name] if name in areas else ""
        out.append(
            {
                "figure": f"`{name}`",
                "target": target,
                "value": f"{shown} {found[name]['unit']}".strip(),
                "n": str(found[name]["n"]),
            }
        )
    return out


def main() -> None:
    """Print the table of the files named."""
    lines = [
        line for name in sys.argv[1:] for line in Path(name).read_text().splitlines() if line.startswith("{")
    ]
    print("| figure | target | value | n |\n|---|---|---|---|")
    for row in rows(lines):
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
