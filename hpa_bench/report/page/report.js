// What the page does: tabs, one choice of methods for all tables and figures, sorting, hovers, the way to the samples.
"use strict";
(() => {
  const page = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  page.classList.add("js");

  // Tabs: one panel at a time; the address names what is shown, so that it can be sent and gone back to.
  const panels = all(".panel");
  const drawn = new Map();
  function show(panel) {
    for (const other of panels) other.classList.toggle("on", other === panel);
    for (const tab of all('[role="tab"]')) {
      const on = panel && tab.getAttribute("aria-controls") === panel.id;
      tab.setAttribute("aria-selected", String(Boolean(on)));
      tab.tabIndex = on ? 0 : -1;
    }
    for (const nav of all(".side nav")) nav.hidden = !panel || nav.dataset.for !== panel.id;
    one(".bar").hidden = !panel || !one("[data-m]", panel);
    const tab = panel ? one(`[aria-controls="${panel.id}"]`).textContent : "Samples";
    const others = panels.length > 1 ? ". The other parts of the page are not printed, and of this one only what is open." : "";
    one(".printed span").textContent = `: ${tab}${others}`;
    if (panel) enhance(panel);
  }
  function go() {
    const hash = decodeURIComponent(location.hash.slice(1).split("?")[0]);
    const samples = one("#samples");
    const asked = hash === "samples" && samples && window.hpaSamples;
    if (samples) samples.hidden = !asked;
    if (asked) {
      show(null);
      return window.hpaSamples(Object.fromEntries(new URLSearchParams(location.hash.split("?")[1] ?? "")));
    }
    const target = document.getElementById(hash);
    const panel = target?.closest(".panel") ?? (hash ? current() : null) ?? panels[0];
    const hidden = !panel.classList.contains("on");
    show(panel);
    target?.closest("details")?.setAttribute("open", "");
    if (target && target !== panel && !/-main$|^across$|^tuned$|^definitions$/.test(hash)) target.scrollIntoView();
    else if (hidden || target) window.scrollTo(0, 0);
  }
  one(".tabs").addEventListener("keydown", (event) => {
    const tabs = all('[role="tab"]');
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const at = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : tabs.indexOf(document.activeElement) + step;
    if (Number.isNaN(at)) return;
    event.preventDefault();
    tabs[(at + tabs.length) % tabs.length].focus();
    location.hash = new URL(document.activeElement.href).hash;
  });

  // One choice of methods, by name and by kind, for every table and figure.
  const filter = { words: [], off: new Set() };
  const shown = ({ label, kind }) => !filter.off.has(kind) && filter.words.every((word) => label.toLowerCase().includes(word));
  function apply(panel) {
    for (const row of all("[data-m][data-k]", panel)) row.hidden = !shown({ label: row.dataset.m, kind: row.dataset.k });
    for (const figure of all(".chart", panel)) figure.redraw?.();
    const methods = drawn.get(panel.id)?.methods;
    one(".count").textContent = methods ? `${methods.filter(shown).length} of ${methods.length} methods` : "";
  }
  const current = () => one(".panel.on");
  one(".find input").addEventListener("input", (event) => {
    filter.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    apply(current());
  });
  for (const chip of all(".chips .chip")) {
    chip.addEventListener("click", () => {
      const { kind } = chip.dataset;
      if (!filter.off.delete(kind)) filter.off.add(kind);
      chip.setAttribute("aria-pressed", String(!filter.off.has(kind)));
      apply(current());
    });
  }
  one('[data-switch="intervals"]').addEventListener("click", (event) => {
    const on = page.classList.toggle("intervals");
    event.currentTarget.setAttribute("aria-pressed", String(on));
  });

  // A panel is made ready when it is first shown.
  function enhance(panel) {
    if (!drawn.has(panel.id)) {
      const data = one(`[id="${panel.id}-data"]`);
      drawn.set(panel.id, data ? JSON.parse(data.textContent) : null);
      for (const table of all(".table table", panel)) sortable(table);
    }
    const data = drawn.get(panel.id);
    if (data) for (const figure of all(".chart", panel)) if (!figure.redraw) window.hpaCharts.draw(figure, data, shown);
    apply(panel);
  }
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width || !current()) return;
    width = window.innerWidth;
    for (const figure of all(".chart", current())) figure.redraw?.();
  });

  // Sorting: by a number, what has none last; by a name; a second press turns it round. Fixed rows stay on top.
  function sortable(table) {
    const heads = all("thead tr:last-child th", table);
    if (table.closest(".matrix") || table.tBodies[0].rows.length < 3) return;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, heads, column));
    });
  }
  function sort(table, heads, column) {
    const head = heads[column];
    const before = head.getAttribute("aria-sort");
    const better = /↓/.test(head.textContent) || !head.classList.contains("num") ? 1 : -1;
    const way = before ? (before === "ascending" ? -1 : 1) : better;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const numeric = head.classList.contains("num");
    const keyed = [...table.tBodies[0].rows].map((row, place) => ({ row, place, key: keyOf(row.cells[column], numeric) }));
    keyed.sort((a, b) => {
      const fixed = b.row.classList.contains("fixed") - a.row.classList.contains("fixed");
      if (fixed || a.key === b.key) return fixed || a.place - b.place;
      if (a.key === null || b.key === null) return a.key === null ? 1 : -1;
      return way * (numeric ? a.key - b.key : a.key.localeCompare(b.key));
    });
    table.tBodies[0].append(...keyed.map(({ row }) => row));
  }
  function keyOf(cell, numeric) {
    const text = (cell?.firstElementChild ?? cell)?.textContent ?? "";
    if (!numeric) return cell.textContent.trim() || null;
    const found = cell?.dataset.v ?? cell?.textContent.replace("−", "-").replace(/,/g, "").match(/^\s*[#+-]?\s*[\d.]+/)?.[0].replace("#", "");
    return found === undefined || found === "" || text === "–" || Number.isNaN(Number(found)) ? null : Number(found);
  }

  // Hovers: of a cell its interval, sd and n; of a point what it is.
  const tip = one("#tip");
  function about(node) {
    const held = node.closest(".point");
    if (held) return held.tip;
    const cell = node.closest("td");
    if (!cell) return "";
    if (cell.title) {
      cell.dataset.about = cell.title;
      cell.removeAttribute("title");
    }
    const row = cell.closest("tr")?.querySelector("th")?.textContent ?? "";
    const said = all(".more", cell).map((each) => each.textContent).filter(Boolean);
    if (!said.length && !cell.dataset.about) return "";
    return [`${row}  ${cell.firstElementChild?.textContent ?? cell.textContent}`, said.join("  "), cell.dataset.about].filter(Boolean).join("\n");
  }
  function say(node, x, y) {
    const text = about(node);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { width: w, height: h } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, window.innerWidth - w - 8))}px`;
    tip.style.top = `${y + h + 24 > window.innerHeight ? y - h - 12 : y + 16}px`;
  }
  const under = (node) => say(node, node.getBoundingClientRect().right - 8, node.getBoundingClientRect().bottom - 12);
  document.addEventListener("pointermove", (event) => event.target.closest && say(event.target, event.clientX, event.clientY));
  document.addEventListener("focusin", (event) => event.target.closest("td, .point") && under(event.target));
  document.addEventListener("scroll", () => (tip.hidden = true), true);

  // Every number leads to its samples, where the page has them: by a click, or by Enter on a cell or a point.
  function samplesOf(node) {
    const held = node.closest(".point");
    if (held) return held.query;
    const [cell, table] = [node.closest("td"), node.closest("table")];
    const row = cell?.closest("tr");
    if (!row?.dataset.m || !table.dataset.part) return null;
    const head = all("thead tr:last-child th", table)[cell.cellIndex];
    if (!head?.dataset.kind || head.dataset.kind === "update" || cell.classList.contains("absent")) return null;
    const { set, judge } = head.dataset;
    const kind = set === "all" ? head.dataset.kind : "";
    const methods = drawn.get(table.closest(".panel").id)?.methods ?? [];
    const stage = row.dataset.stage ?? methods.find(({ label }) => label === row.dataset.m)?.last;
    return { part: table.dataset.part, method: row.dataset.m, stage, set, kind, judge };
  }
  function open(node) {
    const query = window.hpaSamples && samplesOf(node);
    if (!query) return;
    const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
    location.hash = `samples?${new URLSearchParams(kept)}`;
  }
  document.addEventListener("click", (event) => event.target.closest("td, .point") && open(event.target));
  if (window.hpaSamples) {
    document.addEventListener("pointerover", (event) => {
      const node = event.target.closest?.("td, .point");
      if (node) node.classList.toggle("leads", Boolean(samplesOf(node)));
    });
  }

  // Arrow keys walk over the cells of a table and the points of a figure that has the focus.
  document.addEventListener("keydown", (event) => {
    const node = document.activeElement;
    if (event.key === "Escape") tip.hidden = true;
    if (event.key === "Enter" && node.closest("td, .point")) return open(node);
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    const next = node.closest("svg, .point") ? nextPoint(node, step[0] + step[1]) : nextCell(node, step);
    if (!next) return;
    event.preventDefault();
    if (node.closest("td, .point")) node.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  function nextPoint(node, by) {
    const points = all(".point", node.closest("svg"));
    const at = points.indexOf(node);
    return points[(at + by + points.length) % points.length];
  }
  function nextCell(node, [down, across]) {
    if (node.matches(".wide") && node.scrollWidth <= node.clientWidth && down + across > 0) return one("tbody td", node);
    const cell = node.closest("td");
    if (!cell) return null;
    let row = cell.parentElement;
    if (across) return across > 0 ? cell.nextElementSibling : cell.previousElementSibling?.closest("td");
    do row = down > 0 ? row.nextElementSibling : row.previousElementSibling;
    while (row?.hidden);
    return row?.cells[cell.cellIndex]?.closest("td");
  }

  window.addEventListener("hashchange", go);
  go();
})();
