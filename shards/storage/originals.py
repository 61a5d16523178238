"""Originals: the images of a view set that stores none (`store=none`), read from the data that it was made of.

Only a source reads data, so this module loads `extract` by name, when a view of such a view set is first read.
"""

import importlib
import threading
from collections.abc import Callable
from pathlib import Path

from shards.documents import Plan
from shards.identity import identity_hash
from shards.views.rendered import Pixels

_READERS: dict[tuple[Path, str], Callable[[int], Pixels]] = {}
_OPENING = threading.Lock()


def original(folder: Path, plan: Plan, sample: int) -> Pixels:
    """The pixels of a sample's original image; the data is opened once a process.

    BadInput where it is gone, IdentityMismatch where it is other data now.
    """
    name = folder, identity_hash(plan.identity)
    with _OPENING:
        if name not in _READERS:
            _READERS[name] = importlib.import_module("extract.modalities.rendered").original_reader(folder, plan)
    return _READERS[name](sample)
