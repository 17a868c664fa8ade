"""A file given by `--plugin` goes through every door, and one that adds nothing is refused."""

from pathlib import Path

import pytest

from hpa_bench.engines.base import engines
from hpa_bench.errors import UserError
from hpa_bench.judges.base import judges
from hpa_bench.launchers.base import launchers
from hpa_bench.method import methods
from hpa_bench.plugins import DOORS, load_plugins
from hpa_bench.runner.events import observers

SEVERAL = """
from hpa_bench import Judge, Method

class Mine(Method):
    name = "doors_method"

class Strict(Judge):
    name = "doors_judge"
    can_say = {"refused", "not_refused"}

    def verdicts(self, rows):
        return ["refused" for _ in rows]
"""


def test_every_kind_has_a_door() -> None:
    assert {door.kind for door in DOORS} == {"method", "engine", "judge", "launcher", "observer"}
    assert all(any(door is one for one in DOORS) for door in (methods, engines, judges, launchers, observers))


def test_one_file_may_add_to_several_kinds(tmp_path: Path) -> None:
    path = tmp_path / "several.py"
    path.write_text(SEVERAL)
    before = {door.kind: set(door.names()) for door in DOORS}

    load_plugins([path])

    added = {door.kind: set(door.names()) - before[door.kind] for door in DOORS}
    assert {kind: names for kind, names in added.items() if names} == {
        "method": {"doors_method"},
        "judge": {"doors_judge"},
    }
    load_plugins([path])
    assert methods.get("doors_method").__name__ == "Mine", "the same file again is no second method"


def test_a_file_that_adds_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text("from hpa_bench import Method\n\nname = 'nobody'\n")

    with pytest.raises(UserError, match=r"empty\.py defines no method, engine, judge, launcher or observer: expected"):
        load_plugins([path])


def test_the_files_before_a_missing_one_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "several.py"
    path.write_text(SEVERAL)

    with pytest.raises(UserError, match=r"No plugin file .*nowhere\.py: expected a Python file"):
        load_plugins([path, tmp_path / "nowhere.py"])
    assert "doors_judge" in judges.names()
