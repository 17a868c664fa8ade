"""A baseline sees what a stranger's plugin may see; import-linter cannot look into packages that lie elsewhere."""

import ast
from pathlib import Path

import pytest

BASELINES = Path(__file__).parents[2] / "baselines"
ALLOWED = ("hpa_bench", "hpa_bench.hpa")
"""The stable interface (tests/test_face.py), and HPA for its controls."""


@pytest.mark.parametrize("path", sorted(BASELINES.rglob("*.py")), ids=lambda path: path.stem)
def test_a_baseline_imports_the_stable_interface_alone(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]

    strangers = [name for name in imported if name.startswith("hpa_bench") and name not in ALLOWED]

    assert [name for name in strangers if not name.startswith("hpa_bench.baselines.")] == []


@pytest.mark.parametrize("path", sorted(BASELINES.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_baseline_begins_with_its_equation(path: Path) -> None:
    assert path.read_text().startswith('"""`')


@pytest.mark.parametrize("path", sorted(BASELINES.rglob("*.py")), ids=lambda path: path.stem)
def test_a_baseline_prints_on_two_pages(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 150
