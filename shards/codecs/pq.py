"""pq: B bytes a token, each the number of the nearest of 256 centroids in its part of the channels.

Product quantisation (Jegou, Douze & Schmid 2011, "Product quantization for nearest neighbor search", section 2.2): B
sub-spaces of width dim / B, each with a codebook of its own. 768 channels in 96 bytes are 1 bit a number, an eighth of
int8's bytes. `rotation=pca` turns the channels first, so that the sub-spaces lose alike (Ge et al. 2013, "Optimized
product quantization", section 3.1: principal components, dealt out so that the products of their variances are alike).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from shards.codecs.base import Codec, Encoded
from shards.codecs.codebooks import CODES, Codebooks, centroids_of, checked, parse_argument
from shards.codecs.k_means import train
from shards.codecs.nearest import nearest, row_blocks

ROTATIONS = ("pca",)


@dataclass(frozen=True)
class ProductQuantiser(Codebooks):
    """A codebook for each of `num_codes` parts of the channels, as they are or after a rotation."""

    rotation_kind: str | None = None
    rotation: Float[Tensor, "dim dim"] | None = None
    """Orthogonal: rows are multiplied by its transpose."""

    @property
    def book_width(self) -> int:
        """The channels of a part."""
        return self.row_shape[-1] // self.num_codes

    def describe(self) -> dict[str, Any]:
        """The codec's part of a target set's identity; its codebooks follow from the rest of it."""
        rotation = {} if self.rotation_kind is None else {"rotation": self.rotation_kind}
        return {"name": "pq", "bytes": self.num_codes, "centroids": self.num_centroids} | rotation

    def calibrate(self, rows: Float[Tensor, "batch ..."]) -> "Codec":
        """This codec with codebooks trained on the vectors (last axis) of `rows`."""
        vectors = rows.float().reshape(-1, self.row_shape[-1])
        rotation = None if self.rotation_kind is None else principal_parts(vectors, self.num_codes)
        turned = vectors if rotation is None else (vectors.double() @ rotation.double().T).float()
        books = [train(part.contiguous(), self.num_centroids) for part in turned.split(self.book_width, -1)]
        centroids, errors = torch.stack([book[0] for book in books]), tuple(book[2] for book in books)
        return replace(self, centroids=centroids, errors=errors, rotation=rotation, _placed={})

    def state(self) -> dict[str, Tensor]:
        """The codebooks, and the rotation where there is one."""
        return super().state() | ({} if self.rotation is None else {"rotation": self.rotation})

    def with_state(self, state: dict[str, Tensor]) -> "Codec":
        """This codec with the codebooks and the rotation kept beside a target set."""
        if self.rotation_kind is None:
            return super().with_state(state)
        width = self.row_shape[-1]
        rotation = checked({n: v for n, v in state.items() if n == "rotation"}, {"rotation": (width, width)})
        restored = super().with_state({n: v for n, v in state.items() if n != "rotation"})
        assert isinstance(restored, ProductQuantiser)
        return replace(restored, **rotation)

    def encode(self, rows: Float[Tensor, "batch ..."]) -> Encoded:
        """The nearest centroid in each part, on the device that holds `rows`, some rows at a time."""
        flat, books = rows.reshape(-1, self.row_shape[-1]), self.books(rows.device)
        codes = [nearest(self._parts(block), books).T for block in row_blocks(flat, self.num_centroids)]
        return {CODES: torch.cat(codes).to(torch.uint8).view(*rows.shape[:-1], self.num_codes)}

    def _parts(self, rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "parts rows width"]:
        """The channels of each part, in float64 where they were turned."""
        if (rotation := self.rotation) is not None:
            turn = self.placed("turn", rows.device, lambda: rotation.to(rows.device).double())
            rows = rows.double() @ turn.T
        return rows.unflatten(1, (self.num_codes, self.book_width)).transpose(0, 1)

    def decode(self, stored: Encoded) -> Float[Tensor, "batch ..."]:
        """The centroids side by side, turned back: one look-up."""
        rows = F.embedding(self.indices(stored), self.table(stored[CODES].device)).flatten(-2)
        if self.rotation is None:
            return rows
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ self._turn_back(rows.device)

    def inputs_of(
        self, number: int, rows: Float[Tensor, "rows dim"], codes: UInt8[Tensor, "rows codebooks"]
    ) -> Float[Tensor, "rows width"]:
        """The channels of part `number`, whatever the earlier codes."""
        part = slice(number * self.book_width, (number + 1) * self.book_width)
        return rows[:, part] if self.rotation is None else rows @ self._turn_back(rows.device)[part].T

    def _turn_back(self, device: torch.device) -> Float[Tensor, "dim dim"]:
        rotation = self.rotation
        assert rotation is not None
        return self.placed("turn back", device, lambda: rotation.to(device))


def principal_parts(vectors: Float[Tensor, "rows dim"], num_parts: int) -> Float[Tensor, "dim dim"]:
    """The principal components as rows, in parts of equal width whose products of variances are about alike.

    From the largest variance down each component goes to the part that has the smallest product and is not full.
    """
    centred = vectors.double() - vectors.double().mean(0)
    variances, components = torch.linalg.eigh(centred.T @ centred / len(vectors))
    logs = variances.clamp(min=float(variances.max()) * 1e-9 + 1e-300).log().numpy()
    logs = logs - logs.min()  # none is negative, so that a part's sum grows with each component
    width = len(logs) // num_parts
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    sums = np.zeros(num_parts)
    for component in np.argsort(-logs, kind="stable").tolist():
        part = int(np.argmin(sums))
        parts[part].append(component)
        sums[part] = np.inf if len(parts[part]) == width else sums[part] + logs[component]
    return components.T[[component for part in parts for component in part]].float().contiguous()


def make(name: str, argument: str, row_shape: tuple[int, ...]) -> ProductQuantiser:
    """`pq`, `pq:B` or `pq:B,rotation=pca,centroids=K`; B divides the width, and is about an eighth of it by default."""
    num_bytes, options = parse_argument(name, argument, {"rotation": "rotation=pca", "centroids": "centroids=K"})
    width, num_centroids = row_shape[-1], centroids_of(options)
    divisors = [number for number in range(1, width + 1) if width % number == 0]
    if num_bytes is None:
        num_bytes = max(number for number in divisors if number <= max(1, width // 8))
    if num_bytes not in divisors:
        raise ValueError(f"{num_bytes} bytes do not divide rows of {width}; these do: {', '.join(map(str, divisors))}")
    rotation = options.get("rotation")
    if rotation is not None and rotation not in ROTATIONS:
        raise ValueError(f"expected rotation={' or rotation='.join(ROTATIONS)}, found {rotation!r}")
    given = [f"rotation={rotation}"] * (rotation is not None)
    given += [f"centroids={num_centroids}"] * ("centroids" in options)
    spec = ",".join([f"{name}:{num_bytes}", *given])
    return ProductQuantiser(spec, row_shape, num_bytes, num_centroids, rotation_kind=rotation)
