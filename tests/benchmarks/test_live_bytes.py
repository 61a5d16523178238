"""The memory of a step, counted on tensors without values, against the same step computed and what torch allocates."""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from caches import extract, write_teacher
from pairs import write_pairs
from texts import write_encoder
from torch.profiler import ProfilerActivity, profile

from benchmarks.steps import held_batch, open_cache, with_bank
from distill.memory import counted, repeated, stepper, uncut
from distill.module import Distillation
from distill.run import build_module
from shards.bill.live_bytes import LiveBytes, peak_of
from shards.loader import Batch

CPU, SIZE, BANK = torch.device("cpu"), 64, 512


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with a teacher's pooled rows; an encoder beside it."""
    folder = tmp_path_factory.mktemp("memory")
    data, teacher = write_pairs(folder / "tars", 16), write_teacher(folder / "teacher")
    write_encoder(folder / "tiny")
    flags = ("--data", f"wds:{data}:captions=caption", "--view", "pair:size=16,format=png", "--target", "pooled")
    extract("--teacher", f"run:{teacher}", "--out", folder / "cache", *flags)
    return folder / "cache"


def opened(cache: Path, parts: int) -> tuple[Distillation, Batch]:
    text = f"encoder:depth=2,width=32,heads=2,tokens=12,tokenizer={cache.parent / 'tiny'}"
    changes = {"init": "random", "precision": "float32", "max_steps": 2, "batch_size": 8}
    changes |= {"student": f"pair:convnet:width=8,depth=2+{text}+mlp:width=32"}
    recipe, data = open_cache(cache, recipe=with_bank("s-smke", 8, cache.parent), **changes)
    module = build_module(data, recipe)
    module.recipe = replace(recipe, grad_cache=parts)
    return module, held_batch(data, CPU)


def test_bytes_live_until_nothing_refers_to_them() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first[10:].view(99, 10) + 1  # a view is no storage of its own
        assert live.now == live.peak == 4000 + 3960
        del first
        assert (live.now, live.peak) == (3960, 7960)
        second.add_(1)
        kept = torch.ones(10, requires_grad=True)
        product = kept.exp().sum()  # its backward keeps what exp gave
        assert live.now == 3960 + 40 + 40 + 4
        product.backward()
        del product
        assert live.now == 3960 + 40 + 40, "the gradient stays"
    assert second.shape == (99, 10)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_is_counted_as_it_is_computed_and_as_torch_allocates_it(cache: Path, parts: int) -> None:
    module, small = opened(cache, parts)
    module.inputs = uncut(module.inputs)
    banks = dict.fromkeys(small.banks, BANK)
    first, batch, take = repeated(small, 8, banks), repeated(small, SIZE, banks), stepper(module, CPU)
    computed = peak_of(module, batch, lambda: take([first, batch]))
    assert counted(opened(cache, parts)[0], small, SIZE, banks) == computed

    module.zero_grad()
    arrays = [batch.fields, *batch.targets.values(), *batch.banks.values()]
    held = [*module.parameters(), *module.buffers(), *(rows for each in arrays for rows in each.values())]
    moments = 2 * sum(parameter.nbytes for parameter in module.parameters() if parameter.requires_grad)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        take([batch] * 2)
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    allocated = sum(rows.nbytes for rows in held) + moments + max(accumulate(changes))
    # nothing is counted that is not allocated; kernels take some memory for themselves
    assert computed <= allocated <= 1.1 * computed
