"""Reader: any view of any samples by random access, equal to what the files hold, from any number of threads."""

import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from caches import NUM_SAMPLES, NUM_SHARDS, SMALL, extract, targetset_of, viewset_of
from hypothesis import given
from hypothesis import strategies as st

from shards.arrays import typed
from shards.errors import BadInput, Damaged
from shards.reader import TargetSet, ViewSet, check_pair


def test_every_member_is_the_tars(pristine: Path) -> None:
    folder = viewset_of(pristine)
    views = ViewSet(folder)
    for view in (1, 0):
        for shard in range(NUM_SHARDS):
            with tarfile.open(folder / f"views/v{view:02d}-{shard:05d}.tar") as tar:
                held = {header.name: tar.extractfile(header).read() for header in tar}  # type: ignore[union-attr]
            for sample in views.plan.rows(shard):
                for ending in ("jpg", "json", "cls"):
                    assert views.storage.content(view, sample, ending) == held.pop(
                        f"{views.plan.keys[sample]}.{ending}"
                    )
            assert not held


def test_the_facts_beside_a_view_are_true(pristine: Path) -> None:
    views = ViewSet(viewset_of(pristine))
    facts = json.loads(views.storage.content(1, 20, "json"))
    left, top, width, height = facts["crop"]
    assert facts["key"] == views.plan.keys[20] and facts["view"] == 1 and facts["size"] == [8, 8]
    assert left >= 0 and top >= 0 and left + width <= 8 and top + height <= 8
    assert str(facts["label"]).encode() == views.storage.content(1, 20, "cls")


@given(st.sets(st.integers(0, NUM_SAMPLES - 1), min_size=1), st.integers(0, 1))
def test_rows_are_those_of_zarr_python(pristine: Path, chosen: set[int], view: int) -> None:
    folder = targetset_of(pristine)
    samples = np.array(sorted(chosen))
    stored = zarr.open_group(str(folder), mode="r")["values"]
    read = TargetSet(folder).read(view, samples)["values"]
    np.testing.assert_array_equal(read, stored.oindex[view, samples])  # type: ignore[union-attr]
    assert read.dtype == np.float32


def test_rows_of_no_sample_are_none(pristine: Path) -> None:
    assert TargetSet(targetset_of(pristine)).read(0, np.array([], np.int64))["values"].shape == (0, 10)


def test_gather_fills_the_buffers_given_and_no_more(pristine: Path) -> None:
    targets = TargetSet(targetset_of(pristine))
    spec = targets.arrays["values"]
    buffer = np.full((5, spec.row_bytes), 7, np.uint8)
    samples = np.array([3, 17, 39])
    targets.gather(0, samples, {"values": buffer[:3]})
    np.testing.assert_array_equal(typed(buffer[:3], spec), targets.read(0, samples)["values"])
    assert (buffer[3:] == 7).all()


@pytest.mark.parametrize(("view", "samples"), [(2, [0]), (-1, [0]), (0, [-1, 3]), (0, [NUM_SAMPLES])])
def test_rows_that_are_not_there_are_refused(pristine: Path, view: int, samples: list[int]) -> None:
    with pytest.raises(BadInput, match="is not in it"):
        TargetSet(targetset_of(pristine)).read(view, np.array(samples))


def test_a_view_that_is_not_there_is_refused(pristine: Path) -> None:
    with pytest.raises(BadInput, match="has 2 views, asked for view 2; extract more with --views"):
        ViewSet(viewset_of(pristine)).storage.content(2, 0, "jpg")


def test_a_member_that_no_sample_has_is_refused(pristine: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.txt .*its endings are cls, jpg, json"):
        ViewSet(viewset_of(pristine)).storage.content(0, 0, "txt")


def test_threads_read_what_one_reads(pristine: Path) -> None:
    alone, shared = ViewSet(viewset_of(pristine)), ViewSet(viewset_of(pristine))
    targets, several = TargetSet(targetset_of(pristine)), TargetSet(targetset_of(pristine))
    places = [(view, sample) for sample in range(NUM_SAMPLES) for view in range(2)] * 2

    def read(views: ViewSet, rows: TargetSet, place: tuple[int, int]) -> tuple[bytes, bytes]:
        view, sample = place
        return views.storage.content(view, sample, "jpg"), rows.read(view, np.array([sample]))["values"].tobytes()

    expected = [read(alone, targets, place) for place in places]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: read(shared, several, place), places)) == expected


def test_a_target_set_belongs_to_its_view_set(pristine: Path, tmp_path: Path, teacher: Path) -> None:
    check_pair(ViewSet(viewset_of(pristine)), TargetSet(targetset_of(pristine)))
    flags = ("--data", "digits", "--limit", "8", "--image_size", "16", "--augment", "crop:seed=9")
    extract("--teacher", "none", "--out", tmp_path / "other", *flags)
    with pytest.raises(Damaged, match=r"was made from view set .* extract it again"):
        check_pair(ViewSet(viewset_of(tmp_path / "other")), TargetSet(targetset_of(pristine)))


def test_views_that_are_no_longer_read_give_their_tars_back(tmp_path: Path) -> None:
    """While threads read all views at once: what is known of each tar's members takes memory."""
    extract("--teacher", "none", "--out", tmp_path, *SMALL, "--views", "5")
    folder = viewset_of(tmp_path)
    places = [(view, sample) for view in range(5) for sample in range(NUM_SAMPLES)]
    expected = [ViewSet(folder).storage.content(view, sample, "json") for view, sample in places]
    views = ViewSet(folder)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: views.storage.content(*place, "json"), places * 3)) == expected * 3
    for view in range(5):
        views.storage.content(view, 0, "json")
    descriptors = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]  # noqa: PTH115
    assert sum(name.startswith(str(folder)) for name in descriptors) <= 2 * NUM_SHARDS


def test_skipped_samples_are_not_usable_and_hold_nothing(tmp_path: Path, teacher: Path) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for name, colour in (("a", "red"), ("c", "blue")):
        Image.new("RGB", (9, 9), colour).save(photos / f"{name}.png")
    (photos / "b.png").write_bytes(b"no image")
    flags = ("--data", f"folder:{photos}", "--augment", "crop", "--shard_size", "2", "--on_error", "skip")
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *flags)
    views = ViewSet(viewset_of(tmp_path / "cache"))
    assert views.manifest.skipped == ["b"] and views.usable.tolist() == [0, 2]
    assert not views.labelled
    with pytest.raises(BadInput, match=r"b has no \.jpg: it was skipped by extract"):
        views.storage.content(0, 1, "jpg")
    with Image.open(io.BytesIO(views.storage.content(0, 2, "jpg"))) as image:
        red, _, blue = image.convert("RGB").getpixel((8, 8))  # type: ignore[misc]
    assert blue > 200 and red < 50  # row 2 is c, although only two members are stored
