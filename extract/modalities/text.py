"""Texts: a view is a block of token ids between [CLS] and [SEP]; a network takes the ids and says which are padding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from extract.modalities.tokenizer import TextTokenizer, Vocabulary
from shards.errors import BadInput
from shards.layout import TOKENIZER
from shards.views.text import MAX_TOKENS


@dataclass(frozen=True)
class TextInput:
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
