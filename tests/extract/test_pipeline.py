"""Pipeline: what is stored is what the teacher says of the stored views, whoever did the work and however often."""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import SMALL, command, contents, extract, targetset_of, viewset_of, write_teacher
from PIL import Image

from extract.calibrate import calibrated
from extract.config import ExtractConfig
from extract.modalities.image import ImageInput
from extract.pipeline import Extraction
from extract.plan_targets import Part, plan_targets
from extract.plan_views import plan_views, stored_views
from extract.store import begin_targets, begin_views
from extract.teachers.base import Teacher
from shards.reader import TargetSet


def photos(folder: Path, bad: str | None = None) -> Path:
    """Six photos, of which `bad` is no image."""
    folder.mkdir()
    for index, name in enumerate("abcdef"):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        if name == bad:
            (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def of_photos(folder: Path, *flags: str) -> tuple[str, ...]:
    return ("--data", f"folder:{folder}", "--image_size", "16", "--shard_size", "4", *flags)


def test_a_second_run_has_nothing_to_do(cache: Path, teacher: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in viewset_of(cache).rglob("*")}
    done = extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32")
    assert "done: 0 views made, 0 teacher forwards" in done.out
    assert {path: path.stat().st_mtime_ns for path in viewset_of(cache).rglob("*")} == times


def test_the_closing_line_counts_what_was_done(tmp_path: Path, teacher: Path) -> None:
    done = extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL, "--views", "2")
    assert "done: 80 views made, 80 teacher forwards" in done.out
    size = sum(len(data) for name, data in contents(tmp_path / "cache").items() if not name.endswith("set.json"))
    told = re.search(r"([\d.]+) kB in the cache", done.out)
    assert told and float(told[1]) == pytest.approx(size / 1000, abs=0.06)
    assert done.out.rstrip().endswith(str(viewset_of(tmp_path / "cache")))


def test_one_process_leaves_nothing_undone_when_the_other_was_quicker(tmp_path: Path, teacher: Path) -> None:
    """Shares are cut by place: what the first process has committed must not shift the second one's share."""
    config = ExtractConfig("none", str(tmp_path), data="digits", limit=23, shard_size=4, view="size=8", views=2)
    views = plan_views(stored_views(config), None)
    views.folder.mkdir()
    begin_views(views, b"")
    counts = [
        Extraction([Part(views)], torch.device("cpu"), "float32", 8, 1, False, rank=rank, num_processes=3).run()
        for rank in range(3)
    ]
    assert views.missing() == []
    assert [count.views for count in counts] == [16, 16, 14]  # 12 shards of 4 samples, the two last ones of 3


def test_a_second_teacher_reads_the_views_and_needs_no_source(tmp_path: Path, teacher: Path) -> None:
    source = photos(tmp_path / "photos")
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *of_photos(source))
    views = contents(viewset_of(tmp_path / "cache"))
    shutil.rmtree(source)
    second = write_teacher(tmp_path / "second", seed=1)
    done = extract("--teacher", f"run:{second}", "--out", tmp_path / "cache")
    assert "0 views made, 6 teacher forwards" in done.out
    assert "using the stored views" in done.err  # said aloud: they cannot be compared with the source
    after = contents(viewset_of(tmp_path / "cache"))
    assert {name: after[name] for name in views} == views
    # and it says what it would have said with the source at hand
    restored = photos(tmp_path / "photos")
    extract("--teacher", f"run:{second}", "--out", tmp_path / "direct", *of_photos(restored))
    assert {
        name: data for name, data in contents(targetset_of(tmp_path / "cache", "second")).items() if "/c/" in name
    } == {name: data for name, data in contents(targetset_of(tmp_path / "direct")).items() if "/c/" in name}


def test_more_views_need_the_source(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos")
    extract("--teacher", "none", "--out", tmp_path / "cache", *of_photos(source))
    shutil.rmtree(source)
    refused = command("extract", "--teacher", "none", "--out", tmp_path / "cache", "--views", "2")
    refused.refuses("no folder is found")


class ThreeOutputs(torch.nn.Module):
    """Computes what it is asked for and notes it."""

    def __init__(self, names: tuple[str, ...] = ("logits", "pooled", "tokens")) -> None:
        super().__init__()
        self.names, self.computed = names, set[str]()

    def only(self, names: Collection[str]) -> "ThreeOutputs":
        chosen = ThreeOutputs(tuple(names))
        chosen.computed = self.computed
        return chosen

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        self.computed.update(self.names)
        rows = images.flatten(1)[:, :32]
        outputs = {"logits": rows, "pooled": rows[:, :8], "tokens": rows.unflatten(1, (4, 8))}
        return {name: outputs[name] for name in self.names}


def test_nothing_is_computed_that_is_not_kept(tmp_path: Path) -> None:
    """Neither for the calibration of a codec nor for the rows."""
    network = ThreeOutputs()
    inputs = ImageInput(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    outputs = {"logits": (32,), "pooled": (8,), "tokens": (4, 8)}
    teacher = Teacher("three", "three", "0" * 64, inputs, outputs, network, None)
    for target, computed in (("pooled", {"pooled"}), ("tokens", {"tokens"}), ("logits,pooled", {"logits"})):
        network.computed.clear()
        flags = {"data": "digits", "limit": 10, "shard_size": 6, "target": target}
        stored = stored_views(ExtractConfig("three", str(tmp_path), **flags))  # type: ignore[arg-type]
        config, views = stored.config, plan_views(stored, inputs)
        targets = plan_targets(config, views, teacher)
        begin_views(views, b"")
        for job in targets:
            begin_targets(job, views, b"")
        extraction = Extraction([Part(views, teacher, targets)], torch.device("cpu"), "float32", 4, 1, False)
        calibrated(extraction).run()
        assert network.computed == computed  # of the last two the pooled rows were there already


def test_a_teacher_that_leaves_float16_is_refused(tmp_path: Path) -> None:
    def widen(network: torch.nn.Module) -> None:
        network.head.bias.data[3] = 1e5  # type: ignore[union-attr]

    teacher = write_teacher(tmp_path / "teacher", change=widen)
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    command("extract", *flags, "--codec", "float16").refuses("float16's range", "--codec float32")
    extract(*flags, "--codec", "float32")


def test_several_targets_come_from_one_forward(tmp_path: Path, teacher: Path) -> None:
    flags = ("--teacher", f"run:{teacher}", *SMALL)
    done = extract(*flags, "--out", tmp_path / "both", "--target", "logits,pooled", "--codec", "topk:3,float32")
    assert "40 views made, 40 teacher forwards" in done.out
    for target, codec in (("logits", "topk:3"), ("pooled", "float32")):
        extract(*flags, "--out", tmp_path / target, "--target", target, "--codec", codec)
        alone, together = targetset_of(tmp_path / target), targetset_of(tmp_path / "both", target)
        assert alone.name == together.name
        files = [contents(folder) for folder in (alone, together)]
        assert {k: v for k, v in files[0].items() if "/c/" in k} == {k: v for k, v in files[1].items() if "/c/" in k}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--target", "logit"), "--target logit: run-teacher gives logits, pooled"),
        (("--target", "logits,"), "--target"),
        (("--target", "logits,logits"), "--target logits,logits"),
        (("--codec", "float16,float32"), "one codec, or one for each"),
        (("--codec", "flaot16"), "unknown codec 'flaot16': did you mean float16"),
        (("--codec", "topk:0"), "--codec topk:0"),
        (("--weights", "DEFAULT"), "brings its own weights"),
        (("--image_size", "5000"), "--view size=5000"),
    ],
    ids=str,
)
def test_targets_that_make_no_sense_are_refused(
    tmp_path: Path, teacher: Path, flags: tuple[str, ...], says: str
) -> None:
    command("extract", "--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL, *flags).refuses(says)
    assert contents(tmp_path / "cache") == {}


def test_reduced_precision_is_near_and_says_so_in_its_identity(cache: Path, teacher: Path) -> None:
    extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32", "--precision", "bfloat16")
    folders = sorted((viewset_of(cache) / "targets").iterdir())
    by_precision = {TargetSet(folder).identity["precision"]: TargetSet(folder) for folder in folders}
    rows = {name: one.read(0, np.arange(40))["values"] for name, one in by_precision.items()}
    np.testing.assert_allclose(rows["bfloat16"], rows["float32"], atol=0.05)
    assert not np.array_equal(rows["bfloat16"], rows["float32"])


def test_a_full_disk_is_told_before_the_first_forward(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's answer is replaced, for no test can have a full disk."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    refused = command("extract", "--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    refused.refuses("are needed and 1.0 kB are free", "no codec", "--limit")
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_another_command_writes_is_not_touched(tmp_path: Path, teacher: Path) -> None:
    from shards.lock import writing

    with writing(tmp_path / "cache"):
        refused = command("extract", "--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    refused.refuses("another extract is writing here")
    assert contents(tmp_path / "cache") == {}


def test_leftovers_of_a_killed_run_are_removed(cache: Path, teacher: Path) -> None:
    folder = viewset_of(cache)
    left = [folder / "views/.partial-1-v00-00000.tar", targetset_of(cache) / "values/c/0/0/.partial-77-0"]
    for path in left:
        path.write_bytes(b"half")
    extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32")
    assert not any(path.exists() for path in left)


def test_the_saved_configuration_makes_the_same_cache_again(pristine: Path, tmp_path: Path) -> None:
    saved = targetset_of(pristine) / "extract.yaml"
    assert "devices" not in saved.read_text()  # it differs between machines and changes nothing
    extract("--config", saved, "--out", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pristine)


def test_nothing_is_written_outside_the_cache(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    assert not any(elsewhere.iterdir())
    assert list((tmp_path / "cache").iterdir()) == [viewset_of(tmp_path / "cache")]


def test_every_document_of_a_set_is_json_that_people_can_read(pristine: Path) -> None:
    for path in viewset_of(pristine).rglob("*set.json"):
        document = json.loads(path.read_text())
        assert document["format"] == 1 and len(path.read_text().splitlines()) > 10
