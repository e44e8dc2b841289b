"""One table, one figure per result: CSV, Markdown and SVG, drawn here so that no plotting library is needed."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PALETTE = ("#31688e", "#e07b39", "#35a079", "#8d5a97", "#c8b02c", "#777777", "#b03a48")
INK, FAINT = "#222222", "#dddddd"


def number(value: Any) -> str:
    """For a table: three significant digits, empty where unknown."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """All columns of all rows, full precision."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(
            {k: "" if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()} for row in rows
        )


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """A table for people."""
    if not rows:
        return "no result\n"
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(number(row.get(name)).replace("|", "/") for name in names) + " |" for row in rows
    ]
    return "\n".join(lines) + "\n"


class Svg:
    """Shapes in the order they are drawn; x to the right, y down, in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            'font-family="Helvetica, Arial, sans-serif" font-size="12">',
            f"<title>{html.escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = INK, width: float = 1.0) -> None:
        """A straight line."""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
        )

    def rect(self, x: float, y: float, w: float, h: float, colour: str) -> None:
        """A filled rectangle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{colour}"/>'
        )

    def dot(self, x: float, y: float, colour: str, radius: float = 2.0) -> None:
        """A filled circle, a little transparent so that many show."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.6"/>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.2) -> None:
        """A polyline."""
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        colour: str = INK,
        size: int = 12,
        turn: float = 0,
    ) -> None:
        """A line of text; anchor start, middle or end."""
        turned = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"{turned}>{html.escape(words)}</text>'
        )

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self._parts, "</svg>"]) + "\n", encoding="utf-8")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values that cover low..high."""
    if not high > low:
        high = low + 1.0
    rough = (high - low) / about
    unit = 10.0 ** np.floor(np.log10(rough))
    step = unit * min((m for m in (1, 2, 2.5, 5, 10)), key=lambda m: abs(m * unit - rough))
    return [
        float(v) + 0.0
        for v in np.round(np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9 * step, step), 12)
    ]  # no -0


def dots_figure(path: Path, title: str, label: str, groups: Sequence[tuple[str, Sequence[float]]]) -> None:
    """One row per group: every value a dot, the median a bar and a number."""
    shown = [(name, [v for v in values if np.isfinite(v)]) for name, values in groups]
    every = [v for _, values in shown for v in values] or [0.0, 1.0]
    low, high = min(0.0, float(np.percentile(every, 1))), max(float(np.percentile(every, 99)), 1e-9)
    left = 20 + 7 * max((len(name) for name, _ in shown), default=0)
    width, row = left + 470, 34
    svg = Svg(width, 74 + row * len(shown) + 20, title)
    svg.text(14, 22, title, size=14)

    def at(value: float) -> float:
        return left + 400 * (min(max(value, low), high) - low) / (high - low)

    bottom = 44 + row * len(shown)
    for tick in ticks(low, high):
        svg.line(at(tick), 40, at(tick), bottom, FAINT)
        svg.text(at(tick), bottom + 16, f"{tick:g}", anchor="middle", size=11)
    svg.text(left + 200, bottom + 34, label, anchor="middle")
    for index, (name, values) in enumerate(shown):
        y, colour = 44 + row * index + row / 2, PALETTE[index % len(PALETTE)]
        svg.text(left - 8, y + 4, name, anchor="end")
        jitter = np.random.default_rng(0).uniform(-7, 7, len(values))
        for value, shift in zip(values, jitter, strict=True):
            svg.dot(at(value), y + shift, colour)
        if values:
            middle = float(np.median(values))
            svg.line(at(middle), y - 11, at(middle), y + 11, INK, 2)
            svg.text(left + 408, y + 4, number(middle))
        else:
            svg.text(left + 408, y + 4, "none", colour="#777777")
    svg.save(path)


def traces_figure(path: Path, title: str, times: Any, curves: Sequence[tuple[str, str, Any, Any]]) -> None:
    """Panels one above the other: (name, unit, truth, estimate) over time in s; truth grey, estimate
    coloured.
    """
    panel, left, width = 76, 150, 760
    svg = Svg(width, 60 + panel * len(curves) + 24, title)
    svg.text(14, 22, title, size=14)
    svg.text(width - 14, 22, "grey: truth, coloured: estimate", anchor="end", size=11)
    t = np.asarray(times, np.float64)
    t = t - t[0]
    span = max(float(t[-1]), 1e-9)
    every = max(1, len(t) // 1200)
    breaks = (
        np.flatnonzero(np.diff(t) > 5 * max(float(np.median(np.diff(t))), 1e-9)) + 1
        if len(t) > 1
        else np.zeros(0, int)
    )
    for index, (name, unit, truth, estimate) in enumerate(curves):
        top = 40 + panel * index
        values = np.concatenate([truth, estimate])
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        high = high if high > low else low + 1.0
        svg.line(left, top + panel - 12, width - 14, top + panel - 12, FAINT)
        svg.text(left - 8, top + panel / 2, name, anchor="end", size=11)
        svg.text(
            left - 8,
            top + panel / 2 + 14,
            f"{low:.2g} .. {high:.2g} {unit}",
            anchor="end",
            size=10,
            colour="#666666",
        )
        for curve, colour, thick in ((truth, "#999999", 2.0), (estimate, PALETTE[index % len(PALETTE)], 1.2)):
            for part in np.split(np.arange(len(t)), breaks):
                across = left + (width - 14 - left) * t[part[::every]] / span
                up = top + (panel - 14) * (
                    1 - (np.asarray(curve, np.float64)[part[::every]] - low) / (high - low)
                )
                points = list(zip(across.tolist(), up.tolist(), strict=True))
                if len(points) > 1:
                    svg.path(points, colour, thick)
    bottom = 40 + panel * len(curves)
    for tick in ticks(0, span, 8):
        x = left + (width - 14 - left) * tick / span
        svg.text(x, bottom + 10, f"{tick:g}", anchor="middle", size=11)
    svg.text(left + (width - 14 - left) / 2, bottom + 26, "s", anchor="middle", size=11)
    svg.save(path)
