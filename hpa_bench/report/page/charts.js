// The charts, drawn as SVG from the numbers in the page: no library, since what these need of one is a scale and a
// path. Colours come from the stylesheet by class; names are set as texts, never as markup.
"use strict";
window.hpaCharts = (() => {
  // The namespace is read from an element, so that the page names no address.
  const NS = document.getElementById("blank").namespaceURI;
  const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  const ruler = document.createElement("canvas").getContext("2d");
  const number = (value, signed) =>
    ((signed && value > 0.049 ? "+" : "") + (Math.round(value * 10) / 10 + 0).toFixed(1)).replace("-", "−");
  const withInterval = ([value, low, high], signed) => `${number(value, signed)} [${number(low)}, ${number(high)}]`;

  function make(parent, tag, attributes = {}, text) {
    const node = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function html(parent, tag, properties = {}) {
    const node = Object.assign(document.createElement(tag), properties);
    parent.append(node);
    return node;
  }
  function wide(text) {
    ruler.font = FONT;
    return ruler.measureText(text).width;
  }
  const cut = (text, room) => {
    if (wide(text) <= room) return text;
    let end = text.length;
    while (end > 1 && wide(text.slice(0, end) + "…") > room) end -= 1;
    return text.slice(0, end) + "…";
  };

  // Scales and axes.
  function scale([low, high], [from, to], bend = (x) => x) {
    const [a, b] = [bend(low), bend(high)];
    return (value) => from + ((bend(Math.min(Math.max(value, low), high)) - a) / (b - a || 1)) * (to - from);
  }
  function ticks(low, high, count) {
    const raw = (high - low) / count || 1;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((by) => by * size).find((by) => by >= raw * 0.999);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(Math.round(at * 1e6) / 1e6);
    return found;
  }
  function padded(values, share, [least, most]) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = Math.max((high - low) * share, 1);
    return [Math.max(least, low - room), Math.min(most, high + room)];
  }
  function axes(svg, box, x, y, xs, ys, titles) {
    for (const at of ys) {
      make(svg, "line", { class: "grid", x1: box.left, x2: box.right, y1: y(at), y2: y(at) });
      make(svg, "text", { class: "soft", x: box.left - 7, y: y(at) + 4, "text-anchor": "end" }, String(at).replace("-", "−"));
    }
    for (const at of xs) {
      make(svg, "line", { class: "grid", x1: x(at), x2: x(at), y1: box.top, y2: box.bottom });
      make(svg, "text", { class: "soft", x: x(at), y: box.bottom + 17, "text-anchor": "middle" }, String(at).replace("-", "−"));
    }
    make(svg, "line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
    if (titles.x) make(svg, "text", { class: "soft", x: box.right, y: box.bottom + 35, "text-anchor": "end" }, titles.x);
    if (titles.y) make(svg, "text", { class: "soft", x: 0, y: box.top - 10 }, titles.y);
  }
  function canvas(figure, height) {
    const place = figure.querySelector(".canvas");
    place.querySelector("svg")?.remove();
    const width = Math.max(place.clientWidth, 260);
    const svg = make(place, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", tabindex: 0 });
    svg.setAttribute("aria-label", place.getAttribute("aria-label") + ". Arrow keys go from point to point.");
    return [svg, width];
  }
  // As few rows of panels as fit, all of the same length.
  function panels(count, most) {
    const rows = Math.ceil(count / Math.max(1, Math.min(count, Math.floor(most))));
    return [Math.ceil(count / rows), rows];
  }
  // A point says what it is on hover and to a screen reader, and knows the samples behind it.
  function point(svg, said, query, classes = "") {
    const node = make(svg, "g", { class: `point ${classes}`, role: "img", "aria-label": said.join(", ") });
    node.tip = said.join("\n");
    node.query = query;
    return node;
  }

  // Accuracy against safety.
  function plane(figure, data, shown) {
    const points = data.plane.points
      .map(([x, y], index) => ({ x, y, index, of: data.methods[index] }))
      .filter(({ x, y, of }) => x && y && shown(of));
    const place = figure.querySelector(".canvas");
    const [svg, width] = canvas(figure, Math.round(Math.min(540, Math.max(340, place.clientWidth * 0.76))));
    if (!points.length) return;
    const box = { left: 38, right: width - 12, top: 26, bottom: svg.viewBox.baseVal.height - 44 };
    const xs = padded(points.map(({ x }) => x[0]), 0.1, [-1000, 1000]);
    const ys = [0, Math.min(100, Math.max(...points.map(({ y }) => y[0])) * 1.12 + 1)];
    // Where most crowd near 0, a square-root axis gives them room and still holds 0.
    const low = points.filter(({ y }) => y[0] < ys[1] / 4).length;
    const bent = low > points.length / 2 && points.length > 5;
    const x = scale(xs, [box.left, box.right]);
    const y = scale(ys, [box.bottom, box.top], bent ? Math.sqrt : undefined);
    const marks = bent ? [0, 1, 5, 10, 20, 40, 60, 80, 100].filter((at) => at <= ys[1]) : ticks(0, ys[1], 6);
    const titles = { x: "AP, % (more is better →)", y: `MASR, % (less is better ↓)${bent ? ", square-root axis" : ""}` };
    axes(svg, box, x, y, ticks(...xs, width > 500 ? 8 : 5), marks, titles);
    for (const { method, sd } of data.plane.floor) {
      const at = points.find(({ index }) => index === method);
      if (!at) continue;
      const [left, right] = [x(at.x[0] - 2 * sd[0]), x(at.x[0] + 2 * sd[0])];
      const [top, bottom] = [y(at.y[0] + 2 * sd[1]), y(at.y[0] - 2 * sd[1])];
      make(svg, "rect", { class: "floor", x: left, y: top, width: right - left, height: bottom - top });
    }
    const front = data.plane.front.map((index) => points.find((one) => one.index === index)).filter(Boolean);
    const path = front.map(({ x: a, y: b }, i) => (i ? `V${y(b[0])}H${x(a[0])}` : `M${x(a[0])},${y(b[0])}`));
    if (front.length > 1) make(svg, "path", { class: "front", d: path.join("") });
    const first = (one) => (one.of.kind === "reference" ? 0 : data.plane.front.includes(one.index) ? 1 : one.of.method === "hpa" ? 0 : 2);
    const labels = make(svg, "g");
    for (const one of [...points].sort((a, b) => first(b) - first(a))) {
      const { x: a, y: b, of, index } = one;
      const said = [of.label, `AP ${withInterval(a)}`, `MASR ${withInterval(b)}`];
      const node = point(svg, said, { part: data.anchor, method: of.label, stage: of.last }, `k-${of.kind}`);
      const [px, py] = [x(a[0]), y(b[0])];
      make(node, "line", { class: "bars", x1: x(a[1]), x2: x(a[2]), y1: py, y2: py });
      make(node, "line", { class: "bars", x1: px, x2: px, y1: y(b[1]), y2: y(b[2]) });
      const full = of.kind !== "reference" && data.plane.front.includes(index);
      make(node, "circle", { class: full ? "mark full" : "mark", cx: px, cy: py, r: 4.5 });
      Object.assign(one, { px, py });
    }
    label(labels, [...points].sort((a, b) => first(a) - first(b)), box, front.map(({ index }) => index));
    svg.append(labels);
  }
  // Each name beside its point, at the nearest place that meets no other name and no point; else none.
  function label(parent, points, box, front) {
    const taken = points.map(({ px, py }) => [px - 5, py - 5, px + 5, py + 5]);
    const meets = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
    for (const { px, py, of, index } of points) {
      const text = cut(of.label, 150);
      const w = wide(text) + (front.includes(index) || of.method === "hpa" ? 6 : 2);
      const places = [];
      for (const away of [8, 16, 26, 38, 52]) {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0.7, -0.9], [0.7, 0.9], [-0.7, -0.9], [-0.7, 0.9], [0, -1], [0, 1]]) {
          const left = px + dx * away + (dx > 0 ? 0 : dx < 0 ? -w : -w / 2);
          const middle = py + dy * (away + 3);
          places.push([left, middle - 7, left + w, middle + 7, away]);
        }
      }
      const free = (spot) => spot[0] > box.left && spot[2] < box.right + 8 && spot[1] > box.top - 6 && spot[3] < box.bottom + 2 &&
        !taken.some((other) => meets(spot, other));
      const spot = places.find(free);
      if (!spot) continue;
      taken.push(spot);
      if (spot[4] > 16) {
        const end = [Math.min(Math.max(px, spot[0]), spot[2]), Math.min(Math.max(py, spot[1] + 3), spot[3] - 3)];
        make(parent, "line", { class: "lead-line", x1: px, y1: py, x2: end[0], y2: end[1] });
      }
      const strong = front.includes(index) || of.method === "hpa" ? 600 : 400;
      make(parent, "text", { class: "halo", x: spot[0], y: spot[3] - 3, "font-weight": strong, "pointer-events": "none" }, text);
    }
  }

  // Numbers over the stages: one panel a set, a line a chosen method.
  function curves(figure, data, kinds) {
    const drawn = data.curves.filter(({ kind }) => kinds.includes(kind));
    const chosen = figure.chosen ?? (figure.chosen = new Set(data.chosen));
    choose(figure, data, chosen, () => curves(figure, data, kinds));
    const place = figure.querySelector(".canvas");
    const [columns, rows] = panels(drawn.length, place.clientWidth / 270);
    const [svg, width] = canvas(figure, rows * 205 + 22);
    const each = width / columns;
    const last = Math.max(...data.methods.map(({ trained }) => trained.at(-1)), 1);
    const values = drawn.flatMap((curve) => [...chosen].flatMap((index) => curve.values[index])).filter(Boolean);
    const most = Math.max(100, ...values.map(([value]) => value));
    drawn.forEach((curve, panel) => {
      const [left, top] = [(panel % columns) * each, Math.floor(panel / columns) * 205];
      const box = { left: left + 34, right: left + each - 14, top: top + 26, bottom: top + 170 };
      const [x, y] = [scale([0, last], [box.left, box.right]), scale([0, most], [box.bottom, box.top])];
      const bottom = panel + columns >= columns * rows || panel + columns >= drawn.length;
      axes(svg, box, x, y, ticks(0, last, Math.min(last, 6)), ticks(0, most, 4), { x: bottom ? "tasks trained" : "" });
      make(svg, "text", { x: box.left, y: top + 14, "font-weight": 600 }, cut(curve.title, each - 50));
      [...chosen].forEach((index, at) => line(svg, data, curve, index, at, x, y));
    });
  }
  function line(svg, data, curve, index, at, x, y) {
    const of = data.methods[index];
    const found = curve.values[index].map((cell, stage) => ({ cell, stage })).filter(({ cell }) => cell);
    if (!found.length) return;
    const px = ({ stage }) => x(of.trained[stage]);
    const group = make(svg, "g", { style: `--k: var(--c${at % 8})` });
    const [lows, highs] = [1, 2].map((side) => found.map((one) => `${px(one)},${y(one.cell[side])}`));
    make(group, "polygon", { class: "band", points: [...highs, ...lows.reverse()].join(" ") });
    make(group, "polyline", { class: "line", points: found.map((one) => `${px(one)},${y(one.cell[0])}`).join(" "), "stroke-dasharray": ["", "6 3", "2 2", "8 3 2 3"][at % 4] });
    for (const one of found) {
      const { cell, stage } = one;
      const kind = curve.set === "all" ? (curve.judge ? "safety" : "task") : "";
      const query = { part: data.anchor, method: of.label, stage, set: curve.set, kind, judge: curve.judge };
      const node = point(group, [of.label, `${curve.title}, stage ${stage} (${of.stages[stage] || "aligned"}): ${withInterval(cell)}`], query);
      make(node, "circle", { class: "mark full", cx: px(one), cy: y(cell[0]), r: 2.6 });
      if (of.tasks[stage].includes(curve.set)) make(node, "circle", { class: "ring", cx: px(one), cy: y(cell[0]), r: 6 });
    }
  }
  // The chosen methods as chips that a press takes away, and a list to add others.
  function choose(figure, data, chosen, draw) {
    const row = figure.querySelector(".controls") ?? controls(figure);
    row.replaceChildren();
    [...chosen].forEach((index, at) => {
      const name = data.methods[index].label;
      const chip = html(row, "button", { type: "button", className: "chip", title: "take away" });
      chip.style.setProperty("--k", `var(--c${at % 8})`);
      html(chip, "i", { className: "dot" });
      chip.append(`${name} ×`);
      chip.setAttribute("aria-label", `Take ${name} out of the figure`);
      chip.addEventListener("click", () => (chosen.delete(index), draw(), row.querySelector("select").focus()));
    });
    const list = select(row, "Add a method", data.methods.map(({ label: text }, index) => [index, text]).filter(([index]) => !chosen.has(index)));
    list.disabled = chosen.size >= 8;
    list.addEventListener("change", () => (chosen.add(Number(list.value)), draw(), row.querySelector("select").focus()));
  }
  function controls(figure) {
    const row = document.createElement("div");
    row.className = "controls";
    figure.prepend(row);
    return row;
  }
  function select(parent, title, options) {
    const list = html(parent, "select");
    list.setAttribute("aria-label", title);
    html(list, "option", { textContent: `${title} …`, value: "", disabled: true, selected: true });
    for (const [value, text] of options) html(list, "option", { value, textContent: text });
    return list;
  }

  // Paired differences to one method.
  function pairs(figure, data, shown) {
    const { columns, minus } = data.pairs;
    const against = figure.against ?? (figure.against = data.pairs.reference);
    const row = figure.querySelector(".controls") ?? controls(figure);
    if (!row.firstChild) {
      row.append("Every method minus ");
      const list = select(row, "another method", data.methods.map(({ label: text }, index) => [index, text]));
      list.value = against;
      list.addEventListener("change", () => ((figure.against = Number(list.value)), figure.redraw()));
    }
    const rows = data.methods
      .map((of, index) => ({ of, index, cells: minus[against][index] }))
      .filter(({ of, cells }) => cells && cells.some(Boolean) && shown(of));
    rows.sort((a, b) => (b.cells[0]?.[0] ?? -1e9) - (a.cells[0]?.[0] ?? -1e9));
    const gutter = Math.min(190, Math.max(60, ...rows.map(({ of }) => wide(of.label) + 24)));
    const place = figure.querySelector(".canvas");
    const [across, down] = panels(columns.length, (place.clientWidth - gutter) / 165);
    const high = rows.length * 20 + 62;
    const [svg, width] = canvas(figure, down * high);
    const each = (width - gutter) / across;
    columns.forEach((column, panel) => {
      const [left, top] = [gutter + (panel % across) * each, Math.floor(panel / across) * high];
      const box = { left: left + 10, right: left + each - 10, top: top + 30, bottom: top + 30 + rows.length * 20 };
      const found = rows.map(({ cells }) => cells[panel]).filter(Boolean);
      if (panel % across === 0) {
        rows.forEach(({ of }, at) => {
          make(svg, "circle", { class: `mark full k-${of.kind}`, cx: 5, cy: box.top + at * 20 + 10, r: 3.5 });
          make(svg, "text", { x: 14, y: box.top + at * 20 + 14 }, cut(of.label, gutter - 16));
        });
      }
      const arrow = { higher: "→ better", lower: "← better", "": "" }[column.better];
      make(svg, "text", { x: box.left, y: top + 14, "font-weight": 600 }, `${column.title} ${arrow}`);
      if (!found.length) return make(svg, "text", { class: "soft", x: box.left, y: box.top + 14 }, "not defined");
      const x = scale(padded([0, ...found.flatMap(([, a, b]) => [a, b])], 0.04, [-1000, 1000]), [box.left, box.right]);
      const ends = padded([0, ...found.flatMap(([, a, b]) => [a, b])], 0.04, [-1000, 1000]);
      for (const at of ticks(...ends, each > 170 ? 4 : 3)) {
        make(svg, "line", { class: at ? "grid" : "axis", x1: x(at), x2: x(at), y1: box.top, y2: box.bottom });
        make(svg, "text", { class: "soft", x: x(at), y: box.bottom + 16, "text-anchor": "middle" }, String(at).replace("-", "−"));
      }
      rows.forEach(({ of, cells }, at) => cells[panel] && forest(svg, data, column, of, cells[panel], x, box.top + at * 20 + 10, against));
    });
  }
  function forest(svg, data, column, of, [value, low, high, told], x, y, against) {
    const good = column.better && (value > 0) === (column.better === "higher");
    const colour = !told ? "var(--soft)" : column.better ? (good ? "var(--better)" : "var(--worse)") : "var(--ink)";
    const said = [`${of.label} minus ${data.methods[against].label}`, `${column.title} ${withInterval([value, low, high], true)}`, told ? "told from 0" : "not told from 0"];
    const node = point(svg, said, { part: data.anchor, method: of.label, stage: of.last, set: column.set, judge: column.judge });
    node.setAttribute("style", `--k: ${colour}`);
    make(node, "line", { class: "bars", x1: x(low), x2: x(high), y1: y, y2: y, style: "opacity:.65" });
    make(node, "circle", { class: told ? "mark full" : "mark", cx: x(value), cy: y, r: 4 });
  }

  const kinds = { accuracy: ["task"], safety: ["safety"] };
  function draw(figure, data, shown) {
    const kind = figure.dataset.chart;
    figure.redraw = () => {
      if (kind === "plane") plane(figure, data, shown);
      else if (kind === "pairs") pairs(figure, data, shown);
      else curves(figure, data, kinds[kind]);
    };
    figure.redraw();
  }
  return { draw };
})();
