"""Banks: the target's rows of other samples, decoded, shared by ranks and parts, none in validation."""

from collections.abc import Iterator
from pathlib import Path

import caches
import numpy as np
import pytest
import torch
from test_mixtures import open_mixture
from training import OTHER, TRAIN, distill, last, write_recipe

from distill.objectives import REGISTRY
from distill.run import build_module


@pytest.fixture
def banked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(REGISTRY, "banked", "banked")
    yield


def banked_recipe(size: int, **values: object) -> dict[str, object]:
    term = {"loss": "banked", "to": "logits", "bank": size}
    return {"objective": "", "terms": [term], "validation_fraction": 0.0, **values}


@pytest.mark.usefixtures("banked")
def test_an_objective_is_given_the_decoded_bank(shards: Path, other: Path) -> None:
    data = open_mixture(f"{shards},{other}", **banked_recipe(50))
    module = build_module(data, data.recipe)
    (name,) = module.training_sets
    for batch in data.training_batches():
        assert len(batch.banks[name]["values"]) == 50
        parts = batch.bank_readings[name]
        rows = [
            data.training.components[part.component].targetsets[0].read(part.view, part.samples)["values"]
            for part in parts
        ]
        (target,), bank = module.targets(batch, [name], module.codecs), module.banks(batch)
        assert torch.equal(bank[0].vectors, torch.from_numpy(np.concatenate(rows)))
        torch.manual_seed(0)
        with torch.no_grad():
            module.eval()
            products = (
                module.student(module.inputs.prepare(batch.fields)["images"])["logits"]
                @ torch.cat([target.vectors, bank[0].vectors]).T
            )
            expected = torch.nn.functional.cross_entropy(products, torch.arange(16))
            assert float(module.loss(batch)) == float(expected)
    assert all(not batch.banks for batch in open_mixture(str(shards), **banked_recipe(9)).validation_batches())


@pytest.mark.usefixtures("banked")
def test_ranks_and_parts_share_a_steps_bank(shards: Path, other: Path) -> None:
    named, banks = f"{shards},{other}", []
    for world_size, accumulate in ((1, 1), (2, 1), (1, 4), (2, 2)):
        data = open_mixture(named, **banked_recipe(30, accumulate=accumulate))
        found = []
        for rank in range(world_size):
            for number, batch in enumerate(data.training_batches(world_size, rank)):
                (readings,) = batch.bank_readings.values()
                rows = [(part.component, part.view, sample) for part in readings for sample in part.samples.tolist()]
                found.append((number // accumulate, tuple(rows)))
        assert len(set(found)) == (TRAIN + OTHER) // 16
        banks.append(set(found))
    assert all(each == banks[0] for each in banks)


@pytest.mark.slow
@pytest.mark.usefixtures("banked")
def test_a_run_with_a_bank_validates_without_one_and_resumes(shards: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", **banked_recipe(20), checkpoint_every=3)
    flags = ("--targets", "one-logits-float32", "--recipe", recipe)
    distill(shards, tmp_path / "whole", *flags).succeeds()
    run = tmp_path / "resumed"
    distill(shards, run, *flags, "--max_steps", "8").succeeds()
    assert torch.equal(*(last(each)["state_dict"]["student.head.weight"] for each in (run, tmp_path / "whole")))


@pytest.mark.usefixtures("banked")
def test_banks_that_do_not_fit(shards: Path, tmp_path: Path) -> None:
    def refused(*terms: dict[str, object]) -> caches.Outcome:
        recipe = write_recipe(tmp_path / "test.yaml", objective="", terms=list(terms))
        return distill(shards, tmp_path / "run", "--targets", "one-logits-float32", "--recipe", recipe)

    term = {"loss": "banked", "to": "logits"}
    refused(term | {"bank": 55}).refuses("bank 55: more than the 70 samples here", "give at most 54")
    refused(term | {"bank": -1}).refuses("bank", "at least 0")
    refused(term | {"bank": 4}, term | {"bank": 5}).refuses("banks of 4 and 5 rows of logits; give one size")
    refused({"loss": "kl:temperature=2", "to": "logits", "bank": 4}).refuses("kl:temperature=2 to logits takes none")
