"""Texts: a view is a block of token ids between [CLS] and [SEP]; a network takes the ids and says which are padding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
from extract.modalities.packing import tokenise
from extract.modalities.tokenizer import TextTokenizer, Vocabulary
from extract.sources.base import Sample, Source
from shards.command.devices import share_of_cores
from shards.command.progress import counted
from shards.errors import BadInput
from shards.identity import sha256_of
from shards.keys import BlockKeys
from shards.layout import TOKENIZER
from shards.views.base import Row
from shards.views.text import MAX_TOKENS, TokenCodec

DEFAULT_SIZE = 256
"""Tokens a view where nothing says another number: those of the thesis."""
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class TextInput(InputSpec):
    """Token ids of one vocabulary, `size` a row; what comes after a row's length is padding."""

    size: int
    vocabulary: Vocabulary
    folder: Path | None = field(default=None, compare=False)
    """Where the tokenizer's file lies; None where `given` holds it, or where no text is to be read."""
    given: TextTokenizer | None = field(default=None, compare=False, repr=False)
    modality: ClassVar[str] = "text"

    @classmethod
    def of(cls, size: int, tokenizer: TextTokenizer) -> "TextInput":
        """The input of a network that reads what `tokenizer` writes."""
        return cls(size, tokenizer.vocabulary, given=tokenizer)

    @property
    def tokenizer(self) -> TextTokenizer:
        """What makes ids of texts; Damaged where its file is not what it was."""
        if self.given is not None:
            return self.given
        assert self.folder is not None
        return TextTokenizer.read(self.folder / TOKENIZER, self.vocabulary)

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`input_ids`: int64 (batch, size); `attention_mask`: bool (batch, size); `token_type_ids` of pairs alike."""
        prepared = {"input_ids": fields["tokens"].to(torch.int64), "attention_mask": self.valid(fields)}
        return prepared if "types" not in fields else prepared | {"token_type_ids": fields["types"].to(torch.int64)}

    def valid(self, fields: Mapping[str, Tensor]) -> Bool[Tensor, "batch tokens"]:
        """Which tokens come before their row's length; [CLS] and [SEP] are content."""
        lengths = fields["length"].to(torch.int64)
        return torch.arange(fields["tokens"].shape[1], device=lengths.device) < lengths[:, None]

    def cut(self, fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """As many tokens a row as the batch's longest row has."""
        longest = int(fields["length"].to(torch.int64).max())
        return {name: rows if name == "length" else rows[:, :longest] for name, rows in fields.items()}

    def example(self) -> dict[str, Tensor]:
        """One row of padding alone but for [CLS] and [SEP]."""
        tokens = torch.full((1, self.size), self.vocabulary.pad, dtype=torch.int32)
        tokens[0, :2] = torch.tensor([self.vocabulary.cls, self.vocabulary.sep])
        dtype = getattr(torch, self.vocabulary.dtype)
        return {"tokens": tokens.to(dtype), "length": torch.tensor([2], dtype=torch.uint16)}

    def describe(self) -> dict[str, Any]:
        """Tokens a row, and the vocabulary."""
        return {"size": self.size, "vocabulary": self.vocabulary.describe()}

    def files(self) -> dict[str, bytes]:
        """The tokenizer, which lies beside whatever is fed."""
        return {TOKENIZER: self.tokenizer.content()}


def input_of(where: str, described: dict[str, Any], folder: Path | None) -> TextInput:
    """The input that `TextInput.describe` described, its tokenizer in `folder`; BadInput, from `where`, for none."""
    size = described.get("size")
    if type(size) is not int or not 3 <= size <= MAX_TOKENS:
        raise BadInput(f"{where}: size is missing or cannot be {str(size)[:80]}")
    return TextInput(size, Vocabulary.of_description(where, described.get("vocabulary")), folder)


def default_input(codec: TokenCodec) -> TextInput:
    """The stored tokens as they are; nothing says yet where their tokenizer lies."""
    return TextInput(codec.size, Vocabulary.of_description("views", codec.vocabulary))


@dataclass(frozen=True)
class TextViews(ViewMaker):
    """Each view a block of one stream of all documents, or one document, cut off at the block's end and padded."""

    codec: TokenCodec
    pack: str
    """`stream`, or `none` for a view a document."""
    vocabulary: Vocabulary
    tokenizer: TextTokenizer | None = field(default=None, compare=False)
    """None where all views are stored."""
    tokenizer_sha256: str = ""
    """Of the tokenizer's file, which is part of the identity: its normalisation is in no vocabulary."""
    needs: ClassVar[frozenset[str]] = frozenset({"texts"})
    all_alike: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """Tokens a view."""
        return self.codec.size

    @property
    def bytes_a_view(self) -> float:
        """The tokens and their length."""
        return self.size * (2.0 if self.vocabulary.dtype == "uint16" else 4.0) + 2

    def describe(self) -> dict[str, Any]:
        """Tokens a block, how documents are packed, the vocabulary, the tokenizer; nothing is drawn."""
        described = {"size": self.size, "pack": self.pack, "vocabulary": self.vocabulary.describe()}
        return described | {"tokenizer": self.tokenizer_sha256, "seed": None}

    def flags(self) -> dict[str, str | int]:
        """--view."""
        return {"view": f"blocks:size={self.size},pack={self.pack}"}

    def files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return {} if self.tokenizer is None else {TOKENIZER: self.tokenizer.content()}

    def arrange(self, source: Source, scratch: Path, skip_errors: bool) -> Source:
        """The blocks of the corpus, which is tokenised once into `scratch`; a source that lists texts stays itself."""
        if source.documents is None:
            return source
        if self.tokenizer is None or sha256_of(self.tokenizer.content()) != self.tokenizer_sha256:
            raise BadInput("--teacher: blocks are still to be made: give the teacher whose tokenizer made the others")
        stream = tokenise(source, self.tokenizer, scratch, share_of_cores(), skip_errors)
        texts = stream.texts(self.size) if self.pack == "none" else None
        rows = stream.blocks(self.size) if texts is None else texts
        labels = texts.labels if texts else None
        notes = [*source.notes, *stream.notes]
        if texts and texts.num_truncated:
            notes.append(f"--view: {counted(texts.num_truncated, 'text')} cut off after {self.size:,} tokens")
        return BlockSource(
            name=source.name,
            revision=source.revision,
            split=source.split,
            keys=BlockKeys(rows.keys),
            class_names=source.class_names if labels is not None else None,
            fetch=lambda index: (
                rows.fields(index),
                None if labels is None or labels[index] < 0 else int(labels[index]),
            ),
            has=source.has,
            notes=tuple(notes),
            encoded=False,
        )

    def tokenised(self, source: Source) -> Source:
        """`source`, which lists texts, as their tokens: in memory, 512 bytes each at 256 tokens and half as many more
        for a pair, so that no epoch tokenises again."""
        if isinstance(source, BlockSource):
            return source
        assert self.tokenizer is not None
        samples = [source.read(index) for index in range(len(source.keys))]
        texts, labels = [sample.texts for sample in samples], [sample.label for sample in samples]
        starts = range(0, len(texts), _TEXTS_AT_ONCE)
        parts = [self.tokenizer.rows(texts[start : start + _TEXTS_AT_ONCE], self.size) for start in starts]
        fields = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}

        def fetch(index: int) -> tuple[Row, int | float | None]:
            return {name: rows[index, ...] for name, rows in fields.items()}, labels[index]

        return BlockSource(**(vars(source) | {"fetch": fetch}))

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """The tokens as they were cut; else those of the sample's text, or of its two as a pair."""
        if sample.fields is not None:
            return sample.fields, {}
        assert self.tokenizer is not None
        rows = self.tokenizer.rows([sample.texts], self.size)
        return {name: row[0, ...] for name, row in rows.items()}, {}


class BlockSource(Source):
    """Texts that are tokens already: `fetch` gives a view's fields and the label."""

    def read(self, index: int) -> Sample:
        """The view's fields."""
        fields, label = self.fetch(index)
        return Sample(self.keys[index], label=label, fields=fields)


def maker_of(request: ViewRequest) -> TextViews:
    """What is asked for: the flag first, then what the cache has, then the teacher's size and tokenizer."""
    asked, stored = _parse(request.spec), request.stored or {}
    alike, inputs = request.stored or request.sibling or {}, request.inputs
    if inputs is not None and not isinstance(inputs, TextInput):
        raise BadInput(f"--view blocks: the teacher takes {inputs.modality}; give a teacher of text, such as bert")
    size = asked.get("size") or alike.get("size") or (inputs.size if inputs else DEFAULT_SIZE)
    pack = asked.get("pack") or alike.get("pack") or "stream"
    if stored:
        vocabulary = Vocabulary.of_description("--out", stored["vocabulary"])
        if inputs is not None and inputs.vocabulary != vocabulary:
            raise BadInput(
                f"--teacher: its tokenizer has {inputs.vocabulary.size:,} tokens, the cache was made by one of "
                f"{vocabulary.size:,} others; give a teacher of that tokenizer, or another --out"
            )
        tokenizer = inputs.tokenizer if inputs else None
        return TextViews(TokenCodec(size, stored["vocabulary"]), pack, vocabulary, tokenizer, stored["tokenizer"])
    if inputs is None:
        raise BadInput("--view blocks: which tokenizer? give a --teacher, whose tokenizer is taken")
    codec, tokenizer = TokenCodec(size, inputs.vocabulary.describe()), inputs.tokenizer
    return TextViews(codec, pack, inputs.vocabulary, tokenizer, sha256_of(tokenizer.content()))


def input_size(request: ViewRequest) -> int | None:
    """Tokens a view, where the flag or the cache says so."""
    size = _parse(request.spec).get("size") or (request.stored or request.sibling or {}).get("size")
    return size if isinstance(size, int) else None


def plain_maker(inputs: InputSpec) -> TextViews:
    """One text, or a pair, as a network of those inputs takes it."""
    assert isinstance(inputs, TextInput)
    codec, tokenizer = TokenCodec(inputs.size, inputs.vocabulary.describe()), inputs.tokenizer
    return TextViews(codec, "none", inputs.vocabulary, tokenizer, sha256_of(tokenizer.content()))


def _parse(spec: str | None) -> dict[str, Any]:
    """`blocks:size=TOKENS,pack=stream|none` with any of the two."""
    options = (spec or "").removeprefix("blocks").removeprefix(":")
    asked: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and value.isdecimal() and 3 <= int(value) <= MAX_TOKENS:
            asked[name] = int(value)
        elif name == "pack" and value in ("stream", "none"):
            asked[name] = value
        else:
            raise BadInput(f"--view {spec}: {option!r} is not size=TOKENS (3 to {MAX_TOKENS}) or pack=stream|none")
    return asked
