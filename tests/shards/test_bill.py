"""A bill's arithmetic: lanes that overlap, dollars, when a cache pays, what a card is predicted to take."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from distill.config import ALIASES as OF_DISTILL
from distill.config import DistillConfig
from extract.bill.estimate import peak_of
from extract.bill.probe import TeacherProbe
from extract.config import ALIASES, HIDDEN, ExtractConfig
from shards.bill.arithmetic import Bill, BreakEven, Stage
from shards.bill.cards import CARDS, Card, Operation
from shards.bill.counting import Counts, Growth, count
from shards.bill.disk import DiskRates
from shards.bill.options import PlanOptions, parse_plan
from shards.bill.show import said_bill, said_memory
from shards.command.arguments import parse
from shards.command.devices import Devices
from shards.errors import BadInput, UnknownName

STAGES = (Stage("views", 600.0, "cores"), Stage("teacher", 1500.0, "device"), Stage("encode", 300.0, "device"))


def test_lanes_overlap_and_stages_of_one_take_turns() -> None:
    bill = Bill([*STAGES, Stage("write", 900.0, "disk")], once=200.0, num_bytes=2e9, num_files=12)
    assert bill.lanes == {"cores": 600, "device": 1800, "disk": 900}
    assert bill.seconds == 2000 and bill.hours == 2000 / 3600 and bill.bottleneck == "teacher"
    said = said_bill(bill, PlanOptions(dollars_per_hour=9.0))
    assert said == "2.0 GB in 12 files, 0.5556 hours, $5 at $9 an hour; held by teacher"
    assert Bill(STAGES, once=1800.0).bottleneck == "the start" and Bill([]).seconds == 0
    on_cores = [Stage(stage.name, stage.seconds, "cores") for stage in STAGES]
    assert Bill(on_cores).seconds == 2400 and Bill(on_cores).bottleneck == "teacher"


def test_files_and_bytes_take_their_time() -> None:
    assert DiskRates(1e8, 5e8, 0.002).seconds_to_write(1e9, 500.0) == 11


def test_a_cache_pays_once_its_epochs_have_saved_what_it_took() -> None:
    even = BreakEven(extraction=1000.0, live_epoch=500.0, cached_epoch=300.0)
    assert even.epochs == 5 and [even.students(each) for each in (1.0, 2.0, 5.0, 10.0)] == [5, 3, 1, 1]
    assert "after 5 epochs" in str(even)
    for cached in (500.0, 700.0):
        never = BreakEven(1000.0, 500.0, cached)
        assert (
            never.epochs is None and never.students(3.0) is None and "never beats the teacher in the loop" in str(never)
        )


def test_a_kernel_is_held_by_the_processor_or_by_the_memory() -> None:
    card = Card("small", half_flops=100.0, float_flops=10.0, memory_rate=50.0, memory_bytes=1000.0, transfer_rate=5.0)
    kernels = [Operation(200.0, 50.0), Operation(10.0, 500.0)]
    assert card.seconds(kernels, "bfloat16") == 2 + 10 and card.seconds(kernels, "float32") == 20 + 10
    cpu = torch.device("cpu")
    assert "does not fit: the small" in said_memory(960.0, PlanOptions(card=card), cpu)
    assert "; fits: the small" in said_memory(940.0, PlanOptions(card=card), cpu)
    assert "does not fit: --max_memory gives 500" in said_memory(501.0, PlanOptions(card=card), cpu, 500)
    assert "; fits: --max_memory gives 500" in said_memory(500.0, PlanOptions(card=card), cpu, 500)


def test_the_gpu_that_is_asked_is_the_one_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs of different sizes, as the driver would describe them."""
    sizes = {"cuda:0": 80_000_000_000, "cuda:1": 24_000_000_000}
    described = {torch.device(name): SimpleNamespace(total_memory=size) for name, size in sizes.items()}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: described[device])
    second = Devices("cuda", (1, 0)).of(0)
    assert second == torch.device("cuda:1") and Devices("cpu", (0, 1)).of(1) == torch.device("cpu")
    assert "does not fit: this GPU has 24.0 GB" in said_memory(30e9, PlanOptions(), second)
    assert "; fits: this GPU has 80.0 GB" in said_memory(30e9, PlanOptions(), torch.device("cuda:0"))


def test_counted_kernels_and_memory_grow_with_the_batch_and_not_the_weights() -> None:
    layer = nn.Linear(16, 8)
    held = [layer.weight, layer.bias]

    def counted(number: int):
        rows = torch.zeros(number, 16)
        with torch.inference_mode():
            return count(lambda: layer(rows), [*held, rows], number)

    growth = Growth(counted(1), counted(2))
    assert growth.flops(64.0) == 2 * 64 * 16 * 8 == counted(64).operations[-1].flops
    weights = 4 * (16 * 8 + 8)
    assert growth.peak_bytes(64.0) == weights + 4 * 64 * (16 + 8) == counted(64).peak_bytes
    assert sum(each.num_bytes for each in growth.operations(64.0)) == sum(
        each.num_bytes for each in counted(64).operations
    )


def test_all_teachers_are_on_the_device_and_one_at_a_time_has_batches() -> None:
    def probe(weights: float, each: float, measured: float | None = None) -> TeacherProbe:
        growth = Growth(Counts(1, [], weights + each), Counts(2, [], weights + 2 * each))
        return TeacherProbe(1.0, 1.0, 1.0, [], measured, weights, growth)

    assert peak_of([probe(1000.0, 2.0)], 3 * 64) == 1000 + 3 * 64 * 2
    assert peak_of([probe(1000.0, 2.0), probe(300.0, 5.0)], 3 * 64) == 1300 + 3 * 64 * 5
    assert peak_of([probe(1000.0, 2.0, 7000.0), probe(300.0, 5.0, 6000.0)], 3 * 64) == 7000


def test_the_flag_says_how_a_plan_is_made() -> None:
    assert parse_plan("true") == parse_plan("") == PlanOptions()
    said = parse_plan("dollars_per_hour=2.5,device_profile=h200,seconds=5")
    assert (said.dollars_per_hour, said.card, said.seconds) == (2.5, CARDS["h200"], 5)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("device_profile=h300", "unknown --plan device_profile 'h300': did you mean h200.*known are a100, h100, h200"),
        ("seconds=0", "--plan seconds 0.0: expected a number above 0"),
        ("seconds=soon", "--plan seconds=soon: expected a number above 0"),
        ("dollars_per_hour=-1", "--plan dollars_per_hour -1.0: expected a number of at least 0"),
        ("dollars=1", r"--plan dollars=1: expected dollars_per_hour=, .*\(did you mean dollars_per_hour\?\)"),
        ("h100", "--plan h100: expected dollars_per_hour="),
    ],
)
def test_what_is_no_option_is_refused(flag: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        parse_plan(flag)
    assert issubclass(UnknownName, BadInput)


def test_the_flag_may_stand_alone_and_hides_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--teacher", "none", "--out", "cache", "--plan", "--weights_key", "ema"]
    config = parse(ExtractConfig, "extract", given, "", hidden=HIDDEN)
    assert (config.plan, config.weights_key) == ("true", "ema")
    for value in ("seconds=3", "device_profile=a100,seconds=3"):
        assert parse(ExtractConfig, "extract", [*given[:4], "--plan", value], "").plan == value
    with pytest.raises(BadInput, match="--plan soon: expected KEY=VALUE options, or nothing"):
        parse(ExtractConfig, "extract", [*given[:4], "--plan", "soon"], "")
    with pytest.raises(SystemExit):
        parse(ExtractConfig, "extract", ["--help"], "", hidden=HIDDEN)
    assert "--plan" in (said := capsys.readouterr().out) and "--weights_key" not in said


@pytest.mark.parametrize("name", ["extract", "distill"])
@pytest.mark.parametrize(
    ("flags", "plan"),
    [
        (["--device_profile", "rtx4090"], "device_profile=rtx4090"),
        (["--plan", "--device_profile", "rtx4090"], "device_profile=rtx4090"),
        (["--dollars_per_hour", "2", "--plan", "seconds=5"], "seconds=5,dollars_per_hour=2"),
        (["--plan", "device_profile=h100", "--device_profile=h100"], "device_profile=h100"),
        (["--plan"], "true"),
        ([], None),
    ],
)
def test_a_card_and_a_price_are_flags_too(name: str, flags: list[str], plan: str | None) -> None:
    if name == "extract":
        config = parse(ExtractConfig, name, ["--teacher", "none", "--out", "cache", *flags], "", aliases=ALIASES)
    else:
        config = parse(DistillConfig, name, ["--shards", "cache", *flags], "", aliases=OF_DISTILL)
    assert config.plan == plan


def test_a_card_that_is_given_twice_is_one_card() -> None:
    given = ["--shards", "cache", "--plan", "device_profile=h100", "--device_profile", "a100"]
    with pytest.raises(BadInput, match="--device_profile a100: --plan device_profile=h100 says another; give one"):
        parse(DistillConfig, "distill", given, "", aliases=OF_DISTILL)
