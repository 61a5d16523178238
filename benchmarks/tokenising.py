"""Tokenising: how much of the tokenizer library's own batch speed is left when a corpus becomes blocks on the disk?

The limit is the library alone: lines in memory, tokenised in batches by its own threads, their ids never read. The
contender reads the same lines from a file, cleans and tokenises them, commits the stream to the disk and cuts all of it
into blocks of 256. The tokenizer is a lower-case WordPiece of up to 30,522 entries, trained on the text.
"""

import argparse
import os
import shutil
from itertools import count
from pathlib import Path

import numpy as np
import tokenizers

from benchmarks.measure import Figure, Report, alternate, per_unit, run, settings_here, share
from benchmarks.synthetic_texts import random_lines, random_words
from extract.modalities.packing import tokenise
from extract.modalities.tokenizer import TextTokenizer
from extract.sources import open_source

SIZES = {"cpu": {"megabytes": 12.0}, "cuda": {"megabytes": 256.0}, "quick": {"megabytes": 0.2}}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
BATCH_LINES, BLOCK, ROWS_AT_ONCE = 10_000, 256, 512


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """The library and the whole way to blocks, in turn, on the same lines and as many threads."""
    settings = settings_here(SIZES, options) | {"text": options.text and Path(options.text).name}
    lines = _lines(options.text, int(settings["megabytes"] * 1e6))
    (folder / "train.txt").write_text("\n".join(lines), "utf-8")
    tokenizer = _train(lines)
    numbers = count()

    def library() -> None:
        for start in range(0, len(lines), BATCH_LINES):
            tokenizer.library.encode_batch_fast(lines[start : start + BATCH_LINES], add_special_tokens=False)

    def to_blocks() -> None:
        scratch = folder / str(next(numbers))
        source = open_source(f"text:{folder / 'train.txt'}", "train")
        blocks = tokenise(source, tokenizer, scratch, settings["threads"]).blocks(BLOCK)
        for start in range(0, len(blocks), ROWS_AT_ONCE):
            blocks.rows(start, min(start + ROWS_AT_ONCE, len(blocks)))
        shutil.rmtree(scratch)

    # what the library takes for its own threads; read when the first batch is tokenised
    os.environ["RAYON_NUM_THREADS"] = str(settings["threads"])
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    megabytes = (folder / "train.txt").stat().st_size / 1e6
    contenders = {"the library, in memory": library, "file to blocks": to_blocks}
    seconds = alternate({name: per_unit(work, megabytes) for name, work in contenders.items()}, options.rounds)
    report = Report("what does it cost to tokenise a corpus once and pack it?", "MB of text", settings)
    report.add_rates(seconds)
    ratio = share(seconds["the library, in memory"], seconds["file to blocks"])
    report.figures.append(Figure("from a file to blocks", "the library's batches in memory", ratio, 0.8))
    return report


def _lines(text: str | None, num_bytes: int) -> list[str]:
    """The lines of the file, repeated; else random words of which few are frequent, as in any language."""
    if text is None:
        lines = list(random_lines(random_words(20_000), num_bytes // 6))
    else:
        lines = Path(text).read_text("utf-8").split("\n")
    repeated = lines * (1 + num_bytes // sum(map(len, lines)))
    ends = np.cumsum([len(line) for line in repeated])
    return repeated[: int(np.searchsorted(ends, num_bytes)) + 1]


def _train(lines: list[str]) -> TextTokenizer:
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer()
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=30_522, special_tokens=SPECIAL, show_progress=False)
    library.train_from_iterator(lines[:200_000], trainer)
    pad, _, cls, sep = (library.token_to_id(name) for name in SPECIAL)
    return TextTokenizer(library, cls, sep, pad)


if __name__ == "__main__":
    run(measure, "tokenising", with_text=True)
