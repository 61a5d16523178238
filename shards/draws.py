"""Draws: random choices that are the same on every machine and for every version of numpy."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

_BANKS = 1 << 32
"""The stream of Philox that banks are drawn from; an order's are below."""


def permutation(count: int, seed: int, epoch: int, stream: int = 0) -> Int[np.ndarray, " count"]:
    """A permutation of range(count) fixed by (seed, epoch, stream).

    The order of raw 64-bit words of Philox (Salmon et al. 2011): unlike numpy's distributions, whose streams may change
    between versions, raw words are fixed, so that a run resumes alike on another machine.
    """
    words = np.random.Philox(key=seed, counter=[0, 0, stream, epoch]).random_raw(count)
    return np.argsort(words, kind="stable")


def drawn(
    count: int, total: int, without: Int[np.ndarray, " excluded"], seed: int, step: int
) -> Int[np.ndarray, " count"]:
    """`count` of range(total) that are not among `without`, ascending; (seed, step) fix which, all being as likely.

    Words are drawn until there are as many different numbers; where more than half are wanted, those left out are
    drawn, so that the work grows with `count` alone.
    """
    allowed = np.ones(total, bool)
    allowed[without] = False
    most = int(np.count_nonzero(allowed))
    generator = np.random.Philox(key=seed, counter=[0, 0, _BANKS, step])
    wanted = min(count, most - count)
    chosen, missing = np.zeros(total, bool), wanted
    while missing > 0:
        chosen[(generator.random_raw(missing) % np.uint64(total)).astype(np.int64)] = True
        chosen &= allowed
        missing = wanted - int(np.count_nonzero(chosen))
    return np.flatnonzero(chosen if wanted == count else allowed & ~chosen)


def apportioned(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut into whole numbers in proportion to `weights`; the largest remainders are rounded up."""
    quotas = [total * weight / sum(weights) for weight in weights]
    counts = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(counts)), key=lambda number: counts[number] - quotas[number])
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts


def held_out(keys: Iterable[str], fraction: float) -> np.ndarray:
    """Which samples are held out for validation: a boolean a key, decided by the key alone, for any seed or size."""
    limit = int(fraction * 2**32)
    # as they come: a list of the keys of 13 million blocks would take 1.4 GB
    return np.fromiter((int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") < limit for key in keys), bool)


def draw_choice(seed: int, key: str, epoch: int) -> int:
    """A number of 64 bits fixed by (seed, key, epoch): which of a view's alternatives (captions) that epoch reads."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{epoch}\0{key}".encode()).digest()[:8], "little")


def draw_seed(seed: int, step: int, part: int) -> int:
    """A number of 63 bits fixed by (seed, step, part): what a part of a training step draws its dropout by."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {part}".encode()).digest()[:8], "little") >> 1
