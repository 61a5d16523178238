"""`distill --plan`: the rows that a teacher is timed on are those of the component that a batch reads."""

from pathlib import Path

import caches
import pytest
import torch

from distill.bill.command import bytes_an_epoch
from distill.bill.teachers import probe_teachers
from distill.config import DistillConfig
from distill.data import CacheData
from distill.fitting import pick_recipe
from distill.holding import open_training
from distill.recipe import resolve


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
            probed = probe_teachers(data, batch, torch.device("cpu"), 0.1)
            break
    assert probed.unknown == "" and probed.seconds > 0 and probed.offers[0].chosen
    # an epoch reads one view of each training sample, of a set with one view and of another with two
    sets = [[each.viewset.manifest, each.targetsets[0].manifest] for each in holding.components]
    sizes = [sum(record.size for one in pair for record in one.files.values()) for pair in sets]
    shares = [len(samples) / num for samples, num in zip(data.train_samples, (8, 40), strict=True)]
    assert bytes_an_epoch(data) == pytest.approx(sizes[0] * shares[0] + sizes[1] / 2 * shares[1], rel=1e-12)
