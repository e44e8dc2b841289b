// The page: takes what comes, draws the newest once per frame, and says so to the server.
import { Heads, hardware } from "./heads.js";
import { Scales, Stream, WINDOW_S, drawCompare, drawEnvelopes, drawMarks, judged, refreshColours, spoken } from "./scopes.js";
import { Controls } from "./controls.js";
import { Wire } from "./wire.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const state = {
  hello: null, streams: {}, faces: {}, bitmaps: {}, coefficients: {}, marks: [], events: [], controlled: {}, status: {},
  envelopeScales: new Scales(), compareScales: new Scales(), compared: [], shown: 0, drawn: { face: 0 },
};
window.eifer = state; // for tests and for the curious

const device = query.get("renderer") === "jpeg" ? { ok: false, name: "pictures from the server" } : hardware();
let drawing = query.get("renderer") === "webgl" || device.ok;
let heads = null;

const wire = new Wire({
  open() { pulse("live", "connected"); watch(); },
  close() { pulse("lost", "connection lost, trying again"); state.bitmaps = {}; },
  hello(message) {
    state.hello = message;
    state.streams = {};
    state.marks = [];
    state.events = [];
    $("title").textContent = message.title;
    document.title = message.title ? `${message.title} – eifer` : "eifer";
    controls.offer(message);
    pulse("live", message.live ? "live" : "from a recording");
    size();
  },
  status(message) { state.status = message; figures(); health(); },
  error(message) { controls.toast(message.text, true); },
  update,
});
const controls = new Controls(wire, state);

async function watch() {
  if (drawing && !heads) {
    try { heads = await Heads.load(); } catch (error) { drawing = false; console.info(`drawn by the server: ${error.message}`); }
  }
  wire.send({ t: "watch", renderer: drawing ? "webgl" : "jpeg" });
  document.body.dataset.renderer = drawing ? "webgl" : "jpeg";
  $("renderer").textContent = drawing ? `Heads are drawn by this browser (${device.name}).` : `Heads are drawn by the server (this browser: ${device.name}).`;
}

function pulse(kind, text) {
  document.body.dataset.state = kind;
  if ($("pulse").textContent !== text) $("pulse").textContent = text;
}

// ---- what comes --------------------------------------------------------------------------------------------------------

const waiting = [];
let order = Promise.resolve(); // updates are shown in the order they came in, however long a picture takes to unpack
function update(header, arrays) {
  for (const [kind, face] of Object.entries(header.faces ?? {})) state.faces[kind] = face;
  for (const [kind, entry] of Object.entries(header.traces ?? {})) {
    if (entry.muscles) {
      state.streams[kind] = new Stream(entry.muscles, entry.scheme);
      if (kind === "measured") { state.compared = []; contacts(); if (heads) heads.learnWarmth(); }
    }
    const stream = state.streams[kind];
    if (!stream) continue;
    if (arrays[`uv:${kind}`]) stream.add(entry.start_ms, arrays[`t:${kind}`].data, arrays[`uv:${kind}`].data);
    if (arrays[`now:${kind}`]) stream.activity = arrays[`now:${kind}`].data.slice();
    if (arrays[`quality:${kind}`]) stream.quality = arrays[`quality:${kind}`].data.slice();
  }
  if (header.markers) state.marks = [...state.marks, ...header.markers].slice(-200);
  if (header.events) {
    state.events = [...state.events, ...header.events].slice(-20);
    state.marks = [...state.marks, ...header.events.map(({ onset_ms, label }) => ({ ms: onset_ms, label: `micro: ${label}`, phase: "start", note: "" }))].slice(-200);
    figures();
  }
  if (header.controlled) { Object.assign(state.controlled, header.controlled); controls.show(header.controlled); }
  const pictures = [];
  for (const [name, { data }] of Object.entries(arrays)) {
    if (name.startsWith("face:")) state.coefficients[name.slice(5)] = data.slice();
    if (name.startsWith("jpeg:")) {
      const kind = name.slice(5);
      // one that cannot be unpacked is left out; the next one follows soon
      pictures.push(createImageBitmap(new Blob([data], { type: "image/jpeg" })).then((bitmap) => [kind, bitmap], () => null));
    }
  }
  const unpacked = Promise.all(pictures);
  order = order.then(() => unpacked).then((found) => {
    waiting.push({ header, fresh: Object.fromEntries(found.filter(Boolean)) });
    requestAnimationFrame(frame);
  });
}

// ---- drawing -----------------------------------------------------------------------------------------------------------

function picture(kind, bitmap) {
  const canvas = $(kind);
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) { canvas.width = bitmap.width; canvas.height = bitmap.height; }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  $(`panel-${kind}`).classList.remove("bare");
  if (kind === "restored") $("panel-restored").hidden = false;
}

function frame() {
  let last = null;
  for (const { header, fresh } of waiting.splice(0)) {
    for (const [kind, bitmap] of Object.entries(fresh)) {
      picture(kind, bitmap);
      state.drawn[kind] = (state.drawn[kind] ?? 0) + 1;
    }
    if (drawing && heads && header.faces) { heads3d(); state.drawn.face = (state.drawn.face ?? 0) + 1; }
    last = header;
  }
  if (!last) return;
  state.shown++;
  state.age = NaN;
  const stamp = drawing ? last.faces?.face?.ms : last.stamps_ms?.face;
  if (stamp && state.hello?.live) state.age = wire.now() - stamp;
  wire.send({ t: "ack", seq: last.seq, ...(Number.isFinite(state.age) ? { age_ms: state.age } : {}) });
}

function heads3d() {
  const measured = state.streams.measured ?? state.streams.estimated;
  heads.paint(null);
  if (state.coefficients.face || !state.faces.face) { heads.pose(state.coefficients.face ?? null, false); heads.draw($("face")); }
  if (state.coefficients.emg) { heads.pose(state.coefficients.emg, true); heads.draw($("emg")); $("panel-emg").classList.remove("bare"); }
  heads.paint(measured ? measured.activity : new Float32Array(1));
  heads.pose(state.coefficients.face ?? state.coefficients.emg ?? null, true);
  heads.draw($("muscles"));
}

const ORIGINS = { vision: "camera", emg: "EMG", fused: "camera + EMG", truth: "simulation" };
let scopesDue = 0;
function scopes(now) {
  requestAnimationFrame(scopes);
  if (now < scopesDue) return;
  scopesDue = now + 30;
  const { measured, estimated } = state.streams;
  const any = measured ?? estimated;
  $("panel-envelopes").classList.toggle("bare", !any);
  $("panel-compare").classList.toggle("bare", !(measured && estimated));
  if (any?.count) drawEnvelopes($("envelopes"), any, any.last, state.envelopeScales, state.marks.filter((mark) => mark.phase !== "end"));
  if (measured?.count && estimated?.count) {
    // up to where both are known: the estimate waits for the camera; one that has fallen silent is not waited for
    const behind = measured.last - estimated.last, end = behind > 600 || behind < -600 ? measured.last : Math.min(measured.last, estimated.last);
    drawCompare($("compare"), measured, estimated, end, state.compareScales, compared(measured, estimated, end));
  }
  chips();
}

let comparedDue = 0;
function compared(measured, estimated, end) {
  const now = performance.now();
  if (state.compared.length && now < comparedDue) return state.compared;
  comparedDue = now + 4000;
  const peaks = new Map();
  measured.each(end - WINDOW_S * 1000, (_, at) => measured.muscles.forEach((muscle, index) => {
    const value = measured.values[at + index];
    if (value > (peaks.get(muscle) ?? 0)) peaks.set(muscle, value);
  }));
  const best = [];
  for (const [muscle] of [...peaks].filter(([muscle]) => estimated.muscles.includes(muscle)).sort((a, b) => b[1] - a[1])) {
    if (!best.some((other) => spoken(other) === spoken(muscle))) best.push(muscle);
    if (best.length === 4) break;
  }
  if (best.length) state.compared = best;
  return state.compared;
}

function chips() {
  const { face, emg } = state.faces;
  const word = !face ? "" : face.status === "lost" ? "no face" : face.status === "silent" ? "silent"
    : face.status === "predicted" ? "carried by EMG" : `${ORIGINS[face.origin] ?? ""}, ${Math.round(100 * face.confidence)} %`;
  say("chip-face", word);
  $("panel-face").classList.toggle("faint", face?.status === "lost" || face?.status === "silent");
  say("chip-emg", emg && emg.status !== "silent" ? `${Math.round(100 * emg.confidence)} %` : emg ? "silent" : "");
  $("panel-emg").classList.toggle("bare", !emg);
  $("panel-emg").classList.toggle("faint", emg?.status === "silent");
  $("panel-camera").classList.toggle("bare", !state.drawn.camera);
  const measured = state.streams.measured;
  say("chip-muscles", measured ? strongest(measured) : state.streams.estimated ? "estimated" : "");
}

let strongestDue = 0, strongestWord = "";
function strongest(stream) {
  const now = performance.now();
  if (now < strongestDue) return strongestWord;
  strongestDue = now + 600;
  let best = -1;
  stream.activity.forEach((value, index) => { if (value > 0.25 && (best < 0 || value > stream.activity[best])) best = index; });
  strongestWord = best < 0 ? "at rest" : spoken(stream.muscles[best]);
  return strongestWord;
}

function say(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

// ---- figures -----------------------------------------------------------------------------------------------------------

const number = (value, digits = 0) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function contacts() {
  const stream = state.streams.measured ?? state.streams.estimated;
  if (!stream) return;
  const counts = { good: 0, fair: 0, poor: 0, soft: 0 };
  stream.quality.forEach((quality) => counts[judged(quality)]++);
  const poor = stream.muscles.filter((_, index) => judged(stream.quality[index]) === "poor");
  const chip = $("contact");
  chip.className = `chip ${counts.poor ? "poor" : counts.fair ? "fair" : counts.good ? "good" : ""}`;
  chip.textContent = counts.soft === stream.muscles.length ? "contact not judged yet"
    : poor.length ? `poor contact: ${poor.slice(0, 2).map((muscle) => muscle.replaceAll("_", " ")).join(", ")}${poor.length > 2 ? ` and ${poor.length - 2} more` : ""}`
    : counts.fair ? `${counts.good} good contacts, ${counts.fair} fair` : `${counts.good} good contacts`;
  $("contact-list").replaceChildren(...stream.muscles.map((muscle, index) => {
    const item = document.createElement("li");
    item.textContent = `${muscle.replaceAll("_", " ")}: ${{ good: "good", fair: "fair", poor: "poor", soft: "not judged" }[judged(stream.quality[index])]}`;
    return item;
  }));
}

function figures() {
  const { rates = {}, latency = {}, ages = {}, components = [], clocks = [], dropped = 0, lost = 0, viewer = {} } = state.status;
  const rows = [];
  const row = (name, value, bad = false) => rows.push([name, value, bad]);
  const rate = (port, name, late) => {
    if (!(port in rates)) return;
    row(name, `${number(rates[port], rates[port] < 10 ? 1 : 0)} Hz${late !== undefined && late !== null ? ` · ${number(late)} ms` : ""}`, rates[port] === 0 && state.hello?.live);
  };
  rate("camera/image_raw", "Camera");
  rate("face/vision", "Face by camera", latency["face/vision"]?.p50);
  rate("emg/activity", "Muscle activity", latency["emg/activity"]?.p50);
  rate("face/emg", "Face by EMG", latency["face/emg"]?.p50);
  rate("face/fused", "Fused face", state.hello?.live ? ages["face/fused"] : undefined);
  rate("muscles/estimated", "Estimated muscles");
  rate("animatronic/joint_trajectory", "Animatronic");
  if (viewer.shown_ms !== null && viewer.shown_ms !== undefined && state.hello?.live) row("Moment to pixels", `${number(viewer.shown_ms)} ms`, viewer.shown_ms > 150);
  rows.push(null);
  row("Pictures dropped", String(dropped), dropped > 0);
  row("EMG samples lost", String(lost), lost > 0);
  for (const { what, value } of clocks.slice(0, 3)) if (value !== null) row(what.replaceAll("_", " "), String(value));
  const { lag_ms: lag, lag_grade: grade } = state.hello?.facts ?? {};
  if (lag) row("Skin follows muscle by", `${number(lag)} ms (grade ${grade})`);
  if (state.events.length) rows.push(null);
  state.events.slice(-3).reverse().forEach((event) => row(...told(event)));
  const record = state.controlled.record;
  if (record?.recording) row("Recording", `${clock(record.seconds)} · ${number(record.megabytes, 1)} MB`);
  $("figures").replaceChildren(...rows.flatMap((entry) => {
    const name = document.createElement("dt");
    if (!entry) { name.className = "rule"; return [name]; }
    const value = document.createElement("dd");
    name.textContent = entry[0];
    value.textContent = entry[1];
    if (entry[2]) value.className = "bad";
    return [name, value];
  }), ...components.filter(({ level }) => level !== "ok").slice(0, 3).map(({ name, message }) => {
    const note = document.createElement("dd");
    note.className = "note";
    note.textContent = `${name}: ${message}`;
    return note;
  }));
  const troubled = components.some(({ level }) => level === "error" || level === "stale");
  if (document.body.dataset.state !== "lost") pulse(troubled ? "trouble" : "live", troubled ? "something is wrong" : state.hello?.live ? "live" : "from a recording");
  contacts();
  const spokenRow = (kind) => `${$(`panel-${kind}`).querySelector("b").textContent}: ${$(`chip-${kind}`).textContent || "nothing yet"}`;
  for (const kind of ["face", "emg", "muscles"]) $(kind).setAttribute("aria-label", spokenRow(kind));
  const stream = state.streams.measured;
  if (stream) $("envelopes").setAttribute("aria-label", `Envelopes of ${stream.muscles.length} channels; strongest now: ${strongest(stream)}`);
}

// a micro-expression in words: where, and what with the lead of the EMG: "Left lips", "happiness +62 ms"
function told({ label, regions, lead_ms: lead }) {
  const where = regions.length ? regions[0].split("_").reverse().join(" ") : "micro-expression";
  return [where[0].toUpperCase() + where.slice(1), lead === null ? label : `${label} ${lead < 0 ? "−" : "+"}${Math.abs(lead).toFixed(0)} ms`];
}

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

function health() {
  const table = document.createElement("table");
  table.innerHTML = "<thead><tr><th>Part</th><th>State</th><th>What it says</th></tr></thead>";
  const body = table.createTBody();
  for (const { name, level, message, values } of state.status.components ?? []) {
    const row = body.insertRow();
    for (const text of [name, level, ""]) row.insertCell().textContent = text;
    row.cells[1].className = level;
    const details = Object.entries(values).map(([key, value]) => `${key.replaceAll("_", " ")} ${value}`).join(" · ");
    row.cells[2].textContent = details ? `${message} (${details})` : message;
  }
  if ($("details").open) $("health").replaceChildren(table);
}

// ---- sizes and themes --------------------------------------------------------------------------------------------------

function theme(to) {
  if (to) document.documentElement.dataset.theme = to;
  refreshColours();
  size();
}

function size() {
  const player = state.controlled.player ?? state.hello?.controlled?.player;
  if (player) drawMarks($("marks"), state.hello?.facts?.markers ?? [], player.duration_s || 1);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
addEventListener("resize", size);
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  theme(dark ? "light" : "dark");
});
if (query.get("theme")) theme(query.get("theme"));
refreshColours();
requestAnimationFrame(scopes);
