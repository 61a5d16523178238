"""The embeddings of encoders that were trained on images and texts together: CLIP (Radford et al. 2021,
arXiv:2103.00020, section 2.3) projects what each tower pools, SigLIP (Zhai et al. 2023, arXiv:2303.15343) does not."""

from collections.abc import Collection, Mapping

import torch
import transformers
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from shards.errors import BadInput

IMAGE_EMBEDS, TEXT_EMBEDS = "image_embeds", "text_embeds"
CLIP_TEXT = "clip_text_model"
_PROJECTIONS = {"clip_vision_model": "visual_projection.weight", CLIP_TEXT: "text_projection.weight"}
_UNPROJECTED = ("siglip_vision_model",)


def projection_of(where: str, config: transformers.PretrainedConfig, state: Mapping[str, Tensor]) -> nn.Module | None:
    """What makes a tower's embedding of its pooled output; None for a tower of `config` that has no embedding.

    BadInput, which begins with `where`, for a projection that does not fit its tower.
    """
    if config.model_type in _UNPROJECTED:
        return nn.Identity() if getattr(config, "vision_use_head", True) else None
    ending = _PROJECTIONS.get(config.model_type)
    name = next((name for name in state if ending is not None and name.endswith(ending)), None)
    if name is None:
        return None
    weight = state[name].float()
    if weight.dim() != 2 or weight.shape[1] != config.hidden_size:
        found = f"{name} has the shape {tuple(weight.shape)}, its config {config.hidden_size} channels"
        raise BadInput(f"{where}: {found}; download it again")
    projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    projection.weight = nn.Parameter(weight)
    return projection


def teacher_of(target: str, known: Mapping[str, str]) -> str:
    """The spec of a teacher that gives `target`: of the CLIP whose other tower's spec is `known` by its own target."""
    clip = next((known[name].removesuffix(":text") for name in (IMAGE_EMBEDS, TEXT_EMBEDS) if name in known), "hf:CLIP")
    return {IMAGE_EMBEDS: clip, TEXT_EMBEDS: f"{clip}:text"}.get(target, "NAME")


class TextTower(nn.Module):
    """CLIP's text tower: `text_embeds` (batch, width), the projection of its output at the end of the text.

    Its attention is causal, so no other token speaks of the whole text, and no other output is offered.
    """

    names: tuple[str, ...] = (TEXT_EMBEDS,)

    def __init__(self, network: transformers.PreTrainedModel, projection: nn.Module | None, where: str) -> None:
        """BadInput, which begins with `where`, for a tower whose embedding is not known."""
        super().__init__()
        if projection is None:
            raise BadInput(f"{where}: its weights have no {_PROJECTIONS[CLIP_TEXT]}; give a CLIP with its projections")
        self.network, self.projection = network, projection

    def only(self, names: Collection[str]) -> "TextTower":
        """The same network: it has one output."""
        return self

    def forward(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Shaped[Tensor, "batch tokens"]
    ) -> dict[str, Float[Tensor, "batch width"]]:
        """The embeddings, not normalised."""
        pooled: Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask.to(torch.int64)).pooler_output
        return {TEXT_EMBEDS: self.projection(pooled)}
