"""Which methods a list names, and which launcher, with which options."""

from pathlib import Path
from typing import Any

import pytest

from hpa_bench.cli.launching import chosen_launcher, named_methods, split_launch
from hpa_bench.errors import UserError
from hpa_bench.launchers.local import Local
from hpa_bench.launchers.slurm import Slurm
from hpa_bench.method import methods


def test_all_means_every_method_with_its_defaults() -> None:
    names, broken = named_methods("all,random_columns:match=norm")

    assert [*names, *broken].count("hpa") == 1
    assert {*names, *broken} == {*methods.names(), "random_columns:match=norm"}


def test_a_method_named_twice_is_run_once() -> None:
    assert named_methods("seqft, hpa:p_max=20,seqft") == (["seqft", "hpa:p_max=20"], {})


def test_settings_of_the_launcher_among_others() -> None:
    assert split_launch(["lora.rank=3", "launch.time=12h", "p_max=20", " launch.gpus=1"]) == (
        ["lora.rank=3", "p_max=20"],
        ["time=12h", "gpus=1"],
    )


def section(folder: Path, text: str) -> Path:
    (file := folder / "cluster.yaml").write_text(text)
    return file


def test_a_launcher_is_local_unless_told_otherwise() -> None:
    launcher = chosen_launcher(None, [], {"slots": 0, "gpus": None}, None)

    assert type(launcher) is Local and launcher.config.slots == 0
    assert chosen_launcher(None, [], {"slots": 2, "gpus": "0-3"}, None).config.gpus == ("0", "1", "2", "3")


def test_what_stands_nearest_has_the_last_word(tmp_path: Path) -> None:
    file = section(tmp_path, "launch: {launcher: slurm, time: 1h, cpus: 2, gpus: 3, lines: [module load cuda]}\n")
    launcher = chosen_launcher("slurm:gpus=5", ["cpus=4", "gpus=4"], {}, file)

    assert type(launcher) is Slurm
    assert (launcher.config.time, launcher.config.cpus, launcher.config.gpus) == ("1h", 4, 5)
    assert launcher.config.lines == ["module load cuda"]


@pytest.mark.parametrize(
    ("text", "named", "own", "message"),
    [
        ("launcher: slurm\n", None, [], "has no section launch: expected `launch: {launcher: slurm, time: 12h}`"),
        ("launch: slurm\n", None, [], "has no section launch"),
        ("launch: [\n", None, [], "cannot be read"),
        ("launch: {launcher: slurm}\n", "ray", [], "is for the launcher 'slurm': leave out one"),
        (
            "launch: {launcher: slurm, tiem: 1h}\n",
            None,
            [],
            "Unknown key 'tiem' of launcher 'slurm'. Did you mean 'time'",
        ),
        ("launch: {launcher: slrum}\n", None, [], "Unknown launcher 'slrum'. Did you mean 'slurm'"),
        ("launch: {}\n", None, ["partition=gpu"], "Unknown key 'partition' of launcher 'local'"),
    ],
)
def test_a_bad_section_is_one_sentence(
    text: str, named: str | None, own: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        chosen_launcher(named, own, {}, section(tmp_path, text))
    assert message in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        chosen_launcher(None, [], {}, tmp_path / "none.yaml")
