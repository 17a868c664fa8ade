"""Manifests: written and read back, of an older format, torn, foreign, and of a machine."""

import json
from csv import DictReader
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.machine.numerics import cpu
from hpa_bench.machine.versions import PACKAGES
from hpa_bench.report import write_report
from hpa_bench.results.manifest import MANIFEST, UNKNOWN, AlignmentManifest, Environment, Hardware, Manifest
from hpa_bench.results.run_folder import RunFolder, find_runs
from hpa_bench.results.runs import load_runs, read_runs
from hpa_bench.runner.environment import driver, environment
from tests.support.run_folders import toy_manifest, write_run

FORMAT_1 = Path(__file__).with_name("manifest_format1.json")
"""As version 0.1.0 wrote it, before manifests were typed."""
ARM = """\
processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes fphp asimdhp cpuid sve bf16 i8mm
CPU part\t: 0xd0c
"""
X86 = """\
processor\t: 0
model name\t: Some CPU @ 2.20GHz
flags\t\t: fpu sse2 fma avx avx2 avx512f avx512_bf16 amx_tile

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
NVIDIA = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)
GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)
"""


def refused(folder: Path, text: str) -> str:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(UserError) as caught:
        _ = RunFolder(folder).manifest
    message = str(caught.value)
    assert str(folder / MANIFEST) in message and "\n" not in message
    return message


def with_the_manifest_of_format_1(root: Path) -> RunFolder:
    """A run of today's writers under the manifest of version 0.1.0."""
    old = Manifest.read(FORMAT_1)
    sets = {"tasks": old.tasks, "safety_sets": old.safety_sets, "benign_sets": old.benign_sets}
    run = write_run(root, "hpa", config=old.config, **sets)
    for judged in run.path.glob("stage*/judgements/toy_compliance"):
        judged.rename(judged.with_name("tiny_compliance"))
    (run.path / MANIFEST).write_bytes(FORMAT_1.read_bytes())
    return run


def test_a_manifest_of_format_1_reads_as_what_it_says() -> None:
    old = Manifest.read(FORMAT_1)

    assert (old.format, old.method, old.seed, old.harmful_ratio) == (1, "hpa", 0, 0.01)
    assert old.stages == [["tiny_ad"], ["tiny_imagenet"]] and len(old.poisoned["tiny_ad"]) == 4
    assert old.hardware == Hardware(device="cpu", machine="x86_64", cores=2, threads=1, processes=1)
    assert old.hardware.cpu is None and old.numerics.torch is None and old.verdicts == {} == old.plugins
    assert old.said() == json.loads(FORMAT_1.read_text())


def test_a_run_of_format_1_reports_and_what_it_never_had_reads_unknown(tmp_path: Path) -> None:
    run = with_the_manifest_of_format_1(tmp_path / "runs")

    page = write_report(read_runs([run]), tmp_path / "report")

    with (page.parent / "tables" / "runs.csv").open() as file:
        (row,) = DictReader(file)
    assert (row["method"], row["git_commit"], row["torch"]) == ("hpa (p_max=20.0)", "e2221dfefa85", "2.13.0+cpu")
    assert row["cpu"] == UNKNOWN and f'<td class="text">{UNKNOWN}</td>' in page.read_text()
    assert set(load_runs(tmp_path / "runs").judge) >= {"keyword", "tiny_compliance"}


def test_an_older_run_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(FORMAT_1.read_bytes())
    old = RunFolder(tmp_path).manifest

    RunFolder(tmp_path).claim(old.model_copy(update={"format": 2, "hardware": Hardware(cpu="another")}))
    with pytest.raises(UserError, match=r"config\.p_max is 20\.0 there and 15\.0 here"):
        RunFolder(tmp_path).claim(old.model_copy(update={"config": {**old.config, "p_max": 15.0}}))


def test_a_set_that_an_older_version_did_not_hash_is_no_difference(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    known = run.manifest.model_copy(update={"data": {"a": "1", "b": "2"}})
    known.write(run.path / MANIFEST)

    run.claim(known.model_copy(update={"data": {"a": "1", "b": "2", "safety_set": "3"}}))
    with pytest.raises(UserError, match=r"data\.b is '2' there and '4' here"):
        run.claim(known.model_copy(update={"data": {"a": "1", "b": "4", "safety_set": "3"}}))


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = write_run(tmp_path, finished=-1)
    about = {name: value for name, value in environment("cpu") if name in Environment.model_fields}
    written = run.manifest.model_copy(update=about)

    written.write(run.path / MANIFEST)

    assert run.manifest == written and run.manifest.said() == json.loads((run.path / MANIFEST).read_text())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": 2, "sui', "is no JSON"),
        ("", "is no JSON"),
        ("[]", "holds no object"),
        ('{"name": "a web page", "icons": []}', "it lacks format, suite, method, config, seed"),
        ('{"format": 3}', "has format 3, and this version reads 1 and 2: update"),
    ],
)
def test_a_torn_or_foreign_manifest_is_one_sentence_with_its_name(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refused(tmp_path, text)


def test_a_value_of_another_kind_and_a_missing_one_are_named(tmp_path: Path) -> None:
    values = json.loads(FORMAT_1.read_text())

    assert "it lacks seed." in refused(tmp_path, json.dumps({k: v for k, v in values.items() if k != "seed"}))
    assert "has seed 'first' (input should be" in refused(tmp_path, json.dumps(values | {"seed": "first"}))
    assert "has stages.0 'tiny_ad'" in refused(tmp_path, json.dumps(values | {"stages": ["tiny_ad"]}))


def test_a_foreign_manifest_among_runs_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, finished=0)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / MANIFEST).write_text("{}")

    with pytest.raises(UserError, match=r"page/manifest\.json is no manifest of hpa-bench"):
        load_runs(tmp_path)
    assert len(find_runs([tmp_path])) == 2


def test_an_alignment_of_the_package_reads() -> None:
    import hpa_bench

    path = Path(hpa_bench.__file__).parent / "suites" / "tiny" / "aligned" / "alignment.json"
    assert AlignmentManifest.read(path).said() == json.loads(path.read_text())


def test_the_machine_is_told() -> None:
    found = environment("cpu")

    assert set(found.versions) == {"python", *PACKAGES}
    assert found.hardware.device == found.numerics.device == "cpu" and found.hardware.driver is None
    assert found.hardware.cores and found.hardware.processes == 1 and found.numerics.cpu_capability


def test_variables_that_choose_kernels_are_kept_where_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.delenv("MKL_CBWR", raising=False)

    variables = environment("cpu").numerics.variables

    assert variables["ONEDNN_MAX_CPU_ISA"] == "AVX2" and "MKL_CBWR" not in variables


def test_the_processor_is_read_as_x86_and_arm_tell_it() -> None:
    assert cpu(X86) == ("Some CPU @ 2.20GHz", ("amx_tile", "avx", "avx2", "avx512_bf16", "avx512f", "fma"))
    assert cpu(ARM) == (None, ("asimd", "asimdhp", "bf16", "fphp", "i8mm", "sve"))
    assert cpu("") == (None, None)


def test_the_driver_is_read_from_either_of_its_forms() -> None:
    assert driver(NVIDIA) == "570.86.15"
    assert driver("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n") == (
        "535.104.05"
    )
    assert driver("") is None


def test_a_suite_without_a_version_is_version_1() -> None:
    first = toy_manifest(suite_config={"model": "a"})

    assert first.suite_title == "toy version 1"
    assert first.difference(toy_manifest(suite_config={"model": "a", "version": 1})) == ""
    second = toy_manifest(suite_config={"model": "a", "version": 2})
    assert second.suite_title == "toy version 2"
    assert first.difference(second) == "suite_config.version is 1 there and 2 here"


def test_uncommitted_code_stands_beside_its_commit() -> None:
    assert toy_manifest(git_commit="0123456789abcdef").code == "0123456789ab"
    assert toy_manifest(git_commit="0123456789abcdef", uncommitted=True).code == "0123456789ab with uncommitted changes"
    assert toy_manifest().code == "unknown"
