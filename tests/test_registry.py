import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.method import Method, methods
from hpa_bench.plugins import load_plugins
from hpa_bench.registry import Registry

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture
def registry() -> Registry[Method]:
    return Registry("method", "hpa_bench.methods", Method)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the stranger's package is really installed."""
    site = tmp_path_factory.mktemp("site")
    # A build leaves files beside the sources.
    source = shutil.copytree(PLUGIN, tmp_path_factory.mktemp("source") / "plugin")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(source)], check=True)
    return os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def hpa_bench(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hpa_bench", *arguments], capture_output=True, text=True, env=env)


def test_what_ships_comes_through_the_same_door(registry: Registry[Method]) -> None:
    assert {"hpa", "joint", "random_columns", "seqft", "zero_shot"} <= set(registry.names())
    assert registry.origin("hpa") == "hpa-bench"
    for name in registry.names():
        assert registry.get(name).name == name


def test_an_unknown_name_offers_the_nearest(registry: Registry[Method]) -> None:
    with pytest.raises(UserError, match=r"Unknown method 'seqtf'. Did you mean 'seqft'\? Available: derpp, ewc, hpa"):
        registry.get("seqtf")


def test_a_taken_name_is_refused(registry: Registry[Method]) -> None:
    class Pretender(Method):
        name = "hpa"

    with pytest.raises(UserError, match=r"method 'hpa' exists already \(from hpa-bench\)"):
        registry.add(Pretender, "hpa")


def test_a_file_registers_the_methods_that_it_defines(registry: Registry[Method]) -> None:
    assert registry.add_file(PLUGIN / "half_way.py") == 1
    assert registry.get("half_way").name == "half_way"
    assert registry.origin("half_way") == str(PLUGIN / "half_way.py")
    # Loading it again, as a second command in one process does, is no conflict.
    assert registry.add_file(PLUGIN / "half_way.py") == 1


def test_a_plugin_that_raises_on_import_is_named_with_its_exception(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import numpy_but_misspelt\n")

    with pytest.raises(UserError, match=r"mine\.py cannot be imported: ModuleNotFoundError: .*numpy_but_misspelt"):
        load_plugins([path])


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No plugin file"), ("x = 1\n", "defines no method, engine or judge")]
)
def test_a_plugin_without_a_method_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UserError, match=message):
        load_plugins([path])


@pytest.mark.slow
def test_an_installed_stranger_is_listed(stranger: dict[str, str]) -> None:
    result = hpa_bench("list", "methods", env=stranger)

    assert "half_way             Keep a share of every update" in result.stdout


def test_a_broken_plugin_is_listed_as_broken(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("1 / 0\n")
    result = hpa_bench("list", "methods", "--plugin", str(path))

    assert result.returncode == 0
    assert "mine.py" in result.stdout and "BROKEN" in result.stdout and "ZeroDivisionError" in result.stdout
    assert "hpa " in result.stdout


def test_the_global_registry_is_unchanged_by_another(registry: Registry[Method]) -> None:
    registry.add_file(PLUGIN / "half_way.py")

    assert "half_way" not in methods.names()
