"""What the tests of texts start from: a corpus, and a tiny encoder with a tokenizer of its own, as users save them."""

from pathlib import Path

import torch

from benchmarks.synthetic_texts import SPECIAL as SPECIAL
from benchmarks.synthetic_texts import write_text_encoder

WORDS = "the of a cat dog sat ran on under mat moon bright old river small green quickly never".split()  # noqa: SIM905
WIDTH, DEPTH, POSITIONS = 16, 4, 32


def write_corpus(folder: Path, num_lines: int = 40, seed: int = 0) -> Path:
    """`train.txt` and `validation.txt`: lines of 1 to 12 words."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for split in ("train", "validation"):
        lengths = torch.randint(1, 13, (num_lines,), generator=generator).tolist()
        lines = [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=generator)) for n in lengths]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def write_encoder(folder: Path, seed: int = 0, words: list[str] = WORDS, depth: int = DEPTH) -> Path:
    """A BERT of random weights with the head of masked language modelling, and its WordPiece tokenizer."""
    return write_text_encoder(folder, words, WIDTH, depth, POSITIONS, seed)
