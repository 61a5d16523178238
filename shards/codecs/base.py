"""What every codec does: name its arrays, encode rows, decode them, and state its error."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from shards.codec_error import cosine_error

Encoded = dict[str, Shaped[Tensor, "batch ..."]]


class Codec(ABC):
    """A pair of functions between a target's rows and the arrays stored for them.

    `encode` and `decode` are vectorised over the batch and run on the device that holds their input. A codec that needs
    statistics takes them once from a calibration set, and one that draws is given numbers for each batch; for all
    others `calibrate`, `state`, `with_state` and `with_numbers` do nothing.
    """

    name: str
    """The codec's spec, which makes it again."""
    has_statistics: ClassVar[bool] = False
    """Whether it needs statistics: `calibrate` takes them from rows, `with_state` from a file's tensors."""
    num_centroids: int = 0
    """Of each codebook: it is calibrated from at least so many vectors, and better from 40 times as many."""
    numbers_a_row: int = 0
    """Random numbers that it takes for a row, one for each token; `with_numbers` gives them before `encode`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity."""

    @abstractmethod
    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Each stored array's data type and one sample's shape."""

    @abstractmethod
    def encode(self, rows: Any) -> Encoded:
        """The stored form of `rows`: a float tensor (batch, ...), or with --keep_tokens the Features drawn of one."""

    @abstractmethod
    def decode(self, stored: Encoded) -> Any:
        """The rows as a float32 tensor, or as the codec's own type (Distribution, Features)."""

    def codes(self, stored: Encoded) -> Tensor | None:
        """The stored indices of codebooks (batch, ..., codebooks); None where it has none."""
        return None

    def error(self, rows: Any) -> dict[str, float]:
        """How far decode(encode(rows)) is from `rows`: cosine and largest difference, unless others suit the codec."""
        return cosine_error(rows.float(), self.decode(self.encode(rows)))

    def calibrate(self, rows: Float[Tensor, "batch ..."]) -> "Codec":
        """This codec with the statistics of `rows`."""
        return self

    def with_state(self, state: dict[str, Tensor]) -> "Codec":
        """This codec with the statistics kept beside a target set."""
        return self

    def with_numbers(self, numbers: Int64[Tensor, "batch numbers"]) -> "Codec":
        """This codec for the batch whose random numbers, uniform in [0, 2^63), these are."""
        return self

    def state(self) -> dict[str, Tensor]:
        """The statistics to keep beside the target set; its identity need not hold them, for they follow from it."""
        return {}
