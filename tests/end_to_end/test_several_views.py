"""Several views of a sample in a batch, whose image is decoded once; and views that OpenCV's exact resize renders."""

from collections import Counter
from pathlib import Path
from typing import Any

import crc32c
import cv2
import numpy as np
import pytest
import simplejpeg
import zarr
from caches import command, contents, copied, extract, viewset_of
from test_rendered_views import write_photos

from shards.loader import BatchLoader, Part
from shards.order import BatchOrder
from shards.reader import Component, ViewSet

NUM, SIZE, SOURCE_SIZE, NUM_VIEWS = 24, 16, 24, 4
VIEW = f"crop:scale=0.2-1,interpolation=linear_exact,size={SIZE},store=source,source_size={SOURCE_SIZE}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("several") / "photos", NUM)


@pytest.fixture(scope="module")
def flags(photos: Path) -> tuple[Any, ...]:
    data = ("--data", f"folder:{photos}", "--shard_size", "8", "--view", VIEW)
    return ("--teacher", "none", "--devices", "cpu", *data)


@pytest.fixture(scope="module")
def cache(flags: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never written to by a test."""
    cache = tmp_path_factory.mktemp("several") / "cache"
    extract("--out", cache, *flags, "--views", str(NUM_VIEWS))
    return cache


def test_the_views_are_opencvs_of_the_stored_images(cache: Path, flags: tuple[Any, ...], tmp_path: Path) -> None:
    """Also those of a growth, which takes the cache's way of resampling."""
    viewset = ViewSet(viewset_of(cache))
    assert viewset.identity["augment"]["interpolation"] == "linear_exact"
    assert "interpolation=linear_exact" in (viewset.folder / "extract.yaml").read_text()
    crops = zarr.open_array(viewset.folder / "crops", mode="r")[:]
    for view in range(NUM_VIEWS):
        rows = viewset.rows(view, list(range(NUM)))["pixels"]
        for sample in range(NUM):
            whole = simplejpeg.decode_jpeg(viewset.storage.images.content(0, sample, "jpg"), "RGB")
            left, top, width, height, flip, low, high = crops[view, sample].tolist()
            cut = np.ascontiguousarray(whole[top : top + height, left : left + width])
            pixels = cv2.resize(cut, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR_EXACT)
            pixels = np.ascontiguousarray(pixels[:, ::-1] if flip else pixels)
            assert np.array_equal(rows[sample], pixels) and crc32c.crc32c(pixels) == low | high << 16
    grown = tmp_path / "grown"
    extract("--out", grown, *flags)
    extract("--out", grown, "--teacher", "none", "--devices", "cpu", "--views", str(NUM_VIEWS))
    saved, now = contents(cache), contents(grown)
    assert saved.keys() == now.keys()
    assert [
        name for name in saved if saved[name] != now[name] and not name.endswith(("extract.yaml", "set.json"))
    ] == []


@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_batch_decodes_each_of_its_images_once(
    cache: Path, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the pixels and labels of each view as they are read alone."""
    viewset, decodes, decode = ViewSet(viewset_of(cache)), Counter[bytes](), simplejpeg.decode_jpeg
    expected = [viewset.rows(view, list(range(NUM)))["pixels"] for view in range(NUM_VIEWS)]

    def counted(content: bytes, space: str, buffer: np.ndarray) -> None:
        decodes[content] += 1
        decode(content, space, buffer=buffer)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    order = BatchOrder([viewset.usable], NUM, [NUM_VIEWS], views_a_batch=NUM_VIEWS)

    def parts() -> Any:
        for epoch in range(NUM_VIEWS):
            yield Part(order.epoch(epoch).readings(0))

    seen: Counter[tuple[int, int]] = Counter()
    loader = BatchLoader([Component(ViewSet(viewset.folder))], parts, NUM, labels=True, num_threads=num_threads)
    for number, batch in enumerate(loader, 1):
        views = [reading.view for reading in batch.readings for _ in reading.samples]
        assert batch.labels is not None
        for view, sample, pixels, label in zip(views, batch.samples, batch.fields["pixels"], batch.labels, strict=True):
            assert np.array_equal(pixels.numpy(), expected[view][sample])
            assert label == viewset.labels(view, [int(sample)])[0]
            seen[view, int(sample)] += 1
        assert len(set(batch.samples.tolist())) == NUM // NUM_VIEWS and number <= NUM_VIEWS
    assert seen == Counter({(view, sample): 1 for view in range(NUM_VIEWS) for sample in range(NUM)})
    assert len(decodes) == NUM and set(decodes.values()) == {1}


def test_a_run_takes_several_views_a_batch_and_says_so(cache: Path, tmp_path: Path) -> None:
    """Its saved configuration trains the same student; its folder refuses a run of other batches."""
    cache = copied(cache, tmp_path / "cache")
    flags = ("--recipe", "supervised", "--student", "convnet:width=4,depth=2", "--batch_size", "8", "--devices", "cpu")
    one = ("distill", "--shards", cache, *flags, "--epochs", "3", "--read", "check=once,views_a_batch=2")
    command(*one, "--run_dir", tmp_path / "whole").succeeds()
    assert "views_a_batch: 2" in (tmp_path / "whole/recipe.yaml").read_text()
    command("distill", "--config", tmp_path / "whole/config.yaml", "--run_dir", tmp_path / "again").succeeds()
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "again")]
    assert students[0] == students[1]
    other = command(*one[:-2], "--run_dir", tmp_path / "whole")
    other.refuses("recipe.views_a_batch: the run has 2")
    many = command(*one[:-1], "views_a_batch=8", "--run_dir", tmp_path / "many")
    many.refuses("--read views_a_batch=8: the cache has 4 views to read; give at most 4")
    odd = command(*one[:-1], "views_a_batch=3", "--run_dir", tmp_path / "odd")
    odd.refuses("--batch_size 8", "samples in 3 views each")
    command(*one[:-1], "views_a_batch=0", "--run_dir", tmp_path / "none").refuses("views_a_batch=NUMBER")


def test_another_resampling_is_another_view_set(cache: Path, flags: tuple[Any, ...], tmp_path: Path) -> None:
    """Bilinear is of stored pixels too; bicubic, the default, is saved as it always was."""
    held = copied(cache, tmp_path / "held")
    told = command("extract", "--out", held, *flags[:-1], VIEW.replace("linear_exact", "bilinear"))
    told.refuses('augment.interpolation: the cache has "linear_exact", asked for "bilinear"')
    rows = {}
    for name in ("bilinear", "bicubic"):
        extract("--out", tmp_path / name, *flags[:-1], f"crop:scale=0.2-1,size={SIZE},format=png,interpolation={name}")
        viewset = ViewSet(viewset_of(tmp_path / name))
        assert viewset.identity["augment"]["interpolation"] == name
        assert ("interpolation" in (viewset.folder / "extract.yaml").read_text()) == (name == "bilinear")
        extract("--config", viewset.folder / "extract.yaml", "--out", tmp_path / name)
        rows[name] = viewset.rows(0, list(range(NUM)))["pixels"].astype(int)
    assert 0 < np.abs(rows["bilinear"] - rows["bicubic"]).mean() < 16
