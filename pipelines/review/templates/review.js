"use strict";
const by = (id) => document.getElementById(id);
const make = (name, className, text) => Object.assign(document.createElement(name), { className: className || "", textContent: text || "" });
const counted = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;
const state = { cases: [], snapshot: "", at: 0, shown: null, turn: 0, saving: null, held: "" };

async function ask(path, body) {
  const how = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  const answer = await fetch(path, how);
  const said = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(said.error), { status: answer.status });
  return said;
}

const unanswered = "The server does not answer; is `ffavatar review` still running?";
const lost = (error) => tell(error.status ? error.message : unanswered, true);

function tell(text, wrong) {
  by("said").textContent = text;
  by("said").className = wrong ? "wrong" : "";
}

const tiles = () => [...document.querySelectorAll(".track")];
const away = (tile) => tile.dataset.away === "true";
const marked = () => tiles().filter((tile) => tile.getAttribute("aria-pressed") === "true");

function buttons() {
  const chosen = marked(), owners = new Set(chosen.map((tile) => tile.dataset.identity));
  const pair = state.shown && state.shown.people.length > 1;
  by("merge").hidden = !pair;
  by("accept").disabled = by("merge").disabled = !state.shown || chosen.length > 0;
  by("split").disabled = owners.size !== 1 || chosen.some(away);
  by("take").hidden = !tiles().some(away);
  by("take").disabled = !chosen.length || !chosen.every(away);
  by("accept-text").textContent = pair ? "Two people" : "One person";
  by("split-text").textContent = owners.size > 1 ? "Split off: mark tracks of one person at a time"
    : chosen.length ? `Split off ${counted(chosen.length, "track")}` : "Split off";
  by("previous").disabled = state.at === 0;
  by("next").disabled = state.at >= state.cases.length;
}

function mark(tile) {
  tile.setAttribute("aria-pressed", String(tile.getAttribute("aria-pressed") !== "true"));
  state.held = "";
  buttons();
}

function tileOf(track, person) {
  const tile = make("button", "track");
  tile.dataset.track = track.track_id;
  tile.dataset.identity = person.identity_id;
  tile.dataset.away = track.away;
  tile.setAttribute("aria-pressed", "false");
  const faces = make("span", track.faces.length > 1 ? "faces" : "faces one");
  for (const face of track.faces) faces.append(Object.assign(make("img"), { src: `face/${face}`, alt: "" }));
  const alike = track.similarity === null ? "" : ` · ${track.similarity.toFixed(2)} alike`;
  tile.append(faces, make("small", "place", `${track.file}, frame ${track.frame}`),
    make("small", "", `${Math.round(track.width_px)} px${alike}`));
  if (track.said) tile.append(make("small", "word", track.said));
  tile.title = track.uri || "";
  tile.addEventListener("click", () => mark(tile));
  return tile;
}

function personOf(person) {
  const block = make("div", "person"), head = make("h3");
  head.append(make("code", "", person.identity_id.slice(0, 12)));
  const rest = person.n_tracks - person.tracks.length;
  head.append(make("small", "", ` ${counted(person.n_tracks, "track")}${rest ? `, ${person.tracks.length} shown: those without a word and the least alike first` : ""}`));
  const grid = make("div", "tracks");
  const all = person.tracks.map((track) => tileOf(track, person));
  grid.append(...all.filter((tile) => !away(tile)), ...all.filter(away));
  block.append(head, grid);
  return block;
}

async function show(at) {
  const turn = ++state.turn;
  state.at = Math.max(0, Math.min(at, state.cases.length));
  state.held = "";
  state.shown = null;
  by("people").replaceChildren();
  by("progress").value = state.cases.length ? state.at / state.cases.length : 1;
  if (state.at === state.cases.length) {
    by("count").textContent = "";
    by("why").textContent = "";
    by("question").textContent = state.cases.length ? "That was the last one." : "Nobody needs an eye.";
    by("facts").textContent = "`ffavatar publish` makes a snapshot in which the decisions hold. You can close this page.";
  } else {
    const found = await ask(`case/${state.at}`);
    if (turn !== state.turn) return;  // another case was requested meanwhile
    state.shown = found;
    const pair = found.people.length > 1, score = found.score === null ? "" : `${pair ? "similarity" : "cohesion"} ${found.score.toFixed(2)}`;
    by("count").textContent = `${state.at + 1} of ${state.cases.length}`;
    by("why").textContent = found.why;
    by("question").textContent = pair ? "Are these one person?" : "Is this one person?";
    by("facts").textContent = [found.question, score, ...found.merged].filter(Boolean).join(" · ");
    by("people").className = pair ? "pair" : "";
    by("people").append(...found.people.map(personOf));
  }
  buttons();
  window.scrollTo(0, 0);
  (tiles()[0] || by("question")).focus({ preventScroll: true });
}

async function restart() {
  const found = await ask("cases");
  Object.assign(state, { cases: found.cases, snapshot: found.snapshot });
  by("snapshot").textContent = found.snapshot;
  await show(0);
}

/* While a decision is being saved, no other is accepted, since its case is about to be replaced. Back and Skip wait. */
function decide(kind) {
  if (state.saving || !state.shown || by(kind).disabled || by(kind).hidden) return;
  state.saving = save(kind).finally(() => { state.saving = null; });
}

async function save(kind) {
  const people = state.shown.people;
  const chosen = kind === "accept" ? tiles().filter((tile) => !away(tile)) : marked(), saves = kind === "take" ? "accept" : kind;
  const wanted = kind === "merge" ? [{ kind, identity_id: people[0].identity_id, other_id: people[1].identity_id }]
    : people.map((person) => ({ kind: saves, identity_id: person.identity_id,
        track_ids: chosen.filter((tile) => tile.dataset.identity === person.identity_id).map((tile) => tile.dataset.track) }))
      .filter((one) => one.track_ids.length);
  let saved = {};
  try {
    for (const one of wanted) saved = await ask("decide", { ...one, overrule: state.held === kind });
  } catch (error) {
    state.held = error.status === 409 ? kind : "";
    tell(error.status ? error.message : `${unanswered} Nothing was saved.`, true);
    if (error.status === 410) await restart().catch(lost);
    return;
  }
  const number = wanted.reduce((sum, one) => sum + (one.track_ids || []).length, 0);
  tell({ accept: `Accepted: ${counted(number, "track")}.`, split: `Split off: ${counted(number, "track")}, as another person.`, merge: "Merged: one person.", take: `Taken back: ${counted(number, "track")}.` }[kind]);
  await (saved.snapshot !== state.snapshot ? restart() : show(kind === "split" || kind === "take" ? state.at : state.at + 1)).catch(lost);
}

function step(key) {
  const all = tiles(), from = document.activeElement, here = all.indexOf(from);
  if (here < 0) return all.length && all[0].focus();
  const box = from.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const next = all[here + (key === "ArrowRight" ? 1 : -1)];
    return next && next.focus();
  }
  const down = key === "ArrowDown" ? 1 : -1;
  const far = (tile) => { const b = tile.getBoundingClientRect(); return { dx: Math.abs(b.left + b.width / 2 - x), dy: (b.top + b.height / 2 - y) * down, tile }; };
  const nearest = all.map(far).filter((one) => one.dy > box.height / 2).sort((a, b) => a.dy + 2 * a.dx - b.dy - 2 * b.dx)[0];
  if (nearest) nearest.tile.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !event.key.startsWith("Arrow")) return;
  const key = event.key;
  const does = { a: () => decide("accept"), s: () => decide("split"), m: () => decide("merge"), t: () => decide("take"), n: () => skip(1), p: () => skip(-1),
    Escape: () => { marked().forEach(mark); state.held = ""; tell(""); } }[key.length === 1 ? key.toLowerCase() : key];
  if (key.startsWith("Arrow")) step(key);
  else if (does) does();
  else return;
  event.preventDefault();
});
async function skip(by_) {
  await state.saving;
  if (by(by_ > 0 ? "next" : "previous").disabled) return;
  tell("");
  await show(state.at + by_).catch(lost);
}
for (const kind of ["accept", "split", "merge", "take"]) by(kind).addEventListener("click", () => decide(kind));
by("next").addEventListener("click", () => skip(1));
by("previous").addEventListener("click", () => skip(-1));
restart().catch(lost);
