"""`cifar10`: 60,000 images of 32 x 32 pixels in 10 classes, from the hub or from a local copy."""

from extract.sources.base import Source
from extract.sources.hf import open_hub


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """CIFAR-10; `validation` is its test split.

    Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images", section 3.1.
    """
    return open_hub("--data cifar10", "uoft-cs/cifar10", split, data_dir, name="cifar10")
