"""Views without pixels: rendered from each sample's one stored image, alike for teacher and student, and checked."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
import pytest
import simplejpeg
import webdataset
import zarr
from caches import command, contents, copied, extract, reseal_records, targetset_of, viewset_of
from PIL import Image
from test_exactness import run

from extract.teachers import load_teacher
from shards.errors import Damaged
from shards.reader import ViewSet

NUM, SIZE, SOURCE_SIZE = 40, 16, 24
VIEW = f"crop:scale=0.2-1,size={SIZE},store=source,source_size={SOURCE_SIZE}"


def write_photos(folder: Path, num: int = NUM, ending: str = "png") -> Path:
    """Photos of many sizes, most of them larger than what is kept of them, in the folders of two classes."""
    generator = np.random.default_rng(0)
    for number in range(num):
        width, height = generator.integers(18, 90, 2).tolist()
        grey = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
        pixels = np.uint8((grey + generator.integers(0, 60, (height, width, 3))) % 256)
        path = folder / "train" / f"class{number % 2}" / f"{number:03d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("rendered") / "photos")


@pytest.fixture(scope="module")
def flags(photos: Path, teacher: Path) -> tuple[Any, ...]:
    data = ("--data", f"folder:{photos}", "--shard_size", "16", "--view", VIEW)
    return ("--teacher", f"run:{teacher}", "--codec", "float32", "--devices", "cpu", "--batch_size", "8", *data)


@pytest.fixture(scope="module")
def direct(flags: tuple[Any, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three views at once; never written to by a test."""
    cache = tmp_path_factory.mktemp("rendered") / "direct"
    extract("--out", cache, *flags, "--views", "3")
    return cache


def test_the_views_are_those_of_the_stored_images(direct: Path) -> None:
    """Read as anybody could: images by webdataset, crops by zarr, cut and resized by Pillow."""
    viewset = ViewSet(viewset_of(direct))
    tars = [str(path) for path in sorted((viewset.folder / "views").iterdir())]
    assert [Path(path).name[:4] for path in tars] == ["v00-"] * 3  # each image once
    samples = list(webdataset.WebDataset(tars, shardshuffle=False))
    crops = zarr.open_array(viewset.folder / "crops", mode="r")[:]
    assert [each["__key__"] for each in samples] == list(viewset.plan.keys) and crops.shape == (3, NUM, 7)
    assert len(np.unique(crops[:, :, :4], axis=0)) == 3 and set(crops[:, :, 4].ravel().tolist()) == {0, 1}
    assert all("size" in json.loads(each["json"]) and each["cls"] in (b"0", b"1") for each in samples)
    for view in range(3):
        rows = viewset.rows(view, list(range(NUM)))["pixels"]
        for sample, each in enumerate(samples):
            whole = Image.fromarray(simplejpeg.decode_jpeg(each["jpg"], "RGB"))
            assert min(whole.size) <= SOURCE_SIZE
            left, top, width, height, flip, low, high = crops[view, sample].tolist()
            cut = whole.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            pixels = np.asarray(cut)[:, ::-1] if flip else np.asarray(cut)
            assert np.array_equal(rows[sample], pixels)
            assert crc32c.crc32c(np.ascontiguousarray(pixels)) == low | high << 16
            assert viewset.storage.facts(view, sample)["crop"] == [left, top, width, height]


def test_a_growth_needs_no_source_and_leaves_the_images(
    direct: Path, photos: Path, flags: tuple[Any, ...], tmp_path: Path
) -> None:
    """It equals a direct extraction, file by file; and so does a run whose commits were lost halfway."""
    gone = copied(photos, tmp_path / "photos")
    words = [str(word).replace(str(photos), str(gone)) for word in flags]
    extract("--out", tmp_path / "cache", *words)
    before = contents(tmp_path / "cache")
    shutil.rmtree(gone)
    done = extract("--out", tmp_path / "cache", *words, "--views", "3")
    assert f"done: {2 * NUM} views made, {2 * NUM} teacher forwards" in done.out
    now, whole = contents(tmp_path / "cache"), contents(direct)
    stored = [name for name in whole if not name.endswith((".yaml", "set.json", "plan.json"))]
    rewritten = ("set.json", "crops/zarr.json", "values/zarr.json")
    assert all(now[name] == before[name] for name in before if not name.endswith(rewritten))
    for name in stored:
        assert now[name] == whole[name], name
    folder = viewset_of(tmp_path / "cache")
    manifest = before[f"{folder.name}/viewset.json"]
    (folder / "viewset.json").write_bytes(manifest)  # as a growth that was killed leaves it
    for name in ("commits/v01-00001.json", "commits/v02-00002.json"):
        (folder / name).unlink()
    (folder / "crops/c/2/2/0").write_bytes(b"torn")
    extract("--out", tmp_path / "cache", *words, "--views", "3")
    assert contents(tmp_path / "cache") == now


def test_stored_and_live_teachers_give_the_same_student(
    direct: Path, flags: tuple[Any, ...], teacher: Path, tmp_path: Path
) -> None:
    """Promise 3: trained on rendered views beside the live teacher, and from the cache, it is the same student."""
    cache = copied(direct, tmp_path / "cache")
    values: dict[str, Any] = {"epochs": 3, "batch_size": 8}
    live = [load_teacher(f"run:{teacher}")]
    run(cache, tmp_path / "stored", "teacher", [], **values)
    run(cache, tmp_path / "live", "teacher", live, **values)
    stored, lived = ((tmp_path / name / "student.safetensors").read_bytes() for name in ("stored", "live"))
    assert stored == lived


@pytest.mark.slow
def test_every_command_takes_such_a_cache(direct: Path, teachers: dict[str, Path], tmp_path: Path) -> None:
    """A second teacher, distil, evaluate, and what `shards` has for a person."""
    cache = copied(direct, tmp_path / "cache")
    again = extract("--teacher", f"run:{teachers['two']}", "--out", cache, "--devices", "cpu", "--views", "3")
    assert f"done: 0 views made, {3 * NUM} teacher forwards" in again.out
    saved = viewset_of(cache) / "extract.yaml"
    assert "done: 0 views made, 0 teacher forwards" in extract("--config", saved, "--out", cache).out
    assert "; 6 views rendered to the pixels" in command("shards", "verify", cache, "--render", "6").succeeds().out
    recomputed = command("shards", "verify", cache, "--recompute", "6").succeeds()
    assert "least cosine" in recomputed.out
    told = command("shards", "info", cache).succeeds().out
    assert "identity.store.source_size" in told and "identity.store.kind" in told
    command("shards", "view", cache, "--num", "4", "--output", tmp_path / "sheet.png").succeeds()
    assert Image.open(tmp_path / "sheet.png").width > SIZE
    command("shards", "export", targetset_of(cache, "two"), "--output", tmp_path / "export").succeeds()
    viewset = ViewSet(viewset_of(cache))
    (exported, *_) = webdataset.WebDataset(str(tmp_path / "export/v00-00000.tar"), shardshuffle=False)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(exported["png"]))), viewset.row(0, 0)["pixels"])
    trained = ("--student", "convnet:width=4,depth=2", "--epochs", "2", "--batch_size", "8", "--devices", "cpu")
    command("distill", "--shards", cache, "--targets", "two", "--run_dir", tmp_path / "run", *trained).succeeds()
    data = viewset.plan.request["data"]
    measured = ("--run", tmp_path / "run", "--device", "cpu", "--split", "train")
    command("evaluate", *measured, "--task", "knn", "--data", data, "--train_split", "train").succeeds()
    command("evaluate", *measured, "--task", "fidelity", "--shards", cache).succeeds()
    command("shards", "page", cache, "--output", tmp_path / "page.html").succeeds()


def test_what_no_longer_renders_alike_is_refused(direct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is named, and what differs: the image's bytes, its size, or what decodes it."""
    viewset = ViewSet(viewset_of(copied(direct, tmp_path / "bytes")))
    tar = viewset.folder / "views/v00-00001.tar"
    offset, _ = viewset.checked.commit(0, 1).members["jpg"][3]  # type: ignore[index]
    data = bytearray(tar.read_bytes())
    data[offset + 200] ^= 1
    tar.write_bytes(data)
    with pytest.raises(Damaged, match=r"v00-00001\.tar: row 3: its \.jpg fails its crc32c"):
        ViewSet(viewset.folder).rows(2, [19])
    assert "v00-00001.tar: its SHA-256 is not" in command("shards", "verify", tmp_path / "bytes").err

    folder = viewset_of(copied(direct, tmp_path / "size"))
    extract("--out", tmp_path / "small", *_of_size(direct, 16))
    swapped = ("views/v00-00000.tar", "crops/c/0/0/0", "commits/v00-00000.json")
    for name in swapped:
        shutil.copy(viewset_of(tmp_path / "small") / name, folder / name)
    reseal_records(folder, "viewset.json", *swapped)
    with pytest.raises(Damaged, match=r"view 1 of \S+: its image is of another size"):
        ViewSet(folder).rows(1, list(range(16)))

    decode = simplejpeg.decode_jpeg

    def other(content: bytes, space: str, buffer: np.ndarray) -> None:
        decode(content, space, buffer=buffer)
        buffer[...] ^= 1

    monkeypatch.setattr(simplejpeg, "decode_jpeg", other)
    key = viewset.plan.keys[7]
    with pytest.raises(Damaged, match=rf"view 1 of {key} is not rendered to the pixels .* decoder or resize"):
        ViewSet(viewset_of(direct)).row(1, 7)
    found = command("shards", "verify", direct, "--render", "1000")
    assert found.status == 2 and f"damaged: {3 * NUM} views rendered to other pixels, listed above" in found.err


def _of_size(cache: Path, source_size: int) -> tuple[str, ...]:
    data = ViewSet(viewset_of(cache)).plan.request["data"]
    view = VIEW.replace(f"source_size={SOURCE_SIZE}", f"source_size={source_size}")
    return ("--teacher", "none", "--data", data, "--shard_size", "16", "--view", view, "--devices", "cpu")


def test_another_way_of_storing_is_another_view_set(direct: Path, flags: tuple[Any, ...], tmp_path: Path) -> None:
    """Said with what differs; a flag that says nothing of it takes the cache's way."""
    cache = copied(direct, tmp_path / "cache")
    told = command("extract", "--out", cache, *flags[:-1], VIEW.replace(",source_size=24", ",source_size=32"))
    told.refuses("store.source_size: the cache has 24, asked for 32")
    told = command("extract", "--out", cache, *flags[:-1], "crop:scale=0.2-1,store=view")
    told.refuses("store: the cache has source")
    assert "done: 0 views made, 0 teacher" in extract("--out", cache, *flags[:-2], "--view", "crop:scale=0.2-1").out
    assert targetset_of(cache).parent.parent == viewset_of(cache)
    sized = extract("--out", cache, *flags[:-2], "--view", "crop:scale=0.2-1,store=source")
    assert "done: 0 views made, 0 teacher" in sized.out  # the size that images are kept in is the cache's


@pytest.mark.slow
def test_a_plan_says_what_such_views_take(flags: tuple[Any, ...], tmp_path: Path) -> None:
    """The images once, and of a further view its rows alone."""
    saved = tmp_path / "plan.json"
    words = ("--out", tmp_path / "cache", *flags, "--views", "8")
    command("extract", *words, "--plan", f"seconds=0.5,save={saved}").succeeds()
    extract(*words)
    stored = contents(tmp_path / "cache")
    plan = json.loads(saved.read_bytes())
    assert plan["files"] == len(stored)
    assert plan["bytes"] == pytest.approx(sum(map(len, stored.values())), rel=0.05)
