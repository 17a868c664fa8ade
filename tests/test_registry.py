import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from hpa_bench.method import Method, methods
from hpa_bench.plugins import load_plugins
from hpa_bench.registry import Registry

PLUGIN = Path(__file__).parent / "plugin"
HALF_WAY = PLUGIN / "stranger" / "half_way.py"


@pytest.fixture
def registry() -> Registry[Method]:
    return Registry("method", "hpa_bench.methods", Method)


def list_methods(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "hpa_bench", "list", "methods", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment).stdout


def write_package(folder: Path, value: str, **files: str) -> dict[str, str]:
    """Write modules and the metadata of an installed package with one method, `theirs`; return its environment."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    metadata = folder / "theirs-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[hpa_bench.methods]\ntheirs = {value}\n")
    return {"PYTHONPATH": str(folder)}


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
    assert registry.add_file(HALF_WAY) == 1
    assert registry.get("half_way").name == "half_way"
    assert registry.origin("half_way") == str(HALF_WAY)
    # Loading it again, as a second command in one process does, is no conflict.
    assert registry.add_file(HALF_WAY) == 1


def test_a_plugin_that_raises_on_import_is_named_with_its_exception(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import numpy_but_misspelt\n")

    with pytest.raises(UserError, match=r"mine\.py cannot be imported: ModuleNotFoundError: .*numpy_but_misspelt"):
        load_plugins([path])


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No plugin file"), ("x = 1\n", "defines no method, engine, judge, launcher or")]
)
def test_a_plugin_without_a_method_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)

    with pytest.raises(UserError, match=message):
        load_plugins([path])


@pytest.mark.slow
def test_a_class_of_a_file_without_a_name_is_refused(registry: Registry[Method], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from hpa_bench import Method\n\nclass Mine(Method):\n    pass\n")

    with pytest.raises(UserError, match=r"method Mine in the plugin .*mine\.py has no name: set name = 'mine' in the"):
        registry.add_file(path)


def test_a_base_of_named_classes_needs_no_name(registry: Registry[Method], tmp_path: Path) -> None:
    path = tmp_path / "family.py"
    lines = ["class Base(Method):", "    pass", "class One(Base):", "    name = 'one'"]
    path.write_text("\n".join(["from hpa_bench import Method", *lines]))

    assert registry.add_file(path) == 1
    assert registry.get("one").__name__ == "One"


@pytest.mark.parametrize(
    ("body", "message"),
    [("pass", "but has no name: set name = 'theirs' in it"), ("name = 'ours'", "but is called 'ours': set name = ")],
)
def test_an_entry_point_and_its_class_have_one_name(
    body: str, message: str, registry: Registry[Method], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"theirs_{body.split()[0]}"
    text = f"from hpa_bench import Method\n\nclass Theirs(Method):\n    {body}\n"
    write_package(tmp_path, f"{module}:Theirs", **{module: text})
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        UserError, match=rf"{module}:Theirs \(from theirs\) is registered as the method 'theirs' {message}"
    ):
        registry.get("theirs")


def test_a_line_is_read_from_the_source_and_nothing_is_imported(tmp_path: Path) -> None:
    text = 'import torch\n\n1 / 0\n\nclass Theirs:\n    """Do something.\n\n    At length.\n    """\n'
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("1 / 0\n")
    environment = write_package(tmp_path, "pack.theirs:Theirs", **{"pack/theirs": text})
    code = "import sys; from hpa_bench.method import methods; print(methods.describe('theirs'))"
    code += "; [methods.describe(name) for name in methods.names()]; assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code]

    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)

    assert said.stdout == "Do something.\n"


def test_a_class_that_its_module_only_names_is_imported_for_its_line(tmp_path: Path) -> None:
    text = "from hpa_bench import Method\n\nclass Theirs(Method):\n    'Elsewhere.'\n\n    name = 'theirs'\n"
    environment = write_package(tmp_path, "door:Theirs", door="from inside import Theirs\n", inside=text)

    assert "theirs               Elsewhere.\n" in list_methods(**environment)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "No module named 'theirs'"), ("1 +", "SyntaxError"), ("x = 1", "no attribute 'Theirs'")],
)
def test_a_broken_entry_point_is_listed_with_its_reason(text: str | None, reason: str, tmp_path: Path) -> None:
    environment = write_package(tmp_path, "theirs:Theirs", **({} if text is None else {"theirs": text}))

    listed = list_methods(**environment)

    (line,) = [line for line in listed.splitlines() if line.startswith("theirs")]
    assert "BROKEN: The method 'theirs' (from theirs, theirs:Theirs) is broken" in line and reason in line
    assert "\nhpa " in listed


def test_a_broken_plugin_is_listed_as_broken(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("1 / 0\n")

    listed = list_methods("--plugin", str(path))

    assert "mine.py" in listed and "BROKEN" in listed and "ZeroDivisionError" in listed
    assert "\nhpa " in listed


def processor_seconds(*command: str) -> float:
    """Return the processor time of a command, user and system, which says the same on a busy machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_methods_are_listed_as_fast_as_the_command_line_starts() -> None:
    """Under three times what typer and rich take, plus 0.1 s (benchmarks/commands.py measures wall seconds)."""
    listing = [sys.executable, "-m", "hpa_bench", "list", "methods"]
    for _ in range(3):
        pairs = [
            (processor_seconds(sys.executable, "-c", "import typer, rich"), processor_seconds(*listing))
            for _ in range(5)
        ]
        bare, listed = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
        if listed < 3 * bare + 0.1:
            return
    pytest.fail(f"list methods takes {listed:.2f} s, typer and rich {bare:.2f} s")


def test_what_is_added_within_a_block_is_gone_after_it(registry: Registry[Method]) -> None:
    class Before(Method):
        name = "before"

    registry.add(Before, "before")
    with pytest.raises(RuntimeError), registry.scratch() as within:
        within.add_file(HALF_WAY)
        assert {"before", "half_way", "hpa"} <= set(registry.names())
        raise RuntimeError

    assert "before" in registry.names() and "half_way" not in registry.names()


def test_the_global_registry_is_unchanged_by_another(registry: Registry[Method]) -> None:
    registry.add_file(HALF_WAY)

    assert "half_way" not in methods.names()
