"""How the generated faults went: counted over a test run, printed, and kept in docs/faults.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support.faults import Outcome

PAGE = Path(__file__).parents[2] / "docs/faults.md"
BEGIN, END = "<!-- counts -->", "<!-- /counts -->"
"""The table stands between these in the page."""
HEAD = ("what", "fault", "cases", *Outcome)
PROPERTY = "fault"
"""The name under which a test's report has a case: its group, its fault and its outcome."""

Counts = Mapping[tuple[str, str], Mapping[str, int]]
"""By group and fault: how often each outcome came."""


def counted(properties: Iterable[tuple[str, Any]]) -> Counts:
    """Return the counts of tests' `user_properties`, in the order in which groups and faults came."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for name, value in properties:
        if name == PROPERTY:
            group, fault, outcome = value
            found.setdefault((group, fault), Counter())[outcome] += 1
    return found


def table(counts: Counts) -> str:
    """Return counts as Markdown, one row a group and fault, sorted, the sums below."""
    rows: list[tuple[object, ...]] = [
        (group, fault, sum(row.values()), *(row.get(outcome, 0) for outcome in Outcome))
        for (group, fault), row in sorted(counts.items())
    ]
    sums = [sum(row.get(outcome, 0) for row in counts.values()) for outcome in Outcome]
    lines = [HEAD, ("---",) * 2 + ("---:",) * (len(HEAD) - 2), *rows, ("all", "", sum(sums), *sums)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def read(page: str) -> Counts:
    """Return the counts of a page's table.

    Raises:
        ValueError: it is none as `table` writes it.
    """
    _, begin, rest = page.partition(BEGIN)
    inside, end, _ = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no table between {BEGIN} and {END}")
    found = {}
    for line in inside.strip().splitlines()[2:-1]:
        group, fault, _, *numbers = (cell.strip() for cell in line.strip().strip("|").split("|"))
        found[group, fault] = dict(zip(Outcome, map(int, numbers), strict=True))
    if found and inside.strip() != table(found):
        raise ValueError("the table's sums or its order are not its rows'")
    return found


def written(page: str, counts: Counts) -> str:
    """Return a page with these counts in its table; of groups that did not run, those that stood there stay."""
    ran = {group for group, _ in counts}
    kept = {key: row for key, row in read(page).items() if key[0] not in ran}
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table({**kept, **counts})}\n{END}{rest.partition(END)[2]}"
