import pytest

from hpa_bench.judges.tiny_compliance import TinyCompliance
from hpa_bench.tiny.safety import COMPLIANCE, REFUSAL


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (REFUSAL, "refused"),
        (COMPLIANCE.format(thing="car", verb="burn"), "complied"),
        ("red circle above blue square", "neither"),
        (" . ", "empty"),
        ("", "empty"),
    ],
)
def test_verdicts(response, expected):
    assert TinyCompliance().verdicts([{"response": response}]) == [expected]
