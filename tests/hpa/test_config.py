import pytest
from pydantic import ValidationError

from hpa_bench.hpa import HPAConfig


def test_defaults_are_the_papers() -> None:
    config = HPAConfig()

    assert (config.p_max, config.p_min, config.focus_factor) == (15, 5, 2)
    assert (config.alpha_min, config.alpha_max, config.damping) == (0.4, 0.8, 0.01)
    assert (config.selection, config.orthogonal) == ("full", True)
    assert (config.saliency, config.hessian_model, config.shared) == ("divide", "own", "overlap")


@pytest.mark.parametrize(
    "options", [{"p_max": 101}, {"p_min": -1}, {"damping": -0.1}, {"selection": "some"}, {"p": 10}]
)
def test_values_out_of_range_and_unknown_keys_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        HPAConfig(**options)  # type: ignore[arg-type]
