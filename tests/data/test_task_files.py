"""Tasks as their YAML files say them, against lm-eval's own index."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpa_bench.data.task_files import TaskFile, check_names, task_files
from hpa_bench.errors import UserError
from hpa_bench.suite import package_task_folders


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_task_says_what_it_is_and_what_scores_it(tmp_path: Path) -> None:
    ad = write(tmp_path, "ad/ad.yaml", "# Scenes.\ntask: ad\ndoc_to_image: !function utils.images\ninclude: ../_base\n")
    write(tmp_path, "_base", "metric_list: [{metric: acc}, {metric: f1}]\n")
    zoo = write(tmp_path, "zoo.yaml", "task: 'zoo'\nmetric_list: [{metric: bypass}]\n")
    broken = write(tmp_path, "broken.yaml", "task: broken\nmetric_list: [\n")
    write(tmp_path, "no_task.yaml", "group: both\n")

    assert list(task_files([tmp_path]).items()) == [
        ("ad", TaskFile(ad, "Scenes.", "acc")),
        ("broken", TaskFile(broken, "", "")),
        ("zoo", TaskFile(zoo, "", "bypass")),
    ]


def test_every_task_of_the_package_says_so() -> None:
    found = task_files(package_task_folders())

    assert {"tiny_ad", "ucit_vizwiz", "vlguard_unsafes", "harmful_pairs"} <= found.keys()
    assert all(task.about.endswith(".") and task.metric for task in found.values())


@pytest.mark.parametrize("text", ["task: ad\n", 'task: "ad"  # scenes\n', "{task: ad, output_type: generate_until}\n"])
def test_a_name_that_a_folder_has_passes(text: str, tmp_path: Path) -> None:
    write(tmp_path, "below/ad.yaml", text)

    check_names(["ad", "ad"], [tmp_path])


def test_a_name_of_lm_evals_own_passes_without_its_index(tmp_path: Path) -> None:
    write(tmp_path, "ad.yaml", "task: ad\n")

    check_names(["gsm8k", "ad", "tmmluplus_education_(profession_level)"], [tmp_path])


@pytest.mark.parametrize("name", ["colors", "colour", "tests"])
def test_an_unknown_name_is_refused_also_where_it_is_a_word(name: str, tmp_path: Path) -> None:
    """All of lm-eval's index takes some 17 s of processor time."""
    write(tmp_path, "colours.yaml", "# A test.\ntask: colours\n")
    began = time.process_time()

    with pytest.raises(UserError) as caught:
        check_names(["colours", name], [tmp_path])

    assert str(caught.value).startswith(f"Unknown task {name!r} (neither in {tmp_path} nor among lm-eval's own tasks).")
    assert str(caught.value).endswith(" Available: colours.")
    assert time.process_time() - began < 6


def test_it_takes_no_lm_eval() -> None:
    script = """
import sys
from hpa_bench.data.task_files import check_names
check_names(["gsm8k"], [])
assert not {"lm_eval", "torch", "numpy"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_every_task_of_lm_evals_index_passes() -> None:
    from lm_eval.tasks import TaskManager

    from hpa_bench.data.tasks import quiet

    with quiet():
        names = TaskManager().all_subtasks

    assert len(names) > 10_000
    check_names(names[::50], [])
    odd = [name for name in names if not name.replace("_", "").replace("-", "").isalnum()]
    check_names(odd[:50], [])
