"""Counting: kernels and live memory of work on two small batches, and from these of a batch of any size."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from shards.bill.cards import Operation
from shards.bill.live_bytes import LiveBytes


class CountedKernels(LiveBytes):
    """Counts the kernels that are run meanwhile, beside the bytes that are live."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """The operation itself; one that only looks at a tensor in another way moves no bytes and is no kernel.

        What is made of others, such as a linear layer in inference, is counted as these.
        """
        if operation.overloadpacket not in flop_registry and operation.namespace == "aten":
            with self:
                results = operation.decompose(*arguments, **(options or {}))
            if results is not NotImplemented:
                return results
        results = super().__torch_dispatch__(operation, types, arguments, options)
        if not operation.is_view and operation.namespace == "aten":
            count = flop_registry.get(operation.overloadpacket)
            flops = count(*arguments, **(options or {}), out_val=results) if count else 0
            moved = [leaf for leaf in tree_leaves((arguments, options, results)) if isinstance(leaf, Tensor)]
            self.operations.append(Operation(float(flops), float(sum(each.nbytes for each in moved))))
        return results


@dataclass(frozen=True)
class Counts:
    """What work on one batch came to."""

    num_samples: int
    operations: Sequence[Operation]
    peak_bytes: float


def count(work: Callable[[], Any], held: Iterable[Any], num_samples: int) -> Counts:
    """The kernels of `work` on a batch of so many samples, and the most bytes that are live, `held` among them."""
    counted = CountedKernels()
    counted.count(held)
    with counted:
        work()
    return Counts(num_samples, counted.operations, float(counted.peak))


@dataclass(frozen=True)
class Growth:
    """The counts of two batches, the smaller one first, on a straight line through both."""

    small: Counts
    large: Counts

    def _at(self, small: float, large: float, num_samples: int | float) -> float:
        slope = (large - small) / (self.large.num_samples - self.small.num_samples)
        return max(0.0, small + slope * (num_samples - self.small.num_samples))

    def operations(self, num_samples: int | float) -> list[Operation]:
        """The kernels of a batch of so many samples: a weight is read once, whatever the batch."""
        small, large = self.small.operations, self.large.operations
        if len(small) != len(large):  # other kernels for other sizes: all grow with the batch
            factor = num_samples / self.large.num_samples
            return [Operation(each.flops * factor, each.num_bytes * factor) for each in large]
        return [
            Operation(
                self._at(one.flops, other.flops, num_samples), self._at(one.num_bytes, other.num_bytes, num_samples)
            )
            for one, other in zip(small, large, strict=True)
        ]

    def flops(self, num_samples: int | float) -> float:
        """Floating-point operations of a batch of so many samples."""
        return sum(each.flops for each in self.operations(num_samples))

    def peak_bytes(self, num_samples: int | float) -> float:
        """Most bytes that are live with a batch of so many samples."""
        return self._at(self.small.peak_bytes, self.large.peak_bytes, num_samples)
