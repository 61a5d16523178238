"""data2vec 2.0 networks with every target by name: a teacher, or a student that answers with fewer blocks."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from extract.networks.data2vec2.image import build_image_network
from extract.networks.data2vec2.network import Data2Vec2
from extract.networks.data2vec2.settings import ImageSettings, Settings, TextSettings, settings_of
from extract.networks.data2vec2.text import build_text_network
from extract.networks.dense import DenseNetwork
from extract.networks.outputs import TokenTargets


def build(
    architecture: str,
    num_classes: int | None,
    settings: Mapping[str, Any],
    teacher_depth: int,
    projectors: Mapping[str, Any],
) -> nn.Module:
    """A network of `settings` (ImageSettings or TextSettings as JSON), freshly initialised; see NamedOutputs."""
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


class NamedOutputs(DenseNetwork):
    """A data2vec 2.0 network whose forward gives targets by name; what it is fed is a subclass's to say."""

    network: Data2Vec2

    def __init__(
        self, network: Data2Vec2, teacher_depth: int | None = None, projectors: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(network)
        settings, extra = network.settings, network.settings.num_extra_tokens
        has_cls = extra > 0 or isinstance(settings, TextSettings)  # a text begins with <s>
        self.name_targets(
            TokenTargets(extra, {}, has_cls, settings.average_top_k_layers, settings.layer_mean),
            settings.depth,
            teacher_depth,
        )
        self.project(settings.embed_dim, projectors or {})

    @property
    def settings(self) -> Settings:
        """What the network was built from."""
        assert isinstance(self.network.settings, Settings)
        return self.network.settings


class ImageOutputs(NamedOutputs):
    """A data2vec 2.0 image network."""

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`."""
        output = self.network(images)
        return self.by_name(output.tokens, output.layer_results)


class TextOutputs(NamedOutputs):
    """A data2vec 2.0 text network; its first token, `<s>`, is part of the input and is its `cls`."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Shaped[Tensor, "batch tokens"],
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; ids as in the checkpoint's dict.txt, and a mask that is 0 or False at padding, whose
        rows are computed all the same.

        Token types, which pairs of texts have, are passed over: the network has a single one.
        """
        valid = attention_mask.bool()
        # a text without any token attends to all its padding: a softmax over no key at all is NaN
        output = self.network(input_ids, ~valid & valid.any(1, keepdim=True))
        valid = F.pad(valid, (self.targets.num_extra, 0), value=True)
        return self.by_name(output.tokens, output.layer_results, valid)
