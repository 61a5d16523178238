"""Dense networks: what all networks with a row a token share, teachers and students that answer with fewer blocks."""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor, nn

from extract.networks.outputs import TokenTargets
from shards.errors import BadInput

MAX_PROJECTED = 1 << 16


class DenseNetwork(nn.Module):
    """A network whose outputs extract.networks.outputs.TokenTargets names; what it is fed is a subclass's to say."""

    def __init__(self, network: nn.Module) -> None:
        """A subclass calls `name_targets` once it knows the network's tokens and blocks."""
        super().__init__()
        self.network = network
        self.targets = TokenTargets(0, {})
        self.depth = 0
        """The number of blocks."""
        self.others: Sequence[str] = ()
        """The outputs that are made of no block."""
        self.names: tuple[str, ...] = ()
        """The outputs that a forward computes."""
        self.projectors = nn.ModuleDict()

    def name_targets(
        self,
        targets: TokenTargets,
        depth: int,
        teacher_depth: int | None = None,
        others: Sequence[str] = (),
    ) -> None:
        """The network gives `targets` of its `depth` blocks, and `others` that are made of no block.

        layer_N counts the blocks of a teacher of `teacher_depth` (None: its own): of 12 blocks a student's 6 answer for
        layer_2, layer_4 ... layer_12.
        """
        self.depth, self.others, teacher_depth = depth, others, teacher_depth or depth
        answered = [block for block in range(1, depth + 1) if block * teacher_depth % depth == 0]
        layers = {f"layer_{block * teacher_depth // depth}": block for block in answered}
        self.targets = replace(targets, layers=layers)
        self.names = (*self.targets.names, *others)

    def project(self, width: int, widths: Mapping[str, int]) -> None:
        """Outputs of `width` go through a linear layer each to `widths`, layer means before their last normalisation.

        So a network of another width can match the teacher's.
        """
        if unknown := sorted(widths.keys() - set(self.targets.names)):
            raise BadInput(f"the network gives {', '.join(self.targets.names)}, and no {', '.join(unknown)}")
        if not all(type(each) is int and 1 <= each <= MAX_PROJECTED for each in widths.values()):
            raise BadInput(f"projectors must be outputs and their widths, found {widths!r:.80}")
        self.projectors = nn.ModuleDict({name: nn.Linear(width, each) for name, each in widths.items()})

    @property
    def extra_tokens(self) -> dict[str, int]:
        """How many tokens that are none of the input's (an image's CLS) each output with tokens begins with."""
        return self.targets.extra_tokens(self.names)

    def only(self, names: Collection[str]) -> "DenseNetwork":
        """The same network, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def by_own_blocks(self) -> "DenseNetwork":
        """The same network, sharing all parameters, whose layer_N count its own blocks: a student become a teacher."""
        own, names = copy.copy(self), {name: f"layer_{block}" for name, block in self.targets.layers.items()}
        own._modules = dict(self._modules)
        own.projectors = nn.ModuleDict({names.get(name, name): each for name, each in self.projectors.items()})
        own.name_targets(
            self.targets, self.depth, None, [name for name in self.names if name not in self.targets.names]
        )
        return own

    @property
    def needs_layers(self) -> bool:
        """Whether an output is made of the blocks' results."""
        return any(name.startswith("layer_") for name in self.names)

    def by_name(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        layers: Sequence[Float[Tensor, "batch tokens dim"]],
        valid: Bool[Tensor, "batch tokens"] | None = None,
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every target of `names`, of the last block's output and of all blocks' results."""
        return {
            name: self.targets.target(name, tokens, layers, self._projector(name), valid)
            for name in self.names
            if name in self.targets.names
        }

    def _projector(self, name: str) -> nn.Module | None:
        return self.projectors[name] if name in self.projectors else None  # noqa: SIM401 (it has no get)
