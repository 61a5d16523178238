"""Synthetic texts: a corpus of random words of any size, and small encoders with a tokenizer of their own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LINE_WORDS, _WORDS_AT_ONCE = 16, 1 << 20


def random_words(count: int) -> list[str]:
    """Words of 2 to 9 letters."""
    generator = np.random.default_rng(0)
    letters = generator.integers(ord("a"), ord("z") + 1, (count, 9), np.uint8)
    sizes = generator.integers(2, 10, count)
    return [row[:size].tobytes().decode() for row, size in zip(letters, sizes, strict=True)]


def random_lines(words: Sequence[str], num_words: int) -> Iterator[str]:
    """Lines of 16 words, of which few are frequent, as in any language; drawn as they are taken."""
    generator = np.random.default_rng(0)
    for start in range(0, num_words, _WORDS_AT_ONCE):
        count = min(_WORDS_AT_ONCE, num_words - start)
        picked = np.minimum(generator.zipf(1.3, count) - 1, len(words) - 1).tolist()
        for first in range(0, count, _LINE_WORDS):
            yield " ".join(words[word] for word in picked[first : first + _LINE_WORDS])


def write_text_encoder(
    folder: Path,
    words: Sequence[str],
    width: int,
    depth: int,
    positions: int,
    seed: int = 0,
    heads: int = 2,
    hidden: int | None = None,
) -> Path:
    """A BERT of random weights with the head of masked language modelling, and its WordPiece tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer()
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    roles = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, **roles).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden or 2 * width,
        max_position_embeddings=positions,
        pad_token_id=0,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    network = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():  # some are zeros or ones, which would hide a mistake
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder
