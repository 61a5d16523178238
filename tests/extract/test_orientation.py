"""Orientation: a photo is cached as people see it, unless its view set was begun when photos were cached as stored."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from caches import command, contents, extract, reseal, viewset_of
from PIL import ExifTags, Image, ImageOps

from extract.modalities.crop import Augment, draw, render
from extract.modalities.draws import Uniform
from extract.sources import open_source
from shards.commit import write_sealed
from shards.documents import Plan
from shards.layout import viewset_name
from shards.reader import ViewSet


def photo(orientation: int, seed: int = 0, kind: str = "PNG") -> bytes:
    """Noise of 9 x 6 stored pixels, to be turned as `orientation` says."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, kind, exif=exif)
    return stream.getvalue()


def photos(folder: Path) -> Path:
    folder.mkdir()
    for seed, orientation in enumerate((1, 6, 8, 3)):
        (folder / f"{seed}.png").write_bytes(photo(orientation, seed))
    return folder


def flags(folder: Path | str, cache: Path) -> tuple[str | Path, ...]:
    size = ("--image_size", "8", "--image_format", "png", "--shard_size", "2")
    return ("--teacher", "none", "--data", f"folder:{folder}", *size, "--out", cache)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_set_upright_as_pillow_does(tmp_path: Path, orientation: int, kind: str) -> None:
    (tmp_path / "0.png").write_bytes(photo(orientation, kind=kind))
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "0.png"))
    found = open_source(f"folder:{tmp_path}", "train").read(0).image
    assert found.size == ((9, 6) if orientation < 5 else (6, 9))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_an_unknown_orientation_turns_nothing(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(photo(77))
    assert open_source(f"folder:{tmp_path}", "train").read(0).image.size == (9, 6)


def test_a_crop_refers_to_the_upright_photo(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    extract(*flags(source, tmp_path / "cache"))
    views = ViewSet(viewset_of(tmp_path / "cache"))
    assert views.identity["orientation"] == "upright"
    for sample, key in enumerate(views.plan.keys):
        upright = ImageOps.exif_transpose(Image.open(source / f"{key}.png"))
        box, flip = draw(Augment("crop"), *upright.size, Uniform(0, key, 0))
        facts = json.loads(views.storage.content(0, sample, "json"))
        assert (facts["crop"], facts["flip"], facts["size"]) == ([*box], flip, [*upright.size])
        stored = Image.open(io.BytesIO(views.storage.content(0, sample, "png")))
        np.testing.assert_array_equal(np.asarray(stored), render(upright, box, flip, 8))


@pytest.mark.parametrize("path", ["photos", "./photos"])
def test_a_view_set_that_was_begun_as_stored_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Resumed and grown, also where the source is named in another way than when it was begun."""
    monkeypatch.chdir(tmp_path)
    source = photos(tmp_path / "photos")
    extract(*flags("photos", tmp_path / "new"))
    plan = Plan.read(viewset_of(tmp_path / "new"))
    identity = {name: value for name, value in plan.identity.items() if name != "orientation"}
    begun = tmp_path / "cache" / viewset_name(identity["source"], identity["split"], identity)
    write_sealed(begun / "plan.json", plan.document() | {"identity": identity})
    (begun / "extract.yaml").write_bytes(b"")
    for num_views in (1, 2):
        extract(*flags(path, tmp_path / "cache"), "--views", str(num_views))
    assert viewset_of(tmp_path / "cache") == begun
    views = ViewSet(begun)
    for view in range(2):
        for sample, key in enumerate(views.plan.keys):
            box, flip = draw(Augment("crop"), 9, 6, Uniform(0, key, view))
            stored = Image.open(io.BytesIO(views.storage.content(view, sample, "png")))
            as_stored = Image.open(source / f"{key}.png")
            np.testing.assert_array_equal(np.asarray(stored), render(as_stored, box, flip, 8))
    extract(*flags(path, tmp_path / "cache"), "--views", "1")  # takes nothing away
    assert ViewSet(begun).num_views == 2
    fields = ["checksums", "files", "format", "kind", "members", "sha256", "shard", "skipped", "view"]
    assert all(sorted(json.loads(path.read_bytes())) == fields for path in (begun / "commits").iterdir())


def test_digits_have_no_orientation(cache: Path) -> None:
    assert "orientation" not in ViewSet(viewset_of(cache)).identity


def negative(path: Path) -> None:
    """The same file, but for each pixel's value: as many bytes."""
    data = bytearray(path.read_bytes())
    with Image.open(path) as image:
        Image.fromarray(255 - np.asarray(image)).save(path)
    assert path.stat().st_size == len(data)


def bitmaps(folder: Path) -> Path:
    folder.mkdir()
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.bmp")
    return folder


def test_a_source_replaced_by_another_of_equal_sizes_is_refused_before_work_starts(tmp_path: Path) -> None:
    source = bitmaps(tmp_path / "photos")
    extract(*flags(source, tmp_path / "cache"))
    before = contents(tmp_path / "cache")
    for path in source.iterdir():
        negative(path)
    refused = command("extract", *flags(source, tmp_path / "cache"), "--views", "2")
    refused.refuses(f"--data folder:{source}: sample 0 is another image, text or label than the one in view 0", "--out")
    assert refused.out == "" and contents(tmp_path / "cache") == before


def test_a_source_replaced_while_a_view_was_half_made_is_refused(tmp_path: Path) -> None:
    source, cache = bitmaps(tmp_path / "photos"), tmp_path / "cache"
    extract(*flags(source, cache))
    folder = viewset_of(cache)
    for name in ("viewset.json", "commits/v00-00002.json", "views/v00-00002.tar"):
        (folder / name).unlink()
    for path in source.iterdir():
        negative(path)
    command("extract", *flags(source, cache)).refuses("sample 0 is another image")


def test_a_single_replaced_sample_is_refused_before_its_shard_is_committed(tmp_path: Path) -> None:
    source, cache = tmp_path / "photos", tmp_path / "cache"
    source.mkdir()
    for seed in range(40):
        Image.fromarray(np.full((6, 6, 3), seed, np.uint8)).save(source / f"{seed:02d}.bmp")
    words = [*flags(source, cache), "--on_error", "skip"]  # which is for images, not for another source
    words[words.index("--shard_size") + 1] = "20"
    extract(*words)
    negative(source / "39.bmp")
    command("extract", *words, "--views", "2").refuses("sample 39 is another image")
    assert not (viewset_of(cache) / "commits/v01-00001.json").exists()
    negative(source / "39.bmp")
    extract(*words, "--views", "2")


def test_digests_of_other_rows_are_damage(tmp_path: Path) -> None:
    source, cache = bitmaps(tmp_path / "photos"), tmp_path / "cache"
    extract(*flags(source, cache))
    reseal(viewset_of(cache) / "commits/v00-00001.json", lambda record: record["digests"].pop())
    refused = command("extract", *flags(source, cache), "--views", "2")
    refused.refuses("v00-00001.json: its digests are not those of its rows")


def test_digests_do_not_change_what_verify_says(tmp_path: Path) -> None:
    extract(*flags(bitmaps(tmp_path / "photos"), tmp_path / "cache"), "--views", "2")
    command("shards", "verify", tmp_path / "cache").succeeds()
    records = [json.loads(path.read_bytes()) for path in (viewset_of(tmp_path / "cache") / "commits").iterdir()]
    by_shard = {(record["view"], record["shard"]): record["digests"] for record in records}
    assert all(by_shard[0, shard] == by_shard[1, shard] for shard in range(3))
    assert len({digest for digests in by_shard.values() for digest in digests}) == 6
