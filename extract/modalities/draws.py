"""Draws: random numbers fixed by (seed, key, view) and nothing else, the same on every machine and for ever."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int64, Integer, UInt64

_VIEW_STREAM, _TOKEN_STREAM, _CODEC_STREAM = 0, 1, 2


class Uniform:
    """Numbers in [0, 1) fixed by (seed, key, view), from the counter-based generator Philox 4x64 (Salmon et al. 2011).

    The raw words are used: numpy fixes them for ever, its distributions it does not.
    """

    def __init__(self, seed: int, key: str, view: int, stream: int = _VIEW_STREAM) -> None:
        digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"), counter=[0, 0, stream, view])

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        """The next number, in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def order(self, count: int) -> Int[np.ndarray, " count"]:
        """A permutation of range(count): the order of the next `count` words."""
        return np.argsort(self.words(count), kind="stable")

    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """The next `count` raw words."""
        return self._bits.random_raw(count)


def draw_tokens(
    seed: int,
    key: str,
    view: int,
    keep: int,
    num_tokens: int,
    num_extra: int,
    later: Integer[np.ndarray, " tokens"] | None = None,
) -> Int[np.ndarray, " kept"]:
    """The positions, ascending, of the `keep` tokens of one view that --keep_tokens keeps of `num_tokens`.

    The first `num_extra` (CLS, registers) always, the others drawn without replacement from a stream of their own: the
    crop's draws and these do not touch each other. A token is kept only where there are not enough of those whose
    number in `later` is smaller.
    """
    order = Uniform(seed, key, view, _TOKEN_STREAM).order(num_tokens - num_extra)
    if later is not None:
        order = order[np.argsort(later[num_extra:][order], kind="stable")]
    drawn = num_extra + np.sort(order[: keep - num_extra])
    return np.concatenate([np.arange(num_extra), drawn])


def draw_numbers(seed: int, keys: Sequence[str], view: int, count: int) -> Int64[np.ndarray, "keys count"]:
    """`count` numbers, uniform in [0, 2^63), of each key's view, from a stream of their own: what a codec draws with.

    A token's number is the one at its position, whatever else is kept of the sample.
    """
    words = np.stack([Uniform(seed, key, view, _CODEC_STREAM).words(count) for key in keys])
    return (words >> np.uint64(1)).astype(np.int64)
