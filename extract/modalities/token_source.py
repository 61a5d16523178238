"""Token source: texts that are tokens already: the blocks of a corpus, or a list's texts in memory."""

from pathlib import Path

import numpy as np

from extract.modalities.packing import tokenise
from extract.modalities.tokenizer import TextTokenizer
from extract.sources.base import Sample, Source
from shards.command.devices import share_of_cores
from shards.command.progress import counted
from shards.keys import BlockKeys
from shards.views.base import Row

_TEXTS_AT_ONCE = 4096


class TokenSource(Source):
    """`fetch` gives a view's fields and the label."""

    def read(self, index: int) -> Sample:
        """The view's fields."""
        fields, label = self.fetch(index)
        return Sample(self.keys[index], label=label, fields=fields)


def packed(
    source: Source, tokenizer: TextTokenizer, size: int, pack: str, scratch: Path, skip_errors: bool
) -> TokenSource:
    """The blocks of a corpus (`pack` stream), or its documents (none), tokenised once into `scratch`."""
    stream = tokenise(source, tokenizer, scratch, share_of_cores(), skip_errors)
    texts = stream.texts(size) if pack == "none" else None
    rows = stream.blocks(size) if texts is None else texts
    labels = texts.labels if texts else None
    notes = [*source.notes, *stream.notes]
    if texts and texts.num_truncated:
        notes.append(f"--view: {counted(texts.num_truncated, 'text')} cut off after {size:,} tokens")

    def fetch(index: int) -> tuple[Row, int | None]:
        return rows.fields(index), None if labels is None or labels[index] < 0 else int(labels[index])

    return TokenSource(
        name=source.name,
        revision=source.revision,
        split=source.split,
        keys=BlockKeys(rows.keys),
        class_names=source.class_names if labels is not None else None,
        fetch=fetch,
        has=source.has,
        notes=tuple(notes),
        encoded=False,
    )


def tokenised(source: Source, tokenizer: TextTokenizer, size: int) -> Source:
    """`source`, which lists texts or pairs, as their tokens, so that no epoch makes them again.

    In memory: of 256 tokens 512 bytes each, and half as much more for a pair.
    """
    if isinstance(source, TokenSource):
        return source
    samples = [source.read(index) for index in range(len(source.keys))]
    texts, labels = [sample.texts for sample in samples], [sample.label for sample in samples]
    starts = range(0, len(texts), _TEXTS_AT_ONCE)
    parts = [tokenizer.rows(texts[start : start + _TEXTS_AT_ONCE], size) for start in starts]
    fields = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}

    def fetch(index: int) -> tuple[Row, int | float | None]:
        return {name: rows[index, ...] for name, rows in fields.items()}, labels[index]

    return TokenSource(**(vars(source) | {"fetch": fetch}))
