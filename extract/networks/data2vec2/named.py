"""data2vec 2.0 networks with every target by name: a teacher, or a student that answers with fewer blocks."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.network import Data2Vec2
from extract.networks.data2vec2.settings import ImageSettings, image_settings
from extract.networks.outputs import TokenTargets
from shards.errors import BadInput

MAX_PROJECTED = 1 << 16


def build(
    architecture: str,
    num_classes: int | None,
    settings: Mapping[str, Any],
    teacher_depth: int,
    projectors: Mapping[str, Any],
) -> nn.Module:
    """An image network of `settings` (ImageSettings as JSON), freshly initialised; see NamedOutputs for the rest."""
    if num_classes is not None:
        raise BadInput(f"network {architecture}: gives features, no logits, so num_classes must be null")
    if not all(type(width) is int and 1 <= width <= MAX_PROJECTED for width in projectors.values()):
        raise BadInput(f"network {architecture}: projectors must be outputs and their widths, found {projectors!r:.80}")
    return NamedOutputs(build_image_network(image_settings(settings)), teacher_depth, projectors)


class NamedOutputs(nn.Module):
    """A data2vec 2.0 image network whose forward gives targets by name.

    extract.networks.outputs.TokenTargets says what each is. layer_N counts the blocks of a teacher of `teacher_depth`
    (None: its own): of 12 blocks a student's 6 answer for layer_2, layer_4 ... layer_12.

    An output that `projectors` names goes through a linear layer to that width, layer means before their last
    normalisation, so that a network of another width can match the teacher's.
    """

    def __init__(
        self, network: Data2Vec2, teacher_depth: int | None = None, projectors: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        settings = network.settings
        depth = teacher_depth or settings.depth
        blocks = [block for block in range(1, settings.depth + 1) if block * depth % settings.depth == 0]
        layers = {f"layer_{block * depth // settings.depth}": block for block in blocks}
        extra, averaged = settings.num_extra_tokens, settings.average_top_k_layers
        self.targets = TokenTargets(extra, layers, extra > 0, averaged, settings.layer_mean)
        self.names = self.targets.names
        widths = projectors or {}
        if unknown := sorted(widths.keys() - set(self.names)):
            raise BadInput(f"a data2vec2 network gives {', '.join(self.names)}, and no {', '.join(unknown)}")
        self.projectors = nn.ModuleDict({name: nn.Linear(settings.embed_dim, width) for name, width in widths.items()})

    @property
    def settings(self) -> ImageSettings:
        """What the network was built from."""
        assert isinstance(self.network.settings, ImageSettings)
        return self.network.settings

    @property
    def extra_tokens(self) -> dict[str, int]:
        """How many tokens that are no patches (CLS) each output with tokens begins with."""
        return self.targets.extra_tokens(self.names)

    def only(self, names: Collection[str]) -> "NamedOutputs":
        """The same network, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def by_own_blocks(self) -> "NamedOutputs":
        """The same network, sharing all parameters, whose layer_N count its own blocks: a student become a teacher."""
        own, names = NamedOutputs(self.network), {name: f"layer_{block}" for name, block in self.targets.layers.items()}
        for name, projector in self.projectors.items():
            own.projectors[names.get(name, name)] = projector
        return own

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`."""
        output = self.network(images)
        return {
            name: self.targets.target(name, output.tokens, output.layer_results, self._projector(name))
            for name in self.names
        }

    def _projector(self, name: str) -> nn.Module | None:
        return self.projectors[name] if name in self.projectors else None  # noqa: SIM401 (it has no get)
