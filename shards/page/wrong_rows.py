"""Wrong rows: what looks wrong in a bounded sample of a target set's rows, and its teacher's mistakes."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from shards.cache import ListedTargetSet
from shards.class_names import class_name, logit_names
from shards.contact_sheet import Cell
from shards.decode import as_arrays, codec_of, decode, spread
from shards.page.codec_errors import worst_codec_errors
from shards.page.said import labels_are_of, likely
from shards.page.sets import short
from shards.page.wrong import MOST_ROWS, NUM_EXAMPLES, NUM_SAMPLES, Finding, named, share
from shards.ranges import request_threads
from shards.reader import TargetSet, ViewSet

_CHUNK_BYTES, _MOST_BYTES = 32 << 20, 256 << 20
"""Bytes of rows that are decoded together, and in all, for one set; a float32 takes at most 8 times what is stored."""
NEAR_OVERFLOW = 30_000.0
"""float16 ends at 65,504."""
_SAME = 1e-6
"""Of a row's largest value: a row that varies less is constant in float32."""


class _Mistake(NamedTuple):
    """A view of which the teacher's likeliest class is not the label."""

    cell: Cell
    probability: float
    said: int
    label: int


@dataclass
class _Rows:
    """What rows of a target set showed."""

    cells: list[Cell] = field(default_factory=list)
    """All that were looked at."""
    kinds: dict[str, list[Cell]] = field(default_factory=lambda: defaultdict(list))
    """By what is wrong with them."""
    alike: dict[bytes, list[Cell]] = field(default_factory=lambda: defaultdict(list))
    """By what is stored."""
    num_compared: int = 0
    mistakes: list[_Mistake] = field(default_factory=list)


def in_targets(
    viewset: ViewSet, targetset: TargetSet, beside: Sequence[ListedTargetSet], mistakes: dict[Cell, float]
) -> Iterator[Finding]:
    """What rows of all views of `targetset` show; its teacher's mistakes are added, with their probabilities."""
    rows, name, keys = _look_at_rows(viewset, targetset), targetset.folder.name, viewset.plan.keys

    def examples(cells: Iterable[Cell]) -> str:
        return named(list(dict.fromkeys(keys[sample] for _, sample in cells)))

    for kind, found in rows.kinds.items():
        yield Finding(name, f"{share(found, rows.cells)} rows {kind}", examples(found))
    # two views of one sample may be alike
    twice = [cell for found in rows.alike.values() if len({sample for _, sample in found}) > 1 for cell in found]
    if twice:
        yield Finding(name, f"{share(twice, rows.cells)} rows are equal to another", examples(twice))
    if not (rows.kinds or twice):
        total = len(viewset.usable) * _num_views(viewset, targetset)
        yield Finding(name, f"nothing in {len(rows.cells):,} of {total:,} rows", is_wrong=False)
    if rows.num_compared:
        yield _compared(viewset, targetset, rows)
    for mistake in rows.mistakes:
        mistakes[mistake.cell] = max(mistake.probability, mistakes.get(mistake.cell, 0.0))
    samples = viewset.usable[spread(len(viewset.usable), NUM_SAMPLES)]
    for what, named_samples in worst_codec_errors(viewset, targetset, beside, samples):
        yield Finding(name, what, named_samples, is_wrong=None)


def _look_at_rows(viewset: ViewSet, targetset: TargetSet) -> _Rows:
    rows, codec, bytes_a_row = _Rows(), codec_of(targetset), 8 * targetset.bytes_per_sample
    are_labelled = labels_are_of(viewset, targetset)

    def labels(view: int, samples: Int[np.ndarray, " count"]) -> list[int]:
        with request_threads() as requests:  # each label of a bucket is a request; none follows one that fails
            return list(requests.map(lambda sample: int(viewset.labels(view, [sample])[0]), samples.tolist()))

    for view, samples in places_of_rows(viewset, targetset):
        for chunk in np.array_split(samples, -(-len(samples) * bytes_a_row // _CHUNK_BYTES)):
            encoded = targetset.read(view, chunk)
            decoded = decode(codec, {array: torch.from_numpy(values) for array, values in encoded.items()}).rows
            arrays, cells = as_arrays(decoded, "rows"), [(view, sample) for sample in chunk.tolist()]
            for row, cell in enumerate(cells):
                rows.alike[b"".join(encoded[array][row].tobytes() for array in sorted(encoded))].append(cell)
                for kind in _kinds({array: values[row] for array, values in arrays.items() if values.ndim}):
                    rows.kinds[kind].append(cell)
            rows.cells += cells
            if are_labelled and (best := likely(decoded, targetset.manifest.target)) is not None:
                said = (cells, best[0][:, 0].tolist(), best[1][:, 0].tolist(), labels(view, chunk))
                compared = [each for each in map(_Mistake, *said) if math.isfinite(each.probability)]
                rows.mistakes += [each for each in compared if each.said != each.label]
                rows.num_compared += len(compared)
    return rows


def places_of_rows(viewset: ViewSet, targetset: TargetSet) -> Iterator[tuple[int, Int[np.ndarray, " count"]]]:
    """Views, and ascending samples of each: all rows where they are few, else neighbours at places all over the set.

    Neighbours lie in one shard, which is opened once for them; the places take the views in turn.
    """
    usable, num_views = viewset.usable, _num_views(viewset, targetset)
    most = max(1, min(MOST_ROWS, _MOST_BYTES // (8 * targetset.bytes_per_sample)))
    if len(usable) * num_views <= most:
        yield from ((view, usable) for view in range(num_views))
        return
    places = spread(len(usable), min(NUM_SAMPLES, most))
    for view in range(min(num_views, len(places))):
        near = places[view::num_views, None] + np.arange(most // len(places))
        yield view, usable[np.unique(near.clip(max=len(usable) - 1))]


def _compared(viewset: ViewSet, targetset: TargetSet, rows: _Rows) -> Finding:
    """How many rows say the label, and the mistakes that the teacher is surest of."""
    names, agreed = logit_names(viewset, targetset), 1 - len(rows.mistakes) / rows.num_compared
    of_samples = {each.cell[1]: each for each in sorted(rows.mistakes, key=lambda each: each.probability)}
    surest = sorted(of_samples.values(), key=lambda each: -each.probability)[:NUM_EXAMPLES]  # one view a sample
    told = [
        f"{short(viewset.plan.keys[each.cell[1]], 80)} (label {short(class_name(names, each.label), 40)}, "
        f"said {short(class_name(names, each.said), 40)} at {each.probability:.1%})"
        for each in surest
    ]
    is_rare = agreed < 2 / max(2, targetset.row_shape[0])
    what = f"the teacher's likeliest class is the label in {agreed:.1%} of {rows.num_compared:,} rows"
    what += "; its surest mistakes" if told else ""
    return Finding(targetset.folder.name, what, ", ".join(told), is_rare or None)


def _num_views(viewset: ViewSet, targetset: TargetSet) -> int:
    return min(viewset.num_views, targetset.num_views)


def _kinds(arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """What is wrong with one sample's decoded rows."""
    # what a distribution stores for log(0) is no value of the teacher's
    floats = {name: values for name, values in arrays.items() if values.dtype.kind == "f" and values.size > 1}
    if not all(np.isfinite(values).all() for values in floats.values()):
        yield "hold NaN or infinity"
        return
    for name, values in floats.items():
        largest = float(np.abs(values).max())
        if name == "rows" and largest > NEAR_OVERFLOW:
            yield f"hold values above {NEAR_OVERFLOW:,.0f}, near the end of float16"
        if name == "rows" and float(np.ptp(values)) <= _SAME * largest:
            yield "are constant"
        elif name == "rows" and values.ndim == 2 and len(values) > 1 and np.ptp(values, 0).max() <= _SAME * largest:
            yield "have the same token everywhere"
