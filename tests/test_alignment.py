"""What is to be aligned: all that it names is checked before anything is loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpa_bench.alignment import Alignment
from hpa_bench.errors import UserError


def asked(folder: Path, **changes: Any) -> Alignment:
    (folder / "base").mkdir(exist_ok=True)
    return Alignment(**{"model": str(folder / "base"), "data": ["tiny_ad"], "out": folder / "out", **changes})


def test_published_names_stand_for_tasks(tmp_path: Path) -> None:
    assert asked(tmp_path, data=["VLGuard", " spa-vl", "tiny_ad"]).tasks == [
        "vlguard_alignment",
        "spa_vl_alignment",
        "tiny_ad",
    ]


def test_the_recipe_is_what_settings_make_of_a_stages(tmp_path: Path) -> None:
    recipe = asked(tmp_path, settings=["training.epochs=2", "lora.rank=3", "full=[embed_tokens]"]).recipe()

    assert (recipe.training.epochs, recipe.lora.rank, recipe.full) == (2, 3, ["embed_tokens"])


def test_what_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    asked(tmp_path).check()
    asked(tmp_path, model="llava-hf/llava-1.5-7b-hf").check()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": ["tiny_add"]}, "Unknown task 'tiny_add' (neither in"),
        ({"data": ["tiny_ad", "colors"]}, "Unknown task 'colors' (neither in"),
        ({"model": "./nowhere"}, "There is no model folder './nowhere'"),
        ({"model": "llava"}, "There is no model folder 'llava'"),
        ({"settings": ["training.lr=1"]}, "Unknown key 'training.lr' in --set. Did you mean"),
        ({"settings": ["training.epochs=nan"]}, "Bad value for training.epochs in --set"),
        ({"settings": ["chat_template=no.jinja"]}, "The chat template 'no.jinja' cannot be read"),
        ({"include_paths": [Path("nowhere")]}, "--include-path nowhere does not exist"),
        ({"out": Path(__file__).parent}, "--out "),
    ],
)
def test_what_is_not_there_is_one_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        asked(tmp_path, **changes).check()

    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


def test_it_is_checked_without_torch() -> None:
    script = """
import sys
from pathlib import Path
import hpa_bench.cli.align
from hpa_bench.alignment import Alignment
Alignment(model="org/base", data=["tiny_ad"], out=Path("there/is/none")).check()
assert not {"torch", "transformers", "lm_eval", "numpy"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True)
