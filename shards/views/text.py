"""Texts: a view is a block of token ids, `[CLS] content [SEP]` and then padding; both fields lie in zarr arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from shards.errors import Damaged, one_line
from shards.layout import TOKENIZER
from shards.views.base import Row, ViewCodec

MAX_TOKENS = 1 << 15
"""The most tokens that a view may have."""


def _is_vocabulary(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("size")) is int and 0 < value["size"] < 1 << 31


CHECKS = {
    "size": lambda value: type(value) is int and 3 <= value <= MAX_TOKENS,
    "pack": lambda value: value in ("stream", "none"),
    "vocabulary": _is_vocabulary,
}
"""What the identity of a view set of texts must hold."""


@dataclass(frozen=True)
class TokenCodec(ViewCodec):
    """`tokens`: uint16, or int32 of a vocabulary above 65,536; `length`: how many of them are no padding."""

    size: int
    vocabulary: dict[str, Any]
    augmented: bool = False
    modality: ClassVar[str] = "text"
    storage: ClassVar[str] = "arrays"
    files: ClassVar[tuple[str, ...]] = (TOKENIZER,)

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`tokens` (size,) and `length` ()."""
        dtype = "uint16" if self.vocabulary["size"] <= 1 << 16 else "int32"
        return {"tokens": (dtype, (self.size,)), "length": ("uint16", ())}

    def picture(self, row: Row) -> None:
        """A text is read."""

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """The text, its special tokens written as the tokenizer names them; Damaged where that is not there."""
        import tokenizers

        path = folder / TOKENIZER
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing finer
            raise Damaged(f"{path}: is no tokenizer ({one_line(error)}); restore it") from None
        length = int(row["length"])
        padding = f", {self.size - length:,} of {self.size:,} tokens are padding" if length < self.size else ""
        text = tokenizer.decode(row["tokens"][:length].tolist(), skip_special_tokens=False)
        return [f"{length:,} tokens{padding}", text]


def codec_of(identity: dict[str, Any]) -> TokenCodec:
    """How the views of a view set of that identity are stored."""
    return TokenCodec(identity["size"], identity["vocabulary"])
