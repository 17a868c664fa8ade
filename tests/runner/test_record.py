"""What a run notes of itself: the method's state, and what every step costs."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpa_bench.errors import UserError
from hpa_bench.method import Method
from hpa_bench.results.run_folder import StageFolder
from hpa_bench.results.seals import SEAL, check_folder
from hpa_bench.runner.record import Costs, load_state, save_state


class Keeps(Method):
    """Keeps what it is given."""

    name = "keeps"

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.state = state


@pytest.fixture
def stage(tmp_path: Path) -> StageFolder:
    return StageFolder(tmp_path / "stage1")


def test_a_method_gets_back_what_it_remembered(tmp_path: Path) -> None:
    state = {"mask": torch.tensor([True, False]), "mean": torch.tensor([[0.1, -0.0]], dtype=torch.bfloat16)}
    state["turned"] = torch.arange(6.0).view(2, 3).T
    save_state(Keeps(state), tmp_path / "state")
    fresh = Keeps({})

    load_state(fresh, tmp_path / "state")

    assert fresh.state.keys() == state.keys()
    for name, tensor in state.items():
        assert fresh.state[name].dtype == tensor.dtype and torch.equal(fresh.state[name], tensor)


def test_a_method_that_remembers_nothing_gets_nothing(tmp_path: Path) -> None:
    save_state(Keeps({}), tmp_path / "state")
    other = Keeps({"x": torch.ones(1)})

    load_state(other, tmp_path / "state")

    assert other.state == {}
    assert [path.name for path in (tmp_path / "state").iterdir()] == [SEAL]


def test_a_state_is_sealed_and_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    save_state(Keeps({"x": torch.ones(1)}), folder)
    save_state(Keeps({"x": torch.zeros(1)}), folder)
    check_folder(folder, "")

    (folder / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="state.safetensors has 4 bytes and had"):
        check_folder(folder, "")


def test_values_replace_and_seconds_add_up(stage: StageFolder) -> None:
    costs = Costs(stage, "cpu")

    costs.add(steps=3, seconds={"train": 1.5})
    Costs(stage, "cpu").add(steps=5, seconds={"train": 0.25, "adapt": 1.0})

    assert stage.cost == {"steps": 5, "seconds": {"train": 1.75, "adapt": 1.0}}


def test_a_block_is_timed_when_it_is_over(stage: StageFolder) -> None:
    costs = Costs(stage, "cpu")

    with pytest.raises(KeyError), costs.timed("train"):
        raise KeyError
    assert stage.cost == {}
    with costs.timed("train"):
        pass

    assert stage.cost["seconds"].keys() == {"train"} and 0 <= stage.cost["seconds"]["train"] < 1


def test_a_full_gpu_is_one_sentence(stage: StageFolder) -> None:
    message = r"^The GPU's memory is full in step 'train' of stage1: "
    with pytest.raises(UserError, match=message), Costs(stage, "cpu").timed("train"):
        raise torch.OutOfMemoryError("tried to allocate")


def test_the_peak_of_memory_never_falls(stage: StageFolder) -> None:
    costs = Costs(stage, "cpu")

    costs.note_peak_memory()
    assert 2**20 < stage.cost["peak_memory_bytes"] < 2**50

    costs.add(peak_memory_bytes=2**60)
    costs.note_peak_memory()
    assert stage.cost["peak_memory_bytes"] == 2**60


def test_the_state_is_measured_with_all_below(stage: StageFolder, tmp_path: Path) -> None:
    for name in ("a/x", "a/sub/y", "b/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")

    Costs(stage, "cpu").note_state(tmp_path / "a", tmp_path / "b", tmp_path / "nowhere")

    assert stage.cost["state_bytes"] == 15


def test_only_the_first_process_writes(stage: StageFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    Costs(stage, "cpu").add(steps=1)
    assert stage.cost == {}

    monkeypatch.setenv("RANK", "0")
    Costs(stage, "cpu").add(steps=1)
    assert stage.cost["steps"] == 1


def test_what_another_run_has_spent_counts_and_is_told(stage: StageFolder) -> None:
    costs = Costs(stage, "cpu")
    costs.add(seconds={"train": 1.0})
    costs.borrow({"train": 2.5, "score": 0.5}, peak=7)
    costs.borrow({"score": 0.25}, peak=0)

    assert costs.seconds == {"train": 3.5, "score": 0.75}
    assert stage.cost["shared"] == {"train": 2.5, "score": 0.75} and stage.cost["peak_memory_bytes"] == 7


def test_waiting_for_others_is_no_steps_time(stage: StageFolder) -> None:
    costs = Costs(stage, "cpu")
    with costs.timed("train"), costs.waiting():
        time.sleep(0.3)

    assert costs.seconds["train"] < 0.2
