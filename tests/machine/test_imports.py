"""Imports without collections of garbage: none while they go on, and all as before once they are over."""

import gc
from collections.abc import Iterator

import pytest

from hpa_bench.machine.imports import without_collections


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """The phases of all collections from here on."""
    seen: list[str] = []

    def note(phase: str, _: dict[str, int]) -> None:
        seen.append(phase)

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_nothing_is_looked_through_while_modules_come_and_nothing_is_kept_for_good(collections: list[str]) -> None:
    with without_collections():
        made = [[] for _ in range(100_000)]
        assert not collections

    assert gc.isenabled() and not gc.get_freeze_count()
    more: list[list[int]] = [[] for _ in range(100_000)]
    assert collections and len(more) == len(made)


def test_who_has_switched_collections_off_keeps_them_off() -> None:
    gc.disable()
    try:
        with without_collections():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_import_that_fails_leaves_them_on() -> None:
    with pytest.raises(ImportError), without_collections():
        import no_such_module  # noqa: F401

    assert gc.isenabled()
