"""Unseen: what a codec with codebooks loses of samples that trained none of them, kept beside them in one file.

Of the rows that trained it a codebook loses less than of all others. It is measured once, where the codebooks are
trained, and lies in the metadata of the file that holds these: files of before have none.
"""

from pathlib import Path

from msgspec import DecodeError, Struct, json
from safetensors import SafetensorError, safe_open

from shards.documents import Errors
from shards.errors import RESTORE, Damaged, one_line
from shards.records import Count

UNSEEN_SAMPLES, UNSEEN_SHARDS = 32, 4
"""At most so many samples of so many shards of view 0: where a source is sorted, neighbours are alike."""
_NAME = "unseen"


class Unseen(Struct, frozen=True):
    """What a codec loses of so many samples that it did not learn from."""

    samples: Count
    error: Errors

    def metadata(self) -> dict[str, str]:
        """As a file of tensors keeps it."""
        return {_NAME: json.encode(self, order="sorted").decode()}


def read_unseen(path: Path) -> Unseen | None:
    """What the file of statistics at `path` holds of it; None where all samples trained, and for other codecs.

    Damaged where it holds something else.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            kept = (file.metadata() or {}).get(_NAME)
        return None if kept is None else json.decode(kept, type=Unseen)
    except (SafetensorError, OSError, DecodeError, RecursionError) as error:
        raise Damaged(f"{path}: is damaged ({one_line(error)}); {RESTORE}") from None
