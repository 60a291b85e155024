// The panel, the presets and the ways to turn the head: mouse, touch, keyboard.

const GROUNDS = { White: [1, 1, 1], Grey: [0.62, 0.64, 0.67], Dark: [0.085, 0.088, 0.1] };
const GROUPS = { brow: "Brows", eye: "Eyes and lids", cheek: "Cheeks and nose", nose: "Cheeks and nose", jaw: "Jaw", mouth: "Mouth", tongue: "Mouth" };
const UNNAMED_SLIDERS = 20;

/** "mouthSmileLeft" → "smile, left" below the heading Mouth. */
function spoken(name) {
  const words = name.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().split(" ");
  const side = ["left", "right"].includes(words[words.length - 1]) && words.length > 2 ? words.pop() : "";
  return words.slice(words.length > 1 && GROUPS[words[0]] ? 1 : 0).join(" ") + (side ? `, ${side}` : "");
}

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

class Controls {
  constructor(actor, orbit, changed) {
    Object.assign(this, { actor, orbit, changed, ground: "White", resets: [] });
    this.stage = document.getElementById("stage");
    this.panel = document.getElementById("panel");
    this.toggle = document.getElementById("toggle");
    this.buildPanel();
    this.buildPresets();
    this.buildTrack();
    this.listen();
    for (const id of ["toggle", "bar"]) document.getElementById(id).hidden = false;
    this.showPanel(innerWidth > 1000);
  }

  buildPanel() {
    const groups = new Map();
    const group = (title, open = false) => {
      if (!groups.has(title)) {
        const details = make("details", { open }, make("summary", { textContent: title }));
        this.panel.append(details);
        groups.set(title, details);
      }
      return groups.get(title);
    };
    const joint = (title, label, name, axis, low, high) => this.slider(group(title, title === "Jaw, eyes, neck"), label, low, high,
      () => this.actor.joints[name][axis], (v) => { this.actor.joints[name][axis] = v; });
    joint("Jaw, eyes, neck", "Jaw open", "jaw", 0, -0.02, 0.4);
    joint("Jaw, eyes, neck", "Jaw sideways", "jaw", 1, -0.15, 0.15);
    joint("Jaw, eyes, neck", "Eyes left and right", "eyes", 1, -0.5, 0.5);
    joint("Jaw, eyes, neck", "Eyes up and down", "eyes", 0, -0.35, 0.35);
    joint("Jaw, eyes, neck", "Neck turn", "neck", 1, -0.5, 0.5);
    joint("Jaw, eyes, neck", "Neck nod", "neck", 0, -0.35, 0.35);
    joint("Jaw, eyes, neck", "Neck tilt", "neck", 2, -0.35, 0.35);
    const strength = (title, label, name, low, high) => this.slider(group(title), label, low, high,
      () => this.actor.sliders[name] || 0, (v) => { this.actor.sliders[name] = v; });
    if (this.actor.named)
      for (const { name } of this.actor.manifest.actions) {
        const kind = Object.keys(GROUPS).find((key) => name.startsWith(key));
        strength(kind ? GROUPS[kind] : "Other", spoken(name), name, 0, 1);
      }
    else for (let i = 1; i <= Math.min(UNNAMED_SLIDERS, this.actor.manifest.expressions); i++) strength("Expression", `ψ${i}`, `ψ${i}`, -3, 3);

    const view = group("View");
    const orbit = (label, low, high, key) => this.slider(view, label, low, high, () => this.orbit[key], (v) => { this.orbit[key] = v; });
    orbit("Turn", -Math.PI / 2, Math.PI / 2, "yaw");
    orbit("Height", -0.6, 0.6, "pitch");
    orbit("Zoom", 0.4, 3, "zoom");
    const grounds = make("div", { className: "grounds" });
    for (const [name, rgb] of Object.entries(GROUNDS)) {
      const button = make("button", { title: `${name} background`, ariaLabel: `${name} background` });
      button.style.background = css(rgb);
      button.onclick = () => this.setGround(name);
      button.dataset.ground = name;
      grounds.append(button);
    }
    view.append(grounds);
    const reset = make("button", { textContent: "Reset everything", title: "Reset (R)", onclick: () => this.reset() });
    const keys = make("p", { className: "keys" });
    keys.innerHTML = "<kbd>drag</kbd> or <kbd>← → ↑ ↓</kbd> turn · <kbd>scroll</kbd> or <kbd>+ −</kbd> zoom · <kbd>1</kbd>–<kbd>6</kbd> presets · <kbd>space</kbd> play · <kbd>C</kbd> controls · <kbd>0</kbd> view · <kbd>R</kbd> reset";
    this.panel.append(make("details", { open: false }, make("summary", { textContent: "Keys" }), keys), reset);
    this.setGround("White");
  }

  slider(group, label, low, high, get, set) {
    const id = `s${this.resets.length}`, start = get();
    const input = make("input", { id, type: "range", min: low, max: high, step: (high - low) / 200, value: start });
    const output = make("output");
    const show = () => { output.textContent = (+input.value || 0).toFixed(2).replace(/^-(0\.00)$/, "$1"); };
    input.oninput = () => { set(+input.value); show(); this.changed(); };
    input.ondblclick = () => { input.value = start; input.oninput(); };
    this.resets.push(() => { input.value = start; set(start); show(); });
    (this.refreshers ||= []).push(() => { if (document.activeElement !== input) { input.value = get(); show(); } });
    show();
    const text = make("label", { textContent: label, htmlFor: id });
    group.append(make("div", { className: "control" }, text, output, input));
  }

  buildPresets() {
    const bar = document.getElementById("presets");
    for (const name of Object.keys(this.actor.presets)) {
      const button = make("button", { textContent: name, onclick: () => this.preset(name) });
      button.dataset.preset = name;
      bar.append(button);
    }
    this.preset("Rest");
  }

  preset(name) {
    this.actor.play(name);
    for (const button of document.querySelectorAll("#presets button")) button.ariaPressed = String(button.dataset.preset === name);
    this.changed();
  }

  buildTrack() {
    this.play = document.getElementById("play");
    this.scrub = document.getElementById("scrub");
    this.play.onclick = () => this.setPlaying(!this.actor.playing);
    this.scrub.oninput = () => {
      this.setPlaying(false);
      this.actor.held = true;
      this.actor.playhead = +this.scrub.value * this.actor.length;
      this.changed();
    };
    this.setPlaying(this.actor.playing);
  }

  setPlaying(playing) {
    this.actor.playing = playing && this.actor.track.frames.length > 0;
    this.actor.held = this.actor.track.frames.length > 0;
    this.play.textContent = this.actor.playing ? "❚❚" : "▶";
    this.changed();
  }

  /** Show the values of the current frame; called after each frame. */
  follow() {
    const { track, length, playhead, frame } = this.actor;
    const element = document.getElementById("track");
    element.hidden = !track.frames.length;
    if (!track.frames.length) return;
    if (document.activeElement !== this.scrub || this.actor.playing) this.scrub.value = length ? playhead / length : 0;
    document.getElementById("clock").textContent = `${playhead.toFixed(1)} / ${length.toFixed(1)} s${track.growing ? " …" : ""}`;
    const picture = track.pictures && track.pictures[frame], image = document.getElementById("driver");
    image.hidden = !picture;
    if (picture && image.src !== picture) image.src = picture;
  }

  setGround(name) {
    this.ground = name;
    document.documentElement.dataset.ground = name.toLowerCase();
    document.documentElement.style.setProperty("--ground", css(GROUNDS[name]));
    for (const button of document.querySelectorAll(".grounds button")) button.ariaPressed = String(button.dataset.ground === name);
    this.changed();
  }

  /** Pixels at the right and below that the panel and the bar take from the stage. */
  covered() {
    const beside = !this.panel.hidden && innerWidth > 760;
    return [beside ? innerWidth - this.panel.offsetLeft : 0, Math.min(96, innerHeight - document.getElementById("bar").offsetTop)];
  }

  showPanel(shown) {
    this.panel.hidden = !shown;
    this.changed();
    this.toggle.ariaExpanded = String(shown);
  }

  reset() {
    this.resets.forEach((undo) => undo());
    this.orbit.reset();
    this.actor.held = false;
    this.setPlaying(false);
    this.actor.held = false;
    this.preset("Rest");
    this.refresh();
  }

  refresh() { this.refreshers.forEach((show) => show()); this.changed(); }

  listen() {
    const held = new Map();
    let apart = 0;
    this.toggle.onclick = () => this.showPanel(this.panel.hidden);
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      held.set(event.pointerId, [event.clientX, event.clientY]);
      apart = 0;
    });
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, (event) => held.delete(event.pointerId));
    this.stage.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      held.set(event.pointerId, [event.clientX, event.clientY]);
      if (held.size === 1) this.turn((event.clientX - before[0]) / 220, -(event.clientY - before[1]) / 220);
      else {
        const [a, b] = [...held.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) this.zoom(now / apart);
        apart = now;
      }
    });
    this.stage.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 900)); }, { passive: false });
    this.stage.addEventListener("dblclick", () => { this.orbit.reset(); this.refresh(); });
    addEventListener("resize", () => this.changed());
    addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.tagName === "INPUT";
    const step = 0.06, name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const turns = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (turns[name] && !typing) this.turn(...turns[name]);
    else if ((name === "+" || name === "=") && !typing) this.zoom(1.1);
    else if (name === "-" && !typing) this.zoom(1 / 1.1);
    else if (name === "0") { this.orbit.reset(); this.refresh(); }
    else if (name === "r") this.reset();
    else if (name === "c") this.showPanel(this.panel.hidden);
    else if (name === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "SUMMARY") this.setPlaying(!this.actor.playing);
    else if (/^[1-9]$/.test(name) && Object.keys(this.actor.presets)[name - 1]) this.preset(Object.keys(this.actor.presets)[name - 1]);
    else return;
    event.preventDefault();
  }

  turn(yaw, pitch) {
    this.orbit.yaw = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, this.orbit.yaw + yaw));
    this.orbit.pitch = Math.max(-0.6, Math.min(0.6, this.orbit.pitch + pitch));
    this.refresh();
  }

  zoom(factor) { this.orbit.zoom = Math.max(0.4, Math.min(3, this.orbit.zoom * factor)); this.refresh(); }
}

const css = (rgb) => `rgb(${rgb.map((x) => Math.round(255 * x)).join(" ")})`;
