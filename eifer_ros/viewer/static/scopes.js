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

function path(context, stream, channel, from, x, y) {
  context.beginPath();
  let pen = false, before = -1e9;
  stream.each(from, (time, at) => {
    const value = stream.values[at + channel], here = x(time);
    if (Number.isNaN(value)) { pen = false; return; }
    if (pen && here - before < 0.45) return;
    if (pen) context.lineTo(here, y(value)); else context.moveTo(here, y(value));
    pen = true;
    before = here;
  });
}

function seconds(context, left, width, height, end, window_s) {
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  context.beginPath();
  for (let t = Math.ceil(end / 1000 - window_s); t <= end / 1000; t++) {
    const x = Math.round(left + ((t - end / 1000) / window_s + 1) * (width - left)) + 0.5;
    context.moveTo(x, 0);
    context.lineTo(x, height);
  }
  context.stroke();
}

/** Scales that follow a trace calmly: up at once, down over many seconds. */
export class Scales {
  constructor() { this.of = new Map(); }
  next(key, peak, floor) {
    const known = this.of.get(key) ?? floor;
    const value = Math.max(peak > known ? peak : known * 0.9985 + peak * 0.0015, floor);
    this.of.set(key, value);
    return value;
  }
}

/** All channels, both sides of a muscle in one row. end: time at the right edge, ms. */
export function drawEnvelopes(canvas, stream, end, scales, marks) {
  const { context, width, height } = fit(canvas);
  if (!stream || !height) return;
  const rows = pairs(stream.muscles), gutter = 13, step = (height - gutter) / rows.length, left = Math.min(206, width * 0.36);
  const from = end - WINDOW_S * 1000, x = (time) => left + (1 + (time - end) / (WINDOW_S * 1000)) * (width - left);
  seconds(context, left, width, height, end, WINDOW_S);
  context.textBaseline = "middle";
  const size = Math.max(9.5, Math.min(12.5, step * 0.62));
  const family = getComputedStyle(document.body).fontFamily;
  rows.forEach(({ name, channels }, row) => {
    const head = gutter + row * step, base = head + step - 2;
    let peak = 0;
    for (const { index } of channels) stream.each(from, (_, at) => { const value = stream.values[at + index]; if (value > peak) peak = value; });
    const top = scales.next(name, peak, 24);
    const y = (value) => base - Math.min(value / top, 1) * (step - 5);
    channels.forEach(({ index, side: where }, order) => {
      const ink = colour(where === "left" ? "left" : "right");
      context.save();
      context.beginPath();
      context.rect(left, head, width - left, step);
      context.clip();
      path(context, stream, index, from, x, y);
      context.strokeStyle = ink;
      context.globalAlpha = stream.quality[index] < 0.5 ? 0.3 : 0.95;
      context.lineWidth = 1.3;
      context.lineJoin = "round";
      context.stroke();
      context.restore();
      // contact: a filled dot is good, a ring is doubtful, a cross is lost; the colour says the same
      const dot = judged(stream.quality[index]), cx = 7 + 11 * order, cy = head + step / 2;
      context.strokeStyle = context.fillStyle = colour(dot);
      context.lineWidth = 1.6;
      context.beginPath();
      if (dot === "poor") { context.moveTo(cx - 3, cy - 3); context.lineTo(cx + 3, cy + 3); context.moveTo(cx + 3, cy - 3); context.lineTo(cx - 3, cy + 3); context.stroke(); }
      else { context.arc(cx, cy, 3.1, 0, 7); if (dot === "good") context.fill(); else context.stroke(); }
    });
    context.fillStyle = colour("ink");
    context.font = `${size}px ${family}`;
    const place = 7 + 11 * Math.max(...rows.map((entry) => entry.channels.length)) + 2;
    context.fillText(name, place, head + step / 2, left - place - 48);
    context.fillStyle = colour("soft");
    context.font = `${Math.max(9.5, size - 1.5)}px ${family}`;
    context.textAlign = "right";
    context.fillText(`${Math.round(top)} µV`, left - 8, head + step / 2);
    context.textAlign = "left";
    context.strokeStyle = colour("line");
    context.beginPath();
    context.moveTo(left, Math.round(base + 1) + 0.5);
    context.lineTo(width, Math.round(base + 1) + 0.5);
    context.stroke();
  });
  context.font = `11px ${family}`;
  for (const { ms, label } of marks) {
    const at = x(ms);
    if (at < left || at > width) continue;
    context.strokeStyle = colour("estimated");
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(at, 0);
    context.lineTo(at, height);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour("estimated");
    context.fillText(label.replaceAll("-", " "), at + 4, 6, width - at - 6);
  }
}

/** The muscles that move most: measured as a filled shape, estimated as a line over it. */
export function drawCompare(canvas, measured, estimated, end, scales, shown) {
  const { context, width, height } = fit(canvas);
  if (!measured || !estimated || !height) return;
  const window_s = 6, from = end - window_s * 1000, x = (time) => (1 + (time - end) / (window_s * 1000)) * width;
  seconds(context, 0, width, height, end, window_s);
  const step = height / shown.length, family = getComputedStyle(document.body).fontFamily;
  shown.forEach((muscle, row) => {
    const own = measured.muscles.indexOf(muscle), other = estimated.muscles.indexOf(muscle);
    let peak = 0;
    measured.each(from, (_, at) => { const value = measured.values[at + own]; if (value > peak) peak = value; });
    estimated.each(from, (_, at) => { const value = estimated.values[at + other]; if (value > peak) peak = value; });
    const base = (row + 1) * step - 3, top = scales.next(muscle, peak, 30), y = (value) => base - Math.min(value / top, 1) * (step - 22);
    path(context, measured, own, from, x, y);
    const outline = new Path2D();
    let first = null, last = null;
    measured.each(from, (time, at) => {
      const here = x(time), value = measured.values[at + own];
      if (Number.isNaN(value)) return;
      if (first === null) { first = here; outline.moveTo(here, base); }
      outline.lineTo(here, y(value));
      last = here;
    });
    if (first !== null) { outline.lineTo(last, base); outline.closePath(); }
    context.fillStyle = colour("right");
    context.globalAlpha = 0.22;
    context.fill(outline);
    context.globalAlpha = 0.9;
    context.strokeStyle = colour("right");
    context.lineWidth = 1.2;
    context.stroke();
    context.globalAlpha = 1;
    path(context, estimated, other, from, x, y);
    context.strokeStyle = colour("estimated");
    context.lineWidth = 1.9;
    context.stroke();
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, Math.round(base) + 0.5);
    context.lineTo(width, Math.round(base) + 0.5);
    context.stroke();
    context.font = `12px ${family}`;
    context.textBaseline = "top";
    context.fillStyle = colour("ink");
    const where = side(muscle);
    context.fillText(`${spoken(muscle)}${where === "middle" ? "" : `, ${where}`}`, 2, row * step + 2, width - 60);
    context.fillStyle = colour("soft");
    context.textAlign = "right";
    context.fillText(`${Math.round(top)} µV`, width - 2, row * step + 2);
    context.textAlign = "left";
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
