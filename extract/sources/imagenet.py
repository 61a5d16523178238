"""`imagenet`: ImageNet-1k (ILSVRC 2012), from the hub or from a local copy."""

from extract.sources.base import Source
from extract.sources.hf import open_hub


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """ImageNet-1k (Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge").

    Gated on the hub (ILSVRC/imagenet-1k). `data_dir` holds parquet files, or split/wnid/image (then classes are wnids).
    """
    return open_hub("--data imagenet", "ILSVRC/imagenet-1k", split, data_dir, name="imagenet")
