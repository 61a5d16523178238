"""`distill --plan`: what its teachers are timed on, and what extract would take to make of their views."""

from pathlib import Path

import caches
import pytest
import torch
from PIL import Image

from distill.bill.alternatives import Making, alternatives
from distill.bill.command import bytes_an_epoch
from distill.bill.teachers import probe_teachers
from distill.config import DistillConfig
from distill.data import CacheData
from distill.fitting import pick_recipe
from distill.holding import open_training
from distill.recipe import resolve
from extract.bill.alternatives import Alternative
from extract.bill.codebooks import Calibration
from extract.bill.further import ViewSeconds, probe_further
from extract.named import Data, know
from extract.sources import is_of_the_hub
from extract.teachers import load_teacher
from shards.bill.arithmetic import Bill
from shards.reader import ViewSet


def test_a_mixture_reads_the_rows_of_its_components(teacher: Path, tmp_path: Path) -> None:
    flags = ("--teacher", f"run:{teacher}", *caches.SMALL, "--out")
    few, more = tmp_path / "few", tmp_path / "more"
    caches.extract(*flags, few, "--limit", "8")
    caches.extract(*flags, more, "--views", "2")
    holding = open_training(f"{few},{more}", None, False)
    config = DistillConfig(shards="", student="convnet:width=4", batch_size=2)
    data = CacheData(holding, resolve(pick_recipe(holding.facts()), config))
    for batch in data.training_batches().loader:
        reading = batch.readings[0]
        if reading.component == 1 and reading.samples.max() >= 8:  # the first set has no such sample
            probed = probe_teachers(data, batch, torch.device("cpu"), tmp_path / "trial", 0.1)
            break
    assert probed.unknown == "" and probed.seconds > 0 and probed.offers[0].chosen
    assert probed.views.make is not None and probed.views.make > 0 and probed.views.read > 0
    # an epoch reads one view of each training sample, of a set with one view and of another with two
    sets = [[each.viewset.manifest, each.targetsets[0].manifest] for each in holding.components]
    sizes = [sum(record.size for one in pair for record in one.files.values()) for pair in sets]
    shares = [len(samples) / num for samples, num in zip(data.train_samples, (8, 40), strict=True)]
    assert bytes_an_epoch(data) == pytest.approx(sizes[0] * shares[0] + sizes[1] / 2 * shares[1], rel=1e-12)


@pytest.mark.slow
def test_images_that_views_are_rendered_from_are_read_whole(teacher: Path, tmp_path: Path) -> None:
    view = ("--view", "crop:size=16,store=source,source_size=24", "--views", "4", "--devices", "cpu")
    caches.extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.DIGITS, *view)
    holding = open_training(str(tmp_path / "cache"), None, False)
    pair = holding.viewset.manifest, holding.targetsets[0].manifest
    sizes = [(name, record.size) for one in pair for name, record in one.files.items()]
    images, whole = sum(size for name, size in sizes if name.endswith(".tar")), sum(size for _, size in sizes)
    assert images > whole / 4
    for several in (1, 2):
        config = DistillConfig(shards="", student="convnet:width=4", batch_size=8, read=f"views_a_batch={several}")
        data = CacheData(holding, resolve(pick_recipe(holding.facts()), config))
        share = data.order(1).counts[0] / 40
        expected = ((whole - images) / 4 + images / several) * share
        assert bytes_an_epoch(data) == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_hours_of_what_extract_could_make_hold_its_views(teacher: Path, tmp_path: Path) -> None:
    """An hour a view that is made, seconds of one that is read: a new codec reads one view, the fourth makes three."""
    caches.extract("--teacher", f"run:{teacher}", *caches.SMALL, "--out", tmp_path / "cache")
    holding = open_training(str(tmp_path / "cache"), None, False)
    config = DistillConfig(shards="", student="convnet:width=4", batch_size=2)
    data = CacheData(holding, resolve(pick_recipe(holding.facts()), config))
    offers = [
        Alternative("logits", codec, None, 800.0, "1", codec == "float16", Calibration())
        for codec in ("float16", "topk:3")
    ]

    def hours(make: float | None, overlap: bool = False, all_alike: bool = False) -> dict[tuple[str, str], str]:
        making = Making(7.0, ViewSeconds(1.0, make, "gone" if make is None else "", all_alike), overlap)
        rows = alternatives(data, Bill([], once=0.0), 1.0, 1e12, offers, making)
        return {(row[1], row[3]): row[5] for row in rows if row[7] == "extract"}

    assert hours(3600.0) == {
        ("topk:3", "1"): f"{40 * 8 / 3600:,.3g}",
        ("float16", "2"): f"{40 * 3607 / 3600:,.3g}",
        ("float16", "4"): f"{3 * 40 * 3607 / 3600:,.3g}",
        ("float16", "10"): f"{9 * 40 * 3607 / 3600:,.3g}",
    }
    assert hours(3600.0, overlap=True)["float16", "2"] == "40" and hours(3.0, overlap=True)["float16", "2"] == "0.0778"
    assert hours(None)["float16", "4"] == "-" and hours(None)["topk:3", "1"] != "-"
    assert set(hours(3600.0, all_alike=True)) == {("topk:3", "1")}  # extract refuses a second view


def test_further_views_are_made_of_some_samples_of_a_source_that_is_here(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "photos"
    for number in range(4):
        (data / "train/one").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 30), 64).save(data / f"train/one/{number}.png")
    flags = ("--teacher", f"run:{teacher}", "--data", f"folder:{data}", "--image_size", "16", "--devices", "cpu")
    inputs = load_teacher(f"run:{teacher}", None, None).inputs
    for number, view in enumerate(("crop:size=16", "crop:size=16,store=source,source_size=24")):
        cache = tmp_path / f"cache-{number}"
        caches.extract(*flags[:4], "--view", view, "--devices", "cpu", "--out", cache)
        viewset, before = ViewSet(caches.viewset_of(cache)), caches.contents(cache)
        found = probe_further(viewset, inputs, 1.0, tmp_path / f"trial-{number}", 0.1)
        assert found.make is not None and found.make > 0 and found.read == 1 and caches.contents(cache) == before
    data.rename(tmp_path / "elsewhere")
    gone = probe_further(viewset, inputs, 1.0, tmp_path / "gone", 0.1)
    assert gone.make is None and str(data) in gone.unknown
    monkeypatch.setattr("extract.bill.further.open_source", None)  # nothing is asked for over the network
    monkeypatch.setattr("extract.named._HERE", {})
    know(viewset.identity, Data("imagenet"))
    assert "comes from the hub" in probe_further(viewset, inputs, 1.0, tmp_path / "hub", 0.1).unknown
    assert not is_of_the_hub("imagenet", "/data") and is_of_the_hub("hf:some/one:image=photo", None)
    assert not is_of_the_hub(f"hf:{tmp_path}:image=photo", None) and not is_of_the_hub("folder:/data", None)
