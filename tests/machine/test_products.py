"""Matrix products of portable runs: each sum in one order, whatever stands beside it, and torch's own again after."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from hpa_bench.machine import products
from hpa_bench.machine.numerics import PORTABLE, VARIABLES, cpu
from hpa_bench.machine.products import BLOCK, chosen, in_order

CHECK = """
import torch
from hpa_bench.machine.products import BLOCK, in_order, product, served

assert served()
generator = torch.Generator().manual_seed(1)
draw = lambda *shape: torch.randn(shape, generator=generator)
size = lambda most: int(torch.randint(1, most, (), generator=generator))
for _ in range(30):
    m, k, n = size(90), size(2 * BLOCK), size(90)
    a, b = draw(m, k), draw(k, n)
    wide = draw(m, 2 * k)[:, k:]
    assert torch.equal(product(a, b), in_order(a, b)), (m, k, n)
    assert torch.equal(product(a.t().contiguous().t(), b), in_order(a, b)), (m, k, n, "columns first")
    assert torch.equal(product(a, b.t().contiguous().t()), in_order(a, b)), (m, k, n, "columns first, right")
    assert torch.equal(product(a.t().contiguous().t(), b.t().contiguous().t()), in_order(a, b)), (m, k, n, "both")
    assert torch.equal(product(wide, b), in_order(wide, b)), (m, k, n, "a part of a wider one")
    part, rows = draw(k, 2 * n)[:, n:], draw(n, 2 * k)[:, :k].t()
    assert torch.equal(product(a, part), in_order(a, part)), (m, k, n, "a part of a wider right")
    assert torch.equal(product(a, rows), in_order(a, rows)), (m, k, n, "a part of a wider right, columns first")
    assert torch.equal(product(rows.t(), a.t()), in_order(rows.t(), a.t())), (m, k, n, "turned round")
    some = size(m + 1)
    assert torch.equal(product(a[:some], b), product(a, b)[:some]), (m, k, n, "fewer rows")
for threads in (1, 2):
    torch.set_num_threads(threads)
    a, b = torch.ones(700, 300).div(3), torch.ones(300, 200).div(7)
    assert torch.equal(product(a, b)[0, 0], in_order(a[:1], b[:, :1])[0, 0]), threads
"""
SPEED = """
from time import process_time
import torch
from hpa_bench.machine.products import product

torch.set_num_threads(1)
x = torch.randn(120, 1536)

def seconds(b):
    begun = process_time()
    product(x[:, :384].t(), b)
    return process_time() - begun

part, dense = (min(seconds(b) for _ in range(3)) for b in (x[:, :768], x[:, :768].contiguous()))
assert part < 20 * dense, (part, dense)
"""
HAS_AVX2 = platform.machine() == "x86_64" and "avx2" in (cpu()[1] or ())


def pinned(code: str) -> None:
    """Run code in a process whose kernels are those of portable runs."""
    variables = {name: value for name, value in os.environ.items() if name not in VARIABLES} | PORTABLE
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not HAS_AVX2, reason="portable numerics are of x86-64 with AVX2")
def test_every_element_is_one_sum_in_one_order() -> None:
    pinned(CHECK)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_AVX2, reason="portable numerics are of x86-64 with AVX2")
def test_a_part_of_a_wider_matrix_takes_no_longer() -> None:
    """As oneDNN's own kernel of AVX2 does with it: 700 times as long."""
    pinned(SPEED)


def test_the_definition_adds_blocks_up_in_their_order() -> None:
    ones, small = torch.ones(2 * BLOCK, 1), torch.full((1, 2 * BLOCK), 2.0**-24)
    first, last, second = small.clone(), small.clone(), small.clone()
    first[0, 0], last[0, BLOCK - 1], second[0, BLOCK] = 1, 1, 1

    # Half a unit in the last place of 1 vanishes where it is added to 1, and not where such halves are summed before.
    block = BLOCK * 2.0**-24
    assert in_order(first, ones).item() == in_order(second, ones).item() == 1 + block
    assert in_order(last, ones).item() == 1 + 2 * block
    assert in_order(torch.ones(2, 0), torch.ones(0, 3)).equal(torch.zeros(2, 3))


def test_linear_layers_and_their_gradients_go_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: True)
    monkeypatch.setattr(products, "product", in_order)
    x, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((2, 3, 5), (4, 5), (4,)))

    with chosen("portable", "cpu"):
        assert products.in_force()
        y = torch.nn.functional.linear(x, weight, bias)
        y.sum().backward()

    assert torch.equal(y, in_order(x.flatten(0, 1), weight.t()).add(bias).view(2, 3, 4))
    assert weight.grad is not None
    assert torch.equal(weight.grad, in_order(torch.ones(4, 6), x.flatten(0, 1)))
    assert not products.in_force()


def test_a_sum_that_grows_in_place_goes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: True)
    monkeypatch.setattr(products, "product", in_order)
    x, held = torch.randn(7, 5), torch.randn(5, 5)
    expected, place = held + 2 * in_order(x.t(), x), held.data_ptr()

    with chosen("portable", "cpu"):
        held.addmm_(x.t(), x, alpha=2)

    assert torch.equal(held, expected) and held.data_ptr() == place


def test_a_frozen_layer_on_a_part_of_a_wider_input_goes_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: True)
    monkeypatch.setattr(products, "product", in_order)
    x, weight = torch.randn(3, 4, 5)[:, 1:], torch.randn(6, 5)
    several = torch.randn(3, 5, 2)

    with chosen("portable", "cpu"):
        y, each, one = torch.nn.functional.linear(x, weight), torch.bmm(x, several), torch.bmm(x[:1], several[:1])

    assert torch.equal(y, in_order(x.reshape(9, 5), weight.t()).view(3, 3, 6))
    assert torch.equal(one[0], in_order(x[0], several[0]))
    assert torch.equal(each, torch.bmm(x, several))


def test_what_is_no_float32_matrix_stays_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: True)
    monkeypatch.setattr(products, "product", lambda a, b: pytest.fail("no float32 matrix"))
    a = torch.arange(6.0).view(2, 3)

    with chosen("portable", "cpu"):
        assert torch.equal(a.double() @ a.double().t(), torch.tensor([[5.0, 14], [14, 50]], dtype=torch.float64))
        assert torch.equal(a.bfloat16() @ a.bfloat16().t(), torch.tensor([[5.0, 14], [14, 50]], dtype=torch.bfloat16))
        assert torch.addmm(a.double(), a.double()[:, :2], a.double()).tolist() == [[3, 5, 7], [15, 23, 31]]
        assert (torch.ones(0, 3) @ torch.ones(3, 2)).shape == (0, 2)
        assert torch.equal(torch.ones(2, 0) @ torch.ones(0, 2), torch.zeros(2, 2))


def test_factors_of_addmm_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: True)
    added, a = torch.tensor([[1.0, 2], [3, 4]]), torch.eye(2)

    with chosen("portable", "cpu"):
        assert torch.equal(torch.addmm(added, a, a, beta=2, alpha=3), torch.tensor([[5.0, 4], [6, 11]]))
        assert torch.equal(torch.addmm(added / 0, a, a, beta=0), a)


@pytest.mark.parametrize(
    ("numerics", "device", "serves"), [("native", "cpu", True), ("portable", "cuda", True), ("portable", "cpu", False)]
)
def test_other_runs_are_left_alone(numerics: str, device: str, serves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "served", lambda: serves)
    monkeypatch.setattr(products, "product", lambda a, b: pytest.fail("not asked for"))

    with chosen(numerics, device):
        assert not products.in_force()
        assert torch.equal(torch.eye(2) @ torch.eye(2), torch.eye(2))


def test_an_error_puts_torchs_own_back() -> None:
    with pytest.raises(KeyError), chosen("portable", "cpu"):
        raise KeyError
    assert not products.in_force()
    assert torch.equal(torch.eye(2) @ torch.eye(2), torch.eye(2))
