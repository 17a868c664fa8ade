"""The references that change nothing after the merge: only their curriculum tells them apart."""

from pathlib import Path

import pytest

from hpa_bench.baselines.joint import Joint
from hpa_bench.baselines.seqft import SeqFT
from hpa_bench.baselines.zero_shot import ZeroShot
from hpa_bench.method import Method
from tests.support.stages import random_stage

TASKS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("method", "name", "curriculum"),
    [
        (SeqFT, "seqft", [["a"], ["b"], ["c"]]),
        (ZeroShot, "zero_shot", []),
        (Joint, "joint", [["a", "b", "c"]]),
    ],
)
def test_stages_of_each_reference(method: type[Method], name: str, curriculum: list[list[str]]) -> None:
    assert method.name == name
    assert method().curriculum(TASKS) == curriculum


@pytest.mark.parametrize("method", [SeqFT, ZeroShot, Joint])
def test_a_reference_needs_nothing_and_keeps_the_merged_weights(method: type[Method], tmp_path: Path) -> None:
    before, after, ctx = random_stage(tmp_path)

    assert not method().needs
    assert not list(method().adapt(before, after, ctx))
