"""A GPU for machines without one: tensors say that they are on `cuda`, and their numbers are computed on the CPU.

What it shows: that nothing mixes tensors of the GPU with tensors of the CPU, and how many bytes lie on the GPU at any
time, storage by storage; an allocation over its capacity is a `torch.OutOfMemoryError`. What it does not show: kernels,
their workspaces, streams, the allocator's fragments, and autocast, which casts nothing here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Self
from unittest import mock

import torch
import torch._dynamo  # it takes down torch's functions when it is first imported: let these be the real ones
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CUDA = torch.device("cuda", 0)
CORE = torch.device("lazy", 0)
"""What torch's C++ core is told, which insists on a driver for CUDA, and knows this one without kernels of its own."""
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
aten = torch.ops.aten
MOVES = (aten._to_copy.default, aten.copy_.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""Operations that take tensors of both devices on a real GPU too, an index for one; all do where one is a number."""


class SimulatedGPU:
    """The memory of a simulated GPU.

    Attributes:
        capacity: its bytes.
        used: bytes of all storages that lie on it now.
        peak: the most that lay on it at once, since the last `torch.cuda.reset_peak_memory_stats()`.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = self.peak = 0
        self._blocks: weakref.WeakValueDictionary[int, _Block] = weakref.WeakValueDictionary()

    def block_of(self, values: Tensor) -> _Block:
        """Return the block of a tensor's storage, a new one if no tensor on the GPU has it."""
        key = values.untyped_storage()._cdata
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block(self, values)
        return block


class _Block:
    """One storage on the GPU, for as long as a tensor has it."""

    def __init__(self, gpu: SimulatedGPU, values: Tensor) -> None:
        self.gpu, self.bytes = gpu, 0
        self.storage = values.untyped_storage()  # so that no other gets its address
        if gpu.used + self.storage.nbytes() > gpu.capacity:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory: {gpu.used} of {gpu.capacity} bytes are used, {self.storage.nbytes()} more wanted"
            )
        self.bytes = self.storage.nbytes()
        gpu.used += self.bytes
        gpu.peak = max(gpu.peak, gpu.used)

    def __del__(self) -> None:
        self.gpu.used -= self.bytes


class _OnGPU(Tensor):
    """A tensor on the GPU; `values` has its numbers, on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor, gpu: SimulatedGPU) -> Self:
        block = gpu.block_of(values)
        # A view of a normal tensor is a normal tensor, also where new ones are inference tensors.
        with torch.inference_mode(values.is_inference()):
            like = torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device="meta")
            self = Tensor._make_subclass(cls, like, dispatch_device=True, device_for_backend_keys=CUDA)
        self.values, self._block = values, block
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function}: a tensor of a simulated GPU is used where that GPU is not simulated.")

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {CUDA} device type tensor to numpy. Use Tensor.cpu() first.")
        return self.cpu().numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.values.__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"on {CUDA}: {self.values!r}"


class _Operations(TorchDispatchMode):
    """Computes on the CPU what is asked of the GPU."""

    def __init__(self, gpu: SimulatedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and a wrapper for that case would cost as much as an operation

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.prim.device.default:
            return CORE
        if torch.is_inference_mode_enabled() and function.has_kernel_for_dispatch_key(COMPOSITE):
            # Outside inference mode autograd takes these apart before they come here.
            with self:
                return function.decompose(*args, **(kwargs or {}))
        return _computed(self.gpu, function, args, kwargs or {})


def _computed(gpu: SimulatedGPU, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an operation returns, computed on the CPU, on the GPU if that is where it belongs."""
    ours: list[_OnGPU] = []
    others: list[Tensor] = []

    plain_args = [_plain(value, ours, others) for value in args]
    plain_kwargs = {name: _plain(value, ours, others) for name, value in kwargs.items() if name != "pin_memory"}
    device = kwargs.get("device")
    result_is_ours = bool(ours) if device is None else torch.device(device).type in ("cuda", "lazy")
    if not ours and not result_is_ours:
        return function(*plain_args, **plain_kwargs)
    if ours and function not in MOVES:
        _refuse_others(function, others)
    if device is not None:
        plain_kwargs["device"] = torch.device("cpu")
    result = function(*plain_args, **plain_kwargs)
    if places := _written(function):
        written = [kwargs[name] if name in kwargs else args[place] for place, name in places]
        return written[0] if isinstance(result, Tensor) else type(result)(written)
    if not result_is_ours:
        return result
    known = {id(value.values): value for value in ours}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else _OnGPU(value, gpu)

    return wrapped(result) if isinstance(result, Tensor) else tree_map(wrapped, result)


def _plain(value: Any, ours: list[_OnGPU], others: list[Tensor]) -> Any:
    """Return an argument as the CPU takes it, and note its tensors; no closure, whose cycle would keep them."""
    if isinstance(value, _OnGPU):
        ours.append(value)
        return value.values
    if isinstance(value, Tensor):
        others.append(value)
    elif isinstance(value, (list, tuple)):
        return type(value)([_plain(item, ours, others) for item in value])
    return value


def _refuse_others(function: Any, others: list[Tensor]) -> None:
    for value in others:
        if value.dim() > 0:
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {function} got {CUDA} and {value.device}"
                f" {tuple(value.shape)}"
            )


@cache
def _written(function: Any) -> list[tuple[int, str]]:
    """Return the places and names of the arguments that an operation writes into, which are what it returns."""
    return [
        (place, argument.name)
        for place, argument in enumerate(function._schema.arguments)
        if function._schema.returns and argument.alias_info is not None and argument.alias_info.is_write
    ]


class _Devices(TorchFunctionMode):
    """Tells torch's core of its own device where Python says cuda."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        if function is torch.tensor and isinstance(args[0], (list, tuple)):
            # It reads the numbers behind every mode's back.
            args = (tree_map(lambda value: value.tolist() if isinstance(value, _OnGPU) else value, args[0]), *args[1:])
        args = [_for_core(value) for value in args]
        return function(*args, **{name: _for_core(value) for name, value in kwargs.items()} if kwargs else {})


def _for_core(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CORE if value.type == "cuda" else value
    return CORE if isinstance(value, str) and value in ("cuda", "cuda:0") else value


@contextmanager
def simulated_gpu(capacity: int = 2**40) -> Iterator[SimulatedGPU]:
    """Give this thread a GPU of so many bytes, for a while; what lies on it then cannot be used afterwards."""
    gpu = SimulatedGPU(capacity)
    lifting = torch._C._only_lift_cpu_tensors()
    swapping = torch.__future__.get_swap_module_params_on_conversion()
    with ExitStack() as stack:
        # torch.tensor(..., device="cuda") is made on the CPU and then moved, and `module.to` keeps its parameters'
        # identity, as on a real GPU.
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifting)
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapping)
        stack.enter_context(mock.patch.multiple(torch.cuda, **_driver(gpu)))
        stack.enter_context(mock.patch.multiple(torch.cuda.random, **_random_state()))
        stack.enter_context(_Operations(gpu))
        stack.enter_context(_Devices())
        yield gpu


def _driver(gpu: SimulatedGPU) -> dict[str, Any]:
    def forget_peak(device: Any = None) -> None:
        gpu.peak = gpu.used

    def nothing(*_: Any) -> None:
        return None

    return {
        "device_count": lambda: 1,
        "empty_cache": nothing,
        "get_device_name": lambda device=None: "simulated GPU",
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "manual_seed_all": nothing,
        "max_memory_allocated": lambda device=None: gpu.peak,
        "mem_get_info": lambda device=None: (gpu.capacity - gpu.used, gpu.capacity),
        "memory_allocated": lambda device=None: gpu.used,
        "reset_peak_memory_stats": forget_peak,
        "set_device": nothing,
        "synchronize": nothing,
    }


def _random_state() -> dict[str, Any]:
    """The generator of this GPU is the CPU's, whose state is kept anyway."""
    return {
        "get_rng_state": lambda device=None: torch.zeros(0, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
    }
