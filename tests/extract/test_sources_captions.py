"""Datasets of captions as people have them on their disks: Karpathy's splits, the hub's tars, img2dataset's folders."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from caches import command, extract, viewset_of
from PIL import Image

from extract.sources import Source, open_source
from shards.errors import BadInput, SourceUnavailable

PAIR = {"image", "texts"}
IMAGE = frozenset({"image"})


def png(grey: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), grey).save(stream, "PNG")
    return stream.getvalue()


def touch(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(grey))


def pairs(source: Source) -> dict[str, tuple[int, tuple[str, ...]]]:
    """The grey of each sample's image and its captions, by key."""
    samples = [source.read(index) for index in range(len(source.keys))]
    return {sample.key: (sample.image.getpixel((0, 0)), sample.texts) for sample in samples}


def karpathy(path: Path, folders: dict[str, str], splits: list[str]) -> list[dict[str, Any]]:
    """Image i is in splits[i], of grey i, and has the captions 'i a' and 'i b'; folders tell where it lies."""
    images = []
    for row, split in enumerate(splits):
        filepath = {"filepath": folders[split]} if folders else {}
        raw = [{"raw": f"{row} a \n", "tokens": []}, {"raw": f"{row} b", "tokens": []}]
        images.append({**filepath, "filename": f"img_{row:02d}.jpg", "split": split, "sentences": raw, "cocoid": row})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "dataset": "any"}))
    return images


COCO = {"train": "train2014", "restval": "val2014", "val": "val2014", "test": "val2014"}
SPLITS = ["test", "restval", "train", "val", "train", "val"]


def coco(root: Path) -> list[dict[str, Any]]:
    images = karpathy(root / "annotations" / "dataset_coco.json", COCO, SPLITS)
    for row, image in enumerate(images):
        touch(root / image["filepath"] / image["filename"], row)
    return images


def flickr(root: Path) -> list[dict[str, Any]]:
    images = karpathy(root / "dataset_flickr30k.json", {}, [split.replace("restval", "train") for split in SPLITS])
    for row, image in enumerate(images):
        touch(root / "flickr30k-images" / image["filename"], row)
    return images


@pytest.mark.parametrize(("name", "write"), [("coco", coco), ("flickr30k", flickr)])
def test_karpathys_splits(name: str, write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    sources = {split: open_source(name, split, str(tmp_path)) for split in ("train", "val", "test")}
    rows = {"train": (1, 2, 4), "val": (3, 5), "test": (0,)}
    for split, source in sources.items():
        assert (source.name, source.has, source.class_names) == (name, PAIR, None)
        assert pairs(source) == {f"img_{row:02d}": (row, (f"{row} a", f"{row} b")) for row in rows[split]}
    assert sources["val"].split == "validation" and len({source.revision for source in sources.values()}) == 3
    note = f"--data_dir {tmp_path}: train is Karpathy's train and restval, 3 images"
    assert [source.notes for source in sources.values()] == [(note,), (), ()]
    with pytest.raises(BadInput, match="no split 'restval', only test, train, validation"):
        open_source(name, "restval", str(tmp_path))


def test_a_changed_caption_or_image_of_karpathys_is_another_source(tmp_path: Path) -> None:
    images = coco(tmp_path)
    before = open_source("coco", "test", str(tmp_path))
    images[0]["sentences"][1]["raw"] = "another"
    (tmp_path / "annotations" / "dataset_coco.json").write_text(json.dumps({"images": images}))
    captions = open_source("coco", "test", str(tmp_path))
    assert captions.revision != before.revision and captions.only(IMAGE).revision == before.only(IMAGE).revision
    (tmp_path / "val2014" / "img_00.jpg").write_bytes(png() + b"more")
    assert open_source("coco", "test", str(tmp_path)).only(IMAGE).revision != before.only(IMAGE).revision


def test_images_that_karpathys_json_names_and_are_not_there(tmp_path: Path) -> None:
    images = karpathy(tmp_path / "dataset_coco.json", dict.fromkeys(COCO, "val2014"), ["test"] * 6)
    for row in (1, 5):
        touch(tmp_path / "val2014" / images[row]["filename"], row)
    source = open_source("coco", "test", str(tmp_path))
    assert (source.unreadable, len(source.keys)) == ((0, 2, 3, 4), 6)
    lost = "4 of 6 images that dataset_coco.json names for test are not in "
    named = "(val2014/img_00.jpg, val2014/img_02.jpg, val2014/img_03.jpg ...)"
    assert source.notes == (f"--data_dir {tmp_path}: {lost}{tmp_path} {named}",)
    flags = ("--teacher", "none", "--data", "coco", "--data_dir", tmp_path, "--split", "test")
    flags += ("--view", "resize:size=8", "--out", tmp_path / "cache")
    command("extract", *flags).refuses(lost, named, "--on_error skip")
    extract(*flags, "--on_error", "skip")
    manifest = json.loads((viewset_of(tmp_path / "cache", "test") / "viewset.json").read_bytes())
    assert manifest["skipped"] == ["img_00", "img_02", "img_03", "img_04"]
    for row in (1, 5):
        (tmp_path / "val2014" / images[row]["filename"]).unlink()
    with pytest.raises(BadInput, match=r"6 of 6 images .* are not in .*: download train2014 and val2014 \(http"):
        open_source("coco", "test", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "dataset_coco.json is no Karpathy split"),
        ('{"annotations": []}', "dataset_coco.json is no Karpathy split .'images'"),
        ('{"images": [{"filename": "a.jpg", "split": "test", "sentences": ["a"]}]}', "is no Karpathy split"),
        ('{"images": []}', "has no image of split test"),
        ('{"images": [{"filename": "../a.jpg", "split": "test", "sentences": []}]}', r"names \.\./a.jpg, outside"),
        ('{"images": [{"filename": "/a.jpg", "split": "test", "sentences": []}]}', "names /a.jpg, outside"),
    ],
)
def test_a_json_that_is_none_of_karpathys(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset_coco.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        open_source("coco", "test", str(tmp_path))


@pytest.mark.parametrize(("name", "column"), [("coco", "sentences_raw"), ("flickr30k", "original_alt_text")])
def test_the_hubs_files_serve_as_a_copy(name: str, column: str, tmp_path: Path) -> None:
    rows = {"image": [{"bytes": png(3), "path": "3.jpg"}], column: [["a", "b"]], "alt_text": ["not this"]}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "data" / "test-00000-of-00001.parquet")
    source = open_source(name, "test", str(tmp_path))
    assert (source.name, pairs(source)) == (name, {"3": (3, ("a", "b"))})


def tars(root: Path, *names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        with tarfile.open(root / name, "w") as tar:
            for ending, content in (("jpg", png(number)), ("txt", f"photo {number}".encode()), ("json", b"{}")):
                info = tarfile.TarInfo(f"{number:09d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("names", [("cc3m-train-0000.tar", "cc3m-validation-0000.tar"), ("00000.tar",)])
def test_tars_of_captions(names: tuple[str, ...], tmp_path: Path) -> None:
    tars(tmp_path, *names)
    (tmp_path / "00000.parquet").write_bytes(b"img2dataset's table of addresses")
    source = open_source("cc3m", "train", str(tmp_path))
    assert (source.name, source.has, pairs(source)) == ("cc3m", PAIR, {"000000000": (0, ("photo 0",))})
    if len(names) > 1:
        assert pairs(open_source("cc3m", "val", str(tmp_path))) == {"000000001": (1, ("photo 1",))}


def test_tars_of_the_hub_that_were_downloaded_before_are_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "datasets--pixparse--cc12m-wds"
    tars(folder / "snapshots" / ("0" * 40), "cc12m-train-0000.tar")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    source = open_source("cc12m", "train")
    assert (source.name, pairs(source)) == ("cc12m", {"000000000": (0, ("photo 0",))})


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        ("coco", r"dataset_coco\.json \(https://\S+caption_datasets\.zip\) and train2014 and val2014"),
        ("flickr30k", r"dataset_flickr30k\.json \(https://\S+\) and flickr30k-images"),
        ("cc3m", r"download the \.tar files of https://huggingface.co/datasets/pixparse/cc3m-wds, or .* img2dataset"),
    ],
)
def test_out_of_reach_says_what_to_download(
    data: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceUnavailable, match=f"--data {data}: .*out of reach") as refused:
        open_source(data, "train")
    assert "--data_dir" in str(refused.value)
    refused.match(remedy)
    if data in ("coco", "flickr30k"):
        with pytest.raises(BadInput, match=rf"holds neither dataset_{data}\.json nor .* download {remedy}"):
            open_source(data, "train", str(tmp_path))
