"""rq: B bytes a token, each the number of the nearest of 256 centroids to what the codes before it leave.

Residual quantisation (Chen, Guan & Wang 2010, "Approximate nearest neighbor search by residual vector quantization"):
B stages, each with a codebook over the whole width, whose centroids add up. Encoding is greedy, a stage at a time, and
not by a beam: its error is above the best choice of codes. An encoding costs B times what pq's does.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from shards.codecs.base import Codec, Encoded
from shards.codecs.codebooks import CODES, Codebooks, centroids_of, parse_argument
from shards.codecs.k_means import train
from shards.codecs.nearest import nearest, row_blocks


@dataclass(frozen=True)
class ResidualQuantiser(Codebooks):
    """`num_codes` codebooks over the whole width, whose centroids add up to the row."""

    @property
    def book_width(self) -> int:
        """All channels."""
        return self.row_shape[-1]

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity; its codebooks follow from the rest of it."""
        return {"name": "rq", "bytes": self.num_codes, "centroids": self.num_centroids}

    def calibrate(self, rows: Float[Tensor, "batch ..."]) -> "Codec":
        """This codec with codebooks trained on the vectors (last axis) of `rows`, each on what is left by then."""
        left, books, errors = rows.float().reshape(-1, self.row_shape[-1]), [], []
        for _ in range(self.num_codes):
            centroids, codes, error = train(left, self.num_centroids)
            left = left - centroids[codes]
            books.append(centroids)
            errors.append(error)
        return replace(self, centroids=torch.stack(books), errors=tuple(errors), _placed={})

    def encode(self, rows: Float[Tensor, "batch ..."]) -> Encoded:
        """Greedily the nearest centroid of each stage, on the device that holds `rows`, some rows at a time."""
        flat = rows.reshape(-1, self.row_shape[-1])
        books = self.books(rows.device)
        parts = []
        for block in row_blocks(flat, self.num_centroids):
            left, codes = block.double(), []
            for number in range(self.num_codes):
                codes.append(nearest(left.unsqueeze(0), books[number : number + 1])[0])
                left = left - books.exact[number][codes[-1]]
            parts.append(torch.stack(codes, 1))
        return {CODES: torch.cat(parts).to(torch.uint8).view(*rows.shape[:-1], self.num_codes)}

    def decode(self, stored: Encoded) -> Float[Tensor, "batch ..."]:
        """The sum of the stages' centroids: one look-up."""
        rows = F.embedding_bag(self.indices(stored).flatten(0, -2), self.table(stored[CODES].device), mode="sum")
        return rows.view(*stored[CODES].shape[:-1], self.book_width)

    def inputs_of(
        self, number: int, rows: Float[Tensor, "rows dim"], codes: UInt8[Tensor, "rows codebooks"]
    ) -> Float[Tensor, "rows width"]:
        """What the given codes of the earlier stages leave of `rows`."""
        for stage in range(number):
            rows = rows - self.book(stage, rows.device)[codes[:, stage].long()]
        return rows


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> ResidualQuantiser:
    """`rq` (B = 8), `rq:B` or `rq:B,centroids=K`; B is at most the width."""
    num_bytes, options = parse_argument(name, argument, {"centroids": "centroids=K"})
    num_bytes = min(8, row_shape[-1]) if num_bytes is None else num_bytes
    if num_bytes > row_shape[-1]:
        raise ValueError(f"{num_bytes} bytes are more than rows of {row_shape[-1]} have numbers; give at most as many")
    num_centroids = centroids_of(options)
    spec = f"{name}:{num_bytes}" + (f",centroids={num_centroids}" if "centroids" in options else "")
    return ResidualQuantiser(spec, row_shape, num_bytes, num_centroids)
