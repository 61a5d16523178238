"""Devices: one meaning of --devices and --device for every command."""

import pytest
import torch

from shards.command.devices import Devices, one_device, parse_devices
from shards.errors import BadInput

NUM_GPUS = torch.cuda.device_count()
GPUS = Devices("cuda", tuple(range(NUM_GPUS)))


def test_auto_is_every_gpu_else_the_cpu() -> None:
    assert parse_devices("devices", "auto") == (GPUS if NUM_GPUS else Devices("cpu"))
    assert parse_devices("devices", "cpu") == Devices("cpu", (0,))
    assert one_device("device") == torch.device("cuda:0" if NUM_GPUS else "cpu")
    assert one_device("device", "cpu") == torch.device("cpu")


def test_a_number_is_so_many_processes() -> None:
    kind, count = ("cuda", NUM_GPUS) if NUM_GPUS else ("cpu", 3)
    assert parse_devices("devices", str(count)) == Devices(kind, tuple(range(count)))


@pytest.mark.skipif(not NUM_GPUS, reason="needs a GPU")
def test_gpus_by_name() -> None:
    assert parse_devices("devices", "cuda") == GPUS
    last = NUM_GPUS - 1
    assert parse_devices("devices", f"cuda:{last}") == Devices("cuda", (last,))
    assert one_device("device", f"cuda:{last}") == torch.device("cuda", last)
    assert one_device("device", "cuda") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    "text", ["", "tpu", "0", "-1", "1.5", "100000", "cuda:1000", "cuda:", "cuda:x", "cpu:0", "mps"]
)
def test_what_is_no_device_is_refused_in_the_same_words(text: str) -> None:
    tail = f"torch sees {NUM_GPUS} GPUs on this machine$"
    with pytest.raises(BadInput, match=f"^--devices {text}: expected auto, cpu, cuda, cuda:N or a number .*; {tail}"):
        parse_devices("devices", text)
    with pytest.raises(BadInput, match=f"^--device {text}: expected auto, cpu, cuda or cuda:N; {tail}"):
        one_device("device", text)


def test_one_device_is_no_number() -> None:
    with pytest.raises(BadInput, match=r"^--device 1: expected auto, cpu, cuda or cuda:N"):
        one_device("device", "1")
