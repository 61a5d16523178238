"""Images that cannot be decoded: the run stops at them by name, or skips them and says so."""

from pathlib import Path

import numpy as np
from caches import command, extract, targetset_of, viewset_of
from PIL import Image
from test_pipeline import of_photos, photos

from shards.reader import TargetSet, ViewSet


def test_an_image_that_cannot_be_decoded_stops_the_run_by_name(tmp_path: Path, teacher: Path) -> None:
    source = photos(tmp_path / "photos", bad="e")
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *of_photos(source))
    command("extract", *flags).refuses("sample e cannot be decoded", "repair or remove it")
    assert not list((tmp_path / "cache").rglob("v00-00001*"))  # nothing of its shard is committed
    assert list((tmp_path / "cache").rglob("v00-00000.tar"))  # and what was committed before it stays
    assert not list((tmp_path / "cache").rglob("*set.json"))


def test_where_nothing_was_committed_nothing_is_left_and_the_mended_source_is_taken(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", bad="b")
    flags = ("--teacher", "none", "--out", tmp_path / "cache", *of_photos(source))
    command("extract", *flags).refuses("sample b cannot be decoded", "--on_error skip")
    assert not (tmp_path / "cache").exists()
    Image.new("RGB", (12, 12)).save(source / "b.png")
    extract(*flags)


def test_an_image_that_cannot_be_decoded_is_skipped_by_name_where_that_was_asked_for(
    tmp_path: Path, teacher: Path
) -> None:
    source = photos(tmp_path / "photos", bad="e")
    flags = ("--teacher", f"run:{teacher}", *of_photos(source), "--codec", "float32", "--views", "2")
    done = extract(*flags, "--out", tmp_path / "cache", "--on_error", "skip")
    assert "1 sample skipped: e" in done.out
    views, targets = ViewSet(viewset_of(tmp_path / "cache")), TargetSet(targetset_of(tmp_path / "cache"))
    assert views.manifest.skipped == ["e"] and views.usable.tolist() == [0, 1, 2, 3, 5]
    # the others are what they are without it; the row of the skipped one says nothing
    whole = photos(tmp_path / "whole")
    extract(*flags[:2], *of_photos(whole), "--codec", "float32", "--views", "2", "--out", tmp_path / "direct")
    expected = TargetSet(targetset_of(tmp_path / "direct"))
    for view in range(2):
        rows, direct = (one.read(view, np.arange(6))["values"] for one in (targets, expected))
        np.testing.assert_allclose(rows[views.usable], direct[views.usable], rtol=1e-4, atol=1e-5)
        assert not rows[4].any()


def test_a_shard_of_nothing_but_skipped_images_is_committed(tmp_path: Path, teacher: Path) -> None:
    source = photos(tmp_path / "photos")
    for name in "abcd":
        (source / f"{name}.png").write_bytes(b"no image")
    flags = ("--teacher", f"run:{teacher}", *of_photos(source), "--on_error", "skip", "--out", tmp_path / "cache")
    extract(*flags)
    assert ViewSet(viewset_of(tmp_path / "cache")).usable.tolist() == [4, 5]
    assert "0 views made, 0 teacher forwards" in extract(*flags).out
