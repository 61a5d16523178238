"""Text encoders of `transformers` for tests: tiny, random in every tensor, saved as their users save them."""

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor

VOCABULARY, POSITIONS, DEPTH, WIDTH = 60, 40, 4, 16
SIZES = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS}
PLAIN = {
    **SIZES,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODERN = {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 4, "global_attn_every_n_layers": 2}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}

CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "bert": lambda: transformers.BertConfig(**PLAIN),
    "roberta": lambda: transformers.RobertaConfig(**{**PLAIN, "pad_token_id": 1, "bos_token_id": 0}, type_vocab_size=1),
    "modernbert": lambda: transformers.ModernBertConfig(**PLAIN, **MODERN),
    "deberta-v2": lambda: transformers.DebertaV2Config(**PLAIN, **DISENTANGLED),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SIZES, dim=WIDTH, n_layers=DEPTH, n_heads=2, hidden_dim=24, pad_token_id=0
    ),
    "mpnet": lambda: transformers.MPNetConfig(**{**PLAIN, "pad_token_id": 1, "bos_token_id": 0}),
    "electra": lambda: transformers.ElectraConfig(**PLAIN, embedding_size=8),
}


def make_model(kind: str, with_head: bool = True) -> transformers.PreTrainedModel:
    """The model `kind`, with the head of masked language modelling or as AutoModel makes it."""
    torch.manual_seed(len(kind))
    auto = transformers.AutoModelForMaskedLM if with_head else transformers.AutoModel
    model = auto.from_config(CONFIGS[kind]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some are made as zeros or ones, which would hide a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write_model(folder: Path, kind: str = "bert", with_head: bool = True) -> transformers.PreTrainedModel:
    """`make_model`, saved."""
    model = make_model(kind, with_head)
    model.save_pretrained(folder)
    return model


def padded_ids(pad: int, lengths: tuple[int, ...] = (12, 7, 3), size: int = 12) -> tuple[Tensor, Tensor]:
    """Token ids (batch, size) of random content, padded behind each length, and the mask of what is content."""
    generator = torch.Generator().manual_seed(size)
    ids = torch.randint(5, VOCABULARY, (len(lengths), size), generator=generator)
    mask = torch.arange(size) < torch.tensor(lengths)[:, None]
    return ids.masked_fill(~mask, pad), mask
