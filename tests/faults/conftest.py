"""What the generated faults share: a place where each case is noted, which fails the test that has a bad one."""

import gc
from collections.abc import Callable, Iterator

import pytest

from tests.support.fault_counts import PROPERTY
from tests.support.faults import FAILURES, Found

Note = Callable[[str, str, str, Found], None]


@pytest.fixture(scope="module", autouse=True)
def little_garbage() -> Iterator[None]:
    """Trainer collects garbage after every training; without this it walks through every module that is imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Iterator[Note]:
    """Note a case: its group and its fault, by which cases are counted, what exactly it is, and how it went."""
    bad = []

    def note(group: str, fault: str, case: str, found: Found) -> None:
        # Properties of a report, since a process of xdist hands on nothing else.
        request.node.user_properties.append((PROPERTY, (group, fault, str(found.outcome))))
        if found.outcome in FAILURES:
            bad.append(f"{found.outcome}: {group}, {fault}: {case}: {found.told}")

    yield note
    if bad:
        pytest.fail("\n".join([f"{len(bad)} bad cases", *bad]), pytrace=False)
