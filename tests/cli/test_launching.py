"""Which methods a list names."""

from hpa_bench.cli.launching import named_methods
from hpa_bench.method import methods


def test_all_means_every_method_with_its_defaults() -> None:
    names, broken = named_methods("all,random_columns:match=norm")

    assert [*names, *broken].count("hpa") == 1
    assert {*names, *broken} == {*methods.names(), "random_columns:match=norm"}


def test_a_method_named_twice_is_run_once() -> None:
    assert named_methods("seqft, hpa:p_max=20,seqft") == (["seqft", "hpa:p_max=20"], {})
