"""retrieval: how often an image finds a caption of its own among all captions, and a caption its own image.

The protocol of Karpathy & Fei-Fei 2015 (arXiv:1412.2306, section 4.2), as COCO's and Flickr30K's results are given: an
image with several captions counts by the nearest of them, each caption is a query of its own. The median rank over
splits of 1,000 images is that of Aytar et al. 2017 (arXiv:1706.00932, section 5.1).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from evaluate import preset
from evaluate.candidates import Candidates, candidates
from evaluate.evaluation import Evaluation
from evaluate.ranks import by_chance, ranks
from shards.command.ranges import Count

TAKES = "pair"
KS = (1, 5, 10)
SPLIT = 1000


@dataclass(frozen=True, kw_only=True)
class Settings(preset.Settings):
    """What is compared with what."""

    captions: Count
    """The first so many captions of an image, of those that it has."""
    output: str
    """The encoders' output that is compared: shared_1, head ...; auto: head where there is any, else shared_2."""


def measure(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """`r1`, `r5`, `r10` and `median_rank` of i2t, image to text, and of t2i, over all images of the split.

    From 1,000 images on also `median_rank_1k`, its mean over the consecutive whole splits of 1,000. `chance` has what a
    random order gives.
    """
    all_pairs = candidates(evaluation, "--task retrieval", settings.output, settings.captions)
    num_images = len(all_pairs.images)
    metrics, chance = scores(all_pairs)
    thousands = [_some(all_pairs, start) for start in range(0, num_images - SPLIT + 1, SPLIT)]
    for name in ("i2t_median_rank", "t2i_median_rank") if thousands else ():
        parts = [scores(part) for part in thousands]
        for values, of_parts in zip((metrics, chance), zip(*parts, strict=True), strict=True):
            values[f"{name}_1k"] = round(float(np.mean([part[name] for part in of_parts])), 6)
    return {
        **metrics,
        "chance": chance,
        **all_pairs.facts,
        "samples": {"i2t": num_images, "t2i": len(all_pairs.texts)},
    }


def scores(pairs: Candidates) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics both ways, and what they are by chance."""
    numbers = torch.arange(len(pairs.images))
    i2t = ranks(pairs.images, pairs.texts, numbers, pairs.owners)
    t2i = ranks(pairs.texts, pairs.images, pairs.owners, numbers)
    captions = np.bincount(pairs.owners.numpy(), minlength=len(numbers))
    of_text = np.ones(len(pairs.texts), np.int64)
    chances = {"i2t": by_chance(captions, len(pairs.texts), KS), "t2i": by_chance(of_text, len(numbers), KS)}
    metrics = {f"{way}_{name}": value for way, places in (("i2t", i2t), ("t2i", t2i)) for name, value in _of(places)}
    return metrics, {f"{way}_{name}": value for way, chance in chances.items() for name, value in chance.items()}


def _of(places: Int64[Tensor, " queries"]) -> list[tuple[str, float]]:
    recalls = [(f"r{k}", round((places <= k).double().mean().item(), 6)) for k in KS]
    return [*recalls, ("median_rank", float(np.median(places.numpy())))]


def _some(pairs: Candidates, start: int) -> Candidates:
    """The pairs of the `SPLIT` images from `start` on."""
    first, end = torch.searchsorted(pairs.owners, torch.tensor([start, start + SPLIT])).tolist()
    images, texts = pairs.images[start : start + SPLIT], pairs.texts[first:end]
    return Candidates(images, texts, pairs.owners[first:end] - start, pairs.facts)
