"use strict";
(() => {
  const all = (query, inside = document) => [...inside.querySelectorAll(query)];
  document.documentElement.classList.add("scripted");

  const sheet = document.querySelector(".sheet");
  const people = sheet ? all("details", sheet) : [];
  const shown = () => people.filter((person) => !person.hidden);
  const filter = document.querySelector("#find");
  const splits = all("[data-split]");
  const said = document.querySelector("#found");

  function apply() {
    const split = splits.find((button) => button.getAttribute("aria-pressed") === "true")?.dataset.split ?? "";
    const words = filter.value.trim().toLowerCase();
    for (const person of people) {
      person.hidden = (split && person.dataset.of !== split) || !person.id.slice(2).startsWith(words);
    }
    said.textContent = `${shown().length} of ${people.length} shown`;
  }
  for (const button of splits) {
    button.addEventListener("click", () => {
      for (const other of splits) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
  }
  filter?.addEventListener("input", apply);

  const sections = all("main > section[id]");
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const current = () => sections.filter((section) => section.getBoundingClientRect().top < 120).pop();
  const mark = () => {
    const now = current()?.id;
    for (const [id, link] of links) id === now ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  };
  addEventListener("scroll", mark, { passive: true });
  mark();

  function step(by) {
    const at = sections.indexOf(document.activeElement.closest("main > section[id]") ?? current() ?? sections[0]) + by;
    const next = sections[Math.max(0, Math.min(sections.length - 1, at))];
    next.scrollIntoView();
    const heading = next.querySelector("h2");
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
  function walk(by) {
    const open = shown().map((person) => person.querySelector("summary"));
    const at = open.indexOf(document.activeElement);
    if (at < 0) return false;
    open[Math.max(0, Math.min(open.length - 1, at + by))].focus();
    return true;
  }
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") {
      for (const open of all(".sheet > details[open], .reasons > details[open]")) open.open = false;
      if (document.activeElement === filter) filter.blur();
      return;
    }
    if (document.activeElement === filter) return;
    const done = { j: () => step(1), k: () => step(-1), "/": () => filter?.focus() }[event.key];
    const moved = event.key === "ArrowRight" ? walk(1) : event.key === "ArrowLeft" ? walk(-1) : false;
    if (done) done();
    if (done || moved) event.preventDefault();
  });
  addEventListener("beforeprint", () => { for (const open of all(".sheet > details[open]")) open.open = false; });
})();
