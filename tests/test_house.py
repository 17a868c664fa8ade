"""What a person reads in one sitting, and imports at the top: bounds over the syntax trees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHODS, CLASS_LINES = 12, 200
FUNCTION_LINES, PARAMETERS = 60, 8
IMPORTS_ONCE = 214
"""Import statements inside functions of hpa_bench/ and baselines/ at e2221df, before they were cut to a quarter."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), parsed(path)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(node: ast.ClassDef | Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def parameters(node: Function) -> int:
    given = node.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    method = bool(named) and named[0].arg in ("self", "cls")
    return len(named) - method + (given.vararg is not None) + (given.kwarg is not None)


def is_interface(file: str, node: Function) -> bool:
    """Whether a function's parameters are options of the command line, or those of `hpa_bench.run`."""
    typer = file.startswith("hpa_bench/cli/") and node.name.strip("_") in (Path(file).stem.strip("_"), "list")
    return typer or (file == "hpa_bench/api.py" and node.name == "run")


def too_large() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file, tree in files("hpa_bench"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                count = sum(isinstance(inner, Function) for inner in node.body)
                too = count > METHODS or lines(node) > CLASS_LINES
            elif isinstance(node, Function):
                too = (lines(node) > FUNCTION_LINES or parameters(node) > PARAMETERS) and not is_interface(file, node)
            else:
                continue
            if too:
                found.setdefault(file, set()).add(node.name)
    return found


def imports_inside() -> dict[str, int]:
    """The import statements inside functions, by file."""
    counts = {}
    for file, tree in files("hpa_bench", "baselines"):
        functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
        inside = {
            node
            for function in functions
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        if inside:
            counts[file] = len(inside)
    return counts


def test_classes_and_functions_are_read_in_one_sitting() -> None:
    assert too_large() == {}


def test_imports_stand_at_the_top() -> None:
    counts = imports_inside()

    assert sum(counts.values()) <= IMPORTS_ONCE / 4, counts


ALONE = {
    "__main__": "two lines",
    "captions": "a name of data.captions",
    "llava_format": "a name of data.llava_format",
    "cli.options": "types of options alone",
}
"""Modules that need no test file of their own, and why."""


def test_tests_mirror_the_package() -> None:
    modules = [path.relative_to(ROOT / "hpa_bench") for path in (ROOT / "hpa_bench").rglob("*.py")]
    lacking = {
        ".".join(module.with_suffix("").parts)
        for module in modules
        if module.name != "__init__.py" and not (ROOT / "tests" / module.parent / f"test_{module.name}").is_file()
    }

    assert lacking == set(ALONE)


def imported(tree: ast.Module) -> Iterator[str]:
    """What a file imports, by its whole name, wherever in the file that stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_tests_share_what_stands_in_support_alone() -> None:
    assert {file for file, tree in files("tests") for name in imported(tree) if ".test_" in name} == set()
