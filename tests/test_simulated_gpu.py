"""The simulated GPU refuses what a real one refuses, and counts bytes as one does."""

import pytest
import torch

from tests.support.simulated_gpu import simulated_gpu


def test_training_on_it_is_training_on_the_cpu():
    def losses(device):
        torch.manual_seed(0)
        x = torch.randn(8, 4).to(device)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 4)).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        for _ in range(3):
            loss = (model(x) - x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield loss.item()

    with simulated_gpu():
        on_gpu = list(losses("cuda"))
    assert on_gpu == list(losses("cpu"))


def test_devices_do_not_mix():
    with simulated_gpu():
        there, here = torch.ones(2, device="cuda"), torch.ones(2)
        assert there.device == torch.device("cuda:0") and there.is_cuda and not there.cpu().is_cuda
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        with pytest.raises(RuntimeError, match="same device"):
            torch.cat([here, there])
        with pytest.raises(RuntimeError, match="same device"):
            here.add_(there)
        with pytest.raises(TypeError):
            there.numpy()
        assert (there * torch.tensor(3.0)).tolist() == [3, 3], "a single number may be the CPU's"
        assert torch.tensor([1, 2], device=there.device).sum().item() == 3
        assert torch.tensor([*there, 5], device="cuda").tolist() == [1, 1, 5]


def test_bytes_are_counted_once_a_storage():
    with simulated_gpu(capacity=100) as gpu:
        one = torch.zeros(5, device="cuda")
        view = one[1:3]
        view += 1
        assert one.tolist() == [0, 1, 1, 0, 0] and gpu.used == 20
        del one
        assert gpu.used == 20, "a view keeps the storage"
        del view
        assert gpu.used == 0 and gpu.peak == 20

        with pytest.raises(torch.OutOfMemoryError, match="20 of 100 bytes are used, 84 more wanted"):
            kept = torch.zeros(5, device="cuda"), torch.zeros(21, device="cuda")
        assert gpu.used == 0
        kept = torch.zeros(20, device="cuda")
        assert torch.cuda.mem_get_info() == (20, 100)
        del kept


def test_tied_modules_stay_tied_when_they_move():
    one, two = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    two.weight = one.weight
    both = torch.nn.ModuleList([one, two])
    with simulated_gpu() as gpu:
        both.to("cuda")
        assert two.weight is one.weight and one.weight.is_cuda and gpu.used == 16
        both.to("cpu")
        assert two.weight is one.weight and not one.weight.is_cuda and gpu.used == 0
