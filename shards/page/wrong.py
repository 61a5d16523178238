"""Wrong: what looks wrong in a bounded sample of a cache, with examples; `shards verify` reads every byte instead."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from shards.cache import ListedTargetSet, ListedViewSet
from shards.decode import as_arrays, codec_of, decode, spread
from shards.documents import read_commit
from shards.errors import TeacherShardsError, one_line
from shards.page.said import labels_are_of
from shards.page.sets import short
from shards.reader import TargetSet, ViewSet, check_pair

NUM_SAMPLES, NUM_EXAMPLES = 256, 4
"""Samples of each set that are looked at, and keys that are named."""
_CHUNK_BYTES, _MOST_BYTES = 32 << 20, 256 << 20
"""Bytes of rows that are decoded together, and in all, for one set."""
MOST_DIGESTS = 2_000_000
"""Samples of which copies are looked for, by what commit records tell of their files."""
NEAR_OVERFLOW = 30_000.0
"""float16 ends at 65,504."""
_SAME = 1e-6
"""Of a row's largest value: a row that varies less is constant in float32."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for in one set."""

    name: str
    """The set's."""
    what: str
    examples: str = ""
    """Keys."""
    is_wrong: bool = True
    """Whether it is a reason to look closer; else it only tells."""


def look_at(listed: ListedViewSet) -> Iterator[Finding]:
    """What a whole view set and its whole target sets show in a sample of view 0."""
    if not listed.whole:
        return
    try:
        viewset = ViewSet(listed.folder)
        samples = viewset.usable[spread(len(viewset.usable), NUM_SAMPLES)]
    except (TeacherShardsError, OSError) as error:
        yield Finding(listed.folder.name, short(one_line(error)))
        return
    yield from _in_views(viewset, samples)
    for each in listed.targetsets:
        if each.whole and len(samples):
            try:
                targetset = TargetSet(each.folder)
                check_pair(viewset, targetset)
                yield from _in_targets(viewset, targetset, listed.targetsets, samples)
            except (TeacherShardsError, OSError) as error:
                yield Finding(each.folder.name, short(one_line(error)))


def _in_views(viewset: ViewSet, samples: np.ndarray) -> Iterator[Finding]:
    name, keys, skipped = viewset.folder.name, viewset.plan.keys, viewset.manifest.skipped
    if skipped:
        yield Finding(name, f"{len(skipped):,} of {len(keys):,} samples were skipped", _named(skipped))
    stored, constant, damaged, reason = dict[str, bytes](), list[str](), list[str](), ""
    for sample in samples.tolist():
        try:
            row = viewset.row(0, sample)
        except (TeacherShardsError, OSError) as error:
            damaged.append(keys[sample])
            reason = reason or one_line(error)
            continue
        stored[keys[sample]] = b"".join(row[field].tobytes() for field in sorted(row))
        if all(_is_even(values) for values in row.values() if values.size > 1):
            constant.append(keys[sample])
    if damaged:
        yield Finding(name, short(f"{_share(damaged, samples)} views cannot be read: {reason}"), _named(damaged))
    if constant:
        yield Finding(name, f"{_share(constant, samples)} views hold one colour or value alone", _named(constant))
    digests = _digests(viewset)
    if copies := _twice(digests):
        yield Finding(
            name, f"{_share(copies, digests)} samples have the file, label and texts of another", _named(copies)
        )
    twice = _twice(stored)
    if not set(twice) <= set(copies):  # files that differ, or none
        yield Finding(name, f"{_share(twice, samples)} views are equal to another", _named(twice))
    if not (skipped or damaged or constant or copies or twice):
        alone = f"; {len(digests):,} files are no copies" if digests else ""
        yield Finding(name, f"nothing in {len(samples):,} of {len(keys):,} samples{alone}", is_wrong=False)


def _digests(viewset: ViewSet) -> dict[str, bytes]:
    """What the commit records tell of the samples of view 0, by key, where these are files; at most MOST_DIGESTS.

    Two views of two copies are cut and coloured otherwise, and no two of their pixels need be the same. Of texts an
    earlier version kept digests of the label alone.
    """
    blank = {name: np.zeros(shape, dtype) for name, (dtype, shape) in viewset.codec.fields.items()}
    if viewset.codec.picture(blank) is None:
        return {}
    keys, found = viewset.plan.keys, dict[str, bytes]()
    for shard in range(viewset.plan.num_shards):
        record, rows = read_commit(viewset.folder, 0, shard), viewset.plan.rows(shard)
        digests = (record and record.digests) or []
        found |= {keys[row]: digest.encode() for row, digest in zip(rows, digests, strict=False) if digest}
        if len(found) >= MOST_DIGESTS or not digests:
            break
    return found


def _is_even(values: np.ndarray) -> bool:
    """Whether all pixels (height, width, channels) are of one colour; of another field whether all numbers are one."""
    pixels = values.reshape(-1, values.shape[-1] if values.ndim == 3 else 1)
    return not np.ptp(pixels, axis=0).any()


def _in_targets(
    viewset: ViewSet, targetset: TargetSet, beside: Sequence[ListedTargetSet], samples: np.ndarray
) -> Iterator[Finding]:
    from shards.page.codec_errors import worst_codec_errors  # only now is torch imported

    name, keys = targetset.folder.name, viewset.plan.keys
    bytes_a_row = 8 * targetset.bytes_per_sample
    samples = samples[spread(len(samples), max(1, min(len(samples), _MOST_BYTES // bytes_a_row)))]
    kinds: dict[str, list[str]] = {}
    stored, top = dict[str, bytes](), list[int]()
    codec = codec_of(targetset)
    for chunk in np.array_split(samples, -(-len(samples) * bytes_a_row // _CHUNK_BYTES)):
        encoded = targetset.read(0, chunk)
        decoded = decode(codec, _as_tensors(encoded)).rows
        arrays = as_arrays(decoded, "rows")
        for row, sample in enumerate(chunk.tolist()):
            stored[keys[sample]] = b"".join(encoded[field][row].tobytes() for field in sorted(encoded))
            for kind in _kinds({field: values[row] for field, values in arrays.items() if values.ndim}):
                kinds.setdefault(kind, []).append(keys[sample])
        top += _top(decoded, targetset.manifest.target)
    for kind, wrong in kinds.items():
        yield Finding(name, f"{_share(wrong, samples)} rows {kind}", _named(wrong))
    if twice := _twice(stored):
        yield Finding(name, f"{_share(twice, samples)} rows are equal to another", _named(twice))
    if not (kinds or twice):
        yield Finding(name, f"nothing in {len(samples):,} of {len(keys):,} rows of view 0", is_wrong=False)
    if top and labels_are_of(viewset, targetset):
        agreed = float((np.array(top) == viewset.labels(0, samples.tolist())).mean())
        rare = agreed < 2 / max(2, targetset.row_shape[0])
        yield Finding(name, f"the teacher's likeliest class is the label in {agreed:.1%} of {len(top):,}", "", rare)
    for what, examples in worst_codec_errors(viewset, targetset, beside, samples):
        yield Finding(name, what, examples, is_wrong=False)


def _as_tensors(encoded: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(rows) for name, rows in encoded.items()}


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


def _top(decoded: Any, target: str) -> list[int]:
    """The likeliest class of each sample; nothing of rows that are no logits, or a token's."""
    if decoded.dim() != 2 or not target.endswith("logits"):
        return []
    likeliest: list[int] = (decoded.classes[:, 0] if hasattr(decoded, "classes") else decoded.argmax(-1)).tolist()
    return likeliest


def _twice(stored: Mapping[str, bytes]) -> list[str]:
    """The keys whose content another key has too."""
    counts = Counter(stored.values())
    return [key for key, content in stored.items() if counts[content] > 1]


def _share(some: Sequence[object], samples: Sized) -> str:
    return f"{len(some):,} of {len(samples):,}"


def _named(keys: Sequence[str]) -> str:
    """The first of `keys`, and how many more there are."""
    more = len(keys) - NUM_EXAMPLES
    listed = ", ".join(short(key, 80) for key in keys[:NUM_EXAMPLES])
    return f"{listed} and {more:,} more" if more > 0 else listed
