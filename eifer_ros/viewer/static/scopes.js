// Traces: the last seconds of every channel, and what is drawn of them.

const CAPACITY = 1600;
export const WINDOW_S = 8;

/** The newest instants of one stream: times in ms (server clock), envelopes in microvolts. */
export class Stream {
  constructor(muscles, scheme) {
    this.muscles = muscles;
    this.scheme = scheme;
    this.times = new Float64Array(CAPACITY);
    this.values = new Float32Array(CAPACITY * muscles.length);
    this.count = 0;
    this.activity = new Float32Array(muscles.length);
    this.quality = new Float32Array(muscles.length).fill(NaN);
  }

  add(start, offsets, rows) {
    const width = this.muscles.length;
    for (let i = 0; i < offsets.length; i++) {
      const place = this.count % CAPACITY;
      this.times[place] = start + offsets[i];
      this.values.set(rows.subarray(i * width, (i + 1) * width), place * width);
      this.count++;
    }
  }

  get last() {
    return this.count ? this.times[(this.count - 1) % CAPACITY] : NaN;
  }

  /** Calls use(time, index) for each kept instant from `since` on, oldest first. */
  each(since, use) {
    const first = Math.max(0, this.count - CAPACITY);
    let low = first, high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle % CAPACITY] < since) low = middle + 1; else high = middle;
    }
    for (let i = low; i < this.count; i++) use(this.times[i % CAPACITY], (i % CAPACITY) * this.muscles.length);
  }
}

export const spoken = (muscle) => muscle.replace(/_(left|right)$/, "").replaceAll("_", " ");
const side = (muscle) => (/_left$/.test(muscle) ? "left" : /_right$/.test(muscle) ? "right" : "middle");

/** Channels as rows: both sides of a muscle share one. */
export function pairs(muscles) {
  const rows = new Map();
  muscles.forEach((muscle, index) => {
    const name = spoken(muscle);
    if (!rows.has(name)) rows.set(name, { name, channels: [] });
    rows.get(name).channels.push({ index, side: side(muscle) });
  });
  return [...rows.values()];
}

const styles = () => {
  const read = getComputedStyle(document.documentElement);
  return (name) => read.getPropertyValue(`--${name}`).trim();
};
let colour = styles();
export const refreshColours = () => { colour = styles(); };

function fit(canvas) {
  const scale = Math.min(devicePixelRatio || 1, 2);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

const judged = (quality) => (Number.isNaN(quality) ? "soft" : quality >= 0.75 ? "good" : quality >= 0.5 ? "fair" : "poor");
export { judged };

/** Scales in round steps: up at once, down only when a whole window has stayed far below, so that the eye is not led astray. */
const STEPS = [25, 35, 50, 70, 100, 140, 200, 280, 400, 560, 800, 1100, 1600, 2200, 3200, 4500, 6400, 9000, 13000, 20000, 60000];
export class Scales {
  constructor() { this.of = new Map(); this.due = 0; this.peaks = new Map(); }

  /** Look at the peaks again, a few times a second. */
  look(streams, from, now) {
    if (now < this.due) return;
    this.due = now + 250;
    this.peaks.clear();
    for (const stream of streams) {
      const most = new Float32Array(stream.muscles.length);
      stream.each(from, (_, at) => { for (let k = 0; k < most.length; k++) { const value = stream.values[at + k]; if (value > most[k]) most[k] = value; } });
      stream.muscles.forEach((muscle, k) => { this.peaks.set(muscle, Math.max(this.peaks.get(muscle) ?? 0, most[k])); });
    }
  }

  next(key, muscles) {
    let peak = 0;
    for (const muscle of muscles) peak = Math.max(peak, this.peaks.get(muscle) ?? 0);
    const known = this.of.get(key) ?? STEPS[0];
    const wanted = STEPS.find((step) => step >= peak) ?? STEPS.at(-1);
    if (wanted > known || wanted < 0.45 * known) this.of.set(key, wanted);
    return this.of.get(key) ?? known;
  }
}

const memory = new WeakMap();

/**
 * Moves what is drawn to the left and draws only what is new at the right edge; everything anew where `key` has changed.
 * zones: [top, height] of what moves, css pixels. still(context, width, height) draws the rest. fresh(context, from, to, x) draws a stretch.
 */
function scroll(canvas, { left, end, window_s, key, zones, still, fresh }) {
  const scale = Math.min(devicePixelRatio || 1, 2), width = canvas.clientWidth, height = canvas.clientHeight;
  const wide = Math.round(width * scale), high = Math.round(height * scale);
  const context = canvas.getContext("2d"), edge = Math.round(left * scale), plot = wide - edge;
  if (plot < 10 || high < 10) return;
  const per = (window_s * 1000) / plot, place = Math.floor(end / per), right = place * per;
  const known = memory.get(canvas), full = `${key}|${wide}x${high}`;
  const x = (time) => (wide + (time - right) / per) / scale;
  const shift = known ? place - known.place : -1;
  if (!known || known.full !== full || shift < 0 || shift > plot / 2) {
    canvas.width = wide;
    canvas.height = high;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    still(context, width, height);
    context.save();
    context.beginPath();
    context.rect(left, 0, width - left, height);
    context.clip();
    fresh(context, right - window_s * 1000, right, x);
    context.restore();
  } else if (shift > 0) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    for (const [top, tall] of zones) {
      const y = Math.round(top * scale), h = Math.round(tall * scale);
      context.globalCompositeOperation = "copy";
      context.save();
      context.beginPath();
      context.rect(edge, y, plot, h);
      context.clip();
      context.drawImage(canvas, edge + shift, y, plot - shift, h, edge, y, plot - shift, h);
      context.restore();
      context.globalCompositeOperation = "source-over";
      context.clearRect(wide - shift, y, shift, h);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.save();
    context.beginPath();
    context.rect((wide - shift) / scale, 0, shift / scale, height);
    context.clip();
    fresh(context, right - (shift + 4) * per - 40, right, x);
    context.restore();
  }
  memory.set(canvas, { full, place });
}

function seconds(context, from, to, x, top, bottom) {
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  context.beginPath();
  for (let t = Math.ceil(from / 1000); t <= to / 1000; t++) {
    const at = Math.round(x(t * 1000)) + 0.5;
    context.moveTo(at, top);
    context.lineTo(at, bottom);
  }
  context.stroke();
}

function path(context, stream, channel, from, x, y) {
  context.beginPath();
  let pen = false, before = -1e9;
  stream.each(from, (time, at) => {
    const value = stream.values[at + channel], here = x(time);
    if (Number.isNaN(value)) { pen = false; return; }
    if (pen && here - before < 0.7) return;
    if (pen) context.lineTo(here, y(value)); else context.moveTo(here, y(value));
    pen = true;
    before = here;
  });
}

function dot(context, kind, cx, cy) {
  // contact: a filled dot is good, a ring is doubtful, a cross is lost; the colour says the same
  context.strokeStyle = context.fillStyle = colour(kind);
  context.lineWidth = 1.6;
  context.beginPath();
  if (kind === "poor") { context.moveTo(cx - 3, cy - 3); context.lineTo(cx + 3, cy + 3); context.moveTo(cx + 3, cy - 3); context.lineTo(cx - 3, cy + 3); context.stroke(); }
  else { context.arc(cx, cy, 3.1, 0, 7); if (kind === "good") context.fill(); else context.stroke(); }
}

/** All channels, both sides of a muscle in one row. end: time at the right edge, ms. */
export function drawEnvelopes(canvas, stream, end, scales, marks) {
  const width = canvas.clientWidth, height = canvas.clientHeight, gutter = 13, left = Math.min(206, width * 0.42);
  scales.look([stream], end - WINDOW_S * 1000, performance.now());
  const rows = pairs(stream.muscles).map((row) => ({ ...row, top: scales.next(row.name, row.channels.map(({ index }) => stream.muscles[index])) }));
  const step = (height - gutter) / rows.length, theme = colour("ink");
  const kinds = Array.from(stream.quality, judged);
  const inks = { left: colour("left"), right: colour("right"), middle: colour("right"), line: colour("line"), mark: colour("estimated") };
  scroll(canvas, {
    left, end, window_s: WINDOW_S, zones: [[0, height]],
    key: `${rows.map(({ name, top }) => name + top)}|${kinds}|${theme}|${marks.length}`,
    still(context) {
      context.textBaseline = "middle";
      const size = Math.max(9.5, Math.min(12.5, step * 0.62)), family = getComputedStyle(document.body).fontFamily;
      const place = 9 + 11 * Math.max(...rows.map((entry) => entry.channels.length));
      rows.forEach(({ name, channels, top }, row) => {
        const middle = gutter + (row + 0.5) * step;
        channels.forEach(({ index }, order) => dot(context, kinds[index], 7 + 11 * order, middle));
        context.fillStyle = theme;
        context.font = `${size}px ${family}`;
        context.fillText(name, place, middle, left - place - 54);
        context.fillStyle = colour("soft");
        context.font = `${Math.max(9.5, size - 1.5)}px ${family}`;
        context.textAlign = "right";
        context.fillText(`${top} µV`, left - 8, middle);
        context.textAlign = "left";
      });
    },
    fresh(context, from, to, x) {
      seconds(context, from, to, x, 0, height);
      context.beginPath();
      rows.forEach((_, row) => { const y = Math.round(gutter + (row + 1) * step - 1) + 0.5; context.moveTo(x(from), y); context.lineTo(x(to) + 1, y); });
      context.strokeStyle = inks.line;
      context.stroke();
      context.lineWidth = 1.3;
      rows.forEach(({ channels, top }, row) => {
        const base = gutter + (row + 1) * step - 2, y = (value) => base - Math.min(value / top, 1) * (step - 5);
        for (const { index, side: where } of channels) {
          path(context, stream, index, from, x, y);
          context.strokeStyle = inks[where];
          context.globalAlpha = kinds[index] === "poor" ? 0.3 : 0.95;
          context.stroke();
        }
      });
      context.globalAlpha = 1;
      const family = getComputedStyle(document.body).fontFamily;
      for (const { ms, label } of marks) {
        if (ms < from - 3000 || ms > to) continue;
        const at = x(ms);
        context.strokeStyle = context.fillStyle = inks.mark;
        context.lineWidth = 1;
        context.setLineDash([3, 3]);
        context.beginPath();
        context.moveTo(at, 0);
        context.lineTo(at, height);
        context.stroke();
        context.setLineDash([]);
        context.font = `11px ${family}`;
        context.textBaseline = "middle";
        context.textAlign = "right";
        context.fillText(label.replaceAll("-", " "), at - 4, 6, 140);
        context.textAlign = "left";
      }
    },
  });
}

/** The muscles that move most: measured as a filled shape, estimated as a line over it. */
export function drawCompare(canvas, measured, estimated, end, scales, shown) {
  if (!shown.length) return;
  const window_s = 6, height = canvas.clientHeight, step = height / shown.length, head = 18;
  scales.look([measured, estimated], end - window_s * 1000, performance.now());
  const rows = shown.map((muscle) => ({ muscle, own: measured.muscles.indexOf(muscle), other: estimated.muscles.indexOf(muscle), top: scales.next(muscle, [muscle]) }));
  const inks = { measured: colour("right"), estimated: colour("estimated"), line: colour("line") }, theme = colour("ink");
  scroll(canvas, {
    left: 0, end, window_s, key: `${rows.map(({ muscle, top }) => muscle + top)}|${theme}`,
    zones: rows.map((_, row) => [row * step + head, step - head]),
    still(context, width) {
      const family = getComputedStyle(document.body).fontFamily;
      context.font = `12px ${family}`;
      context.textBaseline = "top";
      rows.forEach(({ muscle, top }, row) => {
        const where = side(muscle);
        context.fillStyle = theme;
        context.fillText(`${spoken(muscle)}${where === "middle" ? "" : `, ${where}`}`, 2, row * step + 3, width - 66);
        context.fillStyle = colour("soft");
        context.textAlign = "right";
        context.fillText(`${top} µV`, width - 2, row * step + 3);
        context.textAlign = "left";
      });
    },
    fresh(context, from, to, x) {
      rows.forEach(({ own, other, top }, row) => {
        const base = (row + 1) * step - 3, y = (value) => base - Math.min(value / top, 1) * (step - head - 5);
        seconds(context, from, to, x, row * step + head, base);
        const outline = new Path2D();
        let first = null, last = null;
        measured.each(from, (time, at) => {
          const here = x(time), value = measured.values[at + own];
          if (Number.isNaN(value) || (last !== null && here - last < 0.7)) return;
          if (first === null) { first = here; outline.moveTo(here, base); }
          outline.lineTo(here, y(value));
          last = here;
        });
        if (first !== null) { outline.lineTo(last, base); outline.closePath(); }
        context.fillStyle = inks.measured;
        context.globalAlpha = 0.22;
        context.fill(outline);
        context.globalAlpha = 1;
        path(context, measured, own, from, x, y);
        context.strokeStyle = inks.measured;
        context.lineWidth = 1.3;
        context.stroke();
        path(context, estimated, other, from, x, y);
        context.strokeStyle = inks.estimated;
        context.lineWidth = 1.9;
        context.stroke();
        context.strokeStyle = inks.line;
        context.lineWidth = 1;
        context.beginPath();
        context.moveTo(x(from), Math.round(base) + 0.5);
        context.lineTo(x(to) + 1, Math.round(base) + 0.5);
        context.stroke();
      });
    },
  });
}

/** Marks of a recording under its slider. */
export function drawMarks(canvas, marks, duration) {
  const { context, width, height } = fit(canvas);
  context.fillStyle = colour("estimated");
  const begun = new Map();
  for (const { s, label, phase } of marks) {
    if (phase === "start") { begun.set(label, s); continue; }
    const from = phase === "end" ? begun.get(label) ?? s : s;
    context.globalAlpha = phase === "end" ? 0.35 : 0.9;
    context.fillRect((from / duration) * width, height - 6, Math.max(2, ((s - from) / duration) * width - 1), 4);
  }
  context.globalAlpha = 1;
}
