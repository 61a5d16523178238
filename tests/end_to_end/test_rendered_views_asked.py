"""Asking for views without pixels: what makes no sense is refused in a line, and each split is stored as it asks."""

import shutil
from pathlib import Path

import pytest
from caches import command, extract
from PIL import Image
from test_rendered_views import SIZE, VIEW, write_photos

from shards.reader import ViewSet


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("rendered") / "photos")


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("crop:store=pixels", "store: expected view, source or none, found 'pixels'"),
        ("crop:store=none,source_size=32", "source_size is of store=source alone"),
        ("crop:size=16,store=source,source_size=12", "source_size=12 is smaller than the views' 16 pixels"),
        ("crop:size=16,store=source,source_size=many", "source_size: expected 16 to"),
        ("crop:size=16,source_size=32", "source_size is of store=source alone"),
        ("resize:store=source", "a resize has one view a sample"),
        ("crop:interpolation=nearest", "interpolation=NAME (bicubic, bilinear, linear_exact)"),
        ("crop:interpolation=linear_exact", "is not antialiased: it is of images that are kept at most 2 times as"),
        ("crop:interpolation=linear_exact,store=none", "give size=224,store=source,source_size=448 or less"),
        ("crop:size=16,interpolation=linear_exact,store=source", "size=16,store=source,source_size=32 or less"),
        ("crop:size=16,interpolation=linear_exact,store=source,source_size=33", "interpolation=bilinear"),
    ],
)
def test_what_makes_no_sense_is_refused(photos: Path, tmp_path: Path, view: str, words: str) -> None:
    flags = ("--teacher", "none", "--data", f"folder:{photos}", "--view", view, "--devices", "cpu")
    command("extract", *flags, "--out", tmp_path / "cache").refuses("--view", words)
    assert not (tmp_path / "cache").exists()


def test_an_image_too_large_to_be_kept_is_named_or_skipped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the photos are; the bound is lowered, for one above the real one takes a gigabyte."""
    sizes = sorted(Image.open(path).width * Image.open(path).height for path in photos.rglob("*.png"))
    assert sizes[0] < sizes[-1]
    monkeypatch.setattr("extract.modalities.rendered.MAX_PIXELS", sizes[0])
    view = f"crop:size={SIZE},store=source,source_size=64"
    flags = ("--teacher", "none", "--data", f"folder:{photos}", "--view", view, "--devices", "cpu")
    told = command("extract", *flags, "--out", tmp_path / "one")
    told.refuses("would be kept as", "give a smaller source_size", "--on_error skip")
    assert " skipped: " in extract(*flags, "--out", tmp_path / "two", "--on_error", "skip").out


def test_pairs_are_stored_as_pixels(photos: Path, tmp_path: Path) -> None:
    flags = ("--teacher", "none", "--data", f"folder:{photos}", "--view", "pair:size=16,scale=0.2-1,store=source")
    command("extract", *flags, "--out", tmp_path / "cache").refuses("store= is of images without captions")


def test_the_other_split_is_stored_as_its_own_views_ask(tmp_path: Path) -> None:
    """One view of whole images is of pixels, at their own quality; crops are kept as the training split's."""
    photos, cache = write_photos(tmp_path / "photos", 6), tmp_path / "cache"
    shutil.copytree(photos / "train", photos / "val")
    flags = ("--teacher", "none", "--out", cache, "--data", f"folder:{photos}", "--devices", "cpu")
    extract(*flags, "--view", VIEW)
    for view, stored, quality in (
        (f"resize:size={SIZE}", None, 95),
        ("crop", {"kind": "source", "source_size": 24}, 90),
    ):
        extract(*flags, "--split", "val", "--view", view)
        (folder,) = (path.parent for path in cache.glob("*/viewset.json") if "-train-" not in path.parent.name)
        identity = ViewSet(folder).identity
        assert identity.get("store") == stored and identity["image_format"]["quality"] == quality
        assert identity["image_size"] == SIZE
        shutil.rmtree(folder)
