"""Listing: what `info` says of a target set, beside what its codec and its files are."""

from dataclasses import replace
from pathlib import Path

import caches
import msgspec
import numpy as np
import pytest

from shards.command.progress import counted
from shards.decode import codec_of
from shards.listing import describe, targetset_facts
from shards.reader import TargetSet


def facts(cache: Path, name: str, **changed: object) -> dict[str, str]:
    folder = caches.targetset_of(cache, name)
    held = describe(folder, describe(caches.viewset_of(cache)))
    assert held.manifest is not None
    return dict(targetset_facts(replace(held, manifest=msgspec.structs.replace(held.manifest, **changed))))


def test_a_codecs_own_bytes_and_the_stored_ones(pristine_full: Path) -> None:
    """Three logits of float16, three classes and the remaining mass; a shard's checksums are no part of them."""
    targets = TargetSet(caches.targetset_of(pristine_full, "topk"))
    said = facts(pristine_full, "topk")
    codec = codec_of(targets)
    row_bytes = sum(len(stored[:1].tobytes()) for stored in targets.read(0, np.array([0])).values())
    assert said["codec"] == f"{codec.name}, {row_bytes} bytes a sample"
    size = sum(path.stat().st_size for path in targets.folder.glob("*/c/*/*/*"))
    assert said["stored"].startswith(f"{size / targets.num_samples / 2:,.1f} bytes a sample")
    assert size / targets.num_samples / 2 > row_bytes


def test_kept_tokens_are_told(pristine_full: Path) -> None:
    assert facts(pristine_full, "pooled")["target"].startswith("pooled (")
    kept = facts(pristine_full, "pooled", target="layer_mean", row_shape=[197, 768], keep_tokens=49)
    assert kept["target"] == "layer_mean (197, 768), 49 of 197 tokens kept"


@pytest.mark.parametrize(("count", "said"), [(0, "0 samples"), (1, "1 sample"), (1797, "1,797 samples")])
def test_one_is_no_plural(count: int, said: str) -> None:
    assert counted(count, "sample") == said
