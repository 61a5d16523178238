"""Texts: a view is a block of token ids, `[CLS] content [SEP]` and then padding; its fields lie in zarr arrays."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from shards.errors import Damaged, one_line
from shards.layout import TOKENIZER, inside
from shards.views.base import Row, ViewCodec

MAX_TOKENS = 1 << 15
"""The most tokens that a view may have."""


def _is_vocabulary(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("size")) is int and 0 < value["size"] < 1 << 31


def num_masked(share: float, num_content: int) -> int:
    """How many of a text's tokens are hidden: that share of them, rounded, and at least 1."""
    return max(1, int(share * num_content + 0.5))


CHECKS = {
    "size": lambda value: type(value) is int and 3 <= value <= MAX_TOKENS,
    "pack": lambda value: value in ("stream", "none"),
    "vocabulary": _is_vocabulary,
    "mask": lambda value: value is None or (type(value) is float and 0 < value < 1),
}
"""What the identity of a view set of texts must hold; without `mask` no token is hidden."""


@dataclass(frozen=True)
class TokenCodec(ViewCodec):
    """`tokens`: uint16, or int32 of a vocabulary above 65,536; `length`: how many of them are no padding.

    Where tokens are hidden, `masked`: their positions, ascending, and then zeros in shorter texts.
    """

    size: int
    vocabulary: dict[str, Any]
    augmented: bool = False
    num_masked: int = 0
    modality: ClassVar[str] = "text"
    storage: ClassVar[str] = "arrays"
    files: ClassVar[tuple[str, ...]] = (TOKENIZER,)

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`tokens` (size,) and `length` (); `masked` (num_masked,)."""
        dtype = "uint16" if self.vocabulary["size"] <= 1 << 16 else "int32"
        masked = {"masked": ("uint16", (self.num_masked,))} if self.num_masked else {}
        return {"tokens": (dtype, (self.size,)), "length": ("uint16", ()), **masked}

    def picture(self, row: Row) -> None:
        """A text is read."""

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """The text, its special tokens written as the tokenizer names them; Damaged where that is not there."""
        path = inside(folder, TOKENIZER)
        try:
            tokenizer = _tokenizer(path, path.stat().st_mtime_ns)
        except Exception as error:  # the library raises nothing finer
            raise Damaged(f"{path}: is no tokenizer ({one_line(error)}); restore it") from None
        length = int(row["length"])
        padding = f", {self.size - length:,} of {self.size:,} tokens are padding" if length < self.size else ""
        hidden = f", {np.count_nonzero(row['masked']):,} masked" if self.num_masked else ""
        text = tokenizer.decode(row["tokens"][:length].tolist(), skip_special_tokens=False)
        return [f"{length:,} tokens{hidden}{padding}", text]


@lru_cache(maxsize=2)
def _tokenizer(path: Path, changed_ns: int) -> Any:
    """The tokenizer in the file `path` as it was at `changed_ns`: reading it takes longer than a thousand texts."""
    import tokenizers

    return tokenizers.Tokenizer.from_buffer(path.read_bytes())  # of a path the library takes UTF-8 alone


def codec_of(identity: dict[str, Any]) -> TokenCodec:
    """How the views of a view set of that identity are stored."""
    mask, size = identity.get("mask"), identity["size"]
    return TokenCodec(size, identity["vocabulary"], mask is not None, num_masked(mask, size - 2) if mask else 0)
