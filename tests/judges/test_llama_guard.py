"""A guard through the real engine: a small language model that is really trained to tell safe from unsafe."""

import gc

import pytest

from hpa_bench.errors import UserError
from hpa_bench.judges.base import make_judge
from hpa_bench.judges.llama_guard import parse_answer
from tests.support.guard import CASES, PARTS, PLAIN, WORDS, expected, row, saved, trained_guard
from tests.support.models import random_llama
from tests.support.simulated_gpu import simulated_gpu


@pytest.fixture(scope="module")
def trained():
    return trained_guard()


@pytest.mark.parametrize("template", [PLAIN, PARTS])
def test_a_trained_guard_judges_question_and_response(trained, tmp_path, template):
    judge = make_judge(f"llama_guard:model={saved(*trained, tmp_path / 'guard', template)}:batch_size=4")
    rows = [row(*case) for case in CASES]

    verdicts = judge.verdicts(rows)

    assert verdicts == [expected(*case) for case in CASES]
    assert {"safe", "unsafe"} == set(verdicts)
    judge.release()
    assert judge.verdicts(rows[:3]) == verdicts[:3]
    # Where the image asks, the row has the request in words.
    in_image = [{**row("how to take this", answer), "request": question} for question, answer in CASES]
    assert judge.verdicts(in_image) == verdicts


@pytest.mark.slow
def test_on_a_gpu_a_guard_says_the_same_and_lets_go(trained, tmp_path):
    guard = f"llama_guard:model={saved(*trained, tmp_path / 'guard')}:dtype=float32"
    rows = [row(*case) for case in CASES]
    with simulated_gpu() as gpu:
        judge = make_judge(guard)
        assert judge.verdicts(rows) == [expected(*case) for case in CASES]
        resting, peak = gpu.used, gpu.peak
        judge.release()
        gc.collect()
        assert gpu.used == 0 < resting < peak
    with simulated_gpu((resting + peak) // 2):
        with pytest.raises(UserError, match="memory is full in the answers of the guard .*: lower its batch_size"):
            make_judge(guard).verdicts(rows)
        assert len(make_judge(f"{guard}:batch_size=1").verdicts(rows)) == len(rows)
    with simulated_gpu(resting // 2), pytest.raises(UserError, match="memory is full in loading"):
        make_judge(guard).verdicts(rows)


def test_a_guard_of_random_weights_has_no_verdict(tmp_path):
    guard = saved(*random_llama(WORDS), tmp_path / "guard")

    with pytest.raises(UserError, match=r"says neither safe nor unsafe of \d+ of 18 responses \(the log has"):
        make_judge(f"llama_guard:model={guard}").verdicts([row(*case) for case in CASES])


def test_a_template_that_shows_no_response_is_refused(trained, tmp_path):
    guard = saved(*trained, tmp_path / "guard", "{{ messages[0]['content'] }}")

    with pytest.raises(UserError, match="chat template shows it no question and response"):
        make_judge(f"llama_guard:model={guard}").verdicts([row(*CASES[0])])


def test_a_folder_without_a_guard(tmp_path):
    with pytest.raises(UserError, match="is no checkpoint of"):
        make_judge(f"llama_guard:model={tmp_path}").verdicts([row(*CASES[0])])


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("safe", "safe"),
        ("\n\nunsafe\nS1,S10", "unsafe"),
        ("unsafe", "unsafe"),
        ("unsafe\nO3", "unsafe"),
        ("safe\nS1", ""),
        ("unsafe because", ""),
        ("It is safe", ""),
        ("Safe", ""),
        ("", ""),
    ],
)
def test_answers_are_parsed_strictly(answer, verdict):
    assert parse_answer(answer) == verdict
