"""Text encoders of `transformers` (BERT, RoBERTa, MiniLM, ModernBERT, DeBERTa ...) with every target by name.

BERT: Devlin et al. 2019, arXiv:1810.04805. A layer's result is its block's output, of the last block after the final
norm where the encoder has one. In training a student drops out what its config says, as DistilBERT did (Sanh et al.
2019, arXiv:1910.01108); a teacher never does.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import transformers
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from extract.networks.dense import DenseNetwork
from extract.networks.hub_encoder import check_depth, empty_network, masked_lm_kind, readable_errors
from extract.networks.outputs import LayerMean, TokenTargets
from shards.errors import BadInput
from shards.views.text import MAX_TOKENS

BASE_LR = 5e-4
"""The thesis's, for all its transformers."""
MLM_LOGITS = "mlm_logits"
_NOT_SAVED = ("architectures", "transformers_version", "_name_or_path", "dtype", "id2label", "label2id", "auto_map")


@dataclass(frozen=True)
class TextSettings:
    """What a text encoder is built from."""

    config: dict[str, Any]
    """Of `transformers`, with its model_type."""
    depth: int
    masked_lm: bool = False
    """Whether it has the head that predicts masked tokens."""
    counts_padding: bool = True
    """Whether padded tokens count in the statistics of layer means."""


class TextEncoder(DenseNetwork):
    """A text encoder whose first token, [CLS], is part of the input.

    Beside the targets of every dense network it gives `mlm_logits` (batch, tokens, vocabulary) where it has the head
    of masked language modelling; the head runs only where they are among `names`.
    """

    def __init__(
        self,
        network: transformers.PreTrainedModel,
        counts_padding: bool = True,
        teacher_depth: int | None = None,
        projectors: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(network)
        config = network.config
        self.settings = text_settings(config, network.base_model is not network, counts_padding)
        targets = TokenTargets(0, {}, mean=LayerMean(counts_padding=counts_padding))
        others = [MLM_LOGITS] if self.settings.masked_lm else []
        self.name_targets(targets, self.settings.depth, teacher_depth, others)
        self.project(config.hidden_size, projectors or {})
        accepted = inspect.signature(network.base_model.forward).parameters
        self._takes_types = "token_type_ids" in accepted and getattr(config, "type_vocab_size", 0) > 1

    @property
    def encoder(self) -> transformers.PreTrainedModel:
        """The network without its head."""
        encoder = self.network.base_model
        assert isinstance(encoder, transformers.PreTrainedModel)
        return encoder

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Shaped[Tensor, "batch tokens"],
        token_type_ids: Int[Tensor, "batch tokens"] | None = None,
    ) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output of `names`; `attention_mask` is 0 or False at padding, whose rows are computed all the same.

        Token types are passed over by an encoder that has a single one.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask.long()}
        if token_type_ids is not None and self._takes_types:
            inputs["token_type_ids"] = token_type_ids
        with_logits = MLM_LOGITS in self.names
        with_features = len(self.names) > with_logits
        network = self.network if with_logits else self.encoder
        # a masked-LM network tells its encoder's last output among the hidden states alone
        output = network(output_hidden_states=self.needs_layers or (with_logits and with_features), **inputs)
        outputs = {MLM_LOGITS: output.logits} if with_logits else {}
        if with_features:
            tokens = output.hidden_states[-1] if with_logits else output.last_hidden_state
            layers = output.hidden_states[1:] if self.needs_layers else ()
            outputs |= self.by_name(tokens, layers, attention_mask.bool())
        return outputs


def num_positions(network: transformers.PreTrainedModel) -> int:
    """The most tokens that it takes: RoBERTa's positions begin behind its padding's."""
    config = network.config
    positions = getattr(config, "max_position_embeddings", 0) or MAX_TOKENS
    tables = [module for module in network.base_model.modules() if isinstance(module, nn.Embedding)]
    learned = next((table for table in tables if table.num_embeddings == positions), None)
    offset = 0 if learned is None or learned.padding_idx is None else learned.padding_idx + 1
    return int(min(positions - offset, MAX_TOKENS))


def text_settings(
    config: transformers.PretrainedConfig, masked_lm: bool = False, counts_padding: bool = True
) -> TextSettings:
    """What builds an encoder of `config` again."""
    values = {name: value for name, value in config.to_dict().items() if name not in _NOT_SAVED}
    return TextSettings(values, config.num_hidden_layers, masked_lm, counts_padding)


def resized(settings: TextSettings, depth: int, width: int | None = None, heads: int | None = None) -> TextSettings:
    """The settings of an encoder of another depth, and width with its feed-forward layers in proportion."""
    config = config_of(settings)
    before, config.num_hidden_layers = config.hidden_size, depth
    if isinstance(getattr(config, "layer_types", None), list):  # ModernBERT's, one a block
        config.layer_types = config.layer_types[:depth]
    if width is not None:
        config.hidden_size = width
        for name in ("intermediate_size", "hidden_dim"):
            if type(inner := getattr(config, name, None)) is int:
                setattr(config, name, max(1, inner * width // before))
    if heads is not None:
        config.num_attention_heads = heads
    return text_settings(config, settings.masked_lm, settings.counts_padding)


def config_of(settings: TextSettings) -> transformers.PretrainedConfig:
    """The config of `transformers`; BadInput where its library knows none such."""
    where = "network encoder"
    with readable_errors(where):
        config = transformers.AutoConfig.for_model(**settings.config)
    check_depth(where, config)
    return config


def settings_of(values: Mapping[str, Any]) -> TextSettings:
    """The settings that `asdict` made JSON of; BadInput for what is none."""
    try:
        settings = msgspec.convert(dict(values), TextSettings)
    except msgspec.ValidationError as error:
        raise BadInput(f"network encoder: settings: {error}") from None
    if not isinstance(settings.config.get("model_type"), str):
        raise BadInput(f"network encoder: settings.config names no model_type: {str(settings.config)[:80]}")
    return settings


def build(
    architecture: str,
    num_classes: int | None,
    settings: Mapping[str, Any],
    teacher_depth: int,
    projectors: Mapping[str, Any],
) -> nn.Module:
    """A text encoder of `settings` (TextSettings as JSON), freshly initialised; see DenseNetwork for the rest."""
    checked = settings_of(settings)
    config = config_of(checked)
    kind = masked_lm_kind(config) if checked.masked_lm else None
    if checked.masked_lm and kind is None:
        raise BadInput(f"network {architecture}: a {config.model_type} has no masked-LM head")
    network = empty_network(f"network {architecture}", config, kind)
    for module in network.modules():
        module._non_persistent_buffers_set.clear()  # what the exported weights do not fill stays on the meta device
    return TextEncoder(network, checked.counts_padding, teacher_depth, projectors)
