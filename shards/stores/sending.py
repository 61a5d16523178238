"""Sending: how long a request may be silent while it sends, and how many send at a time."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from obstore.exceptions import BaseError

from shards.stores.base import IN_FLIGHT
from shards.stores.failures import stood_still

USUAL, SLOWEST = 4_000_000, 100_000
"""Bytes a second of a line: what is given time for at first, and once that was not enough."""
PART_BYTES, PARTS = 5 << 20, 12
"""Of a large file, and how many of them are sent at a time."""
Result = TypeVar("Result")


class Sending:
    """What is sent to one store. A request is silent until all of it has been sent; any thread may send.

    At first IN_FLIGHT files share the line, PARTS of each at a time, and have the time that this takes on a USUAL line.
    Once one is silent for longer, files go one after the other, a part at a time, each with the time that it alone
    takes on the SLOWEST line: so a server that stands still is told from a slow line soon. Until a file goes fast.
    """

    def __init__(self, connect: Callable[[float], Any], least_s: float) -> None:
        """`connect` gives the store whose requests may be silent so many seconds, `least_s` at least."""
        self._connect, self._least_s = connect, least_s
        self._is_slow, self._turn = False, threading.Lock()
        self._failed: tuple[float, BaseError] | None = None

    def send(self, put: Callable[[Any, int], Result], num_bytes: int, in_parts: bool) -> Result:
        """What `put` gives of a store and a number of parts, for a file that goes `in_parts` or in one request."""
        together = min(num_bytes, PART_BYTES * PARTS) if in_parts else num_bytes
        if together * IN_FLIGHT <= SLOWEST * self._least_s:
            return put(self._connect(self._least_s), PARTS)
        if not self._is_slow:
            try:
                return put(self._within(together * IN_FLIGHT / USUAL), PARTS)
            except BaseError as error:
                if not stood_still(error):
                    raise
                self._is_slow = True
        return self._in_turn(put, num_bytes, min(num_bytes, PART_BYTES) if in_parts else num_bytes)

    def _in_turn(self, put: Callable[[Any, int], Result], num_bytes: int, request_bytes: int) -> Result:
        asked = time.monotonic()
        with self._turn:
            if self._failed is not None and self._failed[0] > asked:  # it stands still for all who waited
                raise self._failed[1]
            began = time.monotonic()
            try:
                result = put(self._within(request_bytes / SLOWEST), 1)
            except BaseError as error:
                if stood_still(error):
                    self._failed = time.monotonic(), error
                raise
            self._is_slow = num_bytes < USUAL * (time.monotonic() - began)
            return result

    def _within(self, silence_s: float) -> Any:
        at_least = self._least_s
        while at_least < silence_s:  # few different ones: each has connections of its own
            at_least *= 2
        return self._connect(at_least)
