"""Last views: files of few views stay open, and of all that a batch reads."""

import pytest

from shards import last_views
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
