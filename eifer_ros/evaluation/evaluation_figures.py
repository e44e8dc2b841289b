"""Figures of an evaluation as SVG, drawn by matplotlib (extra `report`)."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtra
from .evaluation_report import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#31688e", "#e07b39", "#35a079", "#8d5a97", "#c8b02c", "#777777", "#b03a48")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable
    "svg.hashsalt": "eifer",  # the same figure twice is the same file
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "grid.color": "#dddddd",
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}
MOST_POINTS = 1200
"""A trace is thinned to about this many points: a figure is 600 pixels wide."""


def dots_figure(path: Path, title: str, label: str, groups: Sequence[tuple[str, Sequence[float]]]) -> None:
    """One row per group: every value a dot, the median a bar and a number.

    Parameters
    ----------
    path
        The SVG to write.
    title
        A line above the figure.
    label
        What is along the axis, with its unit.
    groups
        Name and values of each row; values that are not finite are left out.

    Raises
    ------
    MissingExtra
        Without matplotlib.
    """
    rows = [(name, np.array([v for v in values if np.isfinite(v)])) for name, values in groups]
    every = np.concatenate([values for _, values in rows]) if rows else np.zeros(0)
    low, high = np.percentile(every, [1, 99]) if len(every) else (0.0, 1.0)
    low = min(0.0, float(low))
    high = max(float(high), low + 1e-9)
    with _style():
        figure = _figure(6.4, 1.0 + 0.36 * len(rows))
        axes = figure.add_subplot()
        for row, (_, values) in enumerate(rows):
            jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
            colour = PALETTE[row % len(PALETTE)]
            inside = np.clip(values, low, high)
            axes.plot(inside, row + jitter, "o", ms=3.2, mew=0, color=colour, alpha=0.6, clip_on=False)
            middle = float(np.median(values)) if len(values) else float("nan")
            axes.plot([middle, middle], [row - 0.32, row + 0.32], color="#222222", lw=1.6, clip_on=False)
            text = number(middle) or "none"
            axes.annotate(text, (1.03, row), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(left=False)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        _save(figure, path, title)


def traces_figure(
    path: Path,
    title: str,
    times: npt.ArrayLike,
    curves: Sequence[tuple[str, str, npt.ArrayLike, npt.ArrayLike]],
) -> None:
    """Panels one above the other, truth grey and estimate coloured.

    Parameters
    ----------
    path
        The SVG to write.
    title
        A line above the figure.
    times
        (T,) in s, rising; the figure counts from the first, and a gap breaks the lines.
    curves
        Name, unit, truth (T,) and estimate (T,) of each panel.

    Raises
    ------
    MissingExtra
        Without matplotlib.
    """
    t = np.asarray(times, np.float64)
    t = t - t[0]
    steps = np.diff(t, prepend=0.0)
    usual = float(np.median(steps[1:])) if len(t) > 1 else 0.0
    gaps = np.flatnonzero(steps > 5 * max(usual, 1e-9))
    rows = np.union1d(np.arange(0, len(t), max(1, len(t) // MOST_POINTS)), gaps).astype(int)
    breaks = np.searchsorted(rows, gaps)
    with _style():
        figure = _figure(7.6, 0.9 + 0.8 * len(curves))
        panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
        for index, (axes, (name, unit, truth, estimate)) in enumerate(zip(panels, curves, strict=True)):
            for label, values, colour, width in (
                ("truth", truth, "#aaaaaa", 1.6),
                ("estimate", estimate, PALETTE[index % len(PALETTE)], 0.9),
            ):
                thin = np.asarray(values, np.float64)[rows]
                across = np.insert(t[rows], breaks, np.nan)
                axes.plot(across, np.insert(thin, breaks, np.nan), color=colour, lw=width, label=label)
            axes.set_ylabel(f"{name}\n({unit})", rotation=0, ha="right", va="center")
            axes.locator_params(axis="y", nbins=3)
            axes.grid(axis="x")
        panels[-1].set(xlabel="time in s", xlim=(0.0, max(float(t[-1]), 1e-9)))
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False
        )
        _save(figure, path, title)


def _style() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtra("matplotlib", "report", "drawing figures") from None
    return matplotlib.rc_context(STYLE)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left")
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    # a tenth of a pixel is enough for a line and halves the file
    text = re.sub(r' d="[^"]*"', lambda match: re.sub(r"(\.\d)\d+", r"\1", match[0]), file.getvalue())
    path.write_text(text, encoding="utf-8")
