"""The frame of the generated faults: outcomes are what they are called, and the table in the docs holds no bad one."""

import time
from functools import partial
from pathlib import Path

import pytest

from hpa_bench.errors import UserError
from tests.support.fault_counts import PAGE, PROPERTY, counted, read, table, written
from tests.support.faults import FAILURES, FILE_FAULTS, Outcome, command, outcome, outcome_in_child, spoil


def refuse(text: str) -> None:
    raise UserError(text)


@pytest.mark.slow
@pytest.mark.parametrize("take", [outcome, outcome_in_child])
def test_each_outcome_is_told_apart(take: object) -> None:
    def found(act: object, **options: object) -> Outcome:
        return take(act, ["a.json"], **options).outcome  # type: ignore[operator]

    assert found(partial(int, "1"), right=bool) == Outcome.HANDLED
    assert found(partial(int, "0"), right=bool) == Outcome.SILENT
    assert found(partial(int, "0")) == Outcome.SILENT
    assert found(partial(refuse, "a.json is cut: delete it.")) == Outcome.SENTENCE
    assert found(partial(refuse, "Something is cut.")) == Outcome.TRACEBACK
    assert found(partial(refuse, "a.json:\nis cut.")) == Outcome.TRACEBACK
    assert found(partial(int, "a.json")) == Outcome.TRACEBACK
    assert found(partial(exit, 0)) == Outcome.TRACEBACK
    assert found(partial(time.sleep, 9), limit=0.2) == Outcome.HANG


def test_what_a_command_says_is_its_sentence() -> None:
    assert "seqft" in command("list", "methods")
    with pytest.raises(UserError, match="Unknown method 'none'"):
        command("run", "--method", "none")
    with pytest.raises(UserError, match="--nonsense"):
        command("run", "--nonsense")


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_file_is_spoilt_as_the_fault_says(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")

    spoil(file, fault, b"foreign")

    spoilt = {"absent": None, "empty": b"", "cut": b"01234", "one bit flipped": b"0123446789", "another's": b"foreign"}
    assert (file.read_bytes() if file.exists() else None) == spoilt[fault]


def test_counts_are_written_and_read_again() -> None:
    cases = [("b", "cut", "sentence"), ("b", "cut", "handled"), ("a", "absent", "silent"), ("b", "cut", "sentence")]
    counts = counted([("other", 1), *((PROPERTY, case) for case in cases)])
    page = f"# Faults\n\n<!-- counts -->\n{table({('b', 'empty'): {'hang': 1}, ('c', 'cut'): {'handled': 2}})}\n"
    page += "<!-- /counts -->\nmore\n"

    found = written(page, counts)

    assert "| b | cut | 3 | 1 | 2 | 0 | 0 | 0 |" in found.splitlines()
    assert "| c | cut | 2 | 2 | 0 | 0 | 0 | 0 |" in found.splitlines(), "a group that did not run stays"
    assert "| all |  | 6 | 3 | 2 | 1 | 0 | 0 |" in found.splitlines()
    assert set(read(found)) == {("a", "absent"), ("b", "cut"), ("c", "cut")}, "what a group had before goes"
    assert found.startswith("# Faults\n") and found.endswith("more\n")
    with pytest.raises(ValueError, match="sums"):
        read(found.replace("| b | cut | 3 |", "| b | cut | 4 |"))


def test_the_docs_hold_the_counts_of_a_run_without_a_bad_case() -> None:
    counts = read(PAGE.read_text(encoding="utf-8"))
    here = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("*.py"))

    assert {case: row for case, row in counts.items() if any(row[bad] for bad in FAILURES)} == {}
    assert [group for group, _ in counts if f'"{group}"' not in here] == [], "no test has such a group any more"
