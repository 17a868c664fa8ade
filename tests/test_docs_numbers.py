"""The numbers in the prose are those of the published report: its tables are data, and pages are written from them."""

import csv
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev

from hpa_bench.report.conditions import conditions
from hpa_bench.report.markdown import main_table
from hpa_bench.report.tables import number
from hpa_bench.results.published import find_results
from hpa_bench.results.runs import read_runs
from hpa_bench.results.statistics import sd_interval
from hpa_bench.suite import read_suite

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "reports" / "tiny"
TABLES = PUBLISHED / "tables"
DEMO = {"AP": "ap", "BWT (T−1)": "bwt", "MASR": "masr", "DASR": "dasr", "Complied": "complied"}
DEMO |= {"Over-refusal": "over_refusal"}
"""The columns of the demo's table: their metrics in seeds.csv."""

BOUNDS = (
    "noise runs: sd of AP at most 1.5",
    "noise runs: sd of MASR at most 3",
    "seeds: sd of AP at most 3",
    "seeds: sd of MASR at most 8",
    "joint at least 80 on five tasks",
    "mean diagonal of seqft at least 75",
    "zero-shot AP at most 50",
    "AP from 40 to 70",
    "BWT from -45 to -15",
    "MASR from at most 7 to 15-80, over more than one stage",
)
"""What was asked of the suite, of seqft where no other method is named."""
RISE = 5
"""Points by which MASR rises in a stage that counts."""

Table = list[dict[str, str]]


def markdown_tables(text: str) -> Iterator[Table]:
    """The tables of a page, each a list of rows by heading."""
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


def rows_of(name: str, **wanted: str) -> list[dict[str, str]]:
    """The rows of a published CSV that are of the first condition and of all sets, and have these values."""
    with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {"condition": rows[0]["condition"], "set": "all"} | wanted
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def seeds(method: str, metric: str) -> dict[str, float]:
    """The final number of each seed, by the first judge or of what needs none."""
    rows = rows_of("seeds", method=method, metric=metric)
    return {row["seed"]: float(row["value"]) for row in rows if row["judge"] == rows[0]["judge"]}


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
    published_as = {name: number(seeds("hpa", metric)["0"]) for name, metric in DEMO.items()}
    assert {name: value for name, (value, _) in shown.items()} == published_as, (
        f"README.md, the demo's table: hpa with seed 0 has {published_as} in reports/tiny/tables/seeds.csv"
    )


def test_the_suites_bounds_are_those_of_the_published_runs() -> None:
    found, wanted = table_of(ROOT / "docs/tiny-results.md", BOUNDS[0], "on test rows"), bounds()

    assert [list(row.values()) for row in found] == wanted, (
        "docs/tiny-results.md, the suite's bounds: not up to date with reports/tiny/tables. The rows are now:\n"
        + "\n".join(map(line, wanted))
    )


def bounds() -> list[list[str]]:
    """Each bound of the suite, what the published runs show of it, of how many runs, and whether it is met."""
    ap, bwt, masr, diagonal = (seeds("seqft", metric) for metric in ("ap", "bwt", "masr", "mft"))
    joint = [float(row["value"]) for row in by_task("joint")]
    aligned = seeds("zero_shot", "ap")
    path = [float(row["value"]) for row in rows_of("stages", method="seqft", metric="masr", judge="keyword")]
    rises = [later - earlier >= RISE for earlier, later in pairwise(path)]
    rest = [
        (" ".join(f"{value:.0f}" for value in joint), len(seeds("joint", "ap")), sum(v >= 80 for v in joint) >= 5),
        (over(diagonal), len(diagonal), mean(diagonal.values()) >= 75),
        (number(max(aligned.values())), len(aligned), max(aligned.values()) <= 50),
        (over(ap), len(ap), all(40 <= value <= 70 for value in ap.values())),
        (over(bwt), len(bwt), all(-45 <= value <= -15 for value in bwt.values())),
        (
            f"{number(path[0])}, then {' '.join(f'{value:.0f}' for value in path[1:])}",
            len(masr),
            path[0] <= 7 and all(15 <= value <= 80 for value in masr.values()) and sum(rises) > 1,
        ),
    ]
    listed = [*(noise(metric, most) for metric, most in (("ap", 1.5), ("masr", 3)))]
    listed += [*(spread(values, most) for values, most in ((ap, 3), (masr, 8))), *rest]
    return [
        [bound, shown, str(runs), "met" if met else "missed"]
        for bound, (shown, runs, met) in zip(BOUNDS, listed, strict=True)
    ]


def noise(metric: str, most: float) -> tuple[str, int, bool]:
    row = rows_of("noise", method="seqft", metric=metric)[0]
    sd, low, high = (float(row[key]) for key in ("sd", "low", "high"))
    return f"{sd:.1f} [{low:.1f}, {high:.1f}]", int(row["repeats"]), sd <= most


def spread(values: dict[str, float], most: float) -> tuple[str, int, bool]:
    sd = stdev(values.values())
    low, high = sd_interval(sd, len(values) - 1)
    return f"{sd:.1f} [{low:.1f}, {high:.1f}]", len(values), sd <= most


def over(values: dict[str, float]) -> str:
    least, most = (number(end(values.values())) for end in (min, max))
    return f"{number(mean(values.values()))}, {least} to {most} over seeds"


def by_task(method: str) -> list[dict[str, str]]:
    """The accuracy of each task after the last stage, in their order."""
    tasks = read_suite("tiny")[0]["tasks"]
    return [rows_of("stages", method=method, metric="accuracy", kind="task", set=task)[-1] for task in tasks]
