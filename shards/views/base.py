"""What a view codec says of one modality's views: the fields they are in memory, and how these are stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from PIL import Image

Row = dict[str, np.ndarray]
"""One view's fields by name; of a batch each field has an axis more, the first."""


@runtime_checkable
class ViewCodec(Protocol):
    """One modality's views. A codec that inherits from this has the defaults that stand here."""

    modality: ClassVar[str]
    """What the view set's identity calls it (absent there: image)."""
    storage: ClassVar[str] = "tars"
    """How its shards lie on the disk: a name of `shards.storage.REGISTRY`."""
    feeds: ClassVar[frozenset[str]] = frozenset()
    """The modalities of the inputs that its views feed, beside its own: an image with captions feeds an image's."""
    draws: int | None = None
    """The seed with which an epoch reads one of the alternatives that a view stores, as an image's captions; None:
    nothing is drawn."""
    files: ClassVar[tuple[str, ...]] = ()
    """Files beside the plan that are needed to read the fields."""
    augmented: bool
    """Whether a view shows its sample changed at random, and so is not what an evaluation measures on."""
    num_masked: int = 0
    """The most tokens of a view that are hidden from the network: where there are some, --keep_tokens keeps these."""
    keeps_sources: ClassVar[bool] = False
    """Whether the view set holds the samples that further views are made of."""
    vocabulary: Any = None
    """What gives the numbers in the fields their meaning; None where that is fixed, as of pixels."""

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Each field's data type and one view's shape."""
        ...

    def picture(self, row: Row) -> Image.Image | None:
        """The view as a person is to see it on a contact sheet; None where it is to be read."""
        ...

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """What a view and the facts stored beside it say, in lines; `folder` is the view set's."""
        ...


@runtime_checkable
class MemberCodec(ViewCodec, Protocol):
    """A codec of views that lie in tars: a pair of functions between the fields and the members of a WebDataset tar."""

    @property
    def endings(self) -> tuple[str, ...]:
        """The members, by their endings, that `decode` reads."""
        ...

    def encode(self, row: Row) -> dict[str, bytes]:
        """The members of one view, by their endings; equal fields give equal bytes."""
        ...

    def decode(self, members: Mapping[str, bytes], out: Row, choice: int = 0) -> None:
        """Fill `out` with one view's fields; Damaged where the members hold none. Releases the interpreter lock.

        `choice` is a number drawn from (seed, key, epoch), for a codec that draws.
        """
        ...
