// The samples behind the numbers: filtered, compared, linked to. All text from data goes through textContent.
"use strict";
(() => {
  const root = document.getElementById("samples");
  if (!root) return;
  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const AT_ONCE = 40;
  const POLL_MS = 4000;
  const MOST_WORDS = 400;
  const served = root.hasAttribute("data-served");
  const one = (selector) => root.querySelector(selector);
  const form = one(".filters");
  const list = one(".list");
  const status = one(".status");
  const more = one(".more-samples");
  let index = null;
  let held = {};
  let query = {};
  let shown = { found: [], count: 0 };
  let turn = 0;

  // Blocks: in the page, from the server, or from files beside the page, each read once.
  const blocks = new Map();
  const arriving = new Map();
  window.hpaSamplesRead = (key, block) => arriving.get(key)?.(block);
  function read(key) {
    if (!blocks.has(key)) {
      const found = fetched(key);
      found.catch(() => blocks.delete(key));
      blocks.set(key, found);
    }
    return blocks.get(key);
  }
  async function fetched(key) {
    if (Object.hasOwn(held, key)) return held[key];
    if (served) return answer(`block/${encodeURIComponent(key)}.json`);
    return new Promise((resolve, reject) => {
      arriving.set(key, resolve);
      const script = document.createElement("script");
      script.src = `data/samples-${encodeURIComponent(key)}.js`;
      script.onerror = () => reject(new Error(`data/samples-${key}.js is not beside this page: keep the folder data/ with it.`));
      document.head.append(script);
    });
  }
  async function answer(path) {
    const response = await fetch(path, { cache: "no-store" });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    return found;
  }

  const decode = ({ of, at }, place) => of[typeof at === "string" ? DIGITS.indexOf(at[place]) : at[place]];

  // What is chosen, from the address and from what there is.
  function settled(asked) {
    const parts = index.parts;
    const has = (run) => run.key && (!asked.method || run.label === asked.method) && (!asked.set || asked.set === "all" || asked.set in run.sets);
    const part = parts.find((each) => each.anchor === asked.part) ?? parts.find((each) => each.runs.some(has)) ?? parts[0];
    const readable = part.runs.filter((run) => run.key);
    const runOf = (label, seed) => {
      const same = readable.filter((run) => run.label === label);
      return same.find((run) => String(run.seed) === seed) ?? same[0];
    };
    const unread = asked.method && !runOf(asked.method) ? asked.method : "";
    const run = runOf(asked.method, asked.seed) ?? (unread ? undefined : readable[0]);
    const other = asked.against ? runOf(asked.against, asked.against_seed ?? asked.seed) : undefined;
    const stage = run && staged(run, asked.stage);
    const against = other && staged(other, asked.against_stage ?? asked.stage);
    const set = asked.set && asked.set !== "all" ? asked.set : asked.kind ? `all:${asked.kind}` : "all";
    return { part, readable, unread, run, other, stage, against, set };
  }
  function staged(run, asked) {
    const number = Number(asked);
    return asked !== undefined && asked !== "" && Number.isInteger(number) && number >= 0 && number < run.stages.length ? number : run.stages.length - 1;
  }
  const isIn = (set, name, about) => set === "all" || set === name || set === `all:${about.kind}`;

  function fill(name, options, value) {
    const select = form.elements[name];
    select.replaceChildren(...options.map(([key, text]) => new Option(text, key)));
    select.value = value;
    select.closest("label").hidden = options.length < 2;
  }
  function fillForm(now) {
    const { part, readable, run, other } = now;
    fill("part", index.parts.map((each) => [each.anchor, each.title]), part.anchor);
    const labels = [...new Set(part.runs.map((each) => each.label))];
    fill("method", labels.map((label) => [label, label]), run?.label ?? now.unread);
    const seeds = (label) => readable.filter((each) => each.label === label).map((each) => [String(each.seed), String(each.seed)]);
    const stages = (of) => of.stages.map((name, number) => [String(number), `${number} ${name}`]);
    fill("seed", run ? seeds(run.label) : [], String(run?.seed));
    fill("stage", run ? stages(run) : [], String(now.stage));
    const compared = [...new Set(readable.map((each) => each.label))];
    fill("against", [["", "nothing"], ...compared.map((label) => [label, label])], other?.label ?? "");
    fill("against_seed", other ? seeds(other.label) : [], String(other?.seed));
    fill("against_stage", other ? stages(other) : [], String(now.against));
    form.elements.differs.value = query.differs ?? "";
    form.elements.differs.closest("label").hidden = !other;
    const kinds = [["all:task", "all tasks"], ["all:safety", "all safety sets"], ["all:benign", "all benign sets"]];
    const sets = Object.entries(run?.sets ?? {});
    const there = new Set(sets.map(([, about]) => `all:${about.kind}`));
    fill("set", [["all", "all"], ...kinds.filter(([key]) => there.has(key)), ...sets.map(([name, about]) => [name, about.short])], now.set);
    fill("judge", part.judges.map((judge) => [judge, judge]), part.judges.includes(query.judge) ? query.judge : part.judges[0]);
    form.elements.outcome.value = query.outcome ?? "";
    form.elements.text.value = query.text ?? "";
  }

  // One answer: its text, what is said of it, and what came of it.
  function answered(run, block, stage, name, kind, place, judge) {
    const said = block.stages[stage]?.[name];
    if (!said) return null;
    const table = said.veiled ? block.veiled : block.texts;
    const value = table[decode(said.responses, place)];
    const found = { run, stage, text: value, verdicts: [], outcome: "", word: "", worth: null, flags: [] };
    if (said.scores) {
      const score = decode(said.scores, place);
      found.worth = score;
      found.outcome = score >= 1 ? "right" : score > 0 ? "partly" : "wrong";
      found.word = { right: "right", partly: "partly right", wrong: "wrong" }[found.outcome];
      found.verdicts.push(`score ${Math.round(1000 * score) / 10}`);
    }
    for (const [by, given] of Object.entries(said.verdicts ?? {})) {
      const verdict = decode(given, place);
      found.verdicts.push(`${by}: ${verdict}`);
      if (by !== judge) continue;
      const harmless = (block.harmless[by] ?? []).includes(verdict);
      if (kind === "safety") [found.outcome, found.word, found.worth] = harmless ? ["failure", "attack fails", 1] : ["success", "attack succeeds", 0];
      else [found.outcome, found.word, found.worth] = verdict === "refused" ? ["refused", "refused", 0] : ["answered", "answered", 1];
    }
    const why = said.incoherent && decode(said.incoherent, place);
    if (why) {
      found.flags.push("incoherent");
      found.verdicts.push(why === "incoherent" ? why : `incoherent: ${why}`);
    }
    if (said.in_form && !decode(said.in_form, place)) {
      found.flags.push("formless");
      found.verdicts.push("not in the form asked for");
    }
    return found;
  }

  async function gathered(now) {
    const judge = form.elements.judge.value;
    const [block, other] = await Promise.all([read(now.run.key), now.other && read(now.other.key)]);
    const wanted = Object.entries(now.run.sets).filter(([name, about]) => isIn(now.set, name, about));
    const tables = Object.fromEntries(await Promise.all(wanted.map(async ([name, about]) => [name, await read(about.table)])));
    const found = [];
    for (const [name, about] of wanted) {
      const table = tables[name];
      const said = block.stages[now.stage]?.[name];
      if (said && said.check !== table.check) throw new Error(`${now.run.label} was tested on other samples of ${name} than the first run here: look at it alone.`);
      for (let place = 0; place < table.n; place += 1) {
        const first = answered(now.run, block, now.stage, name, about.kind, place, judge);
        const second = other && answered(now.other, other, now.against, name, about.kind, place, judge);
        if (first || second) found.push({ name, about, table, place, first, second, id: table.ids?.[place] ?? String(place + 1) });
      }
    }
    return found;
  }

  function passes(sample, words) {
    const { first, second } = sample;
    const { outcome, verdict, differs } = query;
    if ((outcome || verdict) && !first) return false;
    if (outcome && first.outcome !== outcome && !first.flags.includes(outcome)) return false;
    if (verdict && !first.verdicts.includes(verdict)) return false;
    if (differs) {
      if (!first || !second) return false;
      if (differs === "response" && first.text === second.text) return false;
      if (differs === "outcome" && first.outcome === second.outcome) return false;
      if (differs === "better" && !(first.worth > second.worth)) return false;
      if (differs === "worse" && !(first.worth < second.worth)) return false;
    }
    if (!words.length) return true;
    const texts = [textOf(sample.table, "prompts", sample.place), textOf(sample.table, "targets", sample.place), first?.text, second?.text, sample.id];
    const all = texts.filter((text) => typeof text === "string").join("\n").toLowerCase();
    return words.every((word) => all.includes(word));
  }
  const textOf = (table, column, place) => table.texts[decode(table[column], place)];

  // Drawing.
  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function said(value, what, marked) {
    const made = element("p", "said");
    if (typeof value === "number") made.append(element("span", "hidden", `${what}, ${value} word${value === 1 ? "" : "s"}, hidden`));
    else if (value === null || value === undefined) made.append(element("span", "soft", `${what} not kept`));
    else if (value === "") made.append(element("span", "soft", "(empty)"));
    else if (marked) for (const [word, differs] of marked) made.append(differs ? element("mark", "", word) : word);
    else made.textContent = value;
    return made;
  }
  // Words of the first that are not in the longest common subsequence of both.
  function marks(first, second) {
    if (typeof first !== "string" || typeof second !== "string" || first === second) return null;
    const a = first.match(/\s+|\S+/g) ?? [];
    const b = second.match(/\s+|\S+/g) ?? [];
    if (a.length > MOST_WORDS || b.length > MOST_WORDS) return null;
    const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
      }
    }
    const found = [];
    let [i, j] = [0, 0];
    while (i < a.length) {
      if (j < b.length && a[i] === b[j]) [i, j] = [found.push([a[i], false]) && i + 1, j + 1];
      else if (j < b.length && longest[i][j + 1] >= longest[i + 1][j]) j += 1;
      else i = found.push([a[i], /\S/.test(a[i])]) && i + 1;
    }
    return found;
  }
  function card(sample) {
    const { table, place, first, second } = sample;
    const made = element("article", "shot");
    made.tabIndex = -1;
    made.dataset.set = sample.name;
    made.dataset.sample = sample.id;
    const head = element("h3");
    const link = element("a", "", table.ids ? sample.id : `sample ${sample.id}`);
    link.href = address({ ...query, set: sample.name, kind: undefined, sample: sample.id });
    const category = table.categories && decode(table.categories, place);
    head.append(link, element("span", "soft", ` · ${sample.about.short}${category ? ` · ${category}` : ""}`));
    made.append(head);
    for (const number of table.shown[place] ?? []) {
      const source = table.images[number];
      if (!/^data:image\/(png|jpeg);base64,/.test(source)) continue;
      const image = element("img", table.hidden ? "blurred" : "");
      image.alt = table.hidden ? "blurred image" : `image of ${sample.id}`;
      image.src = source;
      made.append(image);
    }
    made.append(said(textOf(table, "prompts", place), sample.about.kind === "safety" ? "harmful request" : "prompt"));
    const target = textOf(table, "targets", place);
    if (target !== "" && target !== null && target !== 0) {
      const expected = said(target, "reference answer");
      expected.classList.add("soft");
      expected.prepend("expected: ");
      made.append(expected);
    }
    const answers = element("div", "answers");
    if (first) answers.append(answerOf(first, marks(first.text, second?.text)));
    if (second) answers.append(answerOf(second, marks(second.text, first?.text)));
    made.append(answers);
    return made;
  }
  function answerOf(given, marked) {
    const made = element("section", "answer-of");
    const head = element("h4", "", `${given.run.label}, seed ${given.run.seed}, after stage ${given.stage} (${given.run.stages[given.stage]}) `);
    const tone = given.worth === null ? "" : given.worth >= 1 ? " good" : given.worth <= 0 ? " bad" : "";
    if (given.word) head.append(element("span", `outcome${tone}`, `${tone === " good" ? "✓ " : tone === " bad" ? "✗ " : ""}${given.word}`));
    made.append(head, said(given.text, "response", marked), element("p", "soft verdicts", given.verdicts.join(" · ")));
    return made;
  }
  function extend(until) {
    const from = shown.count;
    shown.count = Math.min(Math.max(until, from), shown.found.length);
    list.append(...shown.found.slice(from, shown.count).map(card));
    more.hidden = shown.count >= shown.found.length;
  }

  // From a query to what is on the screen. A later call overtakes an earlier one that still waits for a block.
  async function show(asked, focus) {
    turn += 1;
    const mine = turn;
    query = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined && value !== ""));
    try {
      index ??= await first();
      if (mine !== turn) return;
      if (!index.parts.length) return tell("No run here has a finished stage yet.");
      const now = settled(query);
      fillForm(now);
      if (!now.run) return tell(absent(now));
      const found = await gathered(now);
      if (mine !== turn) return;
      fillVerdicts(found);
      const words = (query.text ?? "").toLowerCase().split(/\s+/).filter(Boolean);
      shown = { found: found.filter((sample) => passes(sample, words)), count: 0 };
      list.replaceChildren();
      const note = now.run.missing ? ` The run: ${now.run.missing}.` : "";
      status.textContent = `${shown.found.length} of ${found.length} samples.${note}`;
      const at = query.sample === undefined ? -1 : shown.found.findIndex((each) => each.id === query.sample);
      extend(Math.max(AT_ONCE, at + 1));
      if (query.sample !== undefined) point(at, focus);
      else if (focus) one("#samples-title").focus({ preventScroll: false });
    } catch (error) {
      if (mine === turn) tell(error.message);
    }
  }
  function point(at, focus) {
    if (at < 0) {
      status.textContent += ` The sample ${query.sample} is not among them.`;
      return;
    }
    const target = list.children[at];
    target.classList.add("at");
    target.scrollIntoView({ block: "center", behavior: "instant" });
    if (focus) target.focus({ preventScroll: true });
  }
  function tell(text) {
    list.replaceChildren();
    more.hidden = true;
    status.textContent = text;
  }
  function absent(now) {
    const runs = now.part.runs.filter((run) => !now.unread || run.label === now.unread);
    if (!runs.length) return `There is no run of ${now.unread} here.`;
    const missing = runs.find((run) => run.missing && !run.stages.length);
    if (missing) return `${missing.label}, seed ${missing.seed}: ${missing.missing}.`;
    return `The responses of ${now.unread || "these runs"} are not kept: published results have those of seed 0 alone.`;
  }
  function fillVerdicts(found) {
    const words = new Set(found.flatMap(({ first }) => first?.verdicts.filter((said) => !said.startsWith("score ")) ?? []));
    if (query.verdict) words.add(query.verdict);
    fill("verdict", [["", "any"], ...[...words].sort().map((word) => [word, word])], query.verdict ?? "");
  }
  async function first() {
    if (served) return answer("index.json");
    const found = JSON.parse(document.getElementById("samples-data").textContent);
    held = found.blocks;
    return found.index;
  }
  const address = (asked) => {
    const kept = Object.entries(asked).filter(([, value]) => value !== undefined && value !== "");
    return `#samples?${new URLSearchParams(kept)}`;
  };

  // What is chosen in the form goes into the address, without a step in the history for each.
  function chosen(event) {
    const names = ["part", "method", "seed", "stage", "against", "against_seed", "against_stage", "differs", "judge", "outcome", "verdict", "text"];
    const asked = Object.fromEntries(names.map((name) => [name, form.elements[name].value]));
    if (["part", "method"].includes(event.target.name)) asked.seed = asked.verdict = undefined;
    if (event.target.name === "part") asked.method = asked.against = undefined;
    if (event.target.name === "against") asked.against_seed = asked.against_stage = undefined;
    if (event.target.name === "set") asked.verdict = undefined;
    const [set, kind] = form.elements.set.value.split(/^all:/).length === 2 ? ["all", form.elements.set.value.slice(4)] : [form.elements.set.value, undefined];
    const next = { ...asked, set, kind };
    history.replaceState(null, "", address(next));
    show(next, false);
  }
  form.addEventListener("change", chosen);
  form.elements.text.addEventListener("input", chosen);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const next = shown.count;
    extend(next + AT_ONCE);
    list.children[next]?.focus();
  });
  list.addEventListener("keydown", (event) => {
    const step = { j: 1, k: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const here = event.target.closest(".shot");
    if (here === list.lastElementChild && step === 1) extend(shown.count + AT_ONCE);
    (step === 1 ? here.nextElementSibling : here.previousElementSibling)?.focus();
  });

  window.hpaSamples = (asked) => show(asked, true);
  if (!served) return;

  // Served: the whole page is the viewer, and new stages appear as they are finished.
  const fromAddress = () => Object.fromEntries(new URLSearchParams(location.hash.split("?")[1] ?? ""));
  window.addEventListener("hashchange", () => show(fromAddress(), true));
  show(fromAddress(), false);
  setInterval(async () => {
    try {
      const found = await answer("index.json");
      if (JSON.stringify(found) === JSON.stringify(index)) return;
      index = found;
      const { scrollY } = window;
      await show({ ...query, stage: form.elements.stage.value }, false);
      window.scrollTo(0, scrollY);
    } catch (error) {
      status.textContent = error instanceof TypeError ? "hpa-bench view does not answer any more; what is here stays." : error.message;
    }
  }, POLL_MS);
})();
