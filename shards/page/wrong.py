"""Wrong: what looks wrong in a bounded sample of a cache, with examples; `shards verify` reads every byte instead."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field

import numpy as np

from shards.cache import ListedViewSet
from shards.contact_sheet import Cell
from shards.decode import spread
from shards.documents import read_commit
from shards.errors import TeacherShardsError, one_line
from shards.page.sets import short
from shards.reader import TargetSet, ViewSet, check_pair

NUM_SAMPLES, NUM_EXAMPLES = 256, 4
"""Views of each view set that are looked at, and keys that are named."""
MOST_ROWS = 4096
"""Rows of each target set that are looked at: of a larger one neighbours at NUM_SAMPLES places."""
MOST_DIGESTS = 2_000_000
"""Samples of which copies are looked for, by what commit records tell of their files."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for in one set."""

    name: str
    """The set's."""
    what: str
    examples: str = ""
    """Keys."""
    is_wrong: bool | None = True
    """Whether it is a reason to look closer; None of a figure that only tells."""


@dataclass
class Looked:
    """What was found in one view set and its target sets."""

    findings: list[Finding] = field(default_factory=list)
    mistakes: dict[Cell, float] = field(default_factory=dict)
    """Views of which a teacher's likeliest class is not the label, and the largest probability of one."""

    @property
    def surest(self) -> list[Cell]:
        """The mistakes, those that a teacher is surest of first; of each sample one view."""
        of_samples: dict[int, Cell] = {}
        for cell in sorted(self.mistakes, key=lambda cell: -self.mistakes[cell]):
            of_samples.setdefault(cell[1], cell)
        return list(of_samples.values())


def look_at(listed: ListedViewSet) -> Looked:
    """What a whole view set shows in a sample of view 0, and its whole target sets in a sample of all rows."""
    looked = Looked()
    looked.findings += _look(listed, looked.mistakes)
    return looked


def _look(listed: ListedViewSet, mistakes: dict[Cell, float]) -> Iterator[Finding]:
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
            from shards.page.wrong_rows import in_targets  # only now is torch imported

            try:
                targetset = TargetSet(each.folder)
                check_pair(viewset, targetset)
                yield from in_targets(viewset, targetset, listed.targetsets, mistakes)
            except (TeacherShardsError, OSError) as error:
                yield Finding(each.folder.name, short(one_line(error)))


def _in_views(viewset: ViewSet, samples: np.ndarray) -> Iterator[Finding]:
    name, keys, skipped = viewset.folder.name, viewset.plan.keys, viewset.manifest.skipped
    if skipped:
        yield Finding(name, f"{len(skipped):,} of {len(keys):,} samples were skipped", named(skipped))
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
        yield Finding(name, short(f"{share(damaged, samples)} views cannot be read: {reason}"), named(damaged))
    if constant:
        yield Finding(name, f"{share(constant, samples)} views hold one colour or value alone", named(constant))
    digests = _digests(viewset)
    if copies := _twice(digests):
        yield Finding(
            name, f"{share(copies, digests)} samples have the file, label and texts of another", named(copies)
        )
    twice = _twice(stored)
    if not set(twice) <= set(copies):  # files that differ, or none
        yield Finding(name, f"{share(twice, samples)} views are equal to another", named(twice))
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


def _twice(stored: Mapping[str, bytes]) -> list[str]:
    """The keys whose content another key has too."""
    counts = Counter(stored.values())
    return [key for key, content in stored.items() if counts[content] > 1]


def share(some: Sized, samples: Sized) -> str:
    """How many of how many."""
    return f"{len(some):,} of {len(samples):,}"


def named(keys: Sequence[str]) -> str:
    """The first of `keys`, and how many more there are."""
    more = len(keys) - NUM_EXAMPLES
    listed = ", ".join(short(key, 80) for key in keys[:NUM_EXAMPLES])
    return f"{listed} and {more:,} more" if more > 0 else listed
