"""Cards: what their makers publish of them, from which a run that has no card is predicted.

Dense rates, without sparsity, in operations a second (a multiplication and an addition are two): NVIDIA's "Ada GPU
architecture" (2022, appendix A; float16 with sums in float32), the data sheets "A100 80GB" (2021), "H100 SXM" (2023)
and "H200" (2024).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Operation(NamedTuple):
    """One kernel: floating-point operations, and bytes that it reads and writes."""

    flops: float
    num_bytes: float


@dataclass(frozen=True)
class Card:
    """A GPU's published rates."""

    name: str
    half_flops: float
    """Operations a second in float16 and bfloat16."""
    float_flops: float
    """The same in float32, without TF32."""
    memory_rate: float
    """Bytes a second between the memory and the processor."""
    memory_bytes: float
    transfer_rate: float
    """Bytes a second from the host, one way: PCIe 4.0 or 5.0, 16 lanes."""

    def seconds(self, operations: Iterable[Operation], precision: str) -> float:
        """How long the kernels take at least: each is held by the processor or by the memory (Williams 2009)."""
        rate = self.float_flops if precision == "float32" else self.half_flops
        return sum(max(each.flops / rate, each.num_bytes / self.memory_rate) for each in operations)


CARDS = {
    "rtx4090": Card("rtx4090", 165.2e12, 82.6e12, 1008e9, 24e9, 32e9),
    "a100": Card("a100", 312e12, 19.5e12, 2039e9, 80e9, 32e9),
    "h100": Card("h100", 989.4e12, 66.9e12, 3350e9, 80e9, 64e9),
    "h200": Card("h200", 989.4e12, 66.9e12, 4800e9, 141e9, 64e9),
}
