"""The stable interface: what `hpa_bench` itself exports, and the names that strangers' YAML calls."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hpa_bench

ROOT = Path(__file__).parents[1]


def documented() -> list[str]:
    """The names in the table of the stable interface."""
    page = (ROOT / "docs" / "new-method.md").read_text(encoding="utf-8")
    section = page.partition("\n## The stable interface\n")[2].partition("\n## ")[0]
    return [
        name
        for row in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
        for name in re.findall(r"\w+", row)
    ]


@pytest.mark.slow
def test_every_name_is_there() -> None:
    for name in hpa_bench.__all__:
        assert getattr(hpa_bench, name) is not None


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Methode'"):
        hpa_bench.Methode  # noqa: B018


def test_what_is_documented_is_what_is_exported() -> None:
    assert sorted(documented()) == sorted(hpa_bench.__all__) == sorted(dir(hpa_bench))


def test_type_checkers_see_what_is_exported() -> None:
    tree = ast.parse(Path(hpa_bench.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert seen == {name: f"hpa_bench.{home}" for name, home in hpa_bench._HOME.items()}
    assert sorted(seen) == sorted(hpa_bench.__all__)


@pytest.mark.parametrize(
    "module", ["hpa_bench", "hpa_bench.cli", "hpa_bench.cli.run", "hpa_bench.method", "hpa_bench.plugins"]
)
def test_naming_it_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "transformers", "peft", "lm_eval", "datasets", "pandas", "matplotlib")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("hpa_bench.llava_format", ["doc_to_image", "load", "load_pairs", "score"]),
        ("hpa_bench.captions", ["bleu_rouge_cider", "coco_caption"]),
        ("hpa_bench.hpa", ["HPAConfig", "adapt_layer", "keep_percent_at"]),
        ("hpa_bench.metrics", ["continual_metrics"]),
    ],
)
def test_what_others_name_beside_it_is_there(module: str, names: list[str]) -> None:
    assert all(callable(getattr(importlib.import_module(module), name)) for name in names)


def test_only_methods_import_the_face() -> None:
    """The face names every floor, so that the contract of the arrows cannot look through it (.importlinter)."""
    importers = {
        path.relative_to(ROOT / "hpa_bench").parts[0]
        for path in (ROOT / "hpa_bench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "hpa_bench"
        and any(alias.name in hpa_bench.__all__ for alias in node.names)
    }

    assert importers == {"hpa"}
