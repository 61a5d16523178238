"""Which data are opened is the user's to say: what a cache from elsewhere names is not opened for that."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from caches import Outcome, command, extract, reseal, reseal_records, viewset_of
from PIL import Image
from watching import Watched, bounded, watching

from extract.config import ExtractConfig
from extract.named import Data, known, named
from shards.cache import list_viewsets
from shards.errors import BadInput
from shards.mirror import LOCAL_CACHE
from shards.reader import ViewSet
from shards.storage import originals

NUM, SIZE = 12, 16
TRAINING = ("--recipe", "supervised", "--student", "convnet:width=4,depth=2", "--epochs", "1", "--batch_size", "4")


def write_photos(folder: Path, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    for number in range(NUM):
        path = folder / f"class{number % 2}/{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 30, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture
def cache(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Views without pixels, made on this machine from a relative path."""
    monkeypatch.setattr(originals, "_READERS", {})
    monkeypatch.setattr(originals, "_given", [])
    monkeypatch.setattr("extract.named._HERE", {})
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    view = ("--view", f"crop:size={SIZE},store=none", "--shard_size", "4")
    extract("--teacher", "none", "--out", tmp_path / "cache", "--data", "folder:photos", *view)
    return tmp_path / "cache"


@pytest.fixture
def elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same cache, as another machine has copied it."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "another"))
    monkeypatch.setattr("extract.named._HERE", {})
    monkeypatch.setattr(originals, "_READERS", {})
    return cache


def harm(watched: Watched) -> list[str]:
    """Without the question which version of ours runs, and what a library makes when it is first imported."""
    return [fault for fault in watched.faults if "'git'" not in fault and "matplotlib" not in fault]


def distill(cache: Path, tmp_path: Path, *flags: str) -> Outcome:
    return command("distill", "--shards", cache, "--run_dir", tmp_path / "run", *TRAINING, "--devices", "cpu", *flags)


def test_the_machine_that_made_it_reads_it_from_any_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.named._HERE", {})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    viewset = ViewSet(viewset_of(cache))
    assert known(viewset.identity) == Data(f"folder:{tmp_path}/photos")
    assert viewset.row(0, 0)["pixels"].shape == (SIZE, SIZE, 3)
    extract("--teacher", "none", "--out", cache, "--views", "2")
    (tmp_path / "photos").rename(tmp_path / "moved")
    monkeypatch.setattr(originals, "_READERS", {})
    with pytest.raises(BadInput, match=rf"no folder is found at {tmp_path}/photos"):
        ViewSet(viewset.folder).row(1, 0)


def test_no_other_machine_opens_what_the_cache_names(elsewhere: Path, photos: Path, tmp_path: Path) -> None:
    told = ("(store=none)", "only the cache names its data (--data folder:photos)", "--read data=SCHEME:PATH")
    with watching(tmp_path) as watched:
        distill(elsewhere, tmp_path).refuses(*told)
        command("shards", "view", elsewhere, "--output", tmp_path / "sheet.png").refuses(*told)
        command("shards", "verify", elsewhere).succeeds()
        command("shards", "verify", elsewhere, "--render", "4").refuses(
            *told, "verify", "--render 1 --data SCHEME:PATH"
        )
        growth = ("extract", "--teacher", "none", "--out", elsewhere, "--views", "2")
        command(*growth).refuses("only the cache names its data", "--data folder:photos")
    assert harm(watched) == []
    assert not [path for path in watched.opened if str(photos) in path]


def test_who_names_the_data_once_needs_not_to_again(elsewhere: Path, photos: Path, tmp_path: Path) -> None:
    distill(elsewhere, tmp_path, "--read", "data=folder:nowhere").refuses("no folder is found at", "nowhere")
    distill(elsewhere, tmp_path, "--read", "check=once,data=folder:photos").succeeds()
    originals._given.clear()
    originals._READERS.clear()
    command("shards", "view", elsewhere, "--output", tmp_path / "sheet.png").succeeds()
    extract("--teacher", "none", "--out", elsewhere, "--views", "2")


@pytest.mark.slow
def test_a_mixture_has_data_for_each_view_set(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order; one that was named before needs no naming again, which is said."""
    write_photos(tmp_path / "others", seed=1)
    view = ("--view", f"crop:size={SIZE},store=none", "--shard_size", "4")
    extract("--teacher", "none", "--out", tmp_path / "second", "--data", "folder:others", *view)

    def another_machine(name: str) -> None:
        monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / name))
        monkeypatch.setattr("extract.named._HERE", {})
        monkeypatch.setattr(originals, "_READERS", {})
        originals._given.clear()

    def mixed(run: str, *flags: str) -> Outcome:
        return distill(Path(f"{elsewhere},{tmp_path}/second"), tmp_path / run, *flags)

    another_machine("third")
    told = mixed("one", "--read", "data=folder:others")
    told.refuses(f"{elsewhere}/", "which is other data now (folder:", "--read data=, of several view sets one for each")
    another_machine("fourth")
    told = mixed("none", "--read", "data=folder:others,data=folder:nowhere")
    told.refuses(f"{elsewhere}/", "none that are named are these: which is other data now", "cannot be opened")
    mixed("two", "--read", "data=folder:others,data=folder:photos").succeeds()
    monkeypatch.setattr(originals, "_READERS", {})
    done = mixed("again", "--read", "data=folder:others").succeeds()
    assert f"its data are those that were named before: folder:{tmp_path}/photos" in done.err
    weights = [(tmp_path / f"{run}/run/student.safetensors").read_bytes() for run in ("two", "again")]
    assert weights[0] == weights[1]


def test_other_data_of_that_name_are_no_such_data(elsewhere: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "class0/00.png").unlink()
    distill(elsewhere, tmp_path, "--read", f"data=folder:{photos}").refuses("which is other data now", "revision")
    assert known(ViewSet(viewset_of(elsewhere)).identity) is None


EVIL = ["hf:nobody/nothing", "imagenet", "folder:/", "wds:/tmp/{0..999999999}.tar", "parquet:/dev", "text:/etc/passwd"]


@pytest.mark.parametrize("data", EVIL)
def test_neither_the_network_nor_a_folder_is_asked_on_a_plans_word(elsewhere: Path, tmp_path: Path, data: str) -> None:
    folder = viewset_of(elsewhere)
    for name in ("plan.json", "viewset.json"):
        reseal(folder / name, lambda document: document["request"].update(data=data + "\x1b[2J"))
    reseal_records(folder, "viewset.json", "plan.json")
    (tmp_path / "work").mkdir()
    with watching(tmp_path) as watched, bounded(60, 2 << 30):
        told = distill(elsewhere, tmp_path)
        told.refuses("only the cache names its data", data)
        assert told.err.strip().isprintable()
        grown = command("extract", "--teacher", "none", "--out", elsewhere, "--views", "2")
        grown.refuses("only the cache names its data")
    assert harm(watched) == []


def test_a_second_teacher_says_that_it_compares_nothing(
    teacher: Path, elsewhere: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored pixels need no source: it is not opened, which is said."""
    cache = tmp_path / "stored"
    view = ("--view", f"crop:size={SIZE},format=png", "--shard_size", "4", "--devices", "cpu")
    extract("--teacher", "none", "--out", cache, "--data", f"folder:{photos}", *view)
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "third"))
    monkeypatch.setattr("extract.named._HERE", {})
    with watching(tmp_path) as watched:
        done = extract("--teacher", f"run:{teacher}", "--out", cache, "--devices", "cpu")
    assert "using the stored views" in done.err and "only the cache names its data" in done.err
    assert not [path for path in watched.opened if str(photos) in path]


def test_pipes_among_data_are_never_opened(cache: Path, photos: Path, tmp_path: Path) -> None:
    """Neither among a folder's images, nor as a table, a tar, a text or a file of captions."""
    from extract.sources import open_source

    os.mkfifo(photos / "class0/pipe.png")
    os.mkfifo(photos / "metadata.csv")
    with bounded(60, 2 << 30):
        source = open_source(f"folder:{photos}", "train")
        assert len(source.keys) == NUM and any("pipe.png" in note for note in source.notes)
        for scheme, ending in (("parquet", "parquet"), ("wds", "tar"), ("text", "txt"), ("text_files", "txt")):
            os.mkfifo(tmp_path / f"a.{ending}") if not (tmp_path / f"a.{ending}").exists() else None
            with pytest.raises(BadInput):
                open_source(f"{scheme}:{tmp_path}/a.{ending}", "train")
        (tmp_path / "coco").mkdir()
        os.mkfifo(tmp_path / "coco/dataset_coco.json")
        with pytest.raises(BadInput):
            open_source("coco", "train", str(tmp_path / "coco"))


def test_a_note_that_is_damaged_is_none(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = ViewSet(viewset_of(cache)).identity
    (note,) = (tmp_path / "home/named").iterdir()
    assert json.loads(note.read_bytes()) == {"data": f"folder:{tmp_path}/photos", "data_dir": None}
    monkeypatch.setattr("extract.named._HERE", {})
    for content in (b"", b"[]", b'{"data": 1}', b"\xff", b"x" * 100_000):
        note.write_bytes(content)
        assert known(identity) is None


def test_data_that_come_with_a_package_are_nobodys(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ("--data", "digits", "--limit", "4", "--view", "crop:size=8,store=none")
    extract("--teacher", "none", "--out", tmp_path / "digits", *view)
    monkeypatch.setattr("extract.named._HERE", {})
    monkeypatch.setattr(originals, "_READERS", {})
    assert ViewSet(viewset_of(tmp_path / "digits")).row(0, 0)["pixels"].shape == (8, 8, 3)


def test_a_plan_of_a_training_opens_no_data_on_the_caches_word(
    teacher: Path, elsewhere: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "stored"
    view = ("--view", f"crop:size={SIZE}", "--shard_size", "4", "--devices", "cpu")
    extract("--teacher", f"run:{teacher}", "--out", stored, "--data", f"folder:{photos}", *view)
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "third"))
    monkeypatch.setattr("extract.named._HERE", {})
    with watching(tmp_path) as watched:
        flags = ("--run_dir", tmp_path / "run", *TRAINING[2:], "--devices", "cpu")
        plan = ("distill", "--shards", stored, *flags, "--plan", "seconds=2")
        assert "only the cache names its teacher" in command(*plan).succeeds().out
        command("shards", "verify", stored, "--recompute", "1", "--teacher", f"run:{teacher}").succeeds()
        done = command(*plan).succeeds()
    assert "only the cache names its data" in done.out + done.err
    assert not [path for path in watched.opened if str(photos) in path]


def test_what_is_missing_is_extracted_from_named_data_alone(elsewhere: Path, tmp_path: Path) -> None:
    """The saved flags of a half-written set are the cache's word, too."""
    (viewset_of(elsewhere) / "viewset.json").unlink()
    told = distill(elsewhere, tmp_path, "--on_missing", "extract")
    told.refuses("only the cache names its data (--data folder:photos)", "--on_missing 'extract --data ...'")


def test_the_default_source_is_named_by_the_command_that_leaves_it_out(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewsets = [each for each in list_viewsets(cache) if each.request["data"] == "folder:photos"]
    typed = ExtractConfig(out=str(cache), teacher="none")
    assert viewsets and named(typed, replace(typed, data="imagenet"), viewsets) == Data("imagenet")
    assert named(typed, replace(typed, data="imagenet", data_dir="/theirs"), []) == Data("imagenet", "/theirs")
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "third"))
    monkeypatch.setattr("extract.named._HERE", {})
    assert named(typed, replace(typed, data="imagenet", data_dir="/theirs"), viewsets) is None
