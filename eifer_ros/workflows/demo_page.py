"""The page a demo leaves behind: one self-contained HTML file with pictures, traces and the table."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import cv2
import numpy as np

from .. import topics
from ..head import projection
from ..head.model import HeadModel
from ..render import shade
from ..render.head_sheet import colours as head_colours
from ..types import F32, U8, FaceState, FaceStatus, Stamp, seconds
from .demo_result import DemoResult, Log

SIZE = (220, 250)
_COLOURS = {
    topics.TRUE_FACE.name: "#8a8f98",
    topics.FACE_VISION.name: "#d97706",
    topics.FACE_EMG.name: "#2563eb",
    topics.FACE_FUSED.name: "#059669",
}
_LABELS = {name: topics.TOPICS[name].label for name in _COLOURS}


def picture(
    head: HeadModel, state: FaceState | None, size: tuple[int, int] = SIZE, colours: F32 | None = None
) -> U8:
    """The head of a state from the front, on a light ground; grey ground with a dash where there is none."""
    width, height = size
    if state is None or state.status == FaceStatus.LOST:
        ground = np.full((height, width, 3), 205, np.uint8)
        cv2.line(
            ground,
            (width // 2 - 14, height // 2),
            (width // 2 + 14, height // 2),
            (120, 120, 120),
            3,
            cv2.LINE_AA,
        )
        return ground
    vertices = head.state_vertices(state)
    K = projection.default_intrinsics(width, height)
    skin = head.neutral(state.shape)[head.regions["face"]]
    centre = (skin.min(axis=0) + skin.max(axis=0)) / 2
    extent = float(np.ptp(skin[:, 1]))
    pose = projection.facing_pose(K[1, 1] * extent / (0.62 * height), centre=centre)
    ground = np.full((height, width, 3), 238, np.uint8)
    return shade.render(
        vertices,
        head.faces,
        K,
        pose,
        size,
        colour=head_colours(head) if colours is None else colours,
        background=ground,
    )


def _jpeg(image: U8, quality: int = 88) -> str:
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert done
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _nearest(states: list[FaceState], stamp: Stamp, within_s: float = 0.06) -> FaceState | None:
    if not states:
        return None
    best = min(states, key=lambda state: abs(state.stamp - stamp))
    return best if abs(best.stamp - stamp) <= within_s * 1e9 else None


def _crop(image: U8, size: tuple[int, int] = SIZE) -> U8:
    """The middle of the camera picture at the shape of the other cells."""
    height, width = image.shape[:2]
    tall = round(0.86 * height)
    wide = min(width, round(tall * size[0] / size[1]))
    left = (width - wide) // 2
    top = (height - tall) // 2
    return np.asarray(
        cv2.resize(image[top : top + tall, left : left + wide], size, interpolation=cv2.INTER_AREA), np.uint8
    )


def _moments(log: Log, blind_s: tuple[float, float], count: int = 7) -> list[int]:
    """Indices of kept pictures worth showing: the strongest expressions, one of them while the camera is
    covered.
    """
    truth = log.faces[topics.TRUE_FACE.name]
    start = truth[0].stamp
    strength = []
    for frame in log.frames:
        state = _nearest(truth, frame.stamp)
        strength.append(float(np.abs(state.expression).sum()) if state is not None else 0.0)
    covered = [
        i
        for i, frame in enumerate(log.frames)
        if blind_s[0] + 0.5 <= seconds(frame.stamp - start) < blind_s[1]
    ]
    order = sorted(range(len(log.frames)), key=lambda i: -strength[i])
    selection = sorted(covered, key=lambda i: -strength[i])[:2]
    for i in order:
        if len(selection) >= count:
            break
        if i not in selection and i not in covered and all(abs(i - other) > 1 for other in selection):
            selection.append(i)
    return sorted(selection)


def _film(log: Log, head: HeadModel, blind_s: tuple[float, float]) -> str:
    colours = head_colours(head)
    truth = log.faces[topics.TRUE_FACE.name]
    rows: list[tuple[str, list[str]]] = [("camera", []), *((_LABELS[port], []) for port in _COLOURS)]
    heads: list[str] = []
    for index in _moments(log, blind_s):
        frame = log.frames[index]
        heads.append(f"{seconds(frame.stamp - truth[0].stamp):.1f} s")
        rows[0][1].append(_jpeg(_crop(frame.image)))
        for (_, cells), port in zip(rows[1:], _COLOURS, strict=True):
            cells.append(
                _jpeg(picture(head, _nearest(log.faces.get(port, []), frame.stamp), colours=colours))
            )
    rows[0] = ("camera picture", rows[0][1])
    rows[2] = ("from the camera", rows[2][1])
    lines = ["<tr><th></th>" + "".join(f"<th>{name}</th>" for name in heads) + "</tr>"]
    for name, cells in rows:
        images = "".join(
            f'<td><img src="{cell}" alt="{name} at {when}"></td>'
            for cell, when in zip(cells, heads, strict=True)
        )
        lines.append(f"<tr><th>{html.escape(name)}</th>{images}</tr>")
    return '<div class="film"><table>' + "".join(lines) + "</table></div>"


def _sideless(name: str) -> str:
    return name.removesuffix("Left").removesuffix("Right")


def _traces(log: Log, head: HeadModel, blind_s: tuple[float, float], names: int = 5) -> str:
    truth = log.faces[topics.TRUE_FACE.name]
    start = truth[0].stamp
    end = truth[-1].stamp
    span = seconds(end - start)
    values = np.stack([state.expression for state in truth])
    moving = np.argsort(values.std(axis=0))[::-1]
    columns: list[int] = []
    for index in moving:
        if all(
            _sideless(head.expression_names[index]) != _sideless(head.expression_names[other])
            for other in columns
        ):
            columns.append(int(index))
        if len(columns) == names:
            break
    width = 980
    height = 84
    charts = []
    for index in columns:
        lines = []
        top = max(0.3, float(values[:, index].max()) * 1.1)
        for port, colour in _COLOURS.items():
            runs: list[list[str]] = [[]]
            for state in log.faces.get(port, []):
                if state.status == FaceStatus.LOST:
                    runs.append([])
                    continue
                x = width * seconds(state.stamp - start) / span
                y = height * (1.0 - min(float(state.expression[index]), top) / top)
                runs[-1].append(f"{x:.1f},{y:.1f}")
            stroke = (
                'stroke-width="4" opacity="0.55"' if port == topics.TRUE_FACE.name else 'stroke-width="1.4"'
            )
            lines += [
                f'<polyline fill="none" stroke="{colour}" {stroke} points="{" ".join(run[::3])}"/>'
                for run in runs
                if len(run) > 3
            ]
        left, right = (width * min(value / span, 1.0) for value in blind_s)
        shadow = f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{height}" fill="#000" opacity="0.09"/>'
        charts.append(
            f'<figure><figcaption>{head.expression_names[index]}</figcaption><svg viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{head.expression_names[index]} over {span:.0f} seconds">{shadow}{"".join(lines)}</svg></figure>'
        )
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{_LABELS[port]}</span>'
        for port, colour in _COLOURS.items()
    )
    return (
        f'<p class="legend">{legend}<span><i style="background:#0001"></i>camera covered</span></p>'
        + "".join(charts)
    )


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1160px;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
.film{overflow-x:auto}.film img{width:130px;display:block;border-radius:4px}
.film th{font-weight:500;font-size:.82rem;text-align:left;color:#57606a}
table.figures{border-collapse:collapse}table.figures td,table.figures th{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top}
table.figures tr+tr{border-top:1px solid #d0d7de66}
figure{margin:.2rem 0 .6rem}figcaption{font-size:.85rem;color:#57606a}svg{width:100%;background:#f6f8fa;border-radius:4px}
.legend span{margin-right:1.2rem;font-size:.9rem}
.legend i{display:inline-block;width:1.1rem;height:.5rem;margin-right:.4rem;border-radius:2px}
.note{color:#57606a}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}svg{background:#161b22}.film th,figcaption,.note{color:#9198a1}}
@media print{body{margin:0}}
"""


def write_page(
    path: Path, result: DemoResult, log: Log, head: HeadModel, blind_s: tuple[float, float]
) -> None:
    """Write the page; nothing in it is fetched from anywhere."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in result.table()
    )
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in result.notes)
    path.write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>eifer demo</title><style>{_STYLE}</style><h1>A simulated participant under electrodes</h1>"
        "<p>The same performance seen by the camera, felt by the electrodes, and fused; the camera is covered for a while.</p>"
        f"{notes}<h2>Faces</h2>{_film(log, head, blind_s)}<h2>Coefficients</h2>{_traces(log, head, blind_s)}"
        f"<h2>Figures</h2><table class='figures'>{rows}</table></html>",
        encoding="utf-8",
    )
