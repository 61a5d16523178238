"""What a run reads: what --shards and --targets name, what is held out, what is refused."""

import shutil
from pathlib import Path
from typing import Any

import caches
import numpy as np
import pytest
from training import TRAIN, VALIDATION, distill, make_recipe, open_data, write_recipe

from distill.data import CacheData
from distill.holding import Holding, open_training
from distill.validation import open_validation
from shards.errors import BadInput, Damaged, Incomplete
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST
from shards.reader import Component


def test_a_cache_a_view_set_and_a_target_set_name_the_same(shards: Path) -> None:
    viewset, targetset = caches.viewset_of(shards), caches.targetset_of(shards, "topk3")
    for named, targets in ((shards, "topk3"), (viewset, "topk3"), (targetset, None)):
        holding = open_training(str(named), targets, False)
        assert holding.viewset.folder == viewset and [held.folder for held in holding.targetsets] == [targetset]
        facts = {"source": "digits", "modality": "image", "target": "logits", "teacher": "run-one"}
        assert holding.facts() == facts


def test_a_path_and_a_flag_that_name_two_target_sets_are_refused(shards: Path) -> None:
    with pytest.raises(BadInput, match="--targets two: the path names another target set"):
        open_training(str(caches.targetset_of(shards, "topk3")), "two", False)
    with pytest.raises(BadInput, match=r"--targets run-.*: the recipe learns from the labels alone"):
        open_training(str(caches.targetset_of(shards, "topk3")), None, True)


def test_a_cache_in_a_folder_called_targets(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    copy = shutil.copytree(shards, tmp_path / "targets" / "cache")
    assert open_training(str(copy), "topk3", False).viewset.folder.parent == copy


def test_several_target_sets_are_listed_and_weights_taken(shards: Path) -> None:
    with pytest.raises(BadInput, match=r"several target sets fit; name one, or .*: run-one-.*, run-one-.*, run-two-"):
        open_training(str(shards), None, False)
    holding = open_training(str(shards), "one-logits-float32=0.7,two=0.3", False)
    assert holding.weights == [0.7, 0.3]
    assert [held.manifest.teacher for held in holding.targetsets] == ["run-one", "run-two"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("three", "no target set fits; .*run-two"),
        ("one", "several target sets fit"),
        ("", "no target set fits|several target sets fit"),
        ("two=x", "a number above 0, found 'x'"),
        ("two=0", "above 0"),
        ("two=-1", "above 0"),
        ("two=nan", "above 0"),
        ("two=inf", "above 0"),
        ("two=", "above 0"),
        ("two,two", "twice"),
    ],
)
def test_targets_that_name_nothing(shards: Path, targets: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_training(str(shards), targets, False)


def test_several_training_view_sets_are_listed(own_shards: Path) -> None:
    first, other = caches.viewset_of(own_shards), own_shards.parent / "other"
    caches.extract("--out", other, "--teacher", "none", *caches.SMALL)
    caches.viewset_of(other).rename(own_shards / caches.viewset_of(other).name)
    with pytest.raises(
        BadInput, match=r"several view sets fit; name one, or several as .*: .*digits-train-.*, .*digits-train-"
    ):
        open_training(str(own_shards), None, False)
    assert open_training(str(first), "two", False).viewset.folder == first


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        open_training(str(tmp_path / "none"), None, False)
    with pytest.raises(BadInput, match="holds no view set; python -m extract"):
        open_training(str(tmp_path), None, False)


def test_half_written_ones_are_refused(own_shards: Path) -> None:
    caches.targetset_of(own_shards, "two").joinpath(TARGETSET_MANIFEST).unlink()
    with pytest.raises(Incomplete, match="half written"):
        open_training(str(own_shards), "two", False)
    caches.viewset_of(own_shards, "validation").joinpath(VIEWSET_MANIFEST).unlink()
    holding = open_training(str(own_shards), "one-logits-float32", False)  # the validation split does not matter here
    found, reason = open_validation(holding.components[0])
    assert found is None and "half written" in reason
    caches.viewset_of(own_shards).joinpath(VIEWSET_MANIFEST).unlink()
    with pytest.raises(Incomplete, match="half written"):
        open_training(str(own_shards), "one-logits-float32", False)


def test_a_target_set_of_other_views_is_refused(own_shards: Path) -> None:
    held = caches.targetset_of(own_shards, split="validation")
    shutil.copytree(held, caches.viewset_of(own_shards) / "targets" / held.name.replace("run-one", "stray"))
    with pytest.raises(Damaged, match="made from view set"):
        open_training(str(own_shards), "stray", False)


def test_the_validation_split_of_the_same_teacher_is_used(shards: Path) -> None:
    data = open_data(shards)
    assert data.validation.viewset.identity["split"] == "validation"
    assert len(data.validation_samples[0]) == VALIDATION and len(data.train_samples[0]) == TRAIN
    assert data.validation.targetsets[0].identity["teacher"] == data.training.targetsets[0].identity["teacher"]
    assert f"{VALIDATION} samples of digits-validation" in data.describe_validation()


def test_validation_in_another_codec_is_better_than_none(own_shards: Path, tmp_path: Path) -> None:
    data = open_data(own_shards, "topk3")
    assert data.validation.targetsets[0].manifest.codec == "float32"
    recipe = write_recipe(tmp_path / "test.yaml")
    distill(own_shards, tmp_path / "run", "--targets", "topk3", "--recipe", recipe).succeeds()
    assert f"{VALIDATION} samples of digits-validation" in data.describe_validation()


@pytest.mark.parametrize("targets", ["two", "one-logits-float32,two"])
def test_else_a_fraction_is_held_out_by_key_and_never_trained_on(shards: Path, targets: str) -> None:
    data = open_data(shards, targets, validation_fraction=0.2)
    (held,), (trained,) = data.validation_samples, data.train_samples
    assert data.splits == [None] and "lacks the teacher's target set" in data.describe_validation()
    assert 0 < len(held) < len(trained) and not set(held) & set(trained) and len(held) + len(trained) == TRAIN
    batches = data.training_batches()
    seen = {sample for _ in range(6) for batch in batches for sample in batch.samples.tolist()}
    assert seen == set(trained.tolist())
    for seed in (1, 2):  # by key alone: neither the seed nor the batch size moves it
        assert np.array_equal(
            open_data(shards, targets, validation_fraction=0.2, seed=seed).validation_samples[0], held
        )
    larger = open_data(shards, targets, validation_fraction=0.4).validation_samples[0]
    assert set(held) < set(larger)


def test_labels_alone_need_no_target_set_and_use_the_validation_split(shards: Path) -> None:
    data = open_data(shards, None, objective="supervised", label_weight=1.0)
    assert data.training.targetsets == () and data.splits != [None]
    batch = next(iter(data.training_batches()))
    assert batch.targets == {} and batch.labels is not None and len(batch.labels) == 16
    with pytest.raises(BadInput, match="learns from the labels alone"):
        open_training(str(shards), "two", True)


def test_views_without_a_target_set_pick_the_supervised_recipe(own_shards: Path, tmp_path: Path) -> None:
    shutil.rmtree(caches.viewset_of(own_shards) / "targets")
    flags = ("--student", "convnet:width=4,depth=2", "--batch_size", "16", "--epochs", "1")
    outcome = distill(own_shards, tmp_path / "run", *flags).succeeds()
    assert "supervised: convnet" in outcome.out and "from the labels" in outcome.out


def test_data_without_labels(own_shards: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    from PIL import Image

    for number in range(20):
        Image.new("RGB", (16, 16), (number * 12, 9, 200)).save(photos / f"{number}.png")
    cache = tmp_path / "photos-cache"
    caches.extract("--teacher", "none", "--data", f"folder:{photos}", "--out", cache, "--image_size", "16")
    for recipe in ("supervised", "digits"):
        distill(cache, tmp_path / recipe, "--recipe", recipe, "--batch_size", "4").refuses("no")
    distill(cache, tmp_path / "run", "--batch_size", "4").refuses("no target set", "python -m extract")


def skipped_cache(tmp_path: Path, teacher: Path) -> tuple[Path, set[str]]:
    """A cache of 24 photos of which every fifth was no image and was skipped."""
    from PIL import Image

    for number in range(24):
        path = tmp_path / "photos" / f"class{number % 2}" / f"photo{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 10, 99, 10)).save(path)
        if number % 5 == 0:
            path.write_bytes(b"no image")
    cache = tmp_path / "cache"
    flags: tuple[Any, ...] = ("--data", f"folder:{tmp_path / 'photos'}", "--on_error", "skip", "--shard_size", "7")
    caches.extract("--teacher", f"run:{teacher}", "--out", cache, "--devices", "cpu", *flags)
    return cache, {f"photo{number:02d}" for number in range(0, 24, 5)}


def test_skipped_samples_are_never_delivered(teachers: dict[str, Path], tmp_path: Path) -> None:
    cache, bad = skipped_cache(tmp_path, teachers["one"])
    data = CacheData(open_training(str(cache), None, False), make_recipe(batch_size=4, validation_fraction=0.3), 1)
    keys = data.training.viewset.plan.keys
    batches = [*data.training_batches(), *data.training_batches(), *data.validation_batches()]
    delivered = {keys[sample] for batch in batches for sample in batch.samples.tolist()}
    assert len(keys) == 24 and len(data.training.viewset.manifest.skipped) == len(bad)
    assert delivered and not delivered & set(data.training.viewset.manifest.skipped)
    assert not {key.rpartition("/")[2] for key in delivered} & bad
    recipe = write_recipe(tmp_path / "test.yaml", batch_size=4, validation_fraction=0.3)
    distill(cache, tmp_path / "run", "--recipe", recipe).succeeds()


def test_teachers_of_other_classes_or_outputs_do_not_mix(own_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "three"
    from extract.networks import build_network, export_network

    document = {"architecture": "convnet", "arguments": {"width": 4, "depth": 2}, "num_classes": 3, "class_names": None}
    document |= {"image_size": 16, "mean": [0.5] * 3, "std": [0.2] * 3}
    export_network(folder, build_network("convnet", 3, width=4, depth=2), document)
    machine = ("--out", own_shards, "--devices", "cpu")
    caches.extract("--teacher", f"run:{folder}", "--target", "logits,pooled", *machine)
    recipe = write_recipe(tmp_path / "test.yaml")

    def refused(targets: str, *flags: str) -> caches.Outcome:
        return distill(own_shards, tmp_path / "run", "--recipe", recipe, "--targets", targets, *flags)

    refused("two,three-logits").refuses("[3, 10] classes")
    refused("three-pooled").refuses("objective kl:temperature=2 needs logits", "pooled")
    refused("three-logits", "--label_weight", "0.5").refuses(
        "--objective label_weight=0.5", "no labels for the teacher's classes"
    )
    assert not (tmp_path / "run" / "run.json").exists()


def test_views_are_those_that_all_hold(own_shards: Path, teachers: dict[str, Path]) -> None:
    grow = ("--out", own_shards, "--devices", "cpu", "--views", "4", "--codec", "float32")
    caches.extract("--teacher", f"run:{teachers['two']}", *grow)

    def views(targets: str) -> int:
        return open_training(str(own_shards), targets, False).components[0].num_views

    assert (views("two"), views("one-logits-float32"), views("two,topk3")) == (4, 3, 3)
    holding = open_training(str(own_shards), "two", False)
    assert Holding([Component(holding.viewset, holding.targetsets)], [1.0]).limited(2).num_views == [2]
