"""Bucket: how fast a store takes and gives, by temporary objects that are removed."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shards.bill.disk import DiskRates
from shards.bill.trial import TRIAL_PREFIX
from shards.errors import Damaged
from shards.identity import sha256_of
from shards.stores.base import IN_FLIGHT, Store

_SIZES = tuple(1000 << doublings for doublings in range(14))
"""Bytes of an object of each wave: from those of a small file up to 8 MB."""
_NAMES = [f"{TRIAL_PREFIX}{number}" for number in range(IN_FLIGHT)]
"""The same in every plan: what a plan leaves that is killed goes with the next one."""


def probe_store(store: Store, seconds: int | float) -> DiskRates:
    """The rates of the store with as many files in flight as an extraction sends, in about so many seconds.

    StoreUnavailable where nothing can be written.
    """

    def wave(work: Callable[[str], Any]) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            list(pool.map(work, _NAMES))
        return time.perf_counter() - start

    begun, small, taken, size = time.perf_counter(), 0.0, 0.0, 0
    try:
        for size in _SIZES:
            content = os.urandom(size)
            taken = wave(lambda name, content=content: store.put(name, content, sha256_of(content)))  # type: ignore[misc]
            small = small or taken
            if time.perf_counter() - begun + 3 * taken > seconds:
                break
        write = IN_FLIGHT * size / taken
        read = write
        with contextlib.suppress(Damaged):  # another plan has removed its own, which have the same names
            read = IN_FLIGHT * size / wave(store.get)
    finally:
        remove_trials(store, _NAMES)
    return DiskRates(write, read, small / IN_FLIGHT)


def remove_trials(store: Store, there: Iterable[str]) -> None:
    """Of what is `there`, no temporary object of a plan is left."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(store.remove, [name for name in there if name in _NAMES]))
