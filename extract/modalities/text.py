"""Texts: a view is a block of token ids between [CLS] and [SEP]; a network takes the ids and says which are padding."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from extract.modalities import Pixels
from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
from extract.modalities.masking import masked
from extract.modalities.token_source import packed
from extract.modalities.tokenizer import TextTokenizer, Vocabulary
from extract.sources.base import Sample, Source
from shards.errors import BadInput
from shards.identity import sha256_of
from shards.layout import TOKENIZER
from shards.views.base import Row
from shards.views.text import MAX_TOKENS, TokenCodec, codec_of

DEFAULT_SIZE = 256
"""Tokens a view where nothing says another number: those of the thesis."""
_SHARE = re.compile(r"0?\.\d{1,6}")


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

    @classmethod
    def up_to(cls, positions: int, size: int | None, tokenizer: TextTokenizer, whose: str) -> "TextInput":
        """Of a network of so many positions; without a size in tokens 256 of them, or all where there are fewer."""
        if size is None or isinstance(size, Pixels):
            return cls.of(min(DEFAULT_SIZE, positions), tokenizer)
        if size > positions:
            raise BadInput(f"--view size={size}: {whose} has {positions:,} positions; give a size up to that")
        return cls.of(size, tokenizer)

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

    def worth_keeping(self, fields: Mapping[str, Tensor]) -> Bool[Tensor, "batch tokens"]:
        """The tokens that are masked, of views where some are; else all that are no padding."""
        if "masked" not in fields:
            return self.valid(fields)
        positions = fields["masked"].to(torch.int64)
        worth = torch.zeros_like(fields["tokens"], dtype=torch.bool).scatter(1, positions, True)
        worth[:, 0] = False  # the zeros behind the positions of a shorter text: [CLS] is never masked
        return worth

    def cut(self, fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """As many tokens a row as the batch's longest row has."""
        longest = int(fields["length"].to(torch.int64).max())
        return {name: rows[:, :longest] if name in ("tokens", "types") else rows for name, rows in fields.items()}

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
    """Each view a block of one stream of all documents, or one document, cut off at the block's end and padded.

    Some of its tokens may be masked, others in each view (see masking.py).
    """

    codec: TokenCodec
    pack: str
    """`stream`, or `none` for a view a document."""
    vocabulary: Vocabulary
    tokenizer: TextTokenizer | None = field(default=None, compare=False)
    """None where all views are stored."""
    tokenizer_sha256: str = ""
    """Of the tokenizer's file, which is part of the identity: its normalisation is in no vocabulary."""
    mask: float | None = None
    """The share of tokens to hide."""
    seed: int | None = None
    """Of the draws of masked tokens; None where there are none."""
    needs: ClassVar[frozenset[str]] = frozenset({"texts"})

    @property
    def all_alike(self) -> bool:
        """Whether the views of one block are all the same: where no token is masked."""
        return self.mask is None

    @property
    def size(self) -> int:
        """Tokens a view."""
        return self.codec.size

    @property
    def bytes_a_view(self) -> float:
        """The tokens, their length, and the positions of those that are masked."""
        return self.size * (2.0 if self.vocabulary.dtype == "uint16" else 4.0) + 2 + 2 * self.codec.num_masked

    def describe(self) -> dict[str, Any]:
        """Tokens a block, how documents are packed, the vocabulary, the tokenizer; what is masked, if anything is."""
        described = {"size": self.size, "pack": self.pack, "vocabulary": self.vocabulary.describe()}
        masking = {} if self.mask is None else {"mask": self.mask}
        return described | masking | {"tokenizer": self.tokenizer_sha256, "seed": self.seed}

    def flags(self) -> dict[str, str | int]:
        """--view."""
        masking = "" if self.mask is None else f",mask={self.mask:g},seed={self.seed}"
        return {"view": f"blocks:size={self.size},pack={self.pack}{masking}"}

    def files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return {} if self.tokenizer is None else {TOKENIZER: self.tokenizer.content()}

    def arrange(self, source: Source, scratch: Path, skip_errors: bool) -> Source:
        """The blocks of the corpus, which is tokenised once into `scratch`; a source that lists texts stays itself."""
        if source.documents is None:
            return source
        if self.tokenizer is None or sha256_of(self.tokenizer.content()) != self.tokenizer_sha256:
            raise BadInput("--teacher: blocks are still to be made: give the teacher whose tokenizer made the others")
        return packed(source, self.tokenizer, self.size, self.pack, scratch, skip_errors)

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """The tokens as they were cut; else those of the sample's text, or of its two as a pair."""
        row = sample.fields
        if row is None:
            assert self.tokenizer is not None
            row = {name: rows[0, ...] for name, rows in self.tokenizer.rows([sample.texts], self.size).items()}
        if self.mask is not None:
            row = masked(row, self.mask, self.vocabulary, self.seed or 0, sample.key, view)
        return row, {}


def maker_of(request: ViewRequest) -> TextViews:
    """What is asked for: the flag first, then what the cache has, then the teacher's size and tokenizer."""
    asked, stored = _parse(request.spec), request.stored or {}
    alike, inputs = request.stored or request.sibling or {}, request.inputs
    if inputs is not None and not isinstance(inputs, TextInput):
        raise BadInput(f"--view blocks: the teacher takes {inputs.modality}; give a teacher of text, such as bert")
    size = asked.get("size") or alike.get("size") or (inputs.size if inputs else DEFAULT_SIZE)
    pack = asked.get("pack") or alike.get("pack") or "stream"
    mask = asked.get("mask") or alike.get("mask")
    if mask is None and "seed" in asked:
        raise BadInput(f"--view {request.spec}: seed: such views draw nothing; give mask=0.15 too, or leave it out")
    seed = None if mask is None else asked.get("seed", alike.get("seed") or 0)
    if stored:
        vocabulary = Vocabulary.of_description("--out", stored["vocabulary"])
        if inputs is not None and inputs.vocabulary != vocabulary:
            raise BadInput(
                f"--teacher: its tokenizer has {inputs.vocabulary.size:,} tokens, the cache was made by one of "
                f"{vocabulary.size:,} others; give a teacher of that tokenizer, or another --out"
            )
        tokenizer, sha256 = inputs.tokenizer if inputs else None, stored["tokenizer"]
    elif inputs is None:
        raise BadInput("--view blocks: which tokenizer? give a --teacher, whose tokenizer is taken")
    else:
        vocabulary, tokenizer = inputs.vocabulary, inputs.tokenizer
        sha256 = sha256_of(tokenizer.content())
    if mask is not None and vocabulary.mask is None:
        raise BadInput(f"--view mask={mask:g}: the teacher's tokenizer has no [MASK]; leave mask= out")
    codec = codec_of({"size": size, "vocabulary": vocabulary.describe(), "mask": mask})
    return TextViews(codec, pack, vocabulary, tokenizer, sha256, mask, seed)


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
    """`blocks:size=TOKENS,pack=stream|none,mask=SHARE,seed=NUMBER` with any of these."""
    options = (spec or "").removeprefix("blocks").removeprefix(":")
    asked: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and value.isdecimal() and 3 <= int(value) <= MAX_TOKENS:
            asked[name] = int(value)
        elif name == "pack" and value in ("stream", "none"):
            asked[name] = value
        elif name == "seed" and value.isdecimal():
            asked[name] = int(value)
        elif name == "mask" and _SHARE.fullmatch(value) and 0 < float(value) < 1:
            asked[name] = float(value)
        else:
            known = f"size=TOKENS (3 to {MAX_TOKENS}), pack=stream|none, mask=SHARE (between 0 and 1) or seed=NUMBER"
            raise BadInput(f"--view {spec}: {option!r} is not {known}")
    return asked
