"""A session as one HTML file that can be mailed, opened anywhere and printed: nothing in it is fetched from
anywhere.
"""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from .. import __version__, topics
from ..errors import InputError
from ..head.model import DEFAULT_HEAD, HeadModel, load_head
from ..micro.scores import spotting
from ..types import F64, NS, U8, Array, FaceOrigin, FaceState, FaceStatus, Frame
from . import heat
from .paint import HeadPainter, jpeg
from .session_data import (
    CAMERA,
    EVENTS,
    TRUE_EVENTS,
    Moment,
    Progress,
    SessionData,
    agreement,
    read_session,
    sample_clock,
    strength,
)

RIGHT = "#0d8b82"
LEFT = "#d9772b"
ESTIMATE = "#6d5bd0"
GOOD = "#198754"
FAIR = "#b7791f"
POOR = "#cf3a3a"
CELL = (200, 200)
WIDE = 1040
STYLE = Path(__file__).resolve().parent / "static" / "report.css"


def write_report(
    bag: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    latency: Mapping[str, Sequence[float]] | None = None,
    title: str = "",
) -> Path:
    """Write the report of the recording `bag` to the file `out` (.html). Returns it.

    latency: seconds from entering the graph to leaving a component, by port, where the caller has them from
    the run itself. Raises RecordingError, and InputError where `out` exists or cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: exists; a report is never overwritten, give another --out")
    report_progress = progress or (lambda done, total, words: None)
    data = read_session(bag, progress)
    report_progress(92, 100, "drawing")
    text = render(data, latency or {}, title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from None
    report_progress(100, 100, "done")
    return out


def render(data: SessionData, latency: Mapping[str, Sequence[float]], title: str = "") -> str:
    """The whole page."""
    who = str(data.session.get("participant") or data.path.resolve().name)
    heading = title or f"Session: {who}"
    sections = [
        _summary(data),
        _timeline(data),
        _events(data),
        _pictures(data),
        _movements(data),
        _channels(data),
        _envelopes(data),
        _agreement(data),
        _synchrony(data),
        _latencies(data, latency),
        _topics(data),
    ]
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in dict.fromkeys(data.notes))
    started = data.start / 1e9
    when = time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(started))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(heading)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body><header>"
        f"<h1>{html.escape(heading)}</h1><p>{when} · {_clock(data.duration_s)} min · {data.size_bytes / 1e6:.0f} MB · "
        f"{html.escape(data.path.resolve().name)}</p></header><main>{notes}{''.join(sections)}</main>"
        f"<footer>eifer {__version__}</footer></body></html>"
    )


# ---- small things --------------------------------------------------------------------------------------------------------


def _clock(value_s: float) -> str:
    return f"{int(value_s // 60)}:{int(value_s % 60):02d}"


def _words(name: str) -> str:
    return html.escape(name.replace("_", " "))


def _section(title: str, body: str, about: str = "") -> str:
    if not body:
        return ""
    return f"<section><h2>{title}</h2>{f'<p class=about>{about}</p>' if about else ''}{body}</section>"


def _image(picture: U8, alt: str, quality: int = 80) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg(picture, quality)).decode()}">'


def _line(x: F64, y: F64, ink: str, width: float = 1.3, points: int = 1300, more: str = "") -> str:
    """A polyline; where there are too many points the largest of each bin is kept, so that no burst is lost."""
    if len(x) > points:
        size = int(np.ceil(len(x) / points))
        count = len(x) // size
        best = np.argmin(y[: count * size].reshape(count, size), axis=1) + size * np.arange(count)
        x = x[best]
        y = y[best]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline fill="none" stroke="{ink}" stroke-width="{width}" {more} points="{path}"/>'


def _svg(width: float, height: float, body: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{html.escape(label)}">{body}</svg>'
    )


def _axis(duration_s: float, width: float, left: float, bottom: float, top: float = 0.0) -> str:
    step = next((s for s in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800) if duration_s / s <= 14), 3600)
    lines = []
    for t in np.arange(0, duration_s + 1e-6, step):
        x = left + (width - left) * t / duration_s
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="grid"/>')
        lines.append(f'<text x="{x:.1f}" y="{bottom + 13}" class="tick">{_clock(float(t))}</text>')
    return "".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th scope='col'>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _head(data: SessionData) -> HeadModel:
    for states in data.faces.values():
        if states:
            try:
                return load_head(states[0].head_model)
            except InputError:
                continue  # an imported head of another machine: shown on the default one without expression
    return load_head(DEFAULT_HEAD)


# ---- sections ------------------------------------------------------------------------------------------------------------


def _summary(data: SessionData) -> str:
    tiles: list[tuple[str, str, str]] = []
    if data.measured is not None:
        quality = data.measured.quality
        judged = ~np.isnan(quality).all(axis=0)
        mean = (
            np.nanmean(np.where(judged, quality, np.nan)[:, judged], axis=0) if judged.any() else np.zeros(0)
        )
        good = int((mean >= 0.75).sum())
        tiles.append(
            (
                f"{good} of {len(data.measured.muscles)}",
                "channels with good contact" if judged.any() else "channels judged",
                "",
            )
        )
    vision = data.faces.get(topics.FACE_VISION.name, [])
    if vision:
        tracked_share = float(np.mean([state.status != FaceStatus.LOST for state in vision]))
        tiles.append(
            (
                f"{100 * tracked_share:.0f} %",
                "of pictures with a face",
                "" if tracked_share > 0.95 else "warn",
            )
        )
    if data.lag is not None and data.lag.grade:
        kind = "" if data.lag.grade < 3 else "warn"
        tiles.append((f"{1e3 * data.lag.lag_s:.0f} ms", f"skin after muscle (grade {data.lag.grade})", kind))
    matched = [r for _, r, _ in agreement(data) if np.isfinite(r)]
    if matched:
        tiles.append((f"{np.median(matched):.2f}", "median r, measured against estimated", ""))
    lost = sum(chunk[3] for chunk in data.chunks)
    gaps = sum(len(data.topics[port].gaps) for port in (topics.EMG_RAW.name, CAMERA) if port in data.topics)
    tiles.append(
        (
            str(gaps),
            "gaps in EMG and pictures" + (f", {lost} samples reported lost" if lost else ""),
            "warn" if gaps else "",
        )
    )
    tiles.append((str(len(data.moments)), "movements", ""))
    if EVENTS in data.events:
        tiles.append((str(len(data.events[EVENTS])), "micro-expressions", ""))
    body = "".join(
        f"<div class='tile {kind}'><b>{value}</b><span>{words}</span></div>" for value, words, kind in tiles
    )
    return f"<div class='tiles'>{body}</div>"


def _timeline(data: SessionData) -> str:
    left = 90.0
    height = 138.0 if any(data.events.values()) else 112.0
    scale = (WIDE - left) / max(data.duration_s, 1e-6)
    body = [_axis(data.duration_s, WIDE, left, height - 16)]
    rows = [("movements", 22.0), ("face", 54.0), ("EMG", 80.0)]
    if any(data.events.values()):
        rows.append(("events", 104.0))
        body += _event_marks(data, 102.0, left, scale)
    body += [f'<text x="0" y="{y + 9}" class="name">{name}</text>' for name, y in rows]
    for number, moment in enumerate(data.moments):
        x = left + scale * moment.start_s
        wide = max(2.0, scale * (moment.end_s - moment.start_s))
        body.append(
            f'<rect x="{x:.1f}" y="18" width="{wide:.1f}" height="18" rx="3" fill="{ESTIMATE}" opacity="0.75"/>'
        )
        if wide > 5.6 * len(moment.label):
            body.append(
                f'<text x="{x + 4:.1f}" y="30.5" class="in">{html.escape(moment.label.replace("-", " "))}</text>'
            )
        elif len(data.moments) <= 24:
            body.append(f'<text x="{x:.1f}" y="13" class="tiny">{number + 1}</text>')
        x = left + scale * moment.peak_s
        body.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="38" stroke="currentColor" stroke-width="1"/>'
        )
    states = data.faces.get(topics.FACE_VISION.name) or data.faces.get(topics.TRUE_FACE.name) or []
    body += _bands(data, [(s.stamp, s.status != FaceStatus.LOST) for s in states], 50.0, left, scale, RIGHT)
    topic = data.topics.get(topics.EMG_RAW.name) or data.topics.get(topics.EMG_ACTIVITY.name)
    if topic is not None and len(topic.stamps) > 2:
        usual = float(np.median(np.diff(topic.stamps)))
        steps = np.diff(topic.stamps, append=topic.stamps[-1]) <= 3 * usual
        thin = slice(None, None, max(1, len(topic.stamps) // 4000))
        kept_rows = np.flatnonzero(~steps)
        marks = sorted(
            {
                *range(*thin.indices(len(topic.stamps))),
                *kept_rows.tolist(),
                *np.minimum(kept_rows + 1, len(steps) - 1).tolist(),
            }
        )
        body += _bands(data, [(int(topic.stamps[i]), bool(steps[i])) for i in marks], 76.0, left, scale, LEFT)
    legend = ""
    if (
        any(scale * (m.end_s - m.start_s) <= 5.6 * len(m.label) for m in data.moments)
        and len(data.moments) <= 24
    ):
        legend = (
            "<p class='about'>"
            + " · ".join(f"{i + 1} {html.escape(m.label)}" for i, m in enumerate(data.moments))
            + "</p>"
        )
    return _section(
        "Timeline", _svg(WIDE, height, "".join(body), "movements, face and EMG over the session") + legend
    )


def _event_marks(data: SessionData, y: float, left: float, scale: float) -> list[str]:
    """A bar for each event found, a frame for each that truly was."""
    out = []
    for port, form in ((EVENTS, f'fill="{ESTIMATE}"'), (TRUE_EVENTS, 'fill="none" stroke="currentColor"')):
        for event in data.events.get(port, ()):
            wide = max(3.0, scale * event.duration_s)
            x = left + scale * data.seconds(event.onset) - 0.5 * max(0.0, 3.0 - scale * event.duration_s)
            title = html.escape(
                f"{event.label}, {_regions(event.regions)}, {data.seconds(event.stamp):.2f} s"
            )
            out.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="14" rx="1.5" {form}><title>{title}</title></rect>'
            )
    return out


def _regions(names: Sequence[str]) -> str:
    """`left eye, right lips`, sides as the subject has them."""
    return ", ".join(" ".join(reversed(name.split("_"))) for name in names) or "somewhere"


MOST_EVENTS = 60


def _events(data: SessionData) -> str:
    spotted = data.events.get(EVENTS, [])
    true = data.events.get(TRUE_EVENTS, [])
    shown = spotted or true
    if not shown:
        return ""
    rows = []
    for event in shown[:MOST_EVENTS]:
        share = (
            float(event.probabilities[event.classes.index(event.label)])
            if event.label in event.classes
            else float("nan")
        )
        lead = f"{1e3 * event.lead_s:+.0f} ms" if np.isfinite(event.lead_s) else "–"
        rows.append(
            [
                f"{data.seconds(event.onset):.2f} s",
                f"{1e3 * (event.stamp - event.onset) / NS:.0f} ms",
                f"{1e3 * event.duration_s:.0f} ms",
                html.escape(_regions(event.regions)),
                html.escape(event.label),
                f"{share:.2f}" if np.isfinite(share) else "–",
                lead,
                FaceOrigin(event.origin).name.lower(),
            ]
        )
    about = (
        "Small, fast movements of the face, sides as the subject has them. Lead: how long before the picture the muscles showed it "
        "(– where one sense alone saw it)."
    )
    if spotted and true:
        hit = spotting(spotted, true).matched
        about += f" The recording knows {len(true)} true events (framed above); {hit} of the {len(spotted)} found are among them."
    elif true:
        about += " These are the true events of the recording; none were looked for."
    if len(shown) > MOST_EVENTS:
        about += f" The first {MOST_EVENTS} of {len(shown)}."
    head = ("onset", "to apex", "lasts", "region", "label", "probability", "lead", "seen by")
    return _section("Micro-expressions", _table(head, rows), about)


def _bands(
    data: SessionData, states: Sequence[tuple[int, bool]], y: float, left: float, scale: float, ink: str
) -> list[str]:
    out: list[str] = []
    begin: float | None = None
    last = 0.0
    for stamp, there in [*states, (0, False)]:
        at = data.seconds(stamp) if stamp else last
        if there and begin is None:
            begin = at
        elif not there and begin is not None:
            x = left + scale * begin
            wide = max(1.0, scale * (last - begin))
            out.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="11" rx="2" fill="{ink}" opacity="0.55"/>'
            )
            begin = None
        last = at
    return out


def _crop(frame: Frame) -> U8:
    height, width = frame.image.shape[:2]
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    return np.asarray(
        cv2.resize(frame.image[top : top + side, left : left + side], CELL, interpolation=cv2.INTER_AREA),
        np.uint8,
    )


def _pictures(data: SessionData) -> str:
    if not data.moments:
        return ""
    head = _head(data)
    painter = HeadPainter(head, (2 * CELL[0], 2 * CELL[1]), 0.262)
    warmth = None
    if data.measured is not None:
        warmth = heat.Warmth(
            heat.weights(head, data.measured.scheme, data.measured.muscles), head.parts, painter.skin
        )
    level = strength(data.measured) if data.measured is not None else None

    def fits(state: FaceState | None) -> FaceState | None:
        return state if state is not None and state.head_model == head.id else None

    def shot(state: FaceState | None, moment: Moment, hot: bool) -> U8:
        tint = None
        if hot and warmth is not None and level is not None:
            tint = warmth.colours(level[moment.index])
        picture = painter.paint(painter.vertices(fits(state)), None, tint)
        return np.asarray(cv2.resize(picture, CELL, interpolation=cv2.INTER_AREA), np.uint8)

    cards = []
    for moment in data.moments:
        cells = []
        when = f"{moment.label} at {moment.peak_s:.1f} s"
        if moment.camera is not None:
            cells.append(("camera", _image(_crop(moment.camera), f"camera, {when}")))
        if moment.restored is not None:
            cells.append(("restored", _image(_crop(moment.restored), f"restored face, {when}")))
        if moment.face is not None:
            cells.append(("face", _image(shot(moment.face, moment, False), f"reconstructed face, {when}")))
        if moment.emg_face is not None:
            cells.append(("from EMG", _image(shot(moment.emg_face, moment, False), f"face from EMG, {when}")))
        if warmth is not None:
            cells.append(
                (
                    "muscles",
                    _image(shot(moment.face or moment.emg_face, moment, True), f"muscle activity, {when}"),
                )
            )
        inner = "".join(f"<figure>{image}<figcaption>{name}</figcaption></figure>" for name, image in cells)
        heading = (
            f"<h3>{html.escape(moment.label.replace('-', ' '))} <span>{_clock(moment.peak_s)}</span></h3>"
        )
        cards.append(f"<article>{heading}<div>{inner}</div></article>")
    about = (
        "Each movement at its peak: as the camera saw it, with the sensors, and after reconstruction without them; muscles from rest "
        "(slate) to strong (yellow)."
    )
    return _section("At the peak", f"<div class='cards'>{''.join(cards)}</div>", about)


def _movements(data: SessionData) -> str:
    muscles = data.measured
    if not data.moments or muscles is None:
        return ""
    level = strength(muscles)
    rows = []
    for moment in data.moments:
        inside = (muscles.times >= moment.start_s) & (muscles.times <= moment.end_s + 0.3)
        if not inside.any():
            continue
        peak = np.nanpercentile(np.nan_to_num(muscles.envelope[inside]), 95, axis=0)
        share = np.percentile(level[inside], 95, axis=0)
        best = np.argsort(share)[::-1][:3]
        strongest = (
            ", ".join(f"{_words(muscles.muscles[i])} {1e6 * peak[i]:.0f} µV" for i in best if share[i] > 0.2)
            or "none above rest"
        )
        rows.append(
            [
                html.escape(moment.label.replace("-", " ")),
                _clock(moment.start_s),
                f"{moment.end_s - moment.start_s:.1f}\u00a0s",
                strongest,
                _symmetry(muscles.muscles, peak, best),
                _face_words(moment.face),
            ]
        )
    about = "Peak is the 95th percentile of the envelope during the movement; symmetry compares left with right of its strongest pair."
    return _section(
        "Movements",
        _table(("movement", "at", "for", "strongest muscles", "left / right", "face"), rows),
        about,
    )


def _symmetry(names: tuple[str, ...], peak: Array, best: Array) -> str:
    for i in best:
        stem = names[i].removesuffix("_left").removesuffix("_right")
        if f"{stem}_left" in names and f"{stem}_right" in names:
            left = peak[names.index(f"{stem}_left")]
            right = peak[names.index(f"{stem}_right")]
            if min(left, right) > 0:
                return f"{left / right:.2f}"
    return "–"


def _face_words(state: FaceState | None) -> str:
    if state is None:
        return "not seen"
    try:
        names = load_head(state.head_model).expression_names
    except InputError:
        return html.escape(state.head_model)
    order = np.argsort(np.nan_to_num(state.expression))[::-1]
    weights: dict[str, float] = {}
    for i in order:
        name = names[i].removesuffix("Left").removesuffix("Right")
        if not name.startswith("eyeLook") and state.expression[i] > 0.15:
            weights.setdefault(name, float(state.expression[i]))
    return (
        ", ".join(f"{html.escape(name)} {value:.2f}" for name, value in list(weights.items())[:3])
        or "at rest"
    )


def _channels(data: SessionData) -> str:
    muscles = data.measured
    if muscles is None:
        return ""
    rows = []
    for i, name in enumerate(muscles.muscles):
        quality = muscles.quality[:, i]
        finite = quality[np.isfinite(quality)]
        envelope = 1e6 * muscles.envelope[:, i][np.isfinite(muscles.envelope[:, i])]
        rest, full = (
            (float(np.percentile(envelope, q)) for q in (10, 99))
            if len(envelope)
            else (float("nan"), float("nan"))
        )
        mean = float(finite.mean()) if len(finite) else float("nan")
        ink = GOOD if mean >= 0.75 else FAIR if mean >= 0.5 else POOR
        word = (
            "not judged" if np.isnan(mean) else "good" if mean >= 0.75 else "fair" if mean >= 0.5 else "poor"
        )
        bar = ""
        if np.isfinite(mean):
            box = '<rect width="{}" height="8" rx="4" fill="{}"/>'
            filled = box.format(60, "#8884") + box.format(round(60 * mean), ink)
            bar = f'<svg class="bar" viewBox="0 0 60 8" aria-hidden="true">{filled}</svg>'
        poor = f"{100 * float((finite < 0.5).mean()):.0f} %" if len(finite) else "–"
        ratio = f"{20 * np.log10(full / rest):.0f} dB" if rest > 0 and full > 0 else "–"
        rows.append([_words(name), f"{bar} {word}", poor, f"{rest:.1f} µV", f"{full:.0f} µV", ratio])
    about = "Rest is the 10th, full the 99th percentile of the envelope over the session."
    return _section(
        "Channels", _table(("channel", "contact", "poor for", "rest", "full", "full over rest"), rows), about
    )


def _envelopes(data: SessionData) -> str:
    muscles = data.measured
    if muscles is None:
        return ""
    stems: dict[str, list[int]] = {}
    for i, name in enumerate(muscles.muscles):
        stems.setdefault(name.removesuffix("_left").removesuffix("_right"), []).append(i)
    left = 206.0
    step = max(26.0, min(40.0, 560 / len(stems)))
    height = step * len(stems)
    x = left + (WIDE - left) * muscles.times / max(data.duration_s, 1e-6)
    body = [_axis(data.duration_s, WIDE, left, height)]
    for row, (stem, members) in enumerate(stems.items()):
        values = np.nan_to_num(1e6 * muscles.envelope[:, members].astype(np.float64))
        top = max(float(np.percentile(values, 99.7)), 15.0)
        base = (row + 1) * step - 2
        body.append(f'<text x="0" y="{base - step / 2 + 5:.1f}" class="name">{_words(stem)}</text>')
        body.append(f'<text x="{left - 6}" y="{base - step / 2 + 5:.1f}" class="unit">{top:.0f} µV</text>')
        body.append(f'<line x1="{left}" x2="{WIDE}" y1="{base}" y2="{base}" class="grid"/>')
        for column, i in enumerate(members):
            ink = LEFT if muscles.muscles[i].endswith("_left") else RIGHT
            body.append(
                _line(
                    x,
                    base - np.minimum(values[:, column] / top, 1.0) * (step - 5),
                    ink,
                    1.0,
                    1100,
                    'opacity="0.85"',
                )
            )
    legend = (
        f'<p class="legend"><i style="background:{RIGHT}"></i>right <i style="background:{LEFT}"></i>left</p>'
    )
    return _section(
        "Envelopes",
        legend + _svg(WIDE, height + 18, "".join(body), "envelopes of all channels over the session"),
    )


def _agreement(data: SessionData) -> str:
    rows = agreement(data)
    measured = data.measured
    estimated = data.estimated
    if not rows or measured is None or estimated is None:
        return ""
    table = _table(
        ("muscle", "r", "estimate late by"),
        [
            [
                _words(name),
                f"{r:.2f}" if np.isfinite(r) else "–",
                f"{1e3 * lag:+.0f} ms" if np.isfinite(lag) else "–",
            ]
            for name, r, lag in rows
        ],
    )
    level = strength(measured)
    finite = {name: (r, lag) for name, r, lag in rows if np.isfinite(r)}
    drawn: list[str] = []
    for name in sorted(finite, key=lambda n: -finite[n][0]):
        stem = name.removesuffix("_left").removesuffix("_right")
        if all(stem not in other for other in drawn):
            drawn.append(name)
        if len(drawn) == 6:
            break
    charts = []
    width = 500.0
    height = 96.0
    span = 10.0
    for name in drawn:
        i = measured.muscles.index(name)
        j = estimated.muscles.index(name)
        centre = float(measured.times[int(np.argmax(level[:, i]))])
        begin = min(max(centre - span / 2, 0.0), max(data.duration_s - span, 0.0))
        lines = []
        tops = []
        for muscles, column in ((measured, i), (estimated, j)):
            inside = (muscles.times >= begin) & (muscles.times <= begin + span)
            tops.append(
                (
                    muscles.times[inside],
                    np.nan_to_num(1e6 * muscles.envelope[inside, column].astype(np.float64)),
                )
            )
        top = max(20.0, *(float(v.max()) for _, v in tops if len(v)))
        for (t, v), ink, size in zip(tops, (RIGHT, ESTIMATE), (2.2, 1.6), strict=True):
            lines.append(_line(width * (t - begin) / span, (height - 14) * (1 - v / top) + 4, ink, size))
        r, lag = finite[name]
        x = width * (centre - begin) / span
        shift = width * lag / span
        mark = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{height - 10}" stroke="{RIGHT}" stroke-dasharray="3 3"/>'
            f'<line x1="{x + shift:.1f}" x2="{x + shift:.1f}" y1="2" y2="{height - 10}" stroke="{ESTIMATE}" stroke-dasharray="3 3"/>'
        )
        ticks = f'<text x="0" y="{height}" class="tick start">{begin:.1f} s</text>'
        ticks += f'<text x="{width}" y="{height}" class="unit">{begin + span:.1f} s</text>'
        charts.append(
            f"<figure><figcaption><b>{_words(name)}</b> r {r:.2f}, estimate {'late' if lag >= 0 else 'early'} by {abs(1e3 * lag):.0f} ms, "
            f"full scale {top:.0f} µV</figcaption>{_svg(width, height, ''.join(lines) + mark + ticks, name)}</figure>"
        )
    legend = (
        f'<p class="legend"><i style="background:{RIGHT}"></i>measured <i style="background:{ESTIMATE}"></i>estimated from the face; '
        "dashed: the strongest moment, and where the lag puts it in the estimate</p>"
    )
    every = f"<details><summary>All muscles</summary>{table}</details>"
    return _section("Measured and estimated", f"{legend}<div class='pairs'>{''.join(charts)}</div>{every}")


def _synchrony(data: SessionData) -> str:
    parts = []
    if data.lag is not None and data.lag.grade:
        lag = data.lag
        drift = f", clocks drift apart by {lag.drift_ppm:+.0f} ppm" if data.duration_s > 75 else ""
        grade = {1: "sure", 2: "fair", 3: "doubtful"}[lag.grade]
        parts.append(
            f"<p>The skin follows the muscles by <b>{1e3 * lag.lag_s:.0f} ms</b> ({grade}: {lag.votes} pairs agree within "
            f"{1e3 * lag.spread_s:.0f} ms{drift}).</p>"
        )
    if data.clocks is not None and data.clocks.grade:
        clocks = data.clocks
        grade = {1: "sure", 2: "fair", 3: "doubtful"}[clocks.grade]
        matched = (
            f"{clocks.events} events matched"
            if clocks.method != "consensus"
            else f"{clocks.events} pairs agree"
        )
        rest = f", {clocks.missed} without a partner" if clocks.missed else ""
        spread = (
            f", within {1e3 * clocks.residual_rms_s:.1f} ms" if np.isfinite(clocks.residual_rms_s) else ""
        )
        parts.append(
            f"<p>Two clocks: the camera's stamps are corrected by <b>{1e3 * clocks.offset_s:+.1f} ms</b> and {clocks.drift_ppm:+.0f} ppm "
            f"({grade}; {html.escape(clocks.method)}, {matched}{rest}{spread}), as <code>sync.json</code> says.</p>"
        )
    clock = sample_clock(data)
    if clock is not None:
        times, residual, rate, drift_ppm = clock
        reach = max(float(np.abs(residual).max()), 0.2)
        left = 60.0
        height = 110.0
        x = left + (WIDE - left) * times / max(data.duration_s, 1e-6)
        y = (height - 18) / 2 * (1 - residual / reach)
        middle = (height - 18) / 2
        body = (
            _axis(data.duration_s, WIDE, left, height - 16)
            + f'<line x1="{left}" x2="{WIDE}" y1="{middle}" y2="{middle}" class="grid"/>'
            + f'<text x="{left - 6}" y="10" class="unit">{reach:.1f} ms</text>'
            + f'<text x="{left - 6}" y="{height - 20}" class="unit">-{reach:.1f} ms</text>'
            + _line(x, y, RIGHT, 1.2)
        )
        parts.append(
            f"<p>The amplifier counts {rate:.3f} samples per second by the recording's clock, {drift_ppm:+.0f} ppm from its nominal rate; "
            f"stamps keep to that line within {np.std(residual):.2f} ms (standard deviation).</p>"
            + _svg(WIDE, height, body, "residual of the sample clock")
        )
    return _section("Synchrony", "".join(parts))


def _histogram(values: F64, label: str, unit: str = "ms") -> str:
    low = 0.0
    high = max(float(np.percentile(values, 99.5)) * 1.15, 1e-6)
    counts, _ = np.histogram(values, bins=44, range=(low, high))
    width = 320.0
    height = 92.0
    step = width / len(counts)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{(height - 16) * (1 - c / counts.max()):.1f}" width="{step - 1:.1f}" '
        f'height="{(height - 16) * c / counts.max():.1f}" fill="{RIGHT}" opacity="0.8"/>'
        for i, c in enumerate(counts)
        if c
    )
    ticks = f'<text x="0" y="{height - 2}" class="tick start">0</text>'
    ticks += f'<text x="{width}" y="{height - 2}" class="unit">{high:.1f} {unit}</text>'
    words = f"<b>{_words(label)}</b> median {np.median(values):.1f} {unit}, 99 % {np.percentile(values, 99):.1f} {unit}"
    return f"<figure><figcaption>{words}</figcaption>{_svg(width, height, bars + ticks, label)}</figure>"


def _latencies(data: SessionData, latency: Mapping[str, Sequence[float]]) -> str:
    charts = []
    about = ""
    written = {port: entry for port, entry in data.latencies.items() if len(entry.ms) > 5}
    if written and not latency:
        charts = [_histogram(np.maximum(entry.ms, 0.0), port) for port, entry in written.items()]
        live = {entry.since for entry in written.values()} == {"acquisition"}
        about = (
            "From acquisition to the moment an item left its component, as the run wrote it down."
            if live
            else "From the moment an item entered the graph to the moment the result left, as the run wrote it down."
        )
    elif latency:
        charts = [
            _histogram(1e3 * np.asarray(values, np.float64), port)
            for port, values in latency.items()
            if len(values)
        ]
        about = "From the moment an item entered to the moment the result left, by the run itself."
    else:
        late = {
            port: topic.late
            for port, topic in data.topics.items()
            if len(topic.late) > 5 and float(np.abs(topic.late).max()) > 1e-4
        }
        charts = [_histogram(1e3 * np.maximum(values, 0.0), port) for port, values in late.items()]
        about = "From acquisition to the recorder."
    if not charts:
        shown = [
            port
            for port in (
                CAMERA,
                topics.EMG_RAW.name,
                topics.EMG_ACTIVITY.name,
                topics.FACE_VISION.name,
                topics.FACE_FUSED.name,
            )
            if port in data.topics
        ]
        charts = [
            _histogram(np.diff(data.topics[port].stamps) / 1e6, port)
            for port in shown
            if len(data.topics[port].stamps) > 5
        ]
        about = "This recording has acquisition stamps only, no arrival times; the intervals between stamps show how even each stream is."
        return _section("Intervals", f"<div class='trio'>{''.join(charts)}</div>", about)
    return _section("Latency", f"<div class='trio'>{''.join(charts)}</div>", about)


def _topics(data: SessionData) -> str:
    rows = []
    for port, topic in data.topics.items():
        rate = f"{topic.rate_hz:.1f} Hz" if np.isfinite(topic.rate_hz) else "–"
        regular = port not in (topics.MARKERS.name, EVENTS, TRUE_EVENTS)
        gaps = (
            f"{len(topic.gaps)}, longest {topic.gaps.max():.2f} s" if len(topic.gaps) and regular else "none"
        )
        rows.append([html.escape(port), str(len(topic.stamps)), rate, gaps])
    return _section("What was recorded", _table(("topic", "items", "rate", "gaps"), rows))
