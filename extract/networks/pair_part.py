"""A pair's network for one modality alone: a teacher of images, a start of a student, what a task measures."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.pair import ENCODED, PairNetwork

POOLED = ("pooled", "cls")

Rows = Float[Tensor, "batch width"]


class Encoder(nn.Module):
    """One encoder of a pair's network alone: `pooled`, and `cls` where it has one, are what the shared layers take."""

    def __init__(self, network: PairNetwork, modality: str) -> None:
        super().__init__()
        self.encoder, self.output = network.encoders[modality], network.outputs_of[modality]

    def forward(self, *inputs: Tensor) -> dict[str, Rows]:
        """A row a sample."""
        rows = self.encoder(*inputs)[self.output]
        rows = rows[:, 0] if self.output == "tokens" else rows
        return dict.fromkeys(POOLED[:1] if self.output == "pooled" else POOLED, rows)


class PairPart(nn.Module):
    """The outputs of a pair's network for one modality, by their names without it.

    `pooled` and `cls` are the encoder's; with `targets` they are the heads that learned targets of these names.
    """

    def __init__(self, network: PairNetwork, modality: str, targets: bool = False) -> None:
        super().__init__()
        self.network = network.only([name for name in network.names if name.startswith(f"{modality}/")])
        self.modality, self.targets = modality, targets

    def only(self, names: Collection[str]) -> nn.Module:
        """The same part, computing no more than the outputs `names` need."""
        if not self.targets and set(names) <= set(POOLED):
            return Encoder(self.network, self.modality)
        wanted = {ENCODED if name in POOLED and not self.targets else name for name in names}
        return PairPart(self.network.only([f"{self.modality}/{name}" for name in wanted]), self.modality, self.targets)

    def forward(self, *inputs: Tensor) -> dict[str, Rows]:
        """A row a sample."""
        given = inputs if self.modality == "image" else (None, *inputs)
        outputs = {name.partition("/")[2]: rows for name, rows in self.network(*given).items()}
        if not self.targets and ENCODED in outputs:
            has = POOLED[:1] if self.network.outputs_of[self.modality] == "pooled" else POOLED
            outputs |= dict.fromkeys(has, outputs[ENCODED])
        return outputs
