"""Several view sets that train as one: exact batches, each set's own codecs, what is refused."""

import json
import shutil
from pathlib import Path

import caches
import numpy as np
import pytest
import torch
from test_batch_sequence import global_batches
from test_kills import _wait
from training import OTHER, TRAIN, distill, last, make_recipe, same, write_recipe

from distill.data import CacheData
from distill.holding import open_training
from distill.run import build_module
from evaluate.cache import trained_on
from shards.decode import read_decoded
from shards.errors import BadInput
from shards.loader import Batch


def open_mixture(shards: str, targets: str = "one-logits-float32", **values: object) -> CacheData:
    return CacheData(open_training(shards, targets, False), make_recipe(**values), 1)


@pytest.mark.slow
def test_a_mixture_is_the_same_for_any_ranks_and_parts(shards: Path, other: Path) -> None:
    named = f"{shards}=1,{other}=2"
    reference = sequence(open_mixture(named), 1)
    assert len(reference) == 3 * ((TRAIN + OTHER) // 16)
    for world_size, accumulate in ((1, 2), (2, 1), (2, 4), (4, 2)):
        assert sequence(open_mixture(named, accumulate=accumulate), world_size) == reference
    assert sequence(open_mixture(f"{shards},{other}"), 1) != reference


def sequence(data: CacheData, world_size: int, epochs: int = 3) -> list[list[tuple[int, int, int, int]]]:
    """The global batches, as (component, pass, view, sample) of all ranks and parts together, sorted."""
    ranks = [data.training_batches(world_size, rank) for rank in range(world_size)]
    accumulate, found = data.recipe.accumulate, []
    for _ in range(epochs):
        parts = [[read(batch) for batch in rank] for rank in ranks]
        for start in range(0, len(parts[0]), accumulate):
            pieces = [rows for part in parts for rows in part[start : start + accumulate]]
            assert {len(rows) for rows in pieces} == {16 // world_size // accumulate}
            found.append(sorted(row for rows in pieces for row in rows))
    return found


def read(batch: Batch) -> list[tuple[int, int, int, int]]:
    return [(r.component, r.epoch, r.view, sample) for r in batch.readings for sample in r.samples.tolist()]


@pytest.mark.parametrize("position", [1, 6, 7, 11])
def test_a_mixture_goes_on_from_any_position(position: int, shards: Path, other: Path) -> None:
    named = f"{shards}=1,{other}=2"
    whole = open_mixture(named).training_batches()
    reference = [read(batch) for _ in range(3) for batch in whole]
    resumed = open_mixture(named).training_batches()
    resumed.position = position
    following = [read(batch) for batch in resumed] + [read(batch) for batch in resumed]
    assert following == reference[position : position + len(following)]


def test_one_set_among_many_ways_to_name_it_is_read_as_ever(shards: Path) -> None:
    assert global_batches(open_mixture(f"{shards}=3"), 1) == global_batches(open_mixture(str(shards)), 1)


def test_each_row_is_decoded_by_its_own_sets_codec(own_shards: Path, other: Path, teachers: dict[str, Path]) -> None:
    machine = ("--out", own_shards, "--devices", "cpu")
    caches.extract("--teacher", f"run:{teachers['one']}", "--codec", "int8", *machine)
    data = open_mixture(f"{own_shards},{other}", "one-logits-int8", validation_fraction=0.2)
    module = build_module(data, data.recipe)
    codecs = module.codecs[0]
    assert not torch.equal(codecs[0].statistics.mean, codecs[1].statistics.mean)
    mixed = 0
    for batch in data.training_batches():
        (decoded,) = module.targets(batch, module.training_sets, module.codecs)
        expected = []
        for part in batch.readings:
            targetset = data.training.components[part.component].targetsets[0]
            expected.append(read_decoded(targetset, codecs[part.component], part.view, part.samples))
        assert torch.equal(decoded.rows, torch.cat(expected))
        mixed += len({part.component for part in batch.readings}) == 2
    assert mixed > 2


def test_validation_is_of_each_set_and_a_mean_over_all_samples(shards: Path, other: Path, tmp_path: Path) -> None:
    data = open_mixture(f"{shards},{other}", validation_fraction=0.3)
    split, held = data.validation_samples
    assert data.splits[0] is not None and data.splits[1] is None and 0 < len(held) < OTHER
    assert not set(held.tolist()) & set(data.train_samples[1].tolist()) and len(data.train_samples[0]) == TRAIN
    for world_size in (1, 2, 3):
        parts = [list(data.validation_batches(world_size, rank)) for rank in range(world_size)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        seen = [(r.component, s) for part in parts for b in part for r in b.readings for s in r.samples.tolist()]
        assert sorted(seen) == [(0, s) for s in split.tolist()] + [(1, s) for s in held.tolist()]
    recipe = write_recipe(tmp_path / "test.yaml", validation_fraction=0.3, epochs=1)
    flags = ("--targets", "one-logits-float32", "--recipe", recipe)
    outcome = distill(f"{shards},{other}", tmp_path / "run", *flags).succeeds()
    assert f"25 samples of {data.validation.viewset.folder.name}; {len(held)} samples, 0.3 of" in outcome.out
    header, *rows = (tmp_path / "run/logs/version_0/metrics.csv").read_text().splitlines()
    names = [f"val_loss/{part.viewset.folder.name}" for part in data.validation.components]
    (row,) = (values for values in ({**zip_row(header, row)} for row in rows) if values["val_loss"])
    ofs, counts = [float(row[name]) for name in names], [len(split), len(held)]
    assert float(row["val_loss"]) == pytest.approx(np.average(ofs, weights=counts), rel=1e-5)


def zip_row(header: str, row: str) -> dict[str, str]:
    return dict(zip(header.split(","), row.split(","), strict=True))


@pytest.mark.slow
def test_a_killed_run_of_a_mixture_ends_as_the_whole_one(shards: Path, other: Path, tmp_path: Path) -> None:
    import multiprocessing
    import os
    import signal

    named = f"{shards}=1,{other}=2"
    recipe = write_recipe(tmp_path / "test.yaml", epochs=12, checkpoint_every=2)
    flags = ("--targets", "one-logits-float32", "--recipe", recipe)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distill.run", "training"])
    process = context.Process(target=distill, args=(named, tmp_path / "killed", *flags))
    process.start()
    _wait(tmp_path / "killed/checkpoints/last.ckpt", process)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    assert not (tmp_path / "killed/summary.json").exists()
    assert "resumes at step" in distill(named, tmp_path / "killed", *flags).succeeds().out
    distill(named, tmp_path / "whole", *flags).succeeds()
    assert same(tmp_path / "killed", tmp_path / "whole")
    assert last(tmp_path / "whole")["global_step"] == 12 * ((TRAIN + OTHER) // 16)

    summary, run = (json.loads((tmp_path / "whole" / name).read_text()) for name in ("summary.json", "run.json"))
    viewsets = [caches.viewset_of(shards), caches.viewset_of(other)]
    assert summary["cache"] == [str(shards), str(other)] and summary["viewset"] == [each.name for each in viewsets]
    assert [len(names) for names in summary["targetsets"]] == [1, 1] and len(summary["extracted"]) == 2
    assert run["cache"]["shares"] == [1.0, 2.0] and run["num_views"] == [3, 2]
    trained = trained_on(tmp_path / "whole")
    assert trained.viewset.folder == viewsets[0] and all(each.whole for each in trained.targetsets)
    distill(f"{shards}=1,{other}=3", tmp_path / "whole", *flags).refuses("holds another run", "cache.shares")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("{a}=1,{b}", "a share for each set, or for none; found 1"),
        ("{a}=0,{b}=1", "PATH=SHARE with a number above 0, found '0'"),
        ("{a}=nan,{b}=1", "above 0"),
        ("{a}=x,{b}=1", "above 0, found 'x'"),
        ("{a},{a}", "twice; add the shares up"),
        ("{a},{b}/none", "no such folder"),
        ("{a},", "holds no view set|no such folder"),
        ("{a}=1,{b}=0.001", "the weight 0.001 is less than one of the"),
    ],
)
def test_mixtures_that_are_none(named: str, message: str, shards: Path, other: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_mixture(named.format(a=shards, b=other))


def test_a_path_with_a_comma_or_an_equals_sign_is_one_path(own_shards: Path, other: Path) -> None:
    comma = own_shards.with_name("a,b=2")
    own_shards.rename(comma)
    assert open_mixture(str(comma)).training.components[0].viewset.folder.parent == comma
    equals = comma.rename(comma.with_name("a=2"))
    assert open_mixture(f"{equals},{other}").training.shares is None
    assert open_mixture(f"{equals}=3,{other}=1").training.shares == [3, 1]
    with pytest.raises(BadInput, match="a=2/none: no such folder"):  # as a folder of a day: date=2026-11-27/cache
        open_mixture(f"{equals}/none")


def test_sets_of_other_views_or_classes_are_refused(shards: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    flags = ("--data", "digits", "--limit", "20", "--devices", "cpu", "--teacher", "none")
    caches.extract("--out", small, *flags, "--view", "size=8")
    with pytest.raises(BadInput, match=r"has fields .*8, 8, 3.* has fields .*16, 16, 3.*--view"):
        open_mixture(f"{shards},{small}")
    from PIL import Image

    for number in range(20):
        path = tmp_path / f"photos/class{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 12, 9, 200)).save(path)
    photos = tmp_path / "photos-cache"
    view = ("--view", f"crop:size={caches.IMAGE_SIZE}")
    caches.extract("--teacher", "none", "--data", f"folder:{tmp_path / 'photos'}", "--out", photos, *view)
    with pytest.raises(BadInput, match="other classes than"):
        open_training(f"{shards},{photos}", None, True)


def test_what_a_set_lacks_is_named_with_the_command_that_adds_it(shards: Path, other: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(other, tmp_path / "own"))
    with pytest.raises(BadInput, match="lacks logits of run-two as float32") as refused:
        open_mixture(f"{shards},{own}", "two")
    command = str(refused.value).partition("; python -m extract ")[2].removesuffix(" adds it")
    caches.extract(*command.split(), "--devices", "cpu")
    data = open_mixture(f"{shards},{own}", "two", validation_fraction=0.0)
    assert [len(samples) for samples in data.train_samples] == [TRAIN, OTHER]
    batches = [batch for _ in range(2) for batch in data.training_batches()]
    assert {len(batch.samples) for batch in batches} == {16}
