"""A cache that an earlier revision wrote is read, verified, trained from and grown, and written anew byte for byte."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from caches import command, contents, extract, targetset_of, viewset_of

from shards.codecs.features import Features
from shards.codecs.kept import POSITIONS
from shards.decode import codec_of, read_decoded
from shards.layout import CALIBRATION
from shards.mirror import LOCAL_CACHE
from shards.reader import TargetSet, ViewSet, check_pair
from shards.zarrs import metadata_bytes, pack, specs_of

BEFORE = Path(__file__).parents[1] / "data" / "cache_v1"
CPU = ("--out", "cache", "--devices", "cpu")
LOGITS, DENSE = ("--teacher", "run:teacher"), ("--teacher", "data2vec2", "--weights", "tiny.pt")
KEPT = ("--codec", "int8", "--keep_tokens", "6")
SETS: dict[str, tuple[str, ...]] = {
    "logits-float32": (*LOGITS, "--codec", "float32"),
    "logits-topk3": (*LOGITS, "--codec", "topk:3"),
    "layer_mean-float32": (*DENSE, "--codec", "float32"),
    "layer_mean-int8-5": (*DENSE, "--codec", "int8"),
    "layer_mean-int8-6tokens": (*DENSE, *KEPT),
    "layer_mean-int4": (*DENSE, "--codec", "int4"),
}
VIEWS = ("--teacher", "none", "--data", "digits", "--shard_size", "5", "--image_size", "16", *CPU)
CACHE = BEFORE / "cache"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache beside its teachers, in the current folder."""
    folder = Path(shutil.copytree(BEFORE, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder / "cache"


def float32_rows(name: str, view: int) -> torch.Tensor:
    """What the teacher of the set `name` said, as it was stored."""
    exact = TargetSet(targetset_of(CACHE, f"{name.partition('-')[0]}-float32"))
    return torch.from_numpy(exact.read(view, np.arange(exact.num_samples))["values"])


def test_it_is_whole_and_listed(here: Path) -> None:
    assert "shards verify: whole: " in command("shards", "verify", here).succeeds().out
    lines = command("shards", "list", here).succeeds().out.splitlines()
    assert len(lines) == 11 and all(line.endswith("whole") for line in lines[1:])
    assert command("shards", "info", here).succeeds().out.count("distil from it") == 8


def test_its_views_are_read(here: Path) -> None:
    for split, num_samples, num_views in (("train", 14, 2), ("validation", 6, 1)):
        views = ViewSet(viewset_of(here, split))
        assert (len(views.usable), views.num_views, views.identity["image_size"]) == (num_samples, num_views, 16)
        for view in range(num_views):
            for sample in views.usable.tolist():
                facts = json.loads(views.storage.content(view, sample, "json"))
                assert (facts["key"], facts["view"]) == (views.plan.keys[sample], view)
                assert views.storage.content(view, sample, "cls") == str(facts["label"]).encode()
                assert views.storage.content(view, sample, "jpg")[:2] == b"\xff\xd8"


@pytest.mark.parametrize("name", SETS)
def test_its_rows_are_read(here: Path, name: str) -> None:
    """To within what the codec lost when they were written, which the manifest says of the plan's first rows."""
    targets = TargetSet(targetset_of(here, name))
    check_pair(ViewSet(viewset_of(here)), targets)
    codec = codec_of(targets)
    for view in range(2):
        decoded, exact = read_decoded(targets, codec, view, np.arange(14)), float32_rows(name, view)
        if isinstance(decoded, Features):
            decoded, exact = decoded.rows, decoded.take_from(exact)
        if name == "logits-topk3":
            exact = exact.softmax(-1).gather(-1, decoded.classes)
            decoded = decoded.log_probabilities.exp()
        lost = targets.manifest.codec_error["largest_difference"]
        assert (decoded - exact).abs().max() <= 2 * lost  # of all rows, not the first alone


@pytest.mark.parametrize("name", SETS)
def test_its_rows_encoded_again_are_the_same_bytes(name: str) -> None:
    folder = targetset_of(CACHE, name)
    targets = TargetSet(folder)
    codec, specs = codec_of(targets), specs_of(targets.manifest)
    for view in range(2):
        rows: Any = float32_rows(name, view)
        if POSITIONS in specs:
            rows = Features.of(rows, torch.from_numpy(targets.read(view, np.arange(14))[POSITIONS]).long())
        for array, values in codec.encode(rows).items():
            spec = specs[array]
            assert metadata_bytes(spec.metadata(2)) == (folder / array / "zarr.json").read_bytes()
            for shard in range(3):
                packed = pack(spec, values[5 * shard : 5 * (shard + 1)].numpy())
                assert packed == (folder / spec.shard_path(view, shard)).read_bytes()


@pytest.mark.parametrize(("split", "flags"), [("train", ("--limit", "14", "--views", "2")), ("validation", ("6",))])
def test_its_views_made_again_are_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, flags: tuple[str, ...]
) -> None:
    """Tars, plan and saved flags; commit records and the manifest but for the rows' checksums."""
    monkeypatch.chdir(tmp_path)
    extract(*VIEWS, "--split", split, *(flags if split == "train" else ("--limit", *flags)))
    written = contents(viewset_of(CACHE, split))
    expected = {name: data for name, data in written.items() if not name.startswith("targets/")}
    assert without_checksums(contents(viewset_of(tmp_path / "cache", split))) == without_checksums(expected)


def without_checksums(files: dict[str, bytes]) -> dict[str, Any]:
    """The rows' checksums, which this revision adds to commit records, are left out, and the hashes that cover them."""
    found: dict[str, Any] = dict(files)
    for name in files:
        if name == "viewset.json" or name.startswith("commits/"):
            document = json.loads(files[name])
            document.pop("checksums", None)
            document.pop("sha256")
            document["files"] = {n: each for n, each in document["files"].items() if not n.startswith("commits/")}
            found[name] = document
    return found


def without_rows(folder: Path) -> dict[str, Any]:
    """Every file of a target set but the bytes that hang on a processor's rounding: rows, statistics, and hashes."""
    found: dict[str, Any] = {}
    for name, data in contents(folder).items():
        if "/c/" in name or name == CALIBRATION:
            found[name] = len(data)
        elif name == "targetset.json" or name.startswith("commits/"):
            document = json.loads(data)
            for field in ("checksums", "device", "devices"):  # which this revision adds
                document.pop(field, None)
            for field in ("sha256", "calibration"):
                assert document.pop(field, None) is None or field == "sha256" or CALIBRATION in contents(folder)
            document["codec_error"] = sorted(document["codec_error"])
            document["files"] = {name: record["size"] for name, record in document["files"].items()}
            found[name] = {key: value for key, value in document.items() if key != "files"}
            found[name]["files"] = {n: size for n, size in document["files"].items() if not n.startswith("commits/")}
        else:
            found[name] = data
    return found


@pytest.mark.parametrize("name", SETS)
def test_its_targets_made_again_are_the_same_documents(here: Path, name: str) -> None:
    folder = targetset_of(here, name)
    shutil.rmtree(folder)
    extract(*SETS[name], *CPU, "--split", "train")
    assert targetset_of(here, name) == folder  # its identity, too
    assert without_rows(folder) == without_rows(targetset_of(CACHE, name))
    fresh, stored = TargetSet(folder), TargetSet(targetset_of(CACHE, name))
    assert fresh.manifest.codec_error == pytest.approx(stored.manifest.codec_error, rel=0.01, abs=1e-5)


def test_the_same_command_again_changes_no_byte(here: Path) -> None:
    """Nor does it say of rows which device computed them, as nobody knows."""
    before = contents(here)
    for flags in SETS.values():
        assert "0 teacher forwards" in extract(*flags, *CPU, "--split", "train").out
    assert contents(here) == before
    assert TargetSet(targetset_of(here, "logits-topk3")).manifest.devices is None


@pytest.mark.parametrize("name", ["logits-float32", "layer_mean-float32"])
def test_a_half_written_set_is_finished_as_it_was_begun(here: Path, name: str) -> None:
    """Of 6 samples in shards of 5: its last shard is padded, as that revision wrote small sets."""
    folder = targetset_of(here, name, "validation")
    for path in (folder / "targetset.json", folder / "commits/v00-00001.json"):
        path.unlink()
    extract(*SETS[name], *CPU, "--split", "validation")
    assert without_rows(folder) == without_rows(targetset_of(CACHE, name, "validation"))


def test_it_grows_by_a_view(here: Path) -> None:
    before = contents(here)
    extract(*VIEWS, "--limit", "14", "--views", "3")
    for flags in SETS.values():
        extract(*flags, *CPU)
    assert "shards verify: whole: " in command("shards", "verify", here).succeeds().out
    grown = contents(here)
    same = {name for name in before if not name.endswith(("set.json", "/zarr.json"))}
    assert {name: grown[name] for name in same} == {name: before[name] for name in same}
    for name in (name for name in before if name.count("/") == 4 and name.endswith("/zarr.json")):
        old, new = json.loads(before[name]), json.loads(grown[name])
        views = 3 if "-train-" in name else 1
        assert new == old | {"shape": [views, *old["shape"][1:]]}
    for name in SETS:
        targets = TargetSet(targetset_of(here, name))
        assert targets.num_views == 3
        np.testing.assert_array_equal(
            targets.read(1, np.arange(14))["values" if "topk" not in name else "classes"],
            TargetSet(targetset_of(CACHE, name)).read(1, np.arange(14))["values" if "topk" not in name else "classes"],
        )


@pytest.mark.parametrize(
    ("targets", "flags", "init"),
    [
        ("logits-topk3", ("--recipe", "digits", "--student", "convnet:width=4,depth=1"), ()),
        ("int8-6tokens", ("--recipe", "distil-data2vec2", "--student", "data2vec2:depth=1"), ("--init", "tiny.pt")),
    ],
)
def test_a_student_learns_from_it(
    here: Path, targets: str, flags: tuple[str, ...], init: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the student begins with the teacher's weights, these are named once on each machine."""
    monkeypatch.setenv(LOCAL_CACHE, str(here.parent / "home"))
    common = ("--shards", "cache", "--targets", targets, "--devices", "cpu", "--batch_size", "4", "--max_steps", "2")
    if init:
        refused = command("distill", *common, *flags, "--run_dir", "refused")
        refused.refuses("only the cache names its teacher", "--init: give the file of its weights")
    for run, once in (("first", init), ("second", ())):
        trained = command("distill", *common, *flags, *once, "--run_dir", run).succeeds()
        assert "distill: done: 2 steps" in trained.out
