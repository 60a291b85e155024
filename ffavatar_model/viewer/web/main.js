// Unpack, then draw whenever something changed.

const PIXELS = 2;                            // at most so many canvas pixels for one of the page's
const SHARES = [1, 0.8, 0.65, 0.5, 0.38];    // of those, while the head moves: the finest that keeps the rate
const SLOW_MS = 24, QUICK_MS = 18, PATIENCE = 6;

/** Resolution of the drawing: coarser after a few slow frames, finer after many quick ones. */
class Fineness {
  constructor() { Object.assign(this, { level: 0, slow: 0, quick: 0 }); }
  get share() { return SHARES[this.level]; }
  took(ms) {
    this.slow = ms > SLOW_MS ? this.slow + 1 + Math.min(3, ms / 100) : 0;
    this.quick = ms < QUICK_MS ? this.quick + 1 : 0;
    if (this.slow >= PATIENCE && this.level < SHARES.length - 1) Object.assign(this, { level: this.level + 1, slow: 0 });
    if (this.quick >= 40 * PATIENCE && this.level > 0) Object.assign(this, { level: this.level - 1, quick: 0 });
  }
}

async function main() {
  const notice = document.getElementById("notice");
  const data = await unpack(document.getElementById("avatar").textContent);
  const canvas = document.getElementById("stage"), renderer = new Renderer(canvas, data);
  const actor = new Actor(data.manifest), orbit = new Orbit();
  let dirty = true;
  const controls = new Controls(actor, orbit, () => { dirty = true; });
  about(data.manifest);
  notice.hidden = true;
  const times = [], rate = document.getElementById("rate"), fineness = new Fineness();
  let before = performance.now(), shown = 0, fine = false;

  const draw = (share) => {
    const ratio = Math.min(devicePixelRatio || 1, PIXELS) * share;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const parameters = actor.parameters(), [right, below] = controls.covered();
    const view = orbit.view(parameters.pose, data.manifest, width - ratio * right, height - ratio * below);
    renderer.draw({ ...parameters, ...view, background: GROUNDS[controls.ground] });
    fine = share === 1;
    controls.follow();
  };
  const frame = (now) => {
    requestAnimationFrame(frame);
    const moving = dirty || actor.moves, took = now - before;
    before = now;
    if (!moving && fine) { times.length = 0; return; }
    dirty = false;
    actor.advance(Math.min(0.25, took / 1000));
    if (moving && times.length) fineness.took(took);
    draw(moving ? fineness.share : 1);   // a still head is drawn at the screen's resolution
    times.push(now);
    if (times.length > 40) times.shift();
    if (now - shown > 500 && times.length > 2) {
      shown = now;
      const { sort_ms, pose_and_read_ms, draw_ms } = renderer.spent, fps = 1000 * (times.length - 1) / (now - times[0]);
      rate.textContent = `${Math.round(fps)} fps · sort ${sort_ms.toFixed(1)} ms · frame ${(sort_ms + pose_and_read_ms + draw_ms).toFixed(1)} ms`;
    }
  };
  requestAnimationFrame(frame);
  listen(actor, controls);

  /** For tests and scripts. `render`: one frame of a given size under given parameters, its pixels as base64 of RGBA. */
  window.ffavatar = {
    manifest: data.manifest, actor, orbit, controls, renderer,
    still: () => !dirty && !actor.moves && fine,
    redraw: () => draw(1),
    render({ expression, rotations, pose, size, background = [1, 1, 1], splatScale = 1 }) {
      Object.assign(canvas, { width: size, height: size });
      renderer.draw({ expression, rotations, ...new Orbit().view(pose, data.manifest, size, size), background, splatScale });
      dirty = true;
      const bytes = renderer.pixels();
      let text = "";
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return btoa(text);
    },
    time(count, request) {
      const all = [];
      for (let i = 0; i < count; i++) { const start = performance.now(); this.render(request); all.push({ ...renderer.spent, whole_ms: performance.now() - start }); }
      return all;
    },
  };
}

function about({ points, avatar }) {
  const said = [`${points.toLocaleString("en")} Gaussians`];
  if (avatar.licence) said.push(`licence: ${avatar.licence}`);
  if (avatar.consent) said.push(`consent: ${avatar.consent}`);
  document.getElementById("about").textContent = said.join(" · ");
}

/** Reads a driver's frames from the server, where the page is served with a driver. */
function listen(actor, controls) {
  const path = document.querySelector("meta[name=stream]").content;
  if (!path) return;
  actor.track.growing = true;
  const source = new EventSource(path);
  const ended = () => { source.close(); actor.track.growing = false; controls.follow(); };
  source.onmessage = (event) => {
    const { values, time_s, picture, live } = JSON.parse(event.data);
    actor.track.live = live;
    const first = !actor.track.frames.length;
    actor.addFrame(values, time_s, picture);
    if (first) controls.setPlaying(true);
  };
  source.addEventListener("end", ended);
  source.addEventListener("failed", (event) => {
    ended();
    const notice = document.getElementById("notice");
    notice.textContent = event.data;
    notice.hidden = false;
  });
}

main().catch((error) => {
  const notice = document.getElementById("notice");
  notice.hidden = false;
  notice.textContent = error.message;
  console.error(error);
});
