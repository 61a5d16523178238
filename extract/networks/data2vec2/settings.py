"""The settings a data2vec 2.0 network is built from, and how they are read from a checkpoint's cfg.

Names and defaults are those of `Data2VecMultiConfig`, `D2vModalityConfig`, `D2vImageConfig` and `D2vTextConfig`
(fairseq 3d262bb, examples/data2vec/models/data2vec2.py, modalities/base.py, images.py and text.py). Dropout, layer
drop, drop path and masking are left out: they act in the authors' training only.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extract.networks.outputs import BATCH, INSTANCE, LAYER, LayerMean
from shards.errors import BadInput

MAX_SETTING = 1 << 14
"""No width, depth, image size or number of positions of a network is larger."""
MAX_VOCABULARY = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Data2Vec2Settings:
    """What every modality shares; plain numbers and flags, so `dataclasses.asdict` gives JSON that rebuilds it."""

    # without a default: a cfg that lacks one of these is refused
    depth: int
    prenet_depth: int
    embed_dim: int
    num_heads: int
    num_alibi_heads: int
    norm_eps: float
    average_top_k_layers: int
    num_extra_tokens: int
    mlp_ratio: float = 4.0
    norm_affine: bool = True
    layer_norm_first: bool = False
    end_of_block_targets: bool = False
    batch_norm_target_layer: bool = False
    instance_norm_target_layer: bool = False
    layer_norm_target_layer: bool = False
    layer_norm_targets: bool = False
    instance_norm_targets: bool = False
    use_alibi_encoder: bool = False
    learned_alibi: bool = False
    alibi_scale: float = 1.0
    learned_alibi_scale: bool = False
    learned_alibi_scale_per_head: bool = False
    learned_alibi_scale_per_layer: bool = False
    alibi_dims: int = 1
    alibi_distance: str = "manhattan"

    def __post_init__(self) -> None:
        for name in ("depth", "embed_dim", "num_heads", "average_top_k_layers", "norm_eps", "mlp_ratio"):
            self._require(name, getattr(self, name) > 0, "above 0")
        for name in ("prenet_depth", "num_extra_tokens"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("embed_dim", self.embed_dim % self.num_heads == 0, f"a multiple of {self.num_heads} heads")
        if self.use_alibi_encoder:
            heads_fit = 1 <= self.num_alibi_heads <= self.num_heads
            self._require("num_alibi_heads", heads_fit, f"1 to num_heads, {self.num_heads}")
            self._require("alibi_dims", self.alibi_dims in (1, 2), "1 or 2")
            known = self.alibi_distance in ("manhattan", "euclidean")
            self._require("alibi_distance", known, "manhattan or euclidean")
            # fairseq's own constructor fails with it: get_alibi_bias() takes no `scale`
            self._require("learned_alibi", not self.learned_alibi, "false (fairseq 3d262bb cannot build it either)")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise BadInput(f"data2vec 2.0 setting {name}: expected {expected}, found {getattr(self, name)!r}")

    @property
    def layer_mean(self) -> LayerMean:
        """How its layer results become a target: what the five flags say."""
        of_layer = [
            (self.batch_norm_target_layer, BATCH),
            (self.instance_norm_target_layer, INSTANCE),
            (self.layer_norm_target_layer, LAYER),
        ]
        of_mean = [(self.layer_norm_targets, LAYER), (self.instance_norm_targets, INSTANCE)]
        steps = [tuple(dims for enabled, dims in flags if enabled) for flags in (of_layer, of_mean)]
        return LayerMean(of_layer=steps[0], of_mean=steps[1])

    @property
    def has_context_norm(self) -> bool:
        """Whether the context encoder starts with a norm."""
        return not self.layer_norm_first


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Data2Vec2Settings):
    """The image modality's own: patches of `patch_size` pixels, out of square images of `input_size` pixels."""

    input_size: int
    patch_size: int
    in_chans: int = 3
    local_embed_dim: int  # cfg's modalities.image.embed_dim: the patch embedding's width, projected if not embed_dim
    fixed_positions: bool = True
    alibi_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("patch_size", "in_chans", "local_embed_dim"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("input_size", self.input_size >= self.patch_size, f"at least a patch of {self.patch_size}")
        self._require("embed_dim", self.embed_dim % 4 == 0 or not self.fixed_positions, "a multiple of 4")


@dataclass(frozen=True, kw_only=True)
class TextSettings(Data2Vec2Settings):
    """The text modality's own; `vocab_size`, the rows of the token embedding, stands in no cfg."""

    vocab_size: int
    max_source_positions: int = 512
    learned_pos: bool = True
    no_scale_embedding: bool = True
    layernorm_embedding: bool = True
    no_token_positional_embeddings: bool = False
    counts_padding: bool = True
    """Whether padding counts in a layer mean's statistics over tokens, as in fairseq; no flag of fairseq's."""
    modality: str = "text"
    """Tells these settings, as JSON, from an image network's, which have no such field."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("vocab_size", 4 < self.vocab_size <= MAX_VOCABULARY, f"5 to {MAX_VOCABULARY}")
        self._require("max_source_positions", self.max_source_positions > 0, "above 0")
        self._require("embed_dim", self.embed_dim >= 4 or self.learned_pos, "4 or more for sine positions")
        self._require("modality", self.modality == "text", "text")

    @property
    def layer_mean(self) -> LayerMean:
        """As the flags say, with or without the padding in the statistics."""
        return dataclasses.replace(super().layer_mean, counts_padding=self.counts_padding)

    @property
    def has_context_norm(self) -> bool:
        """Not without prenet blocks either: the embedding has a norm of its own."""
        return super().has_context_norm and self.prenet_depth > 0


SETTINGS: dict[str, type[ImageSettings] | type[TextSettings]] = {"image": ImageSettings, "text": TextSettings}
"""By modality, as a cfg's sections are named."""
Settings = ImageSettings | TextSettings

_AS_HEADS = "${model.num_heads}"  # fairseq's default, where omegaconf has not resolved it


def read_settings(config: dict[str, Any], modality: str, **known: int) -> Settings:
    """The settings that a plain cfg holds, and the `known` ones, which it does not; its unknown keys are ignored.

    A flag that is absent takes fairseq's own default, as fairseq does when it loads an older file. Raises BadInput
    where a setting is missing or ill-typed.
    """
    model = _section(config, "model")
    own = _section(_section(model, "modalities"), modality)
    values: dict[str, Any] = dict(known)
    for field in dataclasses.fields(SETTINGS[modality]):
        # the modality's section speaks first; only embed_dim is a name of both, and there it means another width
        section = model if field.name == "embed_dim" or field.name not in own else own
        key = field.name
        if field.name == "local_embed_dim":
            section, key = own, "embed_dim"
        if field.name in known:
            continue
        if key == "num_alibi_heads" and section.get(key, _AS_HEADS) == _AS_HEADS:
            values[key] = values["num_heads"]
        elif key in section:
            values[field.name] = _typed(key, section[key], field.type)
        elif field.default is dataclasses.MISSING:
            raise BadInput(f"the cfg lacks {key} of the model; give a file that fairseq's data2vec_multi wrote")
    return SETTINGS[modality](**values)


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The settings that `dataclasses.asdict` gave, from JSON; BadInput for one that is unknown, missing or no such."""
    kind = TextSettings if "modality" in values else ImageSettings
    fields = {field.name: field for field in dataclasses.fields(kind)}
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if wrong := sorted((values.keys() - fields.keys()) | (required - values.keys())):
        raise BadInput(f"data2vec 2.0 settings: {', '.join(map(str, wrong))}: missing or unknown; export the run again")
    typed = {name: _typed(name, value, fields[name].type) for name, value in values.items()}
    numbers = {name: value for name, value in typed.items() if type(value) is int and name != "vocab_size"}
    if too_large := [name for name, value in numbers.items() if not 0 <= value <= MAX_SETTING]:
        raise BadInput(f"data2vec 2.0 settings: {', '.join(too_large)}: expected 0 to {MAX_SETTING}")
    return kind(**typed)


def _section(parent: dict[str, Any], key: str) -> dict[str, Any]:
    section = parent.get(key)
    if not isinstance(section, dict):
        raise BadInput(f"cfg: {key!r} should be a mapping, found {section!r:.40}; give a data2vec 2.0 file")
    return section


def _typed(key: str, value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise BadInput(f"cfg: {key} of the model should be of type {kind.__name__}, found {value!r:.60}")
    return value
