"""Settings that no run can end with are refused before the aligned model generates anything."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hpa_bench import run
from hpa_bench.errors import UserError
from hpa_bench.results.run_folder import RunFolder
from tests.support.models import save_random_llava
from tests.support.suites import write_suite

HEAD = "unaligned_model={models}/longer"
"""A model like the suite's but for two more words in its vocabulary."""
LAYER = "unaligned_model={models}/wider"
"""One whose first query projection is wider."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_suite(tmp_path_factory.mktemp("suite"), safety_data="refusals")
    for name, part in (("longer", "embed_tokens"), ("wider", "layers.0.self_attn.q_proj")):
        file = save_random_llava(path.parent / name) / "model.safetensors"
        weights = load_file(file)
        weight = next(weight for weight in weights if weight.endswith(f"{part}.weight"))
        weights[weight] = torch.cat([weights[weight], weights[weight][:2]])
        save_file(weights, file, {"format": "pt"})
    return path


@pytest.mark.parametrize(
    ("method", "settings", "why"),
    [
        ("moelora", ["experts=2", "lora.rank=3"], r"lora\.rank=3 cannot be shared by experts=2"),
        ("sppft", ["layers=[0,7]"], "names block 7: this model has 0 to 1"),
        ("sppft", ["layers=[0,1]"], "freezes all 2 decoder blocks"),
        ("sppft", ["first=0", "last=1"], "freezes all 2 decoder blocks"),
        ("replay", ["replay_safety=9"], "expected at most 8"),
        ("resta", [HEAD], r"embed_tokens\.weight' is \[\d+, 32\] in the suite's unaligned_model"),
        ("resta", [LAYER], r"q_proj\.weight' is \[34, 32\] in the suite's unaligned_model"),
        ("safelora", [LAYER], r"q_proj\.weight' is \[34, 32\] in the suite's unaligned_model"),
    ],
)
def test_what_no_run_can_end_with_is_refused_before_stage_0(
    suite: Path, tmp_path: Path, method: str, settings: list[str], why: str
) -> None:
    settings = [setting.format(models=suite.parent) for setting in settings]
    with pytest.raises(UserError, match=why):
        run(str(suite), method, settings=settings, out=tmp_path / "run")

    assert not RunFolder(tmp_path / "run").finished_stages()
    assert not list(tmp_path.rglob("responses"))
