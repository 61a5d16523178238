"""Views without pixels: each sample's image is stored once, and of a view only what it shows of it.

Teacher and student render a view by `render`, from the same bytes, so that they see the same pixels; the crc32c of
these pixels is stored with the view and checked whenever it is rendered.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import crc32c
import numpy as np
import simplejpeg
from jaxtyping import UInt8, UInt16
from PIL import Image

from shards.errors import BadInput, Damaged
from shards.views import image
from shards.views.base import Row
from shards.views.resampling import is_known, resample

Pixels = UInt8[np.ndarray, "height width 3"]
Box = tuple[int, int, int, int]
"""left, top, width, height in pixels of the image that is cut."""

STORE, SOURCE_SIZE = "store", 320
"""The identity's field of such a view set, {"kind": "source", "source_size": 320} or {"kind": "none"}; the default."""
ARRAY, COLUMNS = "crops", 7
"""The array of the views: uint16 left, top, width, height in pixels of the stored image, 1 where it is flipped, and the
low and the high half of the rendered pixels' crc32c."""
MAX_SIDE, MAX_PIXELS = 65_500, 1 << 26


@dataclass(frozen=True)
class RenderedCodec(image.PixelCodec):
    """Square RGB pixels, rendered from the stored image (`.jpg` or `.png`), whose short side is `source_size`."""

    source_size: int = SOURCE_SIZE
    interpolation: str = "bicubic"
    storage: ClassVar[str] = "rendered"
    keeps_sources: ClassVar[bool] = True

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """As of a stored view; its pixels are rendered."""
        first, *rest = super().caption(row, facts, folder)
        return [f"{first}, rendered", *rest]

    def render(self, pixels: Pixels, box: Box, flip: bool, out: UInt8[np.ndarray, "size size 3"]) -> int:
        """Fill `out`, which is contiguous, with the view of an image's `pixels`; returns the crc32c of all of it."""
        left, top, width, height = box
        resample(pixels[top : top + height, left : left + width], flip, self.interpolation, out)
        return crc32c.crc32c(out.data)


@dataclass(frozen=True)
class OriginalCodec(RenderedCodec):
    """Rendered from the original images, which stay where they are: none is stored."""

    keeps_sources: ClassVar[bool] = False

    @property
    def endings(self) -> tuple[str, ...]:
        """No member is read."""
        return ()


def size_of(content: bytes) -> tuple[int, int]:
    """The width and height of a stored image; Damaged where it has none, or absurd ones."""
    try:
        if content[:2] == b"\xff\xd8":
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
        else:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
                width, height = opened.size
    except image.DECODE_ERRORS as error:
        raise Damaged(f"a stored image cannot be decoded ({error})") from error
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise Damaged(f"a stored image is {width} x {height} pixels, more than any that is stored")
    return width, height


def pixels_of(content: bytes) -> Pixels:
    """The pixels of a stored image, decoded as extract did when it drew the views' checksums."""
    width, height = size_of(content)
    pixels = np.empty((height, width, 3), np.uint8)
    image.decode(content, pixels)
    return pixels


def as_row(box: Box, flip: bool, checksum: int) -> UInt16[np.ndarray, " columns"]:
    """One view as it is stored."""
    return np.array([*box, flip, checksum & 0xFFFF, checksum >> 16], np.uint16)


def of_row(row: UInt16[np.ndarray, " columns"]) -> tuple[Box, bool, int]:
    """Box, flip and crc32c of a stored view."""
    left, top, width, height, flip, low, high = row.tolist()
    return (left, top, width, height), bool(flip), low | high << 16


def fits(store: Any) -> bool:
    """Whether an identity may say so of how its views are stored; None: as pixels."""
    if store is None:
        return True
    if store == {"kind": "none"}:
        return True
    size = store.get("source_size") if isinstance(store, dict) and store.get("kind") == "source" else None
    return type(size) is int and 1 <= size <= image.MAX_IMAGE_SIZE


def codec_of(identity: dict[str, Any]) -> RenderedCodec:
    """How the views of a view set of that identity are rendered."""
    augment = identity["augment"]
    interpolation = str(augment.get("interpolation", "bicubic"))
    if not is_known(interpolation):
        raise Damaged(f"identity.augment.interpolation cannot be {interpolation[:40]!r}; extract it again")
    pixels = image.PixelCodec(identity["image_size"], identity["image_format"], augment.get("kind") != "resize")
    return stored_as(pixels, identity[STORE], interpolation)


def stored_as(views: image.PixelCodec, store: dict[str, Any], interpolation: str) -> RenderedCodec:
    """The same views, rendered from what `store`, an identity's field, says."""
    kind = OriginalCodec if store["kind"] == "none" else RenderedCodec
    source_size = store.get("source_size", SOURCE_SIZE)
    return kind(views.image_size, views.image_format, views.augmented, source_size, interpolation)


def parse_store(spec: str, store: str | None, source_size: str | None, image_size: int) -> dict[str, Any] | None:
    """The identity's field that `store=` and `source_size=` of --view ask for; None: views of pixels.

    BadInput where they make no sense for views of `image_size`.
    """
    if store not in (None, "view", "source", "none"):
        raise BadInput(f"--view {spec}: store: expected view, source or none, found {store!r}")
    if store != "source":
        if source_size is not None:
            raise BadInput(f"--view {spec}: source_size is of store=source alone; add it, or leave source_size out")
        return {"kind": "none"} if store == "none" else None
    if source_size is not None and not (source_size.isdecimal() and 1 <= int(source_size) <= image.MAX_IMAGE_SIZE):
        expected = f"expected {image_size} to {image.MAX_IMAGE_SIZE} pixels"
        raise BadInput(f"--view {spec}: source_size: {expected}, found {source_size}")
    size = int(source_size or max(SOURCE_SIZE, image_size))
    if size < image_size:
        raise BadInput(
            f"--view {spec}: source_size={size} is smaller than the views' {image_size} pixels, which would all be "
            f"enlarged; give source_size={image_size} or more"
        )
    return {"kind": "source", "source_size": size}
