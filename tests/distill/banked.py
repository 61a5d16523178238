"""An objective that is given a bank, as tests of banks register it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shards.codecs.features import Features


@dataclass(frozen=True)
class Banked:
    """Cross-entropy of softmax over products with the targets of the batch and of the bank."""

    def refusal(self, target: str, codec: str) -> str | None:
        return None

    def __call__(
        self, student: Float[Tensor, "batch width"], target: Features, bank: Features | None = None
    ) -> Float[Tensor, ""]:
        rows = [target.vectors] + ([] if bank is None else [bank.vectors])
        products = student @ torch.cat(rows).T
        return torch.nn.functional.cross_entropy(products, torch.arange(len(student)))


def make() -> Banked:
    return Banked()
