"""`python -m shards export`: plain webdataset reads of it what the cache holds, and needs nothing of ours for it."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caches
import numpy as np
import pytest
import webdataset
from msgspec.structs import replace
from PIL import Image

import shards.export
from shards.codecs import make_codec
from shards.decode import as_arrays, codec_of, read_decoded
from shards.reader import TargetSet, ViewSet


def export(*flags: str | Path) -> caches.Outcome:
    return caches.command("shards", "export", *flags)


def samples_of(folder: Path) -> list[dict]:
    return list(webdataset.WebDataset([str(path) for path in sorted(folder.glob("*.tar"))], shardshuffle=False))


def test_logits_read_back_by_plain_webdataset(pristine: Path, tmp_path: Path) -> None:
    viewset, targetset = ViewSet(caches.viewset_of(pristine)), TargetSet(caches.targetset_of(pristine))
    found = export(pristine, "--output", tmp_path / "out").succeeds()
    assert f"done: {2 * caches.NUM_SAMPLES} samples" in found.out
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2 * caches.NUM_SHARDS
    samples = samples_of(tmp_path / "out")
    assert [sample["__key__"] for sample in samples] == 2 * viewset.plan.keys
    for position, sample in enumerate(samples):
        view, row = divmod(position, caches.NUM_SAMPLES)
        for ending in ("jpg", "json", "cls"):
            assert sample[ending] == viewset.storage.content(view, row, ending)
        logits = np.load(io.BytesIO(sample["logits.npy"]), allow_pickle=False)
        assert logits.dtype == np.float32
        np.testing.assert_array_equal(logits, targetset.read(view, np.array([row]))["values"][0])


def test_webdataset_decodes_it_without_this_project(pristine: Path, tmp_path: Path) -> None:
    export(pristine, "--output", tmp_path / "out").succeeds()
    sample = next(iter(webdataset.WebDataset(str(tmp_path / "out/v01-00002.tar"), shardshuffle=False).decode("pil")))
    assert isinstance(sample["jpg"], Image.Image) and sample["jpg"].size == (caches.IMAGE_SIZE, caches.IMAGE_SIZE)
    assert sample["json"]["view"] == 1 and sample["cls"] == sample["json"]["label"]
    assert sample["logits.npy"].shape == (10,)


def test_top_k_is_exported_decoded(full: Path, tmp_path: Path) -> None:
    folder = caches.targetset_of(full, "topk")
    export(folder, "--output", tmp_path / "out").succeeds()
    targetset = TargetSet(folder)
    wanted = as_arrays(read_decoded(targetset, codec_of(targetset), 0, np.arange(caches.NUM_SAMPLES)), "unused")
    assert set(wanted) == {"classes", "log_probabilities", "log_remaining"}
    for row, sample in enumerate(samples_of(tmp_path / "out")[: caches.NUM_SAMPLES]):
        for name, rows in wanted.items():
            held = np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False)
            np.testing.assert_array_equal(held, rows[row])
        mass = np.exp(np.load(io.BytesIO(sample["log_probabilities.npy"]))).sum()
        assert abs(mass + np.exp(np.load(io.BytesIO(sample["log_remaining.npy"]))) - 1) < 1e-6
    described = json.loads((tmp_path / "out/export.json").read_bytes())
    assert described["codec"] == make_codec("topk:3", (10,)).name
    assert described["class_names"] == [str(digit) for digit in range(10)]


def test_views_alone_and_equal_bytes(cache: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export(cache, "--output", tmp_path / name).succeeds()
    assert caches.contents(tmp_path / "one") == caches.contents(tmp_path / "two")
    caches.command("shards", "remove", caches.targetset_of(cache), "--yes").succeeds()
    export(cache, "--output", tmp_path / "views").succeeds()
    with tarfile.open(tmp_path / "views/v00-00000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"jpg", "json", "cls"}


class CountedKeys(list):
    """The keys of a plan, and how many of them were looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.looked_at += 1
            yield key

    def __getitem__(self, index: Any) -> Any:
        self.looked_at += len(range(len(self))[index]) if isinstance(index, slice) else 1
        return super().__getitem__(index)


@pytest.mark.parametrize("shard_size", [1, 8])
def test_the_work_for_a_sample_does_not_grow_with_the_number_of_shards(tmp_path: Path, shard_size: int) -> None:
    flags = ("--data", "digits", "--limit", "24", "--image_size", "16", "--shard_size", str(shard_size))
    caches.extract("--teacher", "none", "--out", tmp_path, *flags, "--views", "2")
    viewset = ViewSet(caches.viewset_of(tmp_path))
    keys = CountedKeys(viewset.plan.keys)
    viewset.plan = replace(viewset.plan, keys=keys)
    assert shards.export.export(viewset, None, tmp_path / "out")[0] == 48
    # the name of each sample written; beartype looks at a few more
    assert 48 <= keys.looked_at < 2 * 48


def test_refusals(full: Path, tmp_path: Path) -> None:
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/mine.txt").touch()
    export(full, "--output", tmp_path / "new").refuses("several target sets", "pooled")
    export(full, "--output", "s3://bucket/out").refuses("--output s3://bucket/out: expected a folder")
    folder = caches.targetset_of(full, "pooled")
    export(folder, "--output", tmp_path / "busy").refuses("--output", "not empty")
    (folder / "values/c/0/0/0").write_bytes(b"")
    export(folder, "--output", tmp_path / "new").refuses("values/c/0/0/0")


def test_skipped_samples_are_left_out_everywhere(teacher: Path, tmp_path: Path) -> None:
    """One photo of five is no image, and with two samples a shard one whole shard holds nothing."""
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    (photos / "train" / "only").mkdir(parents=True)
    for number in range(5):
        path = photos / "train" / "only" / f"{number}.png"
        Image.new("RGB", (20, 20), (50 * number, 0, 0)).save(path)
        if number in (0, 4):
            path.write_bytes(b"no image")
    source = ("--data", f"folder:{photos}", "--shard_size", "2", "--on_error", "skip", "--devices", "cpu")
    caches.extract("--teacher", f"run:{teacher}", "--out", cache, *source)
    found = caches.command("shards", "verify", cache, "--recompute", "9").succeeds()
    assert "3 views recomputed" in found.out
    assert "done: 3 samples" in export(cache, "--output", tmp_path / "out").succeeds().out
    assert len(samples_of(tmp_path / "out")) == 3
    caches.command("shards", "view", cache, "--output", tmp_path / "sheet.png").succeeds()
    info = caches.command("shards", "info", cache).succeeds().out
    assert any(line.split()[:2] == ["skipped", "2:"] for line in info.splitlines())
