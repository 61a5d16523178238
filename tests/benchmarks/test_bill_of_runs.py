"""`python -m benchmarks.bill`: what the thesis's runs take, its bytes on one disk among them."""

import pytest

from benchmarks.bill import LADDER, Counted, bills_of
from shards.bill.cards import CARDS, Operation
from shards.bill.counting import Counts, Growth

ROW_BYTES, VIEW_BYTES = 4e5, 1e3


def growth(flops: float) -> Growth:
    """Of a network whose one kernel makes so many operations a sample."""
    return Growth(*(Counts(number, [Operation(flops * number, 0.0)], 0.0) for number in (1, 2)))


@pytest.mark.parametrize("run", LADDER, ids=lambda run: run.recipe)
def test_a_cache_is_written_once_and_read_in_each_epoch(run) -> None:
    found, card = Counted(growth(1e9), growth(3e9), ROW_BYTES, VIEW_BYTES), CARDS["rtx4090"]
    bills = bills_of(run, found, card, disk=1e8)
    assert bills.stored == run.views * (ROW_BYTES + VIEW_BYTES)
    assert bills.extraction.lanes["disk"] == pytest.approx(bills.stored / 1e8)
    assert bills.cached.lanes["disk"] == pytest.approx(run.epochs * run.samples * (ROW_BYTES + VIEW_BYTES) / 1e8)
    assert bills.live.lanes["disk"] == 0 and bills.cached.bottleneck == "disk"  # so slow a one holds it
    fast = bills_of(run, found, card, disk=1e15)
    assert fast.cached.seconds < bills.cached.seconds and fast.live == bills.live
