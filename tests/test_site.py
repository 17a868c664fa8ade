"""The docs site: every page is in its navigation, what is made from the code is whole, and commands are as the CLI."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from hpa_bench.cli import VERBS, app
from hpa_bench.cli.describe import keys_of
from hpa_bench.plugins import DOORS
from tests.support.run_folders import write_run

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
README_WORDS = 900


class Config(yaml.SafeLoader):
    """Reads mkdocs.yml, whose functions by name are MkDocs' own matter."""


Config.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def named(part: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(part, str):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from named(inner)


def commands() -> list[Any]:
    """Every whole `hpa-bench` command of a code block, with where it stands."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("hpa-bench ") and not re.search(r"\.\.\.|\[-|\||[<>$]", line):
                    found.append(pytest.param(shlex.split(line, comments=True)[1:], id=f"{page.name}: {line[:60]}"))
    return found


def verb(name: str) -> Any:
    group: Any = typer.main.get_command(app)
    return group.resolve_command(typer.Context(group), [name])[1]


def test_the_navigation_has_every_page_once() -> None:
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Config)["nav"]
    listed = [page for page in named(nav) if not page.startswith("reference/")]

    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md"))


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < README_WORDS


@pytest.mark.parametrize("arguments", commands())
def test_commands_of_the_docs_are_understood(arguments: list[str]) -> None:
    verb(arguments[0]).make_context(arguments[0], arguments[1:])


def test_a_command_that_is_wrong_would_be_noticed() -> None:
    assert len(commands()) > 40
    with pytest.raises(Exception, match="No such option: --methud"):
        verb("run").make_context("run", ["--methud", "hpa"])


SHORT = [one for one in commands() if one.values[0][0] in ("list", "new-method")]


@pytest.mark.parametrize("arguments", SHORT)
def test_short_commands_of_the_docs_run(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output


RUN = (
    "new-suite mine",
    "validate --suite mine/mine.yaml",
    "report runs/tiny --figures paper",
    "export runs/tiny --to lm-eval --out exported",
    "publish runs/tiny --out reports/tiny",
    "report reports/tiny --out reports/tiny",
)
"""Commands of the docs, one after the other, that need some runs and nothing that only their reader has."""


@pytest.mark.slow
def test_commands_of_the_docs_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("seqft", "hpa"):
        write_run(tmp_path / "made", method, manifest={"suite": "tiny"})
    shutil.copytree(tmp_path / "made" / "toy", tmp_path / "runs" / "tiny")
    monkeypatch.chdir(tmp_path)
    told = [one.values[0] for one in commands()]

    for line in RUN:
        assert shlex.split(line) in told, f"{line}: the docs have it no more"
        done = CliRunner().invoke(app, shlex.split(line))
        assert done.exit_code == 0, f"{line}: {done.output}"

    for made in ("mine/mine.yaml", "report/report.html", "report/paper/paper.tex", "reports/tiny/report.html"):
        assert (tmp_path / made).stat().st_size > 500


def test_pages_made_from_the_code_name_everything() -> None:
    pytest.importorskip("mkdocs")
    from scripts.docs_pages import PAGES as MADE

    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Config)["nav"]
    assert {f"reference/{name}.md" for name in MADE} == {page for page in named(nav) if page.startswith("reference/")}

    line = MADE["cli"]()
    assert [name for name in VERBS if f"## `hpa-bench {name}`" not in line] == []
    options = {option for name in VERBS for one in verb(name).params for option in one.opts if option.startswith("--")}
    assert [option for option in options if option not in line] == []
    assert str(Path.home()) not in line
    settings = MADE["method-settings"]()
    for name in DOORS[0].names():
        part = settings.partition(f"\n## `{name}`\n")[2].partition("\n## `")[0]
        assert [key.name for key in keys_of(DOORS[0].get(name).Config) if f"| `{key.name}` |" not in part] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "runs", "build", "dist", "site", "*.egg-info", "__pycache__", "*.parquet")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "hpa-bench export" in page

    with (source / "docs" / "index.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](nothing.md)\n")
    broken = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert broken.returncode != 0 and "nothing.md" in broken.stderr
