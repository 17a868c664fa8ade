"""A run from Python: specs that are read, and those that are refused before anything is loaded."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from hpa_bench.api import read_spec, run, run_spec
from hpa_bench.errors import UserError
from hpa_bench.spec import RunOptions, make_spec


def written(**changed: Any) -> str:
    """A good spec with some keys changed."""
    spec = make_spec(RunOptions("tiny", "hpa:p_max=20", 7, ["training.epochs=1"], harmful_ratio=0.1))
    return json.dumps(json.loads(spec.to_json()) | changed)


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_spec(str(path))
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spec.json"


def test_a_spec_is_read_back_whole(file: Path) -> None:
    file.write_text(written())

    spec = read_spec(str(file))

    assert spec == make_spec(RunOptions("tiny", "hpa:p_max=20", 7, ["training.epochs=1"], harmful_ratio=0.1))
    assert (spec.config.p_max, spec.seed, spec.suite.training.epochs, spec.harmful_ratio) == (20, 7, 1, 0.1)


def test_a_spec_may_come_by_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(written(seed=3)))

    assert read_spec("-").seed == 3


def test_several_processes_cannot_share_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    with pytest.raises(UserError, match=r"^--spec -: 2 processes cannot share standard input: give a file\.$"):
        read_spec("-")


def test_bad_standard_input_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))

    with pytest.raises(UserError, match=r"^standard input is not valid JSON "):
        read_spec("-")


@pytest.mark.parametrize("made", ["nothing", "folder", "bytes"])
def test_a_file_that_cannot_be_read(made: str, file: Path) -> None:
    if made == "folder":
        file.mkdir()
    elif made == "bytes":
        file.write_bytes(b"\xff")

    with pytest.raises(UserError) as caught:
        read_spec(str(file))
    assert str(caught.value).startswith(f"--spec {file} cannot be read (")
    assert str(caught.value).endswith("): expected what RunSpec.to_json wrote.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", " is not valid JSON ("), ("[]", " is not a JSON object: "), ('{"format": 0}', " has the format 0, and ")],
)
def test_what_is_no_spec(text: str, reason: str, file: Path) -> None:
    assert refused(file, text).startswith(f"{file}{reason}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sed": 1}, "Unknown key 'sed' in {file}. Did you mean 'seed'?"),
        ({"seed": "one"}, "Bad value for seed in {file}: Input should be a valid integer"),
        ({"method": "hpaa"}, "Unknown method 'hpaa'. Did you mean 'hpa'?"),
        ({"config": {"p_maxx": 1}}, "Unknown key 'p_maxx' of method 'hpa' in {file}. Did you mean 'p_max'?"),
        ({"harmful_ratio": 2.0}, "--harmful-ratio 2.0 is not a share: expected 0 to 1"),
        ({"suite": {"name": "x"}}, "The key 'model' in the suite of {file} is missing"),
        ({"plugins": ["/nowhere/p.py"]}, "No plugin file /nowhere/p.py: expected a Python file."),
    ],
)
def test_a_bad_value_is_one_sentence(changed: dict[str, Any], message: str, file: Path) -> None:
    assert refused(file, written(**changed)).startswith(message.format(file=file))


def test_a_spec_that_was_planned_elsewhere(file: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    message = refused(file, written(cwd=str(gone)))

    assert message == f"The run was planned in {gone}, which does not exist here: make it, or set `cwd` in its spec."
    gone.mkdir()
    here = Path.cwd()
    assert read_spec(str(file)).cwd == gone and Path.cwd() == here


def test_a_file_is_no_place_for_a_run(file: Path) -> None:
    file.write_text("mine")

    with pytest.raises(UserError, match=f"^--out {file} is a file: expected a folder"):
        run_spec(make_spec(RunOptions("tiny", "seqft")), file)
    assert file.read_text() == "mine"


def test_a_bad_argument_of_run_makes_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"

    with pytest.raises(UserError, match="Unknown key 'p_maxx' of method 'hpa'"):
        run("tiny", "hpa:p_maxx=1", out=out)
    with pytest.raises(UserError, match=r"--harmful-ratio 2\.0 is not a share"):
        run("tiny", harmful_ratio=2, out=out)
    assert not out.exists()
