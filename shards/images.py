"""The pixels of a view: encoded once by extract, decoded alike by teacher and student ever after."""

import io
import struct
import zlib

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from shards.errors import BadInput, Damaged

# what simplejpeg, and Pillow's PNG decoder, raise on bytes that are not in order
_DECODE_ERRORS = (
    *(ValueError, OSError, SyntaxError, TypeError, LookupError, struct.error, zlib.error),
    Image.DecompressionBombError,
)

Pixels = UInt8[np.ndarray, "height width 3"]


def parse_image_format(text: str) -> dict[str, str | int]:
    """`jpeg` (quality 95), `jpeg:QUALITY` or `png` as the view set's identity holds it; anything else is BadInput."""
    name, _, quality = text.partition(":")
    if name == "png" and not quality:
        return {"format": "png"}
    if name == "jpeg" and (not quality or (quality.isdecimal() and 1 <= int(quality) <= 100)):
        return {"format": "jpeg", "quality": int(quality or 95), "subsampling": "420"}
    raise BadInput(f"--image_format {text!r}: expected jpeg, jpeg:QUALITY (1 to 100) or png")


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
    except _DECODE_ERRORS as error:
        raise Damaged(f"a stored view cannot be decoded ({error})") from error
    if (height, width) != out.shape[:2]:
        raise Damaged(f"a stored view is {width} x {height} pixels, expected {out.shape[1]} x {out.shape[0]}")
