"""What a demo comes to, and what its run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..types import FaceState, Frame, Item, Marker, MuscleActivity, seconds


@dataclass
class DemoResult:
    """What the demo came to: `values` for machines, `table` for people."""

    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def table(self) -> list[tuple[str, str]]:
        """Rows for people."""

        def figure(key: str, unit: str = "", digits: int = 2) -> str:
            return f"{self.values[key]:.{digits}f}{unit}" if key in self.values else "none"

        rows = [
            ("a face that never moves", f"{figure('resting_face_vertex_mm')} mm from the truth on average"),
        ]
        for name, words in (
            ("vision", "from the camera"),
            ("emg", "from EMG alone"),
            ("fused", "camera and EMG fused"),
        ):
            covered = figure(f"{name}_vertex_blind_mm", " mm")
            figures = (
                f"{figure(f'{name}_vertex_mm')} mm, {covered} while the camera is covered",
                f"r {figure(f'{name}_r')}",
                f"R2 {figure(f'{name}_r2')}",
                figure(f"{name}_hz", " Hz", 1),
            )
            rows.append((words, "; ".join(figures)))
        rows += [
            (
                "pictures with a face",
                f"{figure('vision_tracked', digits=0)} of {figure('vision_frames', digits=0)}",
            ),
            (
                "fit",
                f"{figure('fit_s', ' s', 1)}; held-out r {figure('cv_r')}, R2 {figure('cv_r2')} against the camera's faces",
            ),
            (
                "skin follows muscle by",
                f"{figure('lag_ms', ' ms', 0)} (grade {figure('lag_grade', digits=0)})",
            ),
            (
                "picture to face",
                f"median {figure('vision_latency_p50_ms')} ms, p99 {figure('vision_latency_p99_ms')} ms",
            ),
            (
                "EMG chunk to face",
                f"median {figure('emg_latency_p50_ms')} ms, p99 {figure('emg_latency_p99_ms')} ms",
            ),
            (
                "lost",
                f"{figure('emg_lost', digits=0)} EMG samples, {figure('recording_dropped', digits=0)} recorded items",
            ),
            ("took", figure("seconds", " s", 0)),
        ]
        return rows


@dataclass
class Log:
    """What a run left behind, by port."""

    faces: dict[str, list[FaceState]] = field(default_factory=dict)
    muscles: dict[str, list[MuscleActivity]] = field(default_factory=dict)
    markers: list[Marker] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    keep_frames_s: float = 1.0

    def take(self, port: str, item: Item) -> None:
        """Keep states and activities, and a picture now and then."""
        if isinstance(item, FaceState):
            self.faces.setdefault(port, []).append(item)
        elif isinstance(item, MuscleActivity):
            self.muscles.setdefault(port, []).append(item)
        elif isinstance(item, Marker):
            self.markers.append(item)
        elif isinstance(item, Frame) and port == "camera/seen" and self._due(item):
            self.frames.append(item)

    def _due(self, frame: Frame) -> bool:
        return not self.frames or seconds(frame.stamp - self.frames[-1].stamp) >= self.keep_frames_s - 1e-6
