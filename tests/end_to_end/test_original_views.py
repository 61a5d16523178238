"""Views of which no pixel is stored: rendered from the original data, which must be there, and be the same."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from caches import command, contents, copied, extract, viewset_of
from PIL import Image
from test_exactness import run
from test_rendered_views import NUM, SIZE, write_photos

from extract.teachers import load_teacher
from shards.errors import BadInput, Damaged, IdentityMismatch
from shards.reader import ViewSet

VIEW = f"crop:scale=0.2-1,size={SIZE},store=none"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Uncompressed, so that a pixel changes and no file's size does."""
    return write_photos(tmp_path / "photos", ending="bmp")


@pytest.fixture
def cache(photos: Path, teacher: Path, tmp_path: Path) -> Path:
    flags = ("--teacher", f"run:{teacher}", "--codec", "float32", "--devices", "cpu", "--batch_size", "8")
    extract("--out", tmp_path / "cache", *flags, "--data", f"folder:{photos}", "--view", VIEW, "--shard_size", "16")
    extract("--out", tmp_path / "cache", *flags, "--views", "3")
    return tmp_path / "cache"


def test_the_views_are_those_of_the_originals(cache: Path, photos: Path, teachers: dict[str, Path]) -> None:
    """A growth made them alike, a second teacher reads them, and no image is in the cache."""
    viewset = ViewSet(viewset_of(cache))
    assert sum(map(len, contents(viewset.folder / "crops").values())) < 3 * NUM * 30
    assert {ending for shard in range(3) for ending in viewset.checked.commit(0, shard).members or {}} == {
        "json",
        "cls",
    }
    crops = zarr.open_array(viewset.folder / "crops", mode="r")[:]
    for sample, key in enumerate(viewset.plan.keys):
        whole = Image.open(photos / "train" / f"{key}.bmp")
        for view in range(3):
            left, top, width, height, flip, *_ = crops[view, sample].tolist()
            cut = whole.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            pixels = np.asarray(cut)[:, ::-1] if flip else np.asarray(cut)
            assert np.array_equal(viewset.row(view, sample)["pixels"], pixels)
    again = extract("--teacher", f"run:{teachers['two']}", "--out", cache, "--devices", "cpu", "--views", "3")
    assert f"done: 0 views made, {3 * NUM} teacher forwards" in again.out
    assert "whole" in command("shards", "verify", cache).succeeds().out
    assert viewset.labels(2, [0, 39]).tolist() == [0, 1]


def test_stored_and_live_teachers_give_the_same_student(cache: Path, teacher: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"epochs": 3, "batch_size": 8}
    run(cache, tmp_path / "stored", "teacher", [], **values)
    run(cache, tmp_path / "live", "teacher", [load_teacher(f"run:{teacher}")], **values)
    stored, lived = ((tmp_path / name / "student.safetensors").read_bytes() for name in ("stored", "live"))
    assert stored == lived


def test_data_that_is_gone_or_another_is_refused(
    cache: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that names the cache and what to do; nothing else is read in its place."""
    path = photos / "train/class1/007.bmp"
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(255 - byte for byte in data[60:]))
    changed = viewset_of(copied(cache, tmp_path / "changed"))
    sample = list(ViewSet(changed).plan.keys).index("class1/007")
    with pytest.raises(Damaged, match=r"view 1 of class1/007 is not rendered .* another image .* its bytes differ"):
        ViewSet(changed).row(1, sample)
    sheet = command("shards", "view", changed, "--num", str(3 * NUM), "--output", tmp_path / "sheet.png")
    sheet.refuses("of class1/007 is not rendered to the pixels that the teacher saw", "its bytes differ")
    path.write_bytes(b"BM" + bytes(len(data) - 2))
    with pytest.raises(Damaged, match=rf"{changed}: the original of class1/007: .* restore it, or extract again"):
        ViewSet(changed).row(1, sample)
    path.write_bytes(data)
    with monkeypatch.context() as patched:
        patched.setattr("shards.views.rendered.resample", lambda pixels, flip, interpolation, out: out.fill(0))
        with pytest.raises(Damaged, match=r"the original's bytes and size are as they were, so its decoder or resize"):
            ViewSet(changed).row(1, sample)
    shutil.copy(path, path.with_name("999.bmp"))
    with pytest.raises(IdentityMismatch, match=r"other data now .*num_samples: the cache has 40"):
        ViewSet(viewset_of(copied(cache, tmp_path / "more"))).row(0, 0)
    shutil.rmtree(photos)
    gone = copied(cache, tmp_path / "gone")
    with pytest.raises(BadInput, match=r"store=none\), which cannot be opened: --data folder:"):
        ViewSet(viewset_of(gone)).row(0, 0)
    flags = ("--student", "convnet:width=4,depth=2", "--epochs", "1", "--batch_size", "8", "--devices", "cpu")
    told = command("distill", "--shards", gone, "--run_dir", tmp_path / "run", *flags)
    told.refuses("store=none", "cannot be opened", "photos")


def test_an_original_of_another_size_is_called_that(cache: Path, photos: Path) -> None:
    """Turned on its side, in a file as long; what is asked is a crop that fits all the same."""
    viewset = viewset_of(cache)
    crops = zarr.open_array(viewset / "crops", mode="r")[:, :, :4]
    for sample, key in enumerate(ViewSet(viewset).plan.keys):
        path = photos / "train" / f"{key}.bmp"
        pixels = np.asarray(Image.open(path))
        height, width, _ = pixels.shape
        left, top, w, h = crops[:, sample].T
        fits = np.flatnonzero((left + w <= height) & (top + h <= width))
        size_bytes = path.stat().st_size
        Image.fromarray(np.rot90(pixels)).save(photos / "turned.bmp")
        if len(fits) and width != height and (photos / "turned.bmp").stat().st_size <= size_bytes:
            break
    path.write_bytes((photos / "turned.bmp").read_bytes().ljust(size_bytes, b"\0"))
    now = f"the original is of another size now, {height} x {width} pixels, and was {width} x {height}: restore it"
    with pytest.raises(Damaged, match=now):
        ViewSet(viewset).row(int(fits[0]), sample)


def test_verify_says_what_it_proved_of_the_pixels(cache: Path, photos: Path, tmp_path: Path) -> None:
    """Files alone without a flag; with --render N so many views, which it draws from as many samples as can be."""
    told = command("shards", "verify", cache).succeeds().out
    assert f"; {3 * NUM} views not rendered, their pixels not compared: --render {3 * NUM} renders all" in told
    told = command("shards", "verify", cache, "--render", "50").succeeds().out
    assert "; 50 views rendered to the pixels that the teacher saw; 70 views not rendered" in told
    told = command("shards", "verify", cache, "--render", "1000").succeeds().out
    assert f"; {3 * NUM} views rendered to the pixels that the teacher saw\n" in told
    (targetset,) = viewset_of(cache).glob("targets/*")
    told = command("shards", "verify", targetset, "--render", "1").succeeds().out
    assert "; nothing rendered: no whole view set among these stores views without their pixels" in told
    url = f"file://{tmp_path}/store"
    command("shards", "push", cache, url).succeeds()
    assert f"; {3 * NUM} views not rendered" in command("shards", "verify", url).succeeds().out
    command("shards", "verify", url, "--render", "1").refuses("--render: needs a folder", "shards pull")
    path = photos / "train/class1/007.bmp"
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(255 - byte for byte in data[60:]))
    changed = copied(cache, tmp_path / "changed")
    assert "whole" in command("shards", "verify", changed).succeeds().out
    for num, num_wrong in ((NUM, 1), (3 * NUM, 3)):
        found = command("shards", "verify", changed, "--render", str(num))
        assert found.status == 2 and not found.out
        *lines, last = found.err.splitlines()
        assert len(lines) == num_wrong
        assert all("of class1/007 is not rendered to the pixels" in each and "bytes differ" in each for each in lines)
        assert f"damaged: {num_wrong} view{'s' * (num_wrong > 1)} rendered to other pixels, listed above" in last
        assert f"; {num - num_wrong} views rendered to the pixels that the teacher saw" in last


def test_verify_renders_from_what_is_named(
    cache: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.storage.originals._given", [])
    command("shards", "verify", cache, "--data", f"folder:{photos}").refuses("--render N or --recompute N")
    command("shards", "verify", cache, "--render", "1", "--data_dir", photos).refuses("--data_dir", "give --data too")
    (tmp_path / "moved").mkdir()
    photos.rename(tmp_path / "moved/photos")
    there = copied(cache, tmp_path / "there")
    command("shards", "verify", there, "--render", "1").refuses("cannot be opened", "shards verify --render 1 --data")
    named = command("shards", "verify", there, "--render", "3", "--data", f"folder:{tmp_path}/moved/photos").succeeds()
    assert "; 3 views rendered to the pixels that the teacher saw; 117 views not rendered" in named.out
