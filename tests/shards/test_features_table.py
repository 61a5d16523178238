"""`shards export --output FILE.parquet`: what pandas, pyarrow and datasets read of it is what the cache holds."""

import io
from pathlib import Path

import caches
import numpy as np
import pairs
import pandas
import pyarrow.parquet as pq
import pytest
import texts
from jaxtyping import Int
from PIL import Image

from shards import features_table
from shards.decode import codec_of, read_decoded
from shards.features_table import export_features
from shards.reader import TargetSet, ViewSet


def export(path: Path, output: Path) -> caches.Outcome:
    return caches.command("shards", "export", path, "--output", output)


def test_pooled_features_with_keys_pictures_and_labels(full: Path, tmp_path: Path) -> None:
    folder, output = caches.targetset_of(full, "pooled"), tmp_path / "new" / "features.parquet"
    printed = export(folder, output).succeeds().out
    assert f"embedding-atlas {output} --vector vector --image image" in printed
    assert f"done: {2 * caches.NUM_SAMPLES} samples" in printed
    viewset, targetset = ViewSet(caches.viewset_of(full)), TargetSet(folder)
    table = pandas.read_parquet(output)  # as embedding-atlas does
    assert list(table.columns) == ["key", "view", "image", "label", "class", "vector"]
    every = np.arange(caches.NUM_SAMPLES)
    for view in range(2):
        rows = table[table["view"] == view]
        assert rows["key"].tolist() == viewset.plan.keys
        assert rows["label"].tolist() == viewset.labels(view, every.tolist()).tolist()
        assert rows["class"].tolist() == [viewset.class_names[label] for label in rows["label"]]
        vectors = np.stack(rows["vector"].tolist())
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, read_decoded(targetset, codec_of(targetset), view, every).float())
        for sample, image in enumerate(rows["image"]):  # as small as these are they lose nothing
            pixels = np.asarray(Image.open(io.BytesIO(image["bytes"])))
            np.testing.assert_array_equal(pixels, viewset.row(view, sample)["pixels"])


def test_datasets_sees_images_and_vectors(full: Path, tmp_path: Path) -> None:
    import datasets

    export(caches.targetset_of(full, "float32"), tmp_path / "logits.parquet").succeeds()
    table = datasets.Dataset.from_parquet(str(tmp_path / "logits.parquet"), cache_dir=str(tmp_path / "hub"))
    assert isinstance(table.features["image"], datasets.Image)
    assert table[3]["image"].size == (caches.IMAGE_SIZE, caches.IMAGE_SIZE) and len(table[3]["vector"]) == 10


class CountedRows(TargetSet):
    """A target set that knows the most rows that were asked of it at a time."""

    most = 0

    def read(self, view: int, samples: Int[np.ndarray, " count"]) -> dict[str, np.ndarray]:
        self.most = max(self.most, len(samples))
        return super().read(view, samples)


def test_memory_does_not_grow_with_the_cache(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_table, "ROWS", 12)
    viewset, targetset = ViewSet(caches.viewset_of(full)), CountedRows(caches.targetset_of(full, "pooled"))
    count, size = export_features(viewset, targetset, tmp_path / "features.parquet")
    written = pq.ParquetFile(tmp_path / "features.parquet")
    groups = [written.metadata.row_group(number).num_rows for number in range(written.num_row_groups)]
    assert groups == 2 * [12, 12, 12, 4] and sum(groups) == count
    assert targetset.most == 12 and size == (tmp_path / "features.parquet").stat().st_size
    monkeypatch.setattr(features_table, "_DECODED_BYTES", 8 * 5 * targetset.bytes_per_sample)
    targetset.most = 0
    export_features(viewset, targetset, tmp_path / "again.parquet")
    assert targetset.most == 5
    assert pq.read_table(tmp_path / "again.parquet").equals(written.read())


def test_large_pictures_become_thumbnails(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "data/train/a").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (224, 224), (40 + 100 * number, 90, 10)).save(tmp_path / f"data/train/a/{number}.png")
    flags = ("--data", f"folder:{tmp_path / 'data'}", "--view", "resize:size=224", "--out", tmp_path / "cache")
    caches.extract("--teacher", f"run:{teacher}", "--target", "pooled", "--devices", "cpu", *flags)
    export(tmp_path / "cache", tmp_path / "t.parquet").succeeds()
    for number, image in enumerate(pq.read_table(tmp_path / "t.parquet")["image"].to_pylist()):
        picture = Image.open(io.BytesIO(image["bytes"]))
        assert picture.size == (112, 112) and picture.format == "JPEG"
        assert np.abs(np.asarray(picture).astype(int) - (40 + 100 * number, 90, 10)).max() <= 8


def test_texts_are_the_mean_of_their_content(tmp_path: Path) -> None:
    data, encoder = texts.write_corpus(tmp_path / "data"), texts.write_encoder(tmp_path / "encoder")
    flags = ("--data", f"text:{data}", "--view", "blocks:size=16,pack=none", "--devices", "cpu", "--codec", "int8")
    caches.extract("--teacher", f"hf:{encoder}", "--out", tmp_path / "c", "--target", "layer_mean", *flags)
    assert "--vector vector --text text" in export(tmp_path / "c", tmp_path / "t.parquet").succeeds().out
    viewset, targetset = ViewSet(caches.viewset_of(tmp_path / "c")), TargetSet(caches.targetset_of(tmp_path / "c"))
    table = pandas.read_parquet(tmp_path / "t.parquet")
    lines = (data / "train.txt").read_text().splitlines()
    assert table["text"].tolist() == [f"[CLS] {line} [SEP]" for line in lines]
    decoded = read_decoded(targetset, codec_of(targetset), 0, np.arange(len(lines))).numpy()
    for sample, vector in enumerate(table["vector"]):
        content = decoded[sample, : int(viewset.row(0, sample)["length"])]
        bound = 2 * len(content) * np.finfo(np.float32).eps * np.abs(content).max()  # of a sum in another order
        np.testing.assert_allclose(vector, content.mean(0), rtol=0, atol=bound)


def test_pairs_have_their_captions_and_the_mean_over_them(tmp_path: Path) -> None:
    data, encoder = pairs.write_pairs(tmp_path / "tars", 8), texts.write_encoder(tmp_path / "encoder")
    flags = ("--data", f"wds:{data}:captions=caption", "--view", "pair:size=16,format=png", "--devices", "cpu")
    caches.extract("--teacher", f"hf:{encoder}", "--out", tmp_path / "c", "--target", "pooled", *flags)
    export(tmp_path / "c", tmp_path / "t.parquet").succeeds()
    table, targetset = pandas.read_parquet(tmp_path / "t.parquet"), TargetSet(caches.targetset_of(tmp_path / "c"))
    decoded = read_decoded(targetset, codec_of(targetset), 0, np.arange(8)).float().numpy()
    for sample, (text, vector) in enumerate(zip(table["text"], table["vector"], strict=True)):
        captions = pairs.picture(sample)[1]
        assert text.split("\n") == captions
        content = decoded[sample, : len(captions)]
        bound = 2 * len(content) * np.finfo(np.float32).eps * np.abs(content).max()
        np.testing.assert_allclose(vector, content.mean(0), rtol=0, atol=bound)


def test_what_is_refused_leaves_nothing(full: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "t.parquet"
    export(full, output).refuses("several target sets", "pooled")
    export(caches.targetset_of(full, "topk"), output).refuses("--output", "no vector")
    folder = caches.targetset_of(full, "pooled")
    (folder / "values/c/1/2/0").write_bytes(b"")  # the last shard
    export(folder, output).refuses("values/c/1/2/0")
    assert not list((tmp_path / "out").iterdir())
    output.write_bytes(b"mine")
    export(caches.targetset_of(full, "float32"), output).refuses("--output", "exists already")
    unwritable = Path("/proc/features.parquet")
    export(caches.targetset_of(full, "float32"), unwritable).refuses("/proc/", "check the path and its permissions")
    assert output.read_bytes() == b"mine"
    for path in (caches.viewset_of(full) / "targets").iterdir():
        caches.command("shards", "remove", path, "--yes").succeeds()
    export(full, tmp_path / "new.parquet").refuses("needs a target set")
