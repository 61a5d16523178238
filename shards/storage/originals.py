"""Originals: the images of a view set that stores none (`store=none`), read from the data that it was made of.

Only a source reads data, so this module loads `extract` by name, when a view of such a view set is first read.
"""

import importlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from shards.documents import Plan
from shards.errors import BadInput, Damaged
from shards.identity import identity_hash
from shards.views.rendered import Pixels


class Reader(NamedTuple):
    """What the data say of a sample, by its index in the plan; BadInput where it cannot be read."""

    pixels: Callable[[int], Pixels]
    digest: Callable[[int], str]
    """Of its file and label, as view 0's commit record keeps it."""


_READERS: dict[tuple[Path, str], Reader] = {}
_OPENING = threading.Lock()
_given: list[tuple[str, str | None]] = []


def give(data: Sequence[tuple[str, str | None]]) -> None:
    """The originals of the view sets that this process reads are among the data that the user names, with copies of
    some, as --data and --data_dir do.
    """
    _given[:] = data


def original(folder: Path, plan: Plan, sample: int) -> Pixels:
    """The pixels of a sample's original image; the data is opened once a process, and where the user has named it.

    BadInput where only the cache names it, or it is gone; IdentityMismatch where it is other data now; Damaged where
    this image cannot be read.
    """
    reader = _reader(folder, plan)
    try:
        return reader.pixels(sample)
    except BadInput as error:
        raise Damaged(f"{folder}: the original of {plan.keys[sample]}: {error}; restore it, or extract again") from None


def digest(folder: Path, plan: Plan, sample: int) -> str:
    """Of the original that `original` reads, 16 hex digits, as view 0's commit record keeps them."""
    return _reader(folder, plan).digest(sample)


def _reader(folder: Path, plan: Plan) -> Reader:
    name = folder, identity_hash(plan.identity)
    with _OPENING:
        if name not in _READERS:
            opener = importlib.import_module("extract.modalities.rendered").original_reader
            _READERS[name] = opener(folder, plan, _given)
    return _READERS[name]
