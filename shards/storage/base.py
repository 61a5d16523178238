"""What a storage does: it packs the shards of a view set's views for the disk, and reads them back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64

from shards.checked import CheckedFiles
from shards.documents import Plan
from shards.rows import Checksums
from shards.tar import Members
from shards.views.base import Row, ViewCodec

Fetched = dict[tuple[int, str], bytes]
"""Contents of members that were read ahead, by sample and ending."""


class ViewStorage(ABC):
    """The shards of one view set's views on the disk: how extract packs them, and how everyone reads them back."""

    rows_a_task: ClassVar[int] = 8
    """Views that a thread decodes at a time."""
    needs_first: ClassVar[bool] = False
    """Whether a further view's shard is read with view 0's."""

    @abstractmethod
    def __init__(self, folder: Path, plan: Plan, codec: ViewCodec, num_views: int, checked: CheckedFiles) -> None:
        """`checked` has the files as a manifest or commit record says that they are; Damaged else."""

    @abstractmethod
    def metadata(self) -> dict[str, bytes]:
        """The files, by their paths in the view set, that describe the shards of `num_views` views together."""

    @abstractmethod
    def check(self) -> None:
        """Raises Damaged where the files of `metadata` are not as they must be."""

    @abstractmethod
    def store(self, row: Row, out: Row, facts: dict[str, Any]) -> dict[str, bytes]:
        """What `pack` needs of one view; `out` holds its fields as every reader will have them."""

    @abstractmethod
    def pack(
        self, view: int, shard: int, fields: Row, contents: Sequence[dict[str, bytes] | None]
    ) -> tuple[dict[str, bytes | bytearray], Members | None]:
        """The files of one shard, by their paths, and where members lie in them; a None of `contents` was skipped."""

    @abstractmethod
    def checksums(
        self, view: int, shard: int, files: Mapping[str, bytes | bytearray], members: Members | None
    ) -> Checksums:
        """Of what `pack` gave, the crc32c of each row."""

    def fetch(
        self, view: int, samples: Sequence[int], labels: bool = False, requests: Executor | None = None
    ) -> Fetched | None:
        """What `read`, and `labels`, need of `samples`, read with many requests in flight; None: they read alone."""
        return None

    @abstractmethod
    def read(self, view: int, samples: Sequence[int], out: Row, epoch: int = 0, fetched: Fetched | None = None) -> None:
        """Fill the first rows of `out` with the fields of `samples` (ascending plan indices); any thread may."""

    @abstractmethod
    def labels(self, view: int, samples: Sequence[int], fetched: Fetched | None = None) -> Int64[np.ndarray, " count"]:
        """The class labels of `samples`."""

    @abstractmethod
    def facts(self, view: int, sample: int) -> dict[str, Any]:
        """What is known of one view beside its fields."""

    @abstractmethod
    def members(self, view: int, samples: Sequence[int], requests: Executor | None = None) -> list[dict[str, bytes]]:
        """Each view as the members of a WebDataset sample, by their endings; read together, as by `fetch`."""
