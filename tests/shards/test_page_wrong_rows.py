"""What the page looks at of target sets: rows of all views, at places all over a large one, and mistakes in them."""

from pathlib import Path

import caches
import numpy as np
import pytest
from trained_runs import Parsed, write_page

from shards.cache import ListedViewSet
from shards.page.wrong import look_at
from shards.page.wrong_rows import places_of_rows
from shards.reader import TargetSet, ViewSet


def test_the_surest_mistakes_of_all_rows_are_named_and_shown(full: Path) -> None:
    viewset, exact = ViewSet(caches.viewset_of(full)), TargetSet(caches.targetset_of(full, "float32"))
    mistakes: dict[tuple[int, int], float] = {}
    for view in range(2):
        rows = exact.read(view, viewset.usable)["values"].astype(np.float64)
        shares = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
        wrong = shares.argmax(1) != viewset.labels(view, viewset.usable.tolist())
        mistakes |= {(view, int(sample)): shares[sample].max() for sample in viewset.usable[wrong]}
    looked = look_at(ListedViewSet(viewset.folder))
    assert looked.mistakes.keys() == mistakes.keys() and len({sample for _, sample in looked.surest}) == len(
        looked.surest
    )
    first = max(mistakes, key=lambda cell: mistakes[cell])
    assert looked.surest[0] == first and looked.mistakes[first] == pytest.approx(mistakes[first], rel=1e-2)
    (told,) = (each for each in looked.findings if each.name == exact.folder.name and "likeliest" in each.what)
    key = viewset.plan.keys[first[1]]
    assert f"label in {1 - len(mistakes) / 80:.1%} of 80 rows; its surest mistakes" in told.what
    assert told.examples.startswith(f"{key} (label ") and f" at {mistakes[first]:.1%})" in told.examples
    named = [each.split(" ")[0] for each in told.examples.split("), ")]
    assert len(set(named)) == len(named) == 4
    assert [each.is_wrong for each in looked.findings if "codec error" in each.what] == [None, None]
    assert told.is_wrong is (True if len(mistakes) > 64 else None)
    captions = [each["alt"] for each in Parsed(write_page(full, "--num", "2")).of("img")]
    shown = [f"view of {viewset.plan.keys[sample]}" for _, sample in looked.surest[:2]]
    assert captions[:2] == ["view of digit-0025"] * 2 and captions[2:] == shown


def test_a_row_that_is_wrong_in_a_later_view_is_found(full: Path) -> None:
    exact = caches.targetset_of(full, "float32")
    (path,) = (each for each in exact.glob("values/c/1/1/*") if each.is_file() or each.is_dir())
    path = next(each for each in (path, *path.rglob("*")) if each.is_file())
    content = path.read_bytes()
    path.write_bytes(bytes(40) + content[40:])  # ten zeros: the first row of shard 1
    caches.reseal_records(exact, "targetset.json", path.relative_to(exact).as_posix())
    (told,) = (each for each in look_at(ListedViewSet(caches.viewset_of(full))).findings if "constant" in each.what)
    key = ViewSet(caches.viewset_of(full)).plan.keys[caches.SHARD_SIZE]
    assert told.what == "1 of 80 rows are constant" and told.examples == key


def test_what_is_no_number_is_no_mistake(full: Path) -> None:
    exact = caches.targetset_of(full, "float32")
    path = next(each for each in exact.rglob("values/c/1/1/**/*") if each.is_file())
    content = path.read_bytes()
    path.write_bytes(np.full(10, np.nan, "<f4").tobytes() + content[40:])  # the first row of shard 1
    caches.reseal_records(exact, "targetset.json", path.relative_to(exact).as_posix())
    looked = look_at(ListedViewSet(caches.viewset_of(full)))
    assert any("1 of 80 rows hold NaN" in each.what for each in looked.findings)
    assert np.isfinite([*looked.mistakes.values()]).all() and not any(
        "nan%" in each.examples for each in looked.findings
    )


def test_of_a_large_set_neighbours_at_places_all_over_it_are_read(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shards.page.wrong_rows.MOST_ROWS", 12)
    monkeypatch.setattr("shards.page.wrong_rows.NUM_SAMPLES", 4)
    viewset, exact = ViewSet(caches.viewset_of(full)), TargetSet(caches.targetset_of(full, "float32"))
    places = {view: samples.tolist() for view, samples in places_of_rows(viewset, exact)}
    assert places == {0: [5, 6, 7, 25, 26, 27], 1: [15, 16, 17, 35, 36, 37]}
    whats = [each.what for each in look_at(ListedViewSet(viewset.folder)).findings]
    assert "nothing in 12 of 80 rows" in whats and any("of 12 rows" in what for what in whats)
    monkeypatch.setattr("shards.page.wrong_rows._MOST_BYTES", 8 * exact.bytes_per_sample)
    assert [(view, len(samples)) for view, samples in places_of_rows(viewset, exact)] == [(0, 1)]
