"""A model's folder with each fault in each file: `run` says so before anything is trained."""

import json
import re
import shutil
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file, save_file

from hpa_bench import run
from tests.faults.conftest import Note
from tests.support import architectures
from tests.support.faults import outcome, spoil
from tests.support.models import random_llava, save_random_llava
from tests.support.suites import write_suite

pytestmark = pytest.mark.faults


class Model(NamedTuple):
    """A suite whose model is spoilt and put back, and what a run of it gives."""

    suite: Path
    whole: Path
    responses: dict[str, bytes]

    @property
    def folder(self) -> Path:
        return self.suite.parent / "model"

    def run(self, out: Path) -> dict[str, bytes]:
        """Run and return the responses of all stages."""
        shutil.rmtree(out, ignore_errors=True)
        done = run(str(self.suite), "seqft", out=out)
        return {str(file.relative_to(out)): file.read_bytes() for file in done.path.glob("stage*/responses/*")}

    def spoilt(self) -> Path:
        """Return the model's folder, put back as it was."""
        shutil.rmtree(self.folder)
        return Path(shutil.copytree(self.whole, self.folder))


@pytest.fixture(scope="module", params=["one file", "shards"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    suite = write_suite(folder / "suite", tasks=["colours"], benign_sets=[], training={"limit": 2, "epochs": 1})
    if request.param == "shards":
        shutil.rmtree(folder / "suite" / "model")
        built, processor = random_llava()
        built.save_pretrained(folder / "suite" / "model", max_shard_size="100KB")
        processor.save_pretrained(folder / "suite" / "model")
    shutil.copytree(folder / "suite" / "model", folder / "whole")
    made = Model(suite, folder / "whole", {})
    return made._replace(responses=made.run(folder / "run"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    return {
        "another size's": save_random_llava(folder / "size", hidden=48),
        "another architecture's": architectures.save("qwen2_vl", folder / "architecture"),
    }


FAULTS = ("absent", "empty", "cut", "another size's", "another architecture's")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_file(fault: str, model: Model, foreign: dict[str, Path], note: Note, tmp_path: Path) -> None:
    for name in sorted(file.name for file in model.whole.iterdir()):
        folder = model.spoilt()
        if fault in foreign:
            other = foreign[fault] / name
            if not other.exists() or other.read_bytes() == (folder / name).read_bytes():
                continue
            shutil.copy(other, folder / name)
        else:
            spoil(folder / name, fault)
        called = [name, Path(name).stem.replace("_", " ")]
        found = outcome(lambda: model.run(tmp_path / "run"), called, lambda given: given == model.responses)
        note("file of a model's folder, then `run`", fault, name, found)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_weights(share: float, model: Model, note: Note, tmp_path: Path) -> None:
    for name in sorted(file.name for file in model.whole.glob("*.safetensors")):
        file = model.spoilt() / name
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        found = outcome(lambda: model.run(tmp_path / "run"), [name])
        note("file of a model's folder, then `run`", "cut", f"{name} to {share}", found)


@pytest.mark.parametrize("change", ["wrong shape", "absent"])
@pytest.mark.parametrize("model", ["shards"], indirect=True)
def test_each_kind_of_tensor(change: str, model: Model, note: Note, tmp_path: Path) -> None:
    kinds: dict[str, tuple[str, str]] = {}
    for file in sorted(model.whole.glob("*.safetensors")):
        for name in load_file(file):
            kinds.setdefault(re.sub(r"\d+", "*", name), (file.name, name))
    for file_name, name in kinds.values():
        file = model.spoilt() / file_name
        tensors = load_file(file)
        tensor = tensors.pop(name)
        if change == "wrong shape":
            tensors[name] = tensor.flatten()[1:].clone()
        save_file(tensors, file, metadata={"format": "pt"})
        # What is told is the model's own name, which begins otherwise.
        own = name.removeprefix("language_model.").removeprefix("model.")
        found = outcome(lambda: model.run(tmp_path / "run"), [own])
        note("tensor of a model's folder, then `run`", change, name, found)


def without(file: Path, key: str) -> None:
    """Take a key out of a JSON file, wherever it stands, or a word out of a template."""

    def rest(value: object) -> object:
        return {name: rest(each) for name, each in value.items() if name != key} if isinstance(value, dict) else value

    text = file.read_text()
    file.write_text(json.dumps(rest(json.loads(text))) if file.suffix == ".json" else text.replace(key, ""))


ENDS = {
    "tokenizer_config.json": "eos_token",
    "generation_config.json": "eos_token_id",
    "config.json": "eos_token_id",
    "chat_template.jinja": "<eos>",
}
"""By file: the key that says what ends a text, or the end itself."""


@pytest.mark.parametrize("model", ["one file"], indirect=True)
def test_missing_ends_of_text(model: Model, note: Note, tmp_path: Path) -> None:
    chosen = [names for count in (1, 2, 4) for names in combinations(ENDS, count)]
    for names in chosen:
        if len(names) == 2 and "tokenizer_config.json" not in names:
            continue
        folder = model.spoilt()
        for name in names:
            without(folder / name, ENDS[name])
        named = ["tokenizer_config.json"]
        found = outcome(lambda: model.run(tmp_path / "run"), named, lambda given: given == model.responses)
        note("end of text of a model, then `run`", "absent", " and ".join(names), found)
