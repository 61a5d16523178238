"""Expected: every row of the small caches of the model, computed without a cache: the values of the dict."""

from collections.abc import Mapping
from functools import cache, cached_property

import numpy as np
import torch
from rows_modality.modality import RowViews

from extract.sources import open_source
from extract.targets import with_numbers
from extract.teachers import load_teacher
from shards.codecs import make_codec

NUM_SAMPLES, SHARD_SIZE = 5, 3
SPLITS = {"train": 3, "validation": 1}
"""The most views of each: a validation split has no noise, so no further ones."""
TARGETS = {
    "logits-float32": ("logits", "float32"),
    "pooled-int8": ("pooled", "int8"),
    "logits-sample2": ("logits", "sample:2"),
}
"""Target sets by what their folders' names hold: their target and codec. int8 has statistics, and sample draws."""


class Expected:
    """What one split holds."""

    def __init__(self, split: str) -> None:
        source = open_source("rows", split, None, NUM_SAMPLES)
        maker = RowViews(0.1 if split == "train" else 0.0)
        self.keys = list(source.keys)
        self.labels = [source.read(index).label for index in range(NUM_SAMPLES)]
        self.views = [
            np.stack([maker.make(source.read(index), view)[0]["row"] for index in range(NUM_SAMPLES)])
            for view in range(SPLITS[split])
        ]

    @cached_property
    def targets(self) -> Mapping[str, list[dict[str, np.ndarray]]]:
        """By target set, what is stored of each view. The teacher doubles what its input halves, so no bit is lost."""
        teacher, found = load_teacher("rows"), {}
        for name, (target, spec) in TARGETS.items():
            said = [teacher.network(torch.from_numpy(rows) * 0.5)[target] for rows in self.views]
            codec = make_codec(spec, tuple(said[0].shape[1:])).calibrate(said[0])
            found[name] = [
                {
                    array: rows.numpy()
                    for array, rows in with_numbers(codec, 0, self.keys, view, torch.device("cpu")).encode(each).items()
                }
                for view, each in enumerate(said)
            ]
        return found


expected = cache(Expected)
"""What a split holds, by its name."""
