"""The prose: short lines, short paragraphs, and nothing named that is not there."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from hpa_bench.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")])
LINE, PARAGRAPH = 100, 80
"""The most characters of a line of prose, and the most words of a paragraph or list item."""

UNBREAKABLE = re.compile(r"`[^`]*`|!?\[[^]]*\]\([^)]*\)")
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
DOTTED = re.compile(r"(?<![\w./-])hpa_bench((?:\.\w+)+)(?![\w/-])")
IMPORT = re.compile(r"^from (hpa_bench[\w.]*) import ([\w, ]+)$", re.MULTILINE)
FOLDERS = "baselines|benchmarks|docs|hpa_bench|reports|safety_sets|scripts|tasks|tests"
PATH = re.compile(rf"(?<![\w/.~-])(?:{FOLDERS})/[\w./*-]*")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def app_command(verb: str) -> typer.core.TyperCommand | None:
    """A verb with its options, or None where there is none."""
    verbs = typer.main.get_command(app)
    context = verbs.make_context("hpa-bench", ["--version"], resilient_parsing=True)
    try:
        return verbs.resolve_command(context, [verb])[1]
    except Exception:
        return None


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page but those of code blocks, tables, headings and HTML; they read as empty."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        yield number, "" if fence or fenced or line.startswith(("|", "#", "<")) else line


def paragraphs(page: Path) -> Iterator[tuple[int, str]]:
    """Each paragraph and each list item as one line, with the number of its first."""
    start = 0
    words: list[str] = []
    for number, line in [*prose(page), (0, "")]:
        if words and (not line.strip() or re.match(r"\s*(?:[-*]|\d+\.) ", line)):
            yield start, " ".join(words)
            words = []
        if line.strip():
            start = start if words else number
            words += re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line).split()


@each_page
def test_lines_are_short(page: Path) -> None:
    def breaks(line: str) -> bool:
        return " " in UNBREAKABLE.sub("x", re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line)).strip()

    assert [number for number, line in prose(page) if len(line) > LINE and breaks(line)] == []


@each_page
def test_paragraphs_are_short(page: Path) -> None:
    assert {start: len(text.split()) for start, text in paragraphs(page) if len(text.split()) > PARAGRAPH} == {}


@cache
def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    text = "\n".join(line for _, line in _unfenced(page))
    for target in LINK.findall(text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@each_page
def test_paths_of_the_repository_exist(page: Path) -> None:
    text = "\n".join(line for _, line in _unfenced(page))
    missing = [path for path in PATH.findall(text) if not list(ROOT.glob(path.rstrip("./")))]
    assert missing == []


@each_page
def test_names_in_the_package_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    groups = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"])
    names = {f"hpa_bench{rest}" for rest in DOTTED.findall(text)} - groups
    names |= {f"{module}.{name.strip()}" for module, several in IMPORT.findall(text) for name in several.split(",")}
    assert sorted(name for name in names if not resolves(name)) == []


def test_the_architecture_names_every_module_in_its_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (top|`[\w/]+/`)[^|]*\|([^|]*)\|", text, re.MULTILINE)
    named = [
        room.strip("`").replace("top", "") + file for room, files in rows for file in re.findall(r"`(\w+)`", files)
    ]
    package = ROOT / "hpa_bench"
    files = [file.relative_to(package).with_suffix("").as_posix() for file in package.rglob("*.py")]
    inner = {file for file in files if not file.endswith("/__init__")}

    # Who adds one of a kind that has a door touches its file and its entry point.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = [point for group in project["entry-points"].values() for point in group.values()]
    doors = {point.partition(":")[0].removeprefix("hpa_bench.").replace(".", "/") for point in points}
    assert len(named) == len(set(named)) and set(named) <= inner
    assert inner - set(named) <= doors


def test_a_flow_visits_no_file_twice() -> None:
    flows = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("\n### ")[1:]
    visited = {flow.partition("\n")[0]: re.findall(r"^\d+\. `([^`]*)`", flow, re.MULTILINE) for flow in flows}

    assert len([flow for flow in visited.values() if flow]) == 6
    assert [name for name, files in visited.items() if len(set(files)) != len(files)] == []


def test_a_moved_module_would_be_noticed() -> None:
    assert resolves("hpa_bench.metrics.continual_metrics") and resolves("hpa_bench.Method.adapt")
    assert not resolves("hpa_bench.nowhere.thing") and not resolves("hpa_bench.metrics.nothing")


def _unfenced(page: Path) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if not fence and not fenced:
            yield number, line


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module defines; read from the source, nothing imported."""
    path, rest = ROOT / "hpa_bench", name.split(".")[1:]
    if rest and rest[0] in ("baselines", "tasks", "safety_sets"):
        path, rest = ROOT / rest[0], rest[1:]
    while rest and ((path / rest[0]).is_dir() or (path / f"{rest[0]}.py").exists()):
        path, rest = path / rest[0], rest[1:]
    if not rest:
        return True
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.exists() and _defines(file, rest)


def _defines(file: Path, rest: list[str]) -> bool:
    source = file.read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(source).body
    for position, wanted in enumerate(rest):
        found = next((node for node in _statements(body) if wanted in _names(node)), None)
        if found is None:  # a package may hand out names when they are asked for
            return position == 0 and len(rest) == 1 and re.search(rf'"{wanted}"', source) is not None
        if isinstance(found, ast.ImportFrom | ast.Import):
            return True
        body = found.body if isinstance(found, ast.ClassDef) else []
    return True


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements(node.body)


def _names(node: ast.stmt) -> set[str]:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {alias.asname or alias.name for alias in aliases}
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `hpa-bench` command in the code blocks of a page, lines that a backslash joins as one."""
    blocks = page.read_text(encoding="utf-8").split("```")[1::2]
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        if match := re.search(r"(?:^\s*|-m )hpa[-_]bench ([a-z-]+ .*)", line):
            yield match[1].split(" #")[0].split()


@each_page
def test_commands_are_those_of_the_command_line(page: Path) -> None:
    for verb, *words in commands(page):
        command = app_command(verb)
        assert command is not None, f"hpa-bench {verb}"
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        asked = {word.split("=")[0] for word in words if word.startswith("--")}
        assert asked <= known | {"--help"}, f"hpa-bench {verb} {' '.join(words)}"
