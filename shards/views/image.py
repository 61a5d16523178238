"""Images: a view is `pixels`, encoded once by extract as a JPEG or PNG, decoded alike by teacher and student."""

import importlib
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from shards.errors import BadInput, Damaged, one_line
from shards.views.base import MemberCodec, Row

# what simplejpeg, and Pillow's PNG decoder, raise on bytes that are not in order
DECODE_ERRORS = (
    *(ValueError, OSError, SyntaxError, TypeError, LookupError, struct.error, zlib.error),
    Image.DecompressionBombError,
)

Pixels = UInt8[np.ndarray, "height width 3"]
MAX_IMAGE_SIZE = 1 << 14
CHECKS = {
    "orientation": lambda value: value in (None, "upright"),
    "augment": lambda value: isinstance(value, dict),
    "image_size": lambda value: type(value) is int and 1 <= value <= MAX_IMAGE_SIZE,
    "image_format": lambda value: isinstance(value, dict) and isinstance(value.get("format"), str),
    "store": lambda value: value is None or _rendered().fits(value),
}
"""What the identity of a view set of images must hold."""


@dataclass(frozen=True)
class PixelCodec(MemberCodec):
    """Square RGB pixels as one member, `.jpg` or `.png`."""

    image_size: int
    image_format: dict[str, str | int]
    augmented: bool = False
    modality: ClassVar[str] = "image"

    @property
    def fields(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """`pixels`: uint8 (height, width, 3)."""
        return {"pixels": ("uint8", (self.image_size, self.image_size, 3))}

    @property
    def endings(self) -> tuple[str, ...]:
        """The one member of a view."""
        return (ending(self.image_format),)

    def encode(self, row: Row) -> dict[str, bytes]:
        """The image file of the pixels."""
        return {ending(self.image_format): encode(row["pixels"], self.image_format)}

    def decode(self, members: Mapping[str, bytes], out: Row, choice: int = 0) -> None:
        """Decode into `out["pixels"]`; Damaged when the member is no image of that size."""
        decode(members[ending(self.image_format)], out["pixels"])

    def picture(self, row: Row) -> Image.Image:
        """The pixels themselves."""
        return Image.fromarray(row["pixels"])

    def caption(self, row: Row, facts: dict[str, Any], folder: Path) -> list[str]:
        """The size of the original and whether the view is flipped; the crop. Damaged where the facts tell neither."""
        try:
            flipped = ", flipped" if facts["flip"] else ""
            source = "source {}x{}".format(*facts["size"])
            return [source + flipped, "crop {2}x{3} at {0}, {1}".format(*facts["crop"])]
        except (LookupError, TypeError) as error:
            raise Damaged(f"{folder}: a stored view's .json lacks size, crop or flip ({one_line(error)})") from None


def codec_of(identity: dict[str, Any]) -> PixelCodec:
    """How the views of a view set of that identity are stored: as pixels, or the images that they are rendered from."""
    if identity.get("store") is not None:
        codec: PixelCodec = _rendered().codec_of(identity)
        return codec
    return PixelCodec(identity["image_size"], identity["image_format"], identity["augment"].get("kind") != "resize")


def _rendered() -> Any:
    return importlib.import_module("shards.views.rendered")


def parse_image_format(text: str) -> dict[str, str | int]:
    """`jpeg` (quality 95), `jpeg:QUALITY` or `png` as the view set's identity holds it; anything else is BadInput."""
    name, _, quality = text.partition(":")
    if name == "png" and not quality:
        return {"format": "png"}
    if name == "jpeg" and (not quality or (quality.isdecimal() and 1 <= int(quality) <= 100)):
        return {"format": "jpeg", "quality": int(quality or 95), "subsampling": "420"}
    raise BadInput(f"--view format={text}: expected jpeg, jpeg:QUALITY (1 to 100) or png")


def format_text(image_format: dict[str, str | int]) -> str:
    """What `parse_image_format` was given."""
    return "png" if image_format["format"] == "png" else f"jpeg:{image_format['quality']}"


def ending(image_format: dict[str, str | int]) -> str:
    """The tar member's ending."""
    return "png" if image_format["format"] == "png" else "jpg"


def encode(pixels: Pixels, image_format: dict[str, str | int]) -> bytes:
    """The image file of `pixels` (RGB)."""
    if image_format["format"] == "png":
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()
    quality, subsampling = int(image_format["quality"]), str(image_format["subsampling"])
    return simplejpeg.encode_jpeg(
        pixels, quality=quality, colorspace="RGB", colorsubsampling=subsampling, fastdct=False
    )


def decode(content: bytes, out: Pixels) -> None:
    """Decode a stored view into `out`; Damaged when it is no image of that size. Releases the interpreter lock."""
    try:
        if content[:2] == b"\xff\xd8":
            height, width, *_ = simplejpeg.decode_jpeg_header(content)
            if (height, width) == out.shape[:2]:
                simplejpeg.decode_jpeg(content, "RGB", buffer=out)
        else:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                width, height = image.size
                if (height, width) == out.shape[:2]:
                    out[:] = np.asarray(image.convert("RGB"))
    except DECODE_ERRORS as error:
        raise Damaged(f"a stored view cannot be decoded ({error})") from error
    if (height, width) != out.shape[:2]:
        raise Damaged(f"a stored view is {width} x {height} pixels, expected {out.shape[1]} x {out.shape[0]}")
