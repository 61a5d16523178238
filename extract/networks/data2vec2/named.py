"""data2vec 2.0 networks with every target by name: a teacher, or a student that answers with fewer blocks."""

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.network import Data2Vec2, Data2Vec2Output
from extract.networks.data2vec2.settings import ImageSettings, image_settings
from shards.errors import BadInput

MAX_PROJECTED = 1 << 16
Project = Callable[[Tensor], Tensor]
OUTPUTS: dict[str, Callable[[Data2Vec2, Data2Vec2Output, Project], Tensor]] = {
    "layer_mean": lambda network, output, project: network.layer_mean(output, project=project),
    "layer_mean_no_cls": lambda network, output, project: network.layer_mean(output, False, project=project),
    "tokens": lambda network, output, project: project(output.tokens),
    "cls": lambda network, output, project: project(output.tokens[:, 0]),
    "pooled": lambda network, output, project: project(output.tokens[:, network.settings.num_extra_tokens :].mean(1)),
}


def _as_it_is(rows: Tensor) -> Tensor:
    return rows


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

    layer_mean: (extra + tokens, dim), CLS kept inside the normalisation over tokens, as the thesis distils.
    layer_mean_no_cls: (tokens, dim), CLS dropped before it, as the paper trains; the patches' values differ too.
    layer_N: (extra + tokens, dim), the layer mean of one block alone. N counts the blocks of a teacher of
    `teacher_depth` (None: its own): of 12 blocks a student's 6 answer for layer_2, layer_4 ... layer_12.
    tokens: (extra + tokens, dim), the last block's output; cls: (dim,), its first token; pooled: (dim,), the mean of
    its patch tokens.

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
        self.layers = {f"layer_{block * depth // settings.depth}": block for block in blocks}
        """The block, from 1, whose result each layer_N is."""
        without_cls = () if settings.num_extra_tokens else ("layer_mean_no_cls", "cls")
        self.names = (*(name for name in OUTPUTS if name not in without_cls), *self.layers)
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
        extra = self.settings.num_extra_tokens
        with_tokens = [name for name in self.names if name not in ("cls", "pooled")]
        return {name: 0 if name == "layer_mean_no_cls" else extra for name in with_tokens}

    def only(self, names: Collection[str]) -> "NamedOutputs":
        """The same network, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def by_own_blocks(self) -> "NamedOutputs":
        """The same network, sharing all parameters, whose layer_N count its own blocks: a student become a teacher."""
        own, names = NamedOutputs(self.network), {name: f"layer_{block}" for name, block in self.layers.items()}
        for name, projector in self.projectors.items():
            own.projectors[names.get(name, name)] = projector
        return own

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`."""
        output = self.network(images)
        return {name: self._output(name, output) for name in self.names}

    def _output(self, name: str, output: Data2Vec2Output) -> Float[Tensor, "batch ..."]:
        project = self.projectors[name] if name in self.projectors else _as_it_is  # noqa: SIM401 (it has no get)
        if name in self.layers:
            return self.network.mean_of([output.layer_results[self.layers[name] - 1]], project)
        return OUTPUTS[name](self.network, output, project)
