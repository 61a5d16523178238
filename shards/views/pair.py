"""Pairs: a view is an image with all its captions; the captions are stored as text and tokenised when they are read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from shards.errors import Damaged
from shards.views.base import Row
from shards.views.image import CHECKS as IMAGE_CHECKS
from shards.views.image import PixelCodec

CAPTIONS = "captions"
"""The list of texts among the facts, in a view's .json."""
MAX_CAPTIONS = 64
"""The most that a view may have."""
CHECKS = IMAGE_CHECKS | {CAPTIONS: lambda value: type(value) is int and 1 <= value <= MAX_CAPTIONS}
"""What the identity of a view set of pairs must hold."""

TokenRows = Callable[[list[str]], Row]
"""Of captions the `tokens` (captions, size), padded, and `length` (captions,), how many of them are no padding."""


@dataclass(frozen=True)
class Captions:
    """How captions are read: by whose tokenizer, and how many of a view."""

    size: int
    """Tokens a caption."""
    dtype: str
    token_rows: TokenRows = field(repr=False)
    most: int | None = None
    """None: one caption, drawn; a number: all of them, as many at most."""

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`tokens` (size,), `length` () and `caption` (), which of the captions it is; of all (most, size), (most,)."""
        if self.most is not None:
            return {"tokens": (self.dtype, (self.most, self.size)), "length": ("uint16", (self.most,))}
        return {"tokens": (self.dtype, (self.size,)), "length": ("uint16", ()), "caption": ("uint16", ())}

    def fill(self, texts: list[str], out: Row, choice: int) -> None:
        """Token ids of one of `texts`, or of all of them; a length of 0 where there are no more."""
        if self.most is None:
            out["caption"][...] = choice % len(texts)
            rows = self.token_rows([texts[choice % len(texts)]])
            out["tokens"][...], out["length"][...] = rows["tokens"][0], rows["length"][0]
            return
        rows = self.token_rows(texts[: self.most])
        for name in ("tokens", "length"):
            out[name][: len(rows[name])], out[name][len(rows[name]) :] = rows[name], 0


@dataclass(frozen=True)
class CaptionCount:
    """How many captions there are, for whoever reads rows of them from a target set."""

    most: int

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`captions` ()."""
        return {CAPTIONS: ("uint16", ())}

    def fill(self, texts: list[str], out: Row, choice: int) -> None:
        """Their number."""
        out[CAPTIONS][...] = len(texts)


@dataclass(frozen=True)
class PairCodec(PixelCodec):
    """Pixels as one member, `.jpg` or `.png`, and the captions in the view's `.json`.

    Its fields are `pixels` until somebody says how captions are read (`reading`).
    """

    most: int = 1
    """Captions that a view has at most."""
    captions: Captions | CaptionCount | None = None
    with_pixels: bool = True
    draws: int | None = None
    modality: ClassVar[str] = "pair"
    feeds: ClassVar[frozenset[str]] = frozenset({"image"})

    def reading(self, captions: Captions | CaptionCount, with_pixels: bool = True, seed: int = 0) -> "PairCodec":
        """The same views, their captions read as `captions` says; one caption is drawn from (seed, key, epoch)."""
        return replace(self, captions=captions, with_pixels=with_pixels, draws=seed if captions.most is None else None)

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`pixels`, and those of the captions."""
        pixels = super().fields if self.with_pixels else {}
        return pixels if self.captions is None else pixels | self.captions.fields

    @property
    def endings(self) -> tuple[str, ...]:
        """The members that are read."""
        pixels = super().endings if self.with_pixels else ()
        return pixels if self.captions is None else (*pixels, "json")

    def decode(self, members: Mapping[str, bytes], out: Row, choice: int = 0) -> None:
        """Decode the pixels, and tokenise; Damaged where a member is not what it must be."""
        if self.with_pixels:
            super().decode(members, out)
        if self.captions is not None:
            self.captions.fill(texts_of(members["json"]), out, choice)

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """What an image's view says, and the captions."""
        return [*super().caption(row, facts, folder), *_checked(facts)]


def texts_of(content: bytes) -> list[str]:
    """The captions in a view's .json, one at least; Damaged where there are none."""
    try:
        facts = json.loads(content)
    except ValueError:
        facts = None
    return _checked(facts)


def _checked(facts: Any) -> list[str]:
    texts = facts.get(CAPTIONS) if isinstance(facts, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Damaged("a stored view has no captions in its .json")
    return texts


def codec_of(identity: dict[str, Any]) -> PairCodec:
    """How the views of a view set of that identity are stored."""
    drawn = identity["augment"].get("kind") != "resize"
    return PairCodec(identity["image_size"], identity["image_format"], drawn, most=identity[CAPTIONS])
