"""data2vec 2.0 networks with every target by name: a teacher, or a student that answers with fewer blocks."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.network import Data2Vec2, Data2Vec2Output
from extract.networks.data2vec2.settings import ImageSettings, Settings, TextSettings, settings_of
from extract.networks.data2vec2.text import build_text_network
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
    """A network of `settings` (ImageSettings or TextSettings as JSON), freshly initialised; see NamedOutputs."""
    if num_classes is not None:
        raise BadInput(f"network {architecture}: gives features, no logits, so num_classes must be null")
    if not all(type(width) is int and 1 <= width <= MAX_PROJECTED for width in projectors.values()):
        raise BadInput(f"network {architecture}: projectors must be outputs and their widths, found {projectors!r:.80}")
    return named(network_of(settings_of(settings)), teacher_depth, projectors)


def network_of(settings: Settings) -> Data2Vec2:
    """A network of the modality of `settings`, with fresh weights."""
    return build_image_network(settings) if isinstance(settings, ImageSettings) else build_text_network(settings)


def named(
    network: Data2Vec2, teacher_depth: int | None = None, projectors: Mapping[str, int] | None = None
) -> "NamedOutputs":
    """`network` with outputs by name, fed as its modality is."""
    kind = ImageOutputs if isinstance(network.settings, ImageSettings) else TextOutputs
    return kind(network, teacher_depth, projectors)


class NamedOutputs(nn.Module):
    """A data2vec 2.0 network whose forward gives targets by name; what it is fed is a subclass's to say.

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
        text = isinstance(settings, TextSettings)  # whose first token is <s>, with or without an extra one before it
        self.targets = TokenTargets(extra, layers, text or extra > 0, averaged, settings.layer_mean)
        self.names = self.targets.names
        widths = projectors or {}
        if unknown := sorted(widths.keys() - set(self.names)):
            raise BadInput(f"a data2vec2 network gives {', '.join(self.names)}, and no {', '.join(unknown)}")
        self.projectors = nn.ModuleDict({name: nn.Linear(settings.embed_dim, width) for name, width in widths.items()})

    @property
    def settings(self) -> Settings:
        """What the network was built from."""
        assert isinstance(self.network.settings, Settings)
        return self.network.settings

    @property
    def extra_tokens(self) -> dict[str, int]:
        """How many tokens that are none of the input's (an image's CLS) each output with tokens begins with."""
        return self.targets.extra_tokens(self.names)

    def only(self, names: Collection[str]) -> "NamedOutputs":
        """The same network, sharing all parameters, whose forward computes the outputs `names` and no other."""
        chosen = copy.copy(self)
        chosen.names = tuple(name for name in self.names if name in names)
        return chosen

    def by_own_blocks(self) -> "NamedOutputs":
        """The same network, sharing all parameters, whose layer_N count its own blocks: a student become a teacher."""
        own, names = named(self.network), {name: f"layer_{block}" for name, block in self.targets.layers.items()}
        for name, projector in self.projectors.items():
            own.projectors[names.get(name, name)] = projector
        return own

    def by_name(
        self, output: Data2Vec2Output, valid: Bool[Tensor, "batch all_tokens"] | None = None
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; a row of padding is zero."""
        outputs = {}
        for name in self.names:
            projector = self.projectors[name] if name in self.projectors else None  # noqa: SIM401 (it has no get)
            rows = self.targets.target(name, output.tokens, output.layer_results, projector, valid)
            if valid is not None and rows.dim() == 3:
                rows = rows.masked_fill(~valid[:, -rows.shape[1] :, None], 0)
            outputs[name] = rows
        return outputs


class ImageOutputs(NamedOutputs):
    """A data2vec 2.0 image network."""

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`."""
        return self.by_name(self.network(images))


class TextOutputs(NamedOutputs):
    """A data2vec 2.0 text network; its first token, `<s>`, is part of the input and is its `cls`."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Shaped[Tensor, "batch tokens"],
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; ids as in the checkpoint's dict.txt, and a mask that is 0 or False at padding.

        Token types, which pairs of texts have, are passed over: the network has a single one.
        """
        valid = attention_mask.bool()
        # a text without any token attends to all its padding: a softmax over no key at all is NaN
        output = self.network(input_ids, ~valid & valid.any(1, keepdim=True))
        return self.by_name(output, F.pad(valid, (self.targets.num_extra, 0), value=True))
