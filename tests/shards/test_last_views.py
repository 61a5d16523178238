"""Last views: files of few views stay open, and of all that a batch reads."""

import contextlib
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from shards import last_views
from shards.errors import Damaged
from shards.last_views import LastViews, keep_views


@pytest.mark.parametrize(("count", "opened"), [(1, [0, 1, 2, 0, 1, 2]), (3, [0, 1, 2])])
def test_as_many_views_stay_open_as_a_batch_reads(
    count: int, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_views, "_views_kept", 2)
    keep_views(count)
    views, made = LastViews[str, int](), list[int]()

    def make(view: int, key: str) -> int:
        made.append(view)
        return view

    for view in (0, 1, 2, 0, 1, 2):
        assert views.get(view, "array", make) == view
    assert made == opened


@pytest.mark.parametrize("is_refused", [False, True])
def test_threads_that_ask_for_one_value_at_a_time_have_it_made_once(is_refused: bool) -> None:
    views, made, asked = LastViews[str, int](), list[int](), threading.Barrier(4)

    def make(view: int, key: str) -> int:
        made.append(view)
        time.sleep(0.2)  # the others ask meanwhile
        if is_refused:
            raise Damaged(f"view {view}: damaged")
        return view

    def ask(_: int) -> int | str:
        asked.wait()
        try:
            return views.get(7, "array", make)
        except Damaged as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == 4 * (["view 7: damaged"] if is_refused else [7])
    assert made == [7]
    with pytest.raises(Damaged) if is_refused else contextlib.nullcontext():
        views.get(7, "array", make)
    assert len(made) == (2 if is_refused else 1), "an error is no value: it may have been mended"


def test_an_error_keeps_nothing_of_what_was_read() -> None:
    read: list[weakref.ref[Content]] = []

    class Content:
        """As of a commit record."""

    def make(view: int, key: str) -> int:
        content = Content()
        read.append(weakref.ref(content))
        raise Damaged("damaged")

    gc.disable()  # it would hide a cycle, which keeps large content until its next turn
    try:
        with contextlib.suppress(Damaged):
            LastViews[str, int]().get(0, "array", make)
        assert [each() for each in read] == [None]
    finally:
        gc.enable()
