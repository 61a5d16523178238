"""Machine: what a figure was taken on: the device, the processor, and the libraries' versions."""

import importlib.metadata
import platform
import re
from pathlib import Path

import torch

from shards.command.devices import one_device

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "zarr",
    "webdataset",
    "datasets",
    "simplejpeg",
    "pillow",
    "opencv-python-headless",
    "tokenizers",
)


def device_name() -> str:
    """The name of the GPU that benchmarks measure on, or the CPU's where there is none."""
    device = one_device("device")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    """What the kernel calls the processor."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", path.read_text()) if path.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Of Python and of what the figures depend on; None for a package that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
