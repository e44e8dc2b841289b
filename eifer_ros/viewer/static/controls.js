// Buttons, dialogs and keys.

const $ = (id) => document.getElementById(id);
const clock = (s, tenths = false) => `${Math.floor(s / 60)}:${(tenths ? (s % 60).toFixed(1) : String(Math.floor(s % 60))).padStart(tenths ? 4 : 2, "0")}`;
const PHASES = { prepare: "Get ready", repeat: "Once more", perform: "Hold it", relax: "Relax", done: "Done", failed: "It did not work" };
const PLAY = "M5 3l8 5-8 5z", PAUSE = "M4 3h3v10H4zM9 3h3v10H9z";

export class Controls {
  constructor(wire, state) {
    this.wire = wire;
    this.state = state;
    this.has = new Set();
    this.dragging = false;
    this.buttons();
    this.keys();
  }

  /** Show what this run offers. */
  offer({ controls, movements, controlled }) {
    this.has = new Set(controls);
    this.state.controlled = { ...controlled };
    for (const [id, name] of [["calibrate", "calibrate"], ["record", "record"], ["mark", "record"], ["arm", "arm"]]) $(id).hidden = !this.has.has(name);
    $("halt").hidden = !this.has.has("arm");
    $("deck").hidden = !this.has.has("player");
    $("estimator").hidden = !(this.has.has("estimator"));
    if (this.has.has("calibrate") && !$("wizard-plan").childElementCount) {
      $("wizard-plan").replaceChildren(...movements.map(({ name }) => {
        const item = document.createElement("li"), image = document.createElement("img");
        image.loading = "lazy";
        image.dataset.src = image.src = `movement/${name}.jpg`;
        image.alt = "";
        item.append(image, name.replaceAll("-", " ").toLowerCase());
        return item;
      }));
    }
    this.movements = movements;
    this.show(controlled);
  }

  /** New states of controls. */
  show(states) {
    if (states.record) this.showRecord(states.record);
    if (states.player) this.showPlayer(states.player);
    if (states.calibrate) this.showWizard(states.calibrate);
    if (states.arm) this.showArm(states.arm);
    if (states.estimator) this.showEstimator(states.estimator);
  }

  showRecord({ recording, seconds, message }) {
    $("record").setAttribute("aria-pressed", String(recording));
    $("record-word").textContent = recording ? clock(seconds) : "Record";
    if (!recording && this.wasRecording && message && message !== "saving") { this.toast(message); this.wasRecording = false; }
    this.wasRecording ||= recording;
  }

  showPlayer({ playing, position_s: position, duration_s: duration, loop, speed, ended }) {
    $("play-shape").setAttribute("d", playing ? PAUSE : PLAY);
    $("play").setAttribute("aria-label", playing ? "Pause" : ended ? "Play again" : "Play");
    $("position").textContent = clock(position, true);
    $("duration").textContent = clock(duration);
    $("seek").max = duration;
    if (!this.dragging) $("seek").value = position;
    $("seek").setAttribute("aria-valuetext", `${position.toFixed(0)} of ${duration.toFixed(0)} seconds`);
    $("loop").setAttribute("aria-pressed", String(loop));
    $("speed").value = String(speed);
  }

  showArm({ name, state, message }) {
    const disarmed = /disarm|released|idle|stopped|unknown/i.test(state);
    this.armed = !disarmed;
    $("arm-word").textContent = disarmed ? "Arm" : "Release";
    $("arm").setAttribute("aria-pressed", String(!disarmed));
    $("halt").classList.toggle("calm", disarmed);
    $("arm").title = `${name}: ${state}`;
    $("arming-what").textContent = `${name} is ${state}. Armed, it follows the face on this page.`;
    this.armMessage = message;
  }

  showEstimator({ chosen, choices, used, reason }) {
    const select = $("estimator-choice");
    if (select.options.length !== choices.length) select.replaceChildren(...choices.map((name) => new Option(name, name)));
    for (const option of select.options) {
      // where the machine chooses, say what it chose
      const text = option.value === chosen && used && used !== chosen ? `${chosen}: ${used}` : option.value;
      if (option.text !== text) option.text = text;
    }
    if (document.activeElement !== select || select.dataset.busy !== "yes") select.value = chosen;
    select.title = reason ? `${used || chosen}: ${reason}` : "";
    select.disabled = choices.length < 2;
  }

  showWizard(state) {
    const open = $("wizard").open, begun = Boolean(state.phase) && (state.running || this.wizardBegun);
    $("wizard-start").hidden = begun;
    $("wizard-run").hidden = !begun;
    if (state.running && !open) $("wizard").showModal();
    if (!begun) return;
    this.wizardBegun = true;
    const set = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
    $("wizard-run").dataset.phase = state.phase;
    set("wizard-phase", PHASES[state.phase] ?? state.phase);
    set("wizard-text", state.phase === "done" && state.file ? `${state.text} Saved as ${state.file}.` : state.text);
    set("wizard-advice", state.advice ?? "");
    const resting = state.phase === "relax" || !state.running;
    const source = `movement/${resting ? "Face-At-Rest" : state.movement}.jpg`;
    if (!$("wizard-picture").src.endsWith(source)) {
      $("wizard-picture").src = source;
      $("wizard-picture").alt = resting ? "the head at rest" : `the head doing: ${state.movement}`;
    }
    const remaining = state.running ? state.remaining_s : 0;
    this.phaseLength = this.phase === state.phase + state.movement ? Math.max(this.phaseLength, remaining) : remaining;
    this.phase = state.phase + state.movement;
    const share = this.phaseLength ? 1 - remaining / this.phaseLength : 1;
    $("wizard-arc").style.strokeDashoffset = String(100 - 100 * share);
    set("wizard-count", state.running ? String(Math.ceil(remaining)) : state.phase === "done" ? "✓" : "×");
    $("wizard-progress").value = state.progress;
    if ($("wizard-takes").childElementCount !== state.takes.length) {
      $("wizard-takes").replaceChildren(...state.takes.map(({ movement, accepted, advice }) => {
        const item = document.createElement("li");
        item.textContent = `${accepted ? "✓" : "↻"} ${movement.replaceAll("-", " ").toLowerCase()}`;
        if (!accepted) { item.className = "again"; item.title = advice; }
        return item;
      }));
    }
    $("wizard-cancel").textContent = state.running ? "End calibration" : "Close";
  }

  async press(control, verb, values, quiet = false) {
    const { ok, text } = await this.wire.command(control, verb, values);
    if (!ok) this.toast(text, true);
    else if (text && !quiet) this.toast(text);
    return ok;
  }

  toast(text, bad = false) {
    const box = $("toast");
    box.textContent = text;
    box.className = `shown${bad ? " bad" : ""}`;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => { box.className = ""; }, bad ? 6000 : 3200);
  }

  buttons() {
    $("record").addEventListener("click", () => this.press("record", this.state.controlled.record?.recording ? "stop" : "start"));
    $("mark").addEventListener("click", () => { $("marking-label").value = ""; $("marking").showModal(); $("marking-label").focus(); });
    $("marking-no").addEventListener("click", () => $("marking").close());
    $("marking-form").addEventListener("submit", () => this.press("record", "mark", { label: $("marking-label").value || "note" }));
    $("calibrate").addEventListener("click", () => {
      if (!this.state.controlled.calibrate?.running) { this.wizardBegun = false; $("wizard-start").hidden = false; $("wizard-run").hidden = true; }
      $("wizard").showModal();
    });
    $("wizard-go").addEventListener("click", () => {
      this.wizardBegun = true;
      this.press("calibrate", "start", { participant: $("wizard-name").value, repetitions: Number($("wizard-times").value) || 1 }, true).then((ok) => { this.wizardBegun = ok; });
    });
    $("wizard-cancel").addEventListener("click", () => {
      if (this.state.controlled.calibrate?.running) this.press("calibrate", "cancel");
      else { this.wizardBegun = false; $("wizard").close(); }
    });
    $("wizard").addEventListener("cancel", (event) => { if (this.state.controlled.calibrate?.running) event.preventDefault(); });
    $("arm").addEventListener("click", () => {
      if (this.armed) { this.press("arm", "release"); return; }
      this.press("arm", "ask", {}, true);
      $("arming").showModal();
    });
    $("arming-no").addEventListener("click", () => $("arming").close());
    $("arming-yes").addEventListener("click", () => { $("arming").close(); this.press("arm", "arm"); });
    $("halt").addEventListener("click", () => this.press("arm", "stop"));
    $("estimator-choice").addEventListener("change", async (event) => {
      const select = event.target;
      select.dataset.busy = "yes"; // loading networks takes a moment, in which the old one is still in use
      const ok = await this.press("estimator", "choose", { name: select.value });
      select.dataset.busy = "no";
      if (!ok) select.value = this.state.controlled.estimator?.chosen ?? select.value;
    });
    $("help").addEventListener("click", () => $("details").showModal());
    $("play").addEventListener("click", () => this.play());
    $("loop").addEventListener("click", () => this.press("player", "loop", { on: !this.state.controlled.player?.loop }));
    $("speed").addEventListener("change", (event) => this.press("player", "speed", { factor: Number(event.target.value) }));
    $("seek").addEventListener("input", (event) => { this.dragging = true; $("position").textContent = clock(Number(event.target.value), true); });
    $("seek").addEventListener("change", (event) => { this.dragging = false; this.seek(Number(event.target.value)); });
  }

  play() {
    this.press("player", this.state.controlled.player?.playing ? "pause" : "play", {}, true);
  }

  seek(to) {
    this.press("player", "seek", { position_s: to }, true);
  }

  keys() {
    addEventListener("keydown", (event) => {
      const typing = event.target.closest("input:not([type=range]), select, textarea");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat && event.key === " ") return;
      const key = event.key.toLowerCase();
      if (key === "s" && this.has.has("arm")) { $("halt").click(); return; }
      if (document.querySelector("dialog[open]")) return;
      const player = this.state.controlled.player;
      if (key === " " && this.has.has("player") && !event.target.closest("button")) { event.preventDefault(); this.play(); }
      else if ((key === "arrowleft" || key === "arrowright") && player && event.target.id !== "seek") this.seek(player.position_s + (key === "arrowleft" ? -2 : 2));
      else if (key === "r" && this.has.has("record")) $("record").click();
      else if (key === "m" && this.has.has("record")) { event.preventDefault(); $("mark").click(); }
      else if (key === "c" && this.has.has("calibrate")) $("calibrate").click();
      else if (key === "t") $("theme").click();
      else if (key === "?") $("help").click();
    });
  }
}
