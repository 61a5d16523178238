"""What a view codec does: how one modality's views lie in a tar, and the fields they are in memory."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

Row = dict[str, np.ndarray]
"""One view's fields by name; of a batch each field has an axis more, the first."""


@runtime_checkable
class ViewCodec(Protocol):
    """A pair of functions between a view's fields and the members stored for it in a WebDataset tar."""

    modality: str
    """What the view set's identity calls it (absent there: image)."""
    fields: dict[str, tuple[str, tuple[int, ...]]]
    """Each field's data type and one view's shape."""
    endings: tuple[str, ...]
    """The members, by their endings, that `decode` reads."""

    augmented: bool
    """Whether a view shows its sample changed at random, and so is not what an evaluation measures on."""
    has_alternatives: bool
    """Whether a view stores several of which an epoch reads one, as an image's captions."""

    def encode(self, row: Row) -> dict[str, bytes]:
        """The members of one view, by their endings; equal fields give equal bytes."""
        ...

    def decode(self, members: Mapping[str, bytes], out: Row, choice: int = 0) -> None:
        """Fill `out` with one view's fields; Damaged where the members hold none. Releases the interpreter lock.

        `choice` is a number drawn from (key, epoch), for views that have alternatives.
        """
        ...

    def picture(self, row: Row) -> Image.Image:
        """The view as a person is to see it on a contact sheet."""
        ...

    def caption(self, facts: dict[str, Any]) -> list[str]:
        """What the facts stored beside a view (its .json) say, in lines for its caption."""
        ...
