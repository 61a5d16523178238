"""Last views: the files of the few views that were read last stay open."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_views_kept = 2
"""Views that stay open: a kernel maps 65,530 files a process, and ImageNet has 2,502 shards a view."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep_views(count: int) -> None:
    """From now on so many views stay open in this process, and no fewer than before: a batch reads all of them."""
    global _views_kept
    _views_kept = max(_views_kept, count)


class LastViews(Generic[Key, Value]):
    """The tars or mapped arrays of the last few views that were read: all views would pass the kernel's limit.

    A thread that still reads from a dropped value keeps it open until it is done.
    """

    def __init__(self) -> None:
        self._views: dict[int, dict[Key, Value]] = {}
        self._lock = threading.Lock()
        self._making: dict[tuple[int, Key], Future[Value]] = {}

    def keys(self, view: int) -> set[Key]:
        """What is there of one view."""
        return set(self._views.get(view, ()))

    def get(self, view: int, key: Key, make: Callable[[int, Key], Value]) -> Value:
        """The value under `key` of one view, else made now, and the view that came first dropped for it.

        Threads that ask for it at a time have what the first of them makes, or its error; other values are made
        meanwhile.
        """
        try:
            return self._views[view][key]
        except KeyError:
            own = Future[Value]()
            made = self._making.setdefault((view, key), own)
            if made is not own:
                return made.result()
        try:
            made.set_result(make(view, key))
            with self._lock:
                if view not in self._views and len(self._views) >= _views_kept:
                    del self._views[next(iter(self._views))]
                return self._views.setdefault(view, {}).setdefault(key, made.result())
        except BaseException as error:
            if not made.done():
                made.set_exception(error)
            raise
        finally:
            del self._making[view, key], made, own  # an error that they hold holds this frame, with all that was read
