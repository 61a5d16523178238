"""Elastic: training batches cut for any number of ranks, taken up at any step by any other number."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from distill.data import TrainingBatches
from shards.order import BatchOrder, Reading

BATCH = 120
WORLDS = [world for world in range(1, BATCH + 1) if BATCH % world == 0]
"""Sixteen sizes."""

Seen = tuple[int, int, int, int]
"""Of one row its component, the component's pass, its view and its sample."""


def rows_of(readings: Sequence[Reading]) -> list[Seen]:
    return [(each.component, each.epoch, each.view, sample) for each in readings for sample in each.samples.tolist()]


def ranks(order: Callable[[int], BatchOrder], world: int, parts: int = 1, bank: int = 0) -> list[TrainingBatches]:
    """The batches of each rank of a world, each step in `parts`; with a bank of so many rows."""
    cut = order(world * parts)
    return [
        TrainingBatches(cut, [*range(rank, world * parts, world)], {"bank": bank} if bank else {})
        for rank in range(world)
    ]


def step_of(rank: TrainingBatches, step: int) -> Iterator[tuple[list[Seen], list[Seen]]]:
    """What a rank that is resumed at `step` reads in this step, part by part, and the bank of each."""
    rank.position = step * len(rank.parts)
    for _, part in zip(rank.parts, rank.readings(), strict=False):
        yield rows_of(part.readings), rows_of(part.banks.get("bank", ()))


def global_step(of_ranks: Sequence[TrainingBatches], step: int) -> tuple[list[Seen], list[Seen] | None]:
    """What all ranks together read in a step, sorted, and the bank, which is the same for all."""
    found: list[Any] = [each for rank in of_ranks for each in step_of(rank, step)]
    sizes, banks = {len(rows) for rows, _ in found}, [bank for _, bank in found]
    assert sizes == {BATCH // of_ranks[0].order.num_parts}
    assert all(bank == banks[0] for bank in banks)
    return sorted(row for rows, _ in found for row in rows), banks[0]
