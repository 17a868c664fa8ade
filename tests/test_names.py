"""Names of sets as tables show them."""

import pytest

from hpa_bench.names import short_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["tiny_ad", "tiny_fin"], ["ad", "fin"]),
        (["tiny_ad", "coin_ad"], ["tiny_ad", "coin_ad"]),
        (["tiny_ad", "ad"], ["tiny_ad", "ad"]),
        (["tiny_unsafe_image", "tiny_benign"], ["unsafe_image", "benign"]),
        (["tiny_ad"], ["tiny_ad"]),
        ([], []),
    ],
)
def test_a_prefix_that_all_share_is_left_out(names: list[str], short: list[str]) -> None:
    assert short_names(names) == dict(zip(names, short, strict=True))
