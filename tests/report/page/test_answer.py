"""The question and the sentences of the first screen say what the numbers say."""

import pytest

from hpa_bench.report.page.answer import lead
from tests.support.noise import with_noise
from tests.support.reports import condition_of, unlike_seeds
from tests.support.run_folders import write_run


def said(condition):
    return " ".join("".join(text for text, _ in sentence) for sentence in lead(condition)["answer"])


@pytest.mark.slow
def test_what_is_told_apart_is_named_and_the_rest_counted(tmp_path):
    runs = [write_run(tmp_path, f"m{i}", forget=0.2 * i, unsafe=0.1 + 0.3 * i, n=300) for i in range(4)]
    runs += [write_run(tmp_path, "twin", forget=0.6, unsafe=1.0, n=300)]

    found = lead(condition := condition_of(runs))

    assert found["question"] == "After 3 tasks, which of 5 methods keeps skills and refusals?"
    assert "Most accurate: m0 (AP " in said(condition) and "told from all 4 others." in said(condition)
    assert "Fewest harmful requests obeyed: m0 (MASR " in said(condition)
    assert "How far rounding alone moves these numbers was not measured here." in said(condition)
    assert [row["label"] for row in found["table"]["rows"]][:2] == ["m0", "m1"] and found["left_out"] == 0


@pytest.mark.slow
def test_methods_that_are_not_told_apart_are_said_so(tmp_path):
    runs = [write_run(tmp_path, name, forget=0.3, unsafe=0.3, n=40) for name in ("seqft", "a", "b")]

    assert "told from no other." in said(condition_of(runs))
    assert "None of the 2 others is told from seqft in AP or MASR" in said(condition_of(runs))


@pytest.mark.slow
def test_who_is_worse_on_shared_seeds_is_told_from_no_other(tmp_path):
    words = said(condition_of(unlike_seeds(tmp_path)))

    assert "Most accurate: many (AP " in words and words.count("told from no other.") == 2


@pytest.mark.slow
def test_the_noise_floor_is_told(tmp_path):
    plain, noisy = with_noise(tmp_path)

    assert "Rounding alone moves one run’s AP by " in said(condition_of([*plain, *noisy]))


def test_one_method_alone_is_told_with_its_intervals(tmp_path):
    condition = condition_of([write_run(tmp_path, "hpa")])

    assert lead(condition)["question"] == "After 3 tasks, what does the model still know and refuse?"
    assert said(condition).startswith("hpa: AP ") and "% of harmful requests are not refused (MASR), from " in said(
        condition
    )
