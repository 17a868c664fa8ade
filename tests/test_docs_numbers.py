"""The numbers in the prose are those of the published report: its tables are data, and pages are written from them."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from hpa_bench.report.conditions import conditions
from hpa_bench.report.markdown import main_table
from hpa_bench.report.tables import number
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import read_runs

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports" / "tiny"
TABLES = PUBLISHED / "tables"
DEMO = {"AP": "ap", "BWT (T−1)": "bwt", "MASR": "masr", "DASR": "dasr", "Complied": "complied"}
DEMO |= {"Over-refusal": "over_refusal"}
"""The columns of the demo's table: their metrics in seeds.csv."""

Table = list[dict[str, str]]


def markdown_tables(text: str) -> Iterator[Table]:
    """The tables of a page, each a list of rows by heading; the first heading is "" where rows have their names."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines())
        yield [dict(zip(head, row, strict=True)) for row in rows]


def table_of(path: Path, name: str, column: str) -> Table:
    """The table of a page that has a column, and a row whose first cell is a name."""
    for table in markdown_tables(path.read_text(encoding="utf-8")):
        if column in table[0] and any(next(iter(row.values())) == name for row in table):
            return table
    raise AssertionError(f"{path.name} has no table with a row {name} and a column {column}")


def published() -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in table_of(TABLES / "main.md", "`hpa`", "AP ↑")}


def seeds(method: str, seed: str) -> dict[str, float]:
    """The final numbers of a run, by metric: over all sets, the first judge's or of what needs none."""
    found: dict[str, float] = {}
    with (TABLES / "seeds.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if (row["method"], row["seed"], row["set"]) == (method, seed, "all"):
                found.setdefault(row["metric"], float(row["value"]))
    return found


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def test_the_results_are_the_published_table() -> None:
    found, rows = table_of(ROOT / "docs/tiny-results.md", "`hpa`", "AP ↑"), published()
    wanted = [[row[column] for column in found[0]] for row in rows.values()]

    assert [list(row.values()) for row in found] == wanted, (
        "docs/tiny-results.md is not up to date with reports/tiny/tables/main.md. Its rows are now:\n"
        + "\n".join(map(line, wanted))
    )


def test_the_readmes_table_is_of_the_published_one() -> None:
    found, rows = table_of(ROOT / "README.md", "`hpa`", "AP ↑"), published()
    first, *columns = found[0]
    shown = [row[first] for row in found]
    wanted = [[name, *(re.sub(r"\*\*|</?ins>", "", rows[name][column]) for column in columns)] for name in shown]

    assert [list(row.values()) for row in found] == wanted, (
        "README.md is not up to date with reports/tiny/tables/main.md. Its rows are now:\n"
        + "\n".join(map(line, wanted))
    )
    if "seeds" not in columns:  # Then they stand in the heading.
        assert {rows[name]["seeds"] for name in shown} == {first.removesuffix(" seeds")}, "README.md: seeds"


def test_the_demo_shows_the_published_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head, values, limits = ([cell.strip() for cell in row.split("│")[1:-1]] for row in re.findall("^│.*", text, re.M))
    shown = {name: (value, limit) for name, value, limit in zip(head, values, limits, strict=True) if name in DEMO}
    runs = read_runs(find_results((PUBLISHED / "results").glob("hpa-*/seed0.parquet")))
    condition, *_ = conditions([run for run in runs if run.label == "hpa"])
    (row,) = next(markdown_tables(main_table(condition)))
    names = {name: heading for heading in row for name in DEMO if heading.startswith(name)}
    wanted = {name: tuple(row[names[name]].split(" ", 1)) for name in DEMO}

    assert values[:2] == ["hpa", "1"] and shown == wanted, (
        f"README.md, the demo's table: hpa with seed 0 has {wanted} in reports/tiny/results, and README says {shown}"
    )
    published_as = {name: number(seeds("hpa", "0")[metric]) for name, metric in DEMO.items()}
    assert {name: value for name, (value, _) in shown.items()} == published_as, (
        f"README.md, the demo's table: hpa with seed 0 has {published_as} in reports/tiny/tables/seeds.csv"
    )
