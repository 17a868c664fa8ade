"""Tasks on LLaVA-format JSON: training conversations and test questions, with images in a folder.

A YAML of lm-eval names `load`, `doc_to_image` and `score` of this module (docs/data.md has one of ten lines). Training
rows are `{"id"?, "image"?, "conversations": [{"from": "human" | "gpt", "value"}]}`, test rows
`{"question_id", "image"?, "text", "answer"}`; either form may stand in either file. A row that is wrong keeps its place
and says why under `problem`, so that `hpa-bench validate` can list them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpa_bench.data.captions import KINDS as CAPTIONS
from hpa_bench.data.captions import caption_metric, check_captions
from hpa_bench.data.downloads import folder_of, image_path, is_file, read_json
from hpa_bench.data.images import open_image
from hpa_bench.data.rules import check_box, rule
from hpa_bench.data.texts import text_of
from hpa_bench.errors import UserError, shown

if TYPE_CHECKING:
    from PIL.Image import Image

Names = str | Sequence[str]
"""A path, or several of which the first that exists counts."""
Doc = dict[str, Any]

PLACEHOLDER = "<image>"
SOURCES = {
    "ucit": (("UCIT",), "the links at github.com/Ghy0501/HiDe-LLaVA"),
    "dcl": (("Domain_data", "MLLM-CL"), "the links at github.com/bjzhb666/MLLM-CL"),
    "coin": ((".",), "the links at github.com/zackschen/CoIN"),
    "smolora": (("SMoLoRA", "."), "huggingface.co/datasets/zackie29/SMoLoRA"),
}
"""By download, the names that its folder may have below the data root, and where to get it."""
KEPT = ("question_id", "category", "answers", "answer_bbox", "size")
"""Keys of a test row that scoring or reports need; others could be taken for ours."""


class Rows(list[Doc]):
    """The rows of a split, as lm-eval reads them."""

    @property
    def features(self) -> dict[str, None]:
        """The columns."""
        return dict.fromkeys(self[0])


@dataclass(frozen=True)
class Layout:
    """A task on LLaVA-format JSON, as its YAML and the suite describe it: the keywords of `load`."""

    folder: Names = "."
    """The task's folder, below its download's or, without a source, below the data root or the YAML's folder."""
    train: Names = "train.json"
    """The training file in it."""
    test: Names = "test.json"
    """The test file in it."""
    images: Names | None = None
    """The folder that image paths start from, below the download's; by default that of the file that names them."""
    annotations: Names | None = None
    """What scoring needs, below the download's folder or beside the test file: COCO captions, TextVQA's answers,
    ScienceQA's problems."""
    scoring: str = "strict/exact"
    """Rules and kind of answer, such as "mcitlib/ad" (see `hpa_bench.data.rules`)."""
    suffix: str | Mapping[str, str] = ""
    """What a test question ends with; or several by answer, "*" for any other."""
    source: str = ""
    """The download, a key of SOURCES, or "" for a folder of one's own."""
    data_root: str | None = None
    """The folder of the user's downloads."""
    data_folders: Mapping[str, str] | None = None
    """By source, the folder of a download that lies elsewhere."""
    rules: str | Mapping[str, str] | None = None
    """Other rules than the task's: for all answers, or by their kind."""
    config_source: str = ""
    """The YAML, as lm-eval tells it."""

    def scored_by(self) -> tuple[str, str]:
        """Return the rules and the kind of answer.

        Raises:
            UserError: the rules do not score such answers.
        """
        own, kind = self.scoring.split("/")
        chosen = (self.rules.get(kind) if isinstance(self.rules, Mapping) else self.rules) or own
        if kind in CAPTIONS:
            caption_metric(chosen, kind)
        else:
            rule(chosen, kind)
        return chosen, kind

    def base(self) -> tuple[Path, str]:
        """Return the folder that the download lies in, and where to get it, or "".

        Raises:
            UserError: there is no such folder.
        """
        if self.source:
            names, where_to_get = SOURCES[self.source]
            root = Path(self.data_root or ".").expanduser()
            default = next((name for name in names if (root / name).is_dir()), names[0])
            return folder_of(self.source, self.data_root, self.data_folders, default, where_to_get), where_to_get
        bases = [Path(self.data_root).expanduser()] if self.data_root else []
        bases += [Path(self.config_source).parent]
        wanted = [Path(name, file) for name in _listed(self.folder) for file in _listed(self.test)]
        return next((base for base in bases if any((base / file).is_file() for file in wanted)), bases[0]), ""


class Splits(Mapping[str, Rows]):
    """The train and the test split of a task, each read when it is first asked for.

    Args:
        layout: where its files are, and how its answers are scored.
    """

    def __init__(self, layout: Layout) -> None:
        self._rules, self._kind = layout.scored_by()
        self.base, self.where_to_get = layout.base()
        self._folders = [self.base / name for name in _listed(layout.folder)]
        self._files = {"train": layout.train, "test": layout.test}
        self._layout = layout
        self._read: dict[str, Rows] = {}

    def __getitem__(self, split: str) -> Rows:
        if split not in self._read:
            self._read[split] = self._rows(split, _listed(self._files[split]))
        return self._read[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def _rows(self, split: str, names: Sequence[str]) -> Rows:
        file = self._first([folder / name for folder in self._folders for name in names], f"{split} file")
        content = read_json(file)
        if not isinstance(content, list) or not content:
            raise UserError(f"{file} holds no rows: expected a JSON list of LLaVA-format rows.")
        rows = Rows()
        seen: set[str] = set()
        for index, raw in enumerate(content):
            for doc in _docs(raw, index, whole=split == "train"):
                if doc["id"] in seen:
                    # A question id is used as it is given; published files repeat some.
                    doc["id"] = f"{doc['id']}#{index}"
                seen.add(doc["id"])
                rows.append(doc | {"file": str(file)})
        root = str(self._image_root(file, rows))
        for doc in rows:
            doc["folder"] = root
        if split == "test":
            self._make_test(rows, file)
        return rows

    def _image_root(self, file: Path, rows: Rows) -> Path:
        """Return the first folder that holds the first image; projects lay out the same download in several ways."""
        images = self._layout.images
        roots = [file.parent] if images is None else [self.base / name for name in _listed(images)]
        first = next((doc["image"][0] for doc in rows if doc["image"]), None)
        return next((root for root in roots if first is not None and is_file(root / first)), roots[0])

    def _make_test(self, rows: Rows, file: Path) -> None:
        """Put what only evaluation needs into the rows: how they are scored, the suffix, and the annotations."""
        rules, kind, annotated = self._rules, self._kind, self._layout.annotations
        suffix = self._layout.suffix
        suffixes = {"*": suffix} if isinstance(suffix, str) else suffix
        for doc in rows:
            doc["scoring"] = f"{rules}/{kind}"
            if kind == "grounding" and (wrong := check_box(doc, sized=rules == "coin")):
                doc.setdefault("problem", wrong)
            doc["question"] += suffixes.get(doc["answer"], suffixes.get("*", ""))
        if annotated is None:
            if kind in CAPTIONS:
                for doc in rows:
                    doc["references"] = doc.get("answers") or [doc["answer"]]
            return
        candidates = [folder / name for name in _listed(annotated) for folder in (self.base, file.parent)]
        needed = kind in CAPTIONS or (kind == "textvqa" and rules != "strict")
        if needed or any(candidate.is_file() for candidate in candidates):
            annotations = self._first(candidates, "annotation file")
            _annotate(rows, read_json(annotations), annotations, file)

    def _first(self, candidates: Sequence[Path], what: str) -> Path:
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        near = [candidate for candidate in candidates if candidate.parent.is_dir()] or candidates
        names = ", ".join(dict.fromkeys(str(candidate.relative_to(self.base)) for candidate in near))
        hint = f": get it from {self.where_to_get}" if self.where_to_get else ""
        raise UserError(f"There is no {what} in {self.base} (looked for {names}){hint}.")


def load(**keywords: Any) -> Splits:
    """Return the splits of a task on LLaVA-format JSON: the `custom_dataset` of its YAML.

    Args:
        keywords: those of `Layout`; what else lm-eval hands on is for other tasks.

    Raises:
        UserError: a folder that does not exist, or rules that do not score such answers.
    """
    known = {field.name for field in fields(Layout)}
    return Splits(Layout(**{name: value for name, value in keywords.items() if name in known}))


def load_pairs(*, harmful_file: str | None = None, **_: Any) -> Splits:
    """Return the splits of the file of `--harmful-data`, whose images lie beside it.

    Raises:
        UserError: no file was given, or it does not exist.
    """
    if harmful_file is None:
        raise UserError("The task 'harmful_pairs' has no file: give one by --harmful-data FILE.")
    file = Path(harmful_file).resolve()
    if not file.is_file():
        raise UserError(f"--harmful-data {file} does not exist: expected a JSON file of LLaVA-format rows.")
    return _one_file(file)


def load_file(*, rows_file: str | None = None, **_: Any) -> Splits:
    """Return the splits of one LLaVA-format file, whose images lie beside it.

    Raises:
        UserError: no file was given.
    """
    if rows_file is None:
        raise UserError("The task 'llava_file' has no file: hpa-bench adapt gives it that of --safety or --task.")
    return _one_file(Path(rows_file).resolve())


def doc_to_image(doc: Mapping[str, Any]) -> list[Image]:
    """Open the images of a row; their pixels are read later.

    Raises:
        UserError: a path that leaves the folder, or is not there.
    """
    where = f"row {doc['row']} of {doc['file']}"
    return [open_image(image_path(Path(doc["folder"]), name, where)) for name in doc["image"]]


def score(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a response by the task's rules: `accuracy` from 0 to 1, or of a caption what its metric aggregates.

    Raises:
        UserError: captions cannot be scored here.
    """
    rules, kind = doc["scoring"].split("/")
    prediction = results[0].strip()
    if kind not in CAPTIONS:
        return {"accuracy": rule(rules, kind)(prediction, doc)}
    check_captions(java=rules == "mcitlib")
    return {caption_metric(rules, kind): (prediction, tuple(doc["references"]))}


def _one_file(file: Path) -> Splits:
    return load(folder=str(file.parent), train=file.name, test=file.name, config_source=str(file))


def _docs(raw: Any, index: int, whole: bool) -> list[Doc]:
    """Return what lm-eval reads of one row: a whole conversation to train on, or each of its exchanges to score."""
    doc: Doc = {"id": str(index), "question": "", "answer": "", "image": [], "row": index}
    if not isinstance(raw, dict):
        return [doc | {"problem": f"it is no JSON object but {type(raw).__name__}"}]
    given = next((raw[key] for key in ("question_id", "id") if raw.get(key) is not None), index)
    try:
        doc["id"] = text_of(given, "its id")
        doc["image"] = images = _image_names(raw)
        exchanges = _exchanges(raw, len(images))
    except UserError as bad:
        return [doc | {"image": [], "problem": str(bad).removesuffix(".")}]
    kept = {key: raw[key] for key in KEPT if key in raw}
    found = []
    for turn, (text, answers) in enumerate(exchanges[:1] if whole else exchanges):
        name = str(given) if whole or len(exchanges) == 1 else f"{given}/{turn}"
        question = f"{PLACEHOLDER}\n" * len(images) + text
        row = kept | doc | {"id": name, "text": text, "question": question, "answer": answers[0]}
        if name != str(given):
            row["cluster"] = str(given)
        found.append(row | {"answers": answers} if len(answers) > 1 else row)
    if whole and len(exchanges) > 1:
        found[0]["further"] = [(text, answers[0]) for text, answers in exchanges[1:]]
    return found


def _image_names(raw: Mapping[str, Any]) -> list[str]:
    images = raw.get("image") or []
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise UserError(f"`image` is {shown(raw['image'])}, expected a path or a list of paths")
    return images


def _exchanges(raw: Mapping[str, Any], images: int) -> list[tuple[str, list[str]]]:
    """Return questions, without `<image>`, and their answers."""
    if "conversations" not in raw:
        if not isinstance(raw.get("text"), str):
            raise UserError(f"it has neither `conversations` nor `text` (its keys: {_keys(raw)})")
        answers = raw["answer"] if "answer" in raw else str(raw.get("answer_bbox", ""))
        listed = answers if isinstance(answers, list) and answers else [answers]
        # Test questions of some projects begin with <image>, those of others leave it out.
        if (places := raw["text"].count(PLACEHOLDER)) not in (0, images):
            raise UserError(_mismatch(places, images))
        return [(_bare(raw["text"]), ["" if each is None else text_of(each, "its answer") for each in listed])]
    turns = raw["conversations"]
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and turn.get("value") is not None for turn in turns
    ):
        raise UserError('`conversations` is no list of {"from", "value"}')
    if turns and turns[0].get("from") == "gpt":
        turns = turns[1:]  # as LLaVA does
    if not turns or [turn.get("from") for turn in turns] != ["human", "gpt"] * (len(turns) // 2):
        raise UserError("`conversations` does not go from human to gpt in turns")
    texts = [text_of(turn["value"], "a `value` of its conversation") for turn in turns]
    if (places := sum(text.count(PLACEHOLDER) for text in texts)) != images:
        raise UserError(_mismatch(places, images))
    return [(_bare(human), [gpt]) for human, gpt in zip(texts[::2], texts[1::2], strict=True)]


def _bare(text: str) -> str:
    return text.replace(PLACEHOLDER, "").strip()


def _keys(raw: Mapping[str, Any]) -> str:
    names = [key if len(key) <= 40 else shown(key) for key in raw]
    return ", ".join([*names[:10], *(["..."] if len(names) > 10 else [])])


def _mismatch(places: int, images: int) -> str:
    return f"it has {places} {PLACEHOLDER} in its text and {images} images"


def _annotate(rows: Rows, content: Any, annotations: Path, file: Path) -> None:
    """Add references to captions, ten answers to TextVQA's questions, or their number to ScienceQA's choices.

    Raises:
        UserError: they are of no such form, or are not the rows'.
    """
    try:
        _annotated(rows, content, annotations, file)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{annotations} is neither COCO captions nor answers by question, as published ({type(error).__name__}:"
            f" {str(error)[:80]}): download it again."
        ) from None


def _annotated(rows: Rows, content: Any, annotations: Path, file: Path) -> None:
    if isinstance(content, dict) and "annotations" in content:
        # MCITlib numbers the captions of its predictions from 1, in the order of the test file.
        references: dict[int, list[str]] = {}
        for each in content["annotations"]:
            references.setdefault(int(each["image_id"]), []).append(
                text_of(each["caption"], f"A caption of {annotations}")
            )
        if set(references) != set(range(1, len(rows) + 1)):
            raise UserError(
                f"{annotations} has captions of {len(references)} images and {file} {len(rows)} rows: expected image"
                f" ids from 1 to {len(rows)}, in the order of the rows."
            )
        for number, doc in enumerate(rows, 1):
            doc["references"] = references[number]
            doc["answer"] = doc["answer"] or references[number][0]
    elif isinstance(content, dict) and "data" in content:
        answers = {str(each["question_id"]): _texts(each["answers"], annotations) for each in content["data"]}
        for doc in rows:
            if str(doc.get("question_id")) in answers:
                doc["answers"] = answers[str(doc["question_id"])]
            else:
                doc["problem"] = f"{annotations} has no answers to its question"
    elif isinstance(content, dict):
        for doc in rows:
            if str(doc.get("question_id")) in content:
                doc["choices"] = len(_texts(content[str(doc["question_id"])]["choices"], annotations))
    else:
        raise UserError(f"{annotations} holds neither COCO captions nor answers by question.")


def _texts(values: Any, annotations: Path) -> list[str]:
    if not isinstance(values, list):
        raise UserError(f"{annotations} has {shown(values)} where a list of texts was expected.")
    return [text_of(value, f"An answer of {annotations}") for value in values]


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
