"""A tiny CLIP of random weights with its tokenizer and image processor, as users save one."""

from pathlib import Path

import tokenizers
import torch
import transformers
from pairs import COLOURS, SHAPES

SIZE, WIDTH, POSITIONS = 16, 8, 32
"""Pixels a side, channels of the embeddings, tokens a text."""
WORDS = ["<pad>", "<unk>", "<s>", "</s>", *COLOURS, *SHAPES, "the", "on", "a", "small", "number"]


def write_tokenizer(folder: Path) -> None:
    """Whole words, between <s> and </s>."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    roles = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, **roles).save_pretrained(folder)


def write_clip(folder: Path, name: str = "CLIP", **projection: int) -> transformers.PreTrainedModel:
    """`name` is CLIP or Siglip."""
    tower = {"num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**tower, "hidden_size": 16, "intermediate_size": 24, "image_size": SIZE, "patch_size": 8}
    ids = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    text = {**tower, "hidden_size": 12, "intermediate_size": 20, "max_position_embeddings": POSITIONS, **ids}
    config = getattr(transformers, f"{name}Config")(vision_config=vision, text_config=text, **projection)
    torch.manual_seed(3)
    model: transformers.PreTrainedModel = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some are made as zeros or ones, which would hide a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    write_tokenizer(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SIZE).save_pretrained(folder)
    return model
