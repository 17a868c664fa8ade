"""Every method that comes with the package has a kind, and what comes from elsewhere is one of the others."""

from importlib.metadata import entry_points

from hpa_bench.report.kinds import KINDS, kind_of


def test_every_method_of_the_package_has_a_kind():
    names = {point.name for point in entry_points(group="hpa_bench.methods") if point.value.startswith("hpa_bench.")}

    assert {name for name in names if kind_of(name) == "other"} == set()
    assert {kind_of(name) for name in names} | {"other"} == set(KINDS)


def test_a_method_from_elsewhere_is_one_of_the_others():
    assert kind_of("half_of_it") == "other"
