// Sources of the head's parameters: sliders, animated presets, a driver's track. All give one set of parameters.

/** Strengths of named facial actions by preset, as functions of seconds. Only those that the head has are played. */
const PRESETS = {
  Rest: () => ({}),
  Smile: () => both("mouthSmile", 1, "cheekSquint", 0.6, "mouthDimple", 0.2),
  Blink: (t) => both("eyeBlink", pulse(t % 1.8, 0.35)),
  Surprise: () => ({ ...both("browOuterUp", 1, "eyeWide", 0.9), browInnerUp: 1, jawOpen: 0.45 }),
  Frown: () => both("browDown", 1, "mouthFrown", 0.8, "noseSneer", 0.3),
  Talk: (t) => {
    const open = Math.max(0, 0.32 * Math.sin(9.1 * t) + 0.25 * Math.sin(5.3 * t + 1) + 0.1);
    const round = Math.max(0, Math.sin(3.7 * t + 0.5));
    return {
      ...both("eyeBlink", pulse((t + 0.4) % 3.1, 0.3), "mouthSmile", 0.25 + 0.15 * Math.sin(0.9 * t), "mouthLowerDown", 0.5 * open),
      jawOpen: open, mouthFunnel: 0.45 * round, mouthPucker: 0.25 * round * Math.max(0, Math.sin(2.3 * t)),
      browInnerUp: 0.35 * Math.max(0, Math.sin(1.3 * t)),
    };
  },
};
/** Joint and axis to radians, for heads whose expression directions have no names. */
const JOINT_PRESETS = {
  Rest: () => ({}),
  Talk: (t) => ({ "jaw 0": 0.06 + Math.max(0, 0.16 * Math.sin(9.1 * t) + 0.1 * Math.sin(5.3 * t)), "neck 1": 0.05 * Math.sin(0.8 * t) }),
  "Look around": (t) => ({ "eyes 0": 0.12 * Math.sin(0.9 * t), "eyes 1": 0.3 * Math.sin(1.3 * t), "neck 1": 0.12 * Math.sin(1.3 * t - 0.4) }),
};
const QUICK = { Blink: 0.02, Talk: 0.03 };
const GLIDE = 0.12;   // seconds to go most of the way from one preset to the next

const pulse = (t, width) => (t < width ? Math.sin(Math.PI * t / width) ** 2 : 0);
function both(...pairs) {
  const out = {};
  for (let i = 0; i < pairs.length; i += 2) for (const side of ["Left", "Right"]) out[pairs[i] + side] = pairs[i + 1];
  return out;
}

class Actor {
  constructor(manifest) {
    this.manifest = manifest;
    this.named = manifest.actions.length > 0;
    this.presets = this.named ? PRESETS : JOINT_PRESETS;
    this.actions = new Map(manifest.actions.map((action) => [action.name, action]));
    this.sliders = {};                        // strength by action's name, or coefficient by "ψ1" and so on
    this.joints = { neck: [0, 0, 0], jaw: [0, 0, 0], eyes: [0, 0, 0] };
    this.preset = "Rest";
    this.seconds = 0;                         // since the preset began
    this.acted = {};                          // strengths that are played now
    this.settled = true;
    this.track = manifest.track ? { ...manifest.track, frames: [...manifest.track.frames] } : { times_s: [], frames: [], pictures: [] };
    this.playing = this.track.frames.length > 0;
    this.playhead = 0;
  }

  get length() { const t = this.track.times_s; return t.length ? t[t.length - 1] + (t.length > 1 ? (t[t.length - 1] - t[0]) / (t.length - 1) : 0.04) : 0; }
  get frame() {
    const times = this.track.times_s;
    let i = 0;
    for (let high = times.length - 1; i < high;) { const middle = (i + high + 1) >> 1; if (times[middle] <= this.playhead) i = middle; else high = middle - 1; }
    return i;
  }
  get moves() { return this.playing || !this.settled; }

  addFrame(frame, time, picture) {
    this.track.frames.push(frame);
    this.track.times_s.push(time);
    (this.track.pictures ||= []).push(picture);
    if (this.track.live) for (const list of [this.track.frames, this.track.times_s, this.track.pictures]) list.splice(0, list.length - 1);
  }

  play(preset) { Object.assign(this, { preset, seconds: 0, settled: false }); }

  advance(seconds) {
    this.seconds += seconds;
    const wanted = this.presets[this.preset](this.seconds), share = 1 - Math.exp(-seconds / (QUICK[this.preset] || GLIDE));
    this.settled = this.presets[this.preset].length === 0;   // a preset without motion is still once it is reached
    for (const name of new Set([...Object.keys(this.acted), ...Object.keys(wanted)])) {
      const before = this.acted[name] || 0, left = (wanted[name] || 0) - before;
      this.acted[name] = before + left * share;
      if (Math.abs(left) > 1e-3) this.settled = false;
    }
    if (!this.playing || !this.length) return;
    if (this.track.live) { this.playhead = this.length; return; }
    this.playhead += seconds;
    if (this.playhead >= this.length) this.playhead = this.track.growing ? this.length : this.playhead % this.length;
  }

  /** Return the present {expression, rotations, pose}. */
  parameters() {
    const m = this.manifest, expression = new Float64Array(m.expressions), rotations = m.joints.map(() => [0, 0, 0]);
    let pose = m.start_pose;
    if (this.track.frames.length && (this.playing || this.held)) {
      const values = this.track.frames[this.frame], e = values.length - 24;   // 15 of the joints, 9 of the pose
      for (let i = 0; i < Math.min(e, m.expressions); i++) expression[i] = values[i];
      rotations.forEach((r, j) => { for (let c = 0; c < 3; c++) r[c] = values[e + 3 * j + c]; });
      pose = values.slice(e + 15);
    }
    const strengths = this.named ? { ...this.sliders } : {};
    if (this.named) for (const [name, value] of Object.entries(this.acted)) strengths[name] = Math.min(1, (strengths[name] || 0) + value);
    else for (const [name, value] of Object.entries(this.sliders)) expression[+name.slice(1) - 1] += value;
    for (const [name, value] of Object.entries(strengths)) {
      const action = this.actions.get(name);
      if (!action || !value) continue;
      for (let i = 0; i < expression.length; i++) expression[i] += value * action.expression[i];
      action.rotations.forEach((r, j) => { for (let c = 0; c < 3; c++) rotations[j][c] += value * r[c]; });
    }
    const turned = { neck: [1], jaw: [2], eyes: [3, 4] };
    for (const [joint, indices] of Object.entries(turned))
      for (const j of indices) for (let c = 0; c < 3; c++) rotations[j][c] += this.joints[joint][c] + (this.named ? 0 : this.acted[`${joint} ${c}`] || 0);
    return { expression, rotations, pose };
  }
}

/** Orbit camera: turned about the head, nearer or farther, starting from the pose. */
class Orbit {
  constructor() { this.reset(); }
  reset() { this.yaw = 0; this.pitch = 0; this.zoom = 1; this.pan = [0, 0]; }

  /** {camera, K} for the top left width × height pixels of a canvas: the shorter side shows what the square image shows. */
  view(pose, manifest, width, height) {
    const side = Math.min(width, height), focal = manifest.focal_in_widths * side;
    const square = poseToCamera(pose, { fx: focal, fy: focal, cx: side / 2, cy: side / 2 }, side);
    const K = { fx: focal, fy: focal, cx: width / 2, cy: height / 2 };
    if (!this.yaw && !this.pitch && this.zoom === 1 && !this.pan[0] && !this.pan[1]) return { camera: square, K };
    const rest = poseToCamera(manifest.start_pose, { fx: focal, fy: focal, cx: side / 2, cy: side / 2 }, side);
    const centre = add(apply(rest.turn, [0, -0.02, -0.07]), rest.shift);   // the middle of the head
    const turn = multiply(rotationMatrix([this.pitch, 0, 0]), rotationMatrix([0, this.yaw, 0]));
    const away = [centre[0] + this.pan[0], centre[1] + this.pan[1], centre[2] / this.zoom];
    return { camera: { turn: multiply(turn, square.turn), shift: add(apply(turn, subtract(square.shift, centre)), away) }, K };
  }
}
