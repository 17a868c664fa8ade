"""The samples behind the numbers, as the viewer of a page reads them: what repeats stands once.

```
index   what there is: parts (conditions), their judges, their runs with stages and sets, and where each block is
block   of a set: ids, prompts, targets, categories, small images; of a run: responses, scores and verdicts by stage
```
Texts of safety sets are numbers of words, their ids are numbers and their images a few blurred colours, unless unsafe
material is asked for. A list of values stands as its different values and, of each, its place among them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hpa_bench.names import short_names
from hpa_bench.redact import clean
from hpa_bench.report.conditions import Condition
from hpa_bench.report.ranking import shown_groups
from hpa_bench.results.coherence import incoherence
from hpa_bench.results.runs import Run
from hpa_bench.results.stage_data import StageData
from hpa_bench.results.thumbnails import blurred

INSIDE_BYTES = 1_500_000
"""What a page may hold of samples; the rest lies beside it, and is read when it is asked for."""
LONGEST = 8000
"""Characters of a text that are kept."""
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""Signs for places among different values, where so many are enough."""
DATA = "data"
"""The folder beside a page for what it does not hold."""
FILE = "samples-"
"""How the names of its files begin."""

Coded = dict[str, Any]


class Part(NamedTuple):
    """Runs that stand together, the ones to be read first in front."""

    anchor: str
    """The part of the page that has their numbers."""
    title: str
    runs: Sequence[Run]


class Samples:
    """What there is to be read of some runs.

    Args:
        parts: runs, with the page's parts that have their numbers.
        show_unsafe: whether requests, reference answers, responses, images, ids and categories of safety sets are told.
    """

    def __init__(self, parts: Sequence[Part], show_unsafe: bool = False) -> None:
        self.parts = parts
        self.show_unsafe = show_unsafe
        self._tables: dict[str, tuple[Run, str]] = {}
        self._runs: dict[str, tuple[Run, dict[str, str]]] = {}
        self._listed = [self._part(part) for part in parts]

    def index(self) -> dict[str, Any]:
        """Return what there is, without any sample."""
        return {"unsafe": self.show_unsafe, "parts": self._listed}

    def names(self) -> list[str]:
        """Return the names of all blocks: those of its sets before each run's."""
        return list(dict.fromkeys(key for run, (_, tables) in self._runs.items() for key in (*tables.values(), run)))

    def block(self, key: str) -> dict[str, Any]:
        """Return a block.

        Raises:
            KeyError: there is none of the name.
            UserError: a file of the run is missing or not whole.
        """
        if key in self._tables:
            run, name = self._tables[key]
            return _table(run, name, self._hides(run, name))
        run, tables = self._runs[key]
        return _block(run, {name for name in tables if self._hides(run, name)})

    def let_go(self, key: str) -> None:
        """Forget what was read of a run for a block; it is read again for the next one."""
        run, _ = self._tables.get(key) or self._runs[key]
        if "data" in vars(run):
            del run.data

    def _part(self, part: Part) -> dict[str, Any]:
        judges = dict.fromkeys(judge for run in part.runs for judge in run.judges)
        listed = []
        for run in part.runs:
            label = f"{run.label}, noise {run.noise}" if run.noise else run.label
            sets = self._sets(run, part.anchor) if run.stages and run.source.has_texts else {}
            key = ""
            if sets:
                # The stages are part of its name: a run that goes on is another block.
                key = f"run{len(self._runs)}-{len(run.stages)}"
                self._runs[key] = run, {name: entry["table"] for name, entry in sets.items()}
            entry = {
                "label": clean(label),
                "seed": run.seed,
                "stages": _stage_names(run),
                "missing": clean(run.missing),
            }
            listed.append(entry | {"key": key, "sets": sets})
        return {"anchor": part.anchor, "title": clean(part.title), "judges": list(judges), "runs": listed}

    def _sets(self, run: Run, anchor: str) -> dict[str, Any]:
        manifest = run.manifest
        names = [*manifest.tasks, *manifest.judged_sets]
        short, found = short_names(names), {}
        for name in names:
            # Older manifests have no digest of what a set holds; runs that stand together were tested on the same.
            content = manifest.data.get(name) or anchor
            table = f"set{zlib.crc32(f'{manifest.suite}/{name}/{content}'.encode()):08x}"
            self._tables.setdefault(table, (run, name))
            found[name] = {"short": short[name], "kind": manifest.kind_of(name), "table": table}
        return found

    def _hides(self, run: Run, name: str) -> bool:
        return not self.show_unsafe and name in run.manifest.safety_sets


def samples_of(
    found: Sequence[Condition], out: Path, show_unsafe: bool = False, anchors: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Return what a page holds of samples, and write the rest beside it.

    Args:
        found: the page's conditions; what their figures show comes first, and so is inside the longest.
        out: the page's folder; what the page has no room for goes to `data/` in it, which is made anew.
        show_unsafe: see `Samples`.
        anchors: of each condition, the name of its part of the page.

    Returns:
        `json`, for a script element, and `beside`, whether there are files; None where no run keeps responses.
    """
    parts = [
        Part(anchor, condition.title, _by_worth(condition)) for anchor, condition in zip(anchors, found, strict=True)
    ]
    samples = Samples(parts, show_unsafe)
    for before in (out / DATA).glob(f"{FILE}*.js"):
        before.unlink()
    inside: dict[str, str] = {}
    beside: list[str] = []
    left = INSIDE_BYTES
    for key in samples.names():
        text = script_json(samples.block(key))
        if len(text) <= left:
            inside[key] = text
            left -= len(text)
        else:
            beside.append(key)
            (out / DATA).mkdir(parents=True, exist_ok=True)
            (out / DATA / f"{FILE}{key}.js").write_text(f'hpaSamplesRead("{key}",{text});\n', encoding="utf-8")
    if not inside and not beside:
        return None
    blocks = ",".join(f'"{key}":{text}' for key, text in inside.items())
    index = script_json(samples.index())
    return {"json": f'{{"index":{index},"blocks":{{{blocks}}}}}', "beside": bool(beside)}


def script_json(value: Any) -> str:
    """Return a value as JSON that may stand inside a script, or be one, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def coded(values: Iterable[Any]) -> Coded:
    """Return a list as its different values, `of`, and where each is among them, `at`: signs, or many numbers."""
    places: dict[Any, int] = {}
    at = [places.setdefault(value, len(places)) for value in values]
    return {"of": list(places), "at": "".join(DIGITS[place] for place in at) if len(places) <= len(DIGITS) else at}


def _by_worth(condition: Condition) -> list[Run]:
    """Return the runs of a condition, one of each method before the next of any, the methods of the figures first."""
    ordered = [*condition.references, *shown_groups(condition), *condition.main, *condition.groups]
    groups = list(dict.fromkeys(ordered))
    depth = max(len(group.runs) for group in groups)
    return [group.runs[turn] for turn in range(depth) for group in groups if turn < len(group.runs)]


def _stage_names(run: Run) -> list[str]:
    short = short_names(run.tasks)
    named = ["aligned"]
    for trained in run.curriculum[: max(len(run.stages) - 1, 0)]:
        named.append(short[trained[0]] if len(trained) == 1 else f"{len(trained)} tasks")
    return named[: len(run.stages)]


def _table(run: Run, name: str, hide: bool) -> dict[str, Any]:
    """Return what the samples of a set are, sorted by id as responses are."""
    rows = sorted(run.stages[0].responses(name), key=lambda row: str(row["id"]))
    texts = _Texts(hide)
    kept = run.source.thumbnails(name)
    images: dict[str, int] = {}
    shown: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        for image in kept.get(row["id"], ()):
            small = blurred(image) if hide else image
            shown.setdefault(place, []).append(images.setdefault(small, len(images)))
    has_categories = not hide and any(row.get("category") for row in rows)
    return {
        "n": len(rows),
        "check": _check([row["id"] for row in rows]),
        "hidden": hide,
        # Ids and categories of safety sets are texts of the data set, and may say what is asked for.
        "ids": None if hide else [clean(str(row["id"])) for row in rows],
        "prompts": coded(texts.number(row.get("prompt")) for row in rows),
        "targets": coded(texts.number(_joined(row.get("target"))) for row in rows),
        "categories": coded(clean(row.get("category") or "") for row in rows) if has_categories else None,
        "images": list(images),
        "shown": shown,
        "texts": texts.listed,
    }


def _block(run: Run, hidden: set[str]) -> dict[str, Any]:
    """Return the responses of a run, with scores and verdicts, by stage and set."""
    plain, veiled = _Texts(False), _Texts(True)
    stages: list[dict[str, Any]] = []
    for stage in range(len(run.stages)):
        data = run.data[stage]
        stages.append(
            {name: _answers(run, stage, name, veiled if name in hidden else plain, data) for name in data.ids}
        )
    harmless = {judge: sorted(said.harmless) for judge, said in run.vocabularies.items()}
    return {"texts": plain.listed, "veiled": veiled.listed, "stages": stages, "harmless": harmless}


def _answers(run: Run, stage: int, name: str, texts: _Texts, data: StageData) -> dict[str, Any]:
    responses = run.stages[stage].texts(name)
    found: dict[str, Any] = {"check": _check(data.ids[name]), "responses": coded(map(texts.number, responses))}
    if texts.hide:
        found["veiled"] = True
    if name in data.scores:
        found["scores"] = coded(np.round(data.scores[name], 4).tolist())
    if name in data.in_form:
        found["in_form"] = coded(map(bool, data.in_form[name]))
    if name in data.incoherent:
        flagged = zip(responses, data.incoherent[name], strict=True)
        found["incoherent"] = coded(_why(text) if flag else "" for text, flag in flagged)
    verdicts = {judge: coded(given) for (judge, of), given in data.verdicts.items() if of == name}
    return found | ({"verdicts": verdicts} if verdicts else {})


def _why(text: str | None) -> str:
    """Return in what way a response is incoherent, as far as its text is kept."""
    return (text is not None and incoherence(text)) or "incoherent"


def _check(ids: Iterable[str]) -> int:
    """Return a number that differs where two lists of samples do."""
    return zlib.crc32("\n".join(map(str, ids)).encode())


def _joined(target: Any) -> Any:
    return ", ".join(map(str, target)) if isinstance(target, list) else target


class _Texts:
    """Texts by number; of those that are hidden, how many words each has."""

    def __init__(self, hide: bool) -> None:
        self.hide = hide
        self._numbers: dict[Any, int] = {}
        self._known: dict[Any, int] = {}

    @property
    def listed(self) -> list[Any]:
        """Each text, or number of words; null where the text is not kept."""
        return list(self._numbers)

    def number(self, text: Any) -> int:
        """Return the number of a text."""
        if text not in self._known:
            shown = None if text is None else len(str(text).split()) if self.hide else _shown(str(text))
            self._known[text] = self._numbers.setdefault(shown, len(self._numbers))
        return self._known[text]


def _shown(text: str) -> str:
    found = clean(text)
    return found if len(found) <= LONGEST else found[:LONGEST] + " …"
