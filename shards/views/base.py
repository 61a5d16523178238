"""What a view codec says of one modality's views: the fields they are in memory, and how these are stored."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64
from PIL import Image

if TYPE_CHECKING:
    from shards.documents import Plan

Row = dict[str, np.ndarray]
"""One view's fields by name; of a batch each field has an axis more, the first."""
Members = dict[str, list[tuple[int, int]]]
"""For each ending (jpg, json, cls) the (offset, size) of each row's member, in bytes from the start of the tar."""


@runtime_checkable
class ViewCodec(Protocol):
    """One modality's views. A codec that inherits from this has the defaults that stand here."""

    modality: ClassVar[str]
    """What the view set's identity calls it (absent there: image)."""
    storage: ClassVar[str] = "tars"
    """How its shards lie on the disk: a name of `shards.views.STORAGE`."""
    has_alternatives: ClassVar[bool] = False
    """Whether a view stores several of which an epoch reads one, as an image's captions."""
    files: ClassVar[tuple[str, ...]] = ()
    """Files beside the plan that are needed to read the fields."""
    augmented: bool
    """Whether a view shows its sample changed at random, and so is not what an evaluation measures on."""
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

        `choice` is a number drawn from (key, epoch), for views that have alternatives.
        """
        ...


class ViewStorage(Protocol):
    """The shards of one view set's views on the disk: how extract packs them, and how everyone reads them back."""

    def __init__(
        self, folder: Path, plan: "Plan", codec: ViewCodec, num_views: int, checked: Callable[[str], Path]
    ) -> None:
        """`checked` gives the path of a file that is what a manifest or commit record says; Damaged else."""
        ...

    def metadata(self) -> dict[str, bytes]:
        """The files, by their paths in the view set, that describe the shards of `num_views` views together."""
        ...

    def check(self) -> None:
        """Raises Damaged where the files of `metadata` are not as they must be."""
        ...

    def store(self, row: Row, out: Row, facts: dict[str, Any]) -> dict[str, bytes]:
        """What `pack` needs of one view; `out` holds its fields as every reader will have them."""
        ...

    def pack(
        self, view: int, shard: int, fields: Row, contents: Sequence[dict[str, bytes] | None]
    ) -> tuple[dict[str, bytes | bytearray], Members | None]:
        """The files of one shard, by their paths, and where members lie in them; a None of `contents` was skipped."""
        ...

    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0) -> None:
        """Fill the first rows of `out` with the fields of `samples` (ascending plan indices); any thread may."""
        ...

    def labels(self, view: int, samples: Sequence[int]) -> Int64[np.ndarray, " count"]:
        """The class labels of `samples`."""
        ...

    def facts(self, view: int, sample: int) -> dict[str, Any]:
        """What is known of one view beside its fields."""
        ...

    def members(self, view: int, sample: int) -> dict[str, bytes]:
        """One view as the members of a WebDataset sample, by their endings."""
        ...
