"""Codec errors: the rows that a codec changed most, of samples all over a set, against one that stores them whole."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from shards.cache import ListedTargetSet
from shards.codecs.distribution import Distribution
from shards.codecs.features import Features
from shards.decode import codec_of, decode, spread
from shards.identity import same_but_for
from shards.listing import stated_error
from shards.page.sets import short
from shards.reader import TargetSet, ViewSet

NUM_COMPARED, NUM_WORST = 64, 4
"""Rows that are compared, and those that are named."""
MOST_BYTES = 256 << 20
"""Of rows of the set that stores them whole."""
_WHOLE = ("float32", "float16")
"""Codecs that others are compared with, the better one first."""


def worst_codec_errors(
    viewset: ViewSet, targetset: TargetSet, beside: Sequence[ListedTargetSet], samples: np.ndarray
) -> Iterator[tuple[str, str]]:
    """What the codec of `targetset` lost in the worst of `samples`, ascending, of view 0, and these samples' keys.

    Without the same targets in float32 or float16 `beside` it, what extract measured; float32 loses nothing.
    """
    whole = _stored_whole(targetset, beside)
    if whole is None:
        stated = stated_error(targetset.manifest).replace("_", " ")
        if stated and targetset.manifest.codec != _WHOLE[0]:
            yield f"codec error as extract measured it, as no target set has the same in float32: {stated}", ""
        return
    samples = samples[spread(len(samples), min(NUM_COMPARED, max(1, MOST_BYTES // (4 * _num_numbers(whole)))))]
    name, errors = _errors(_decoded(targetset, samples), _decoded(whole, samples))
    order = np.argsort(-errors if name.startswith("largest") else errors, kind="stable")
    worst = [(viewset.plan.keys[samples[number]], errors[number]) for number in order[:NUM_WORST]]
    num_shards = len({sample // targetset.shard_size for sample in samples.tolist()})
    of_shards = f"{num_shards:,} of {-(-targetset.num_samples // targetset.shard_size):,} shards"
    beside_whole = f"beside {whole.folder.name}, median {np.median(errors):.4g}"
    told = f"worst codec error of {len(samples):,} samples in {of_shards}: {name} {worst[0][1]:.4g} ({beside_whole})"
    yield told, ", ".join(f"{short(key, 80)} ({error:.4g})" for key, error in worst)


def _stored_whole(targetset: TargetSet, beside: Sequence[ListedTargetSet]) -> TargetSet | None:
    """The target set of the same teacher and target that lost least, if it is another."""
    alike = [each for each in beside if each.whole and same_but_for(each.identity, targetset.identity, "codec")]
    by_codec = {each.manifest.codec: each for each in alike if each.manifest.keep_tokens is None}
    best = next((by_codec[codec] for codec in _WHOLE if codec in by_codec), None)
    return None if best is None or best.folder == targetset.folder else TargetSet(best.folder)


def _decoded(targetset: TargetSet, samples: np.ndarray) -> Features:
    stored = targetset.read(0, samples)
    return decode(codec_of(targetset), {name: torch.from_numpy(rows) for name, rows in stored.items()})


def _errors(coded: Features, whole: Features) -> tuple[str, np.ndarray]:
    """What is measured, and its worst value in each sample, over its tokens."""
    rows: Tensor = coded.take_from(whole.vectors.float())
    if isinstance(coded.rows, Distribution):
        taught = rows.softmax(-1).gather(-1, coded.rows.classes)
        differences = (coded.rows.log_probabilities.float().exp() - taught).abs()
        return "largest difference of a probability", differences.flatten(1).amax(1).numpy()
    cosines = torch.nn.functional.cosine_similarity(coded.rows.double(), rows.double(), dim=-1)
    cosines[rows.norm(dim=-1) == 0] = 1.0  # padding
    return "cosine", cosines.reshape(len(rows), -1).amin(1).numpy()


def _num_numbers(targetset: TargetSet) -> int:
    return int(np.prod(targetset.row_shape))
