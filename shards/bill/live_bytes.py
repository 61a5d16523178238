"""Live bytes: the memory of a training step, counted without a GPU and without computing anything."""

import weakref
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shards.loader import Batch


class LiveBytes(TorchDispatchMode):
    """Counts every storage that an operation makes, from then until nothing refers to it.

    Parameters, gradients, the optimiser's state, what autograd keeps and what an operation hands to the next one are
    all among them; what a kernel takes for itself and gives back is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """The operation itself, its results counted."""
        results = operation(*arguments, **(options or {}))
        self.count(tree_leaves(results))
        return results

    def count(self, tensors: Iterable[Any]) -> None:
        """The storages of those that are tensors are counted, each once."""
        for tensor in tensors:
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _forget(self, place: int, num_bytes: int) -> None:
        self._known.discard(place)
        self.now -= num_bytes


def peak_of(module: torch.nn.Module, batch: Batch, work: Callable[[], None]) -> int:
    """Most bytes that were live at a time while `work` used `module` and `batch`, those of both among them."""
    live = LiveBytes()
    arrays = [batch.fields, *batch.targets.values(), *batch.banks.values()]
    live.count([*module.parameters(), *module.buffers(), *chain.from_iterable(each.values() for each in arrays)])
    with live:
        work()
    return live.peak


def without_values(module: torch.nn.Module, mode: FakeTensorMode) -> None:
    """The parameters and buffers of `module` keep their shapes alone: operations on them compute nothing."""
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                fake = torch.nn.Parameter(mode.from_tensor(parameter.detach()), parameter.requires_grad)
                owner._parameters[name] = fake
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                owner._buffers[name] = mode.from_tensor(buffer)
