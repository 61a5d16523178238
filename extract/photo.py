"""Photo: an image file as people see it: decoded, and turned upright by its EXIF orientation."""

import struct
import zlib
from functools import cache
from io import BytesIO

from PIL import ExifTags, Image

from shards.errors import BadInput

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga"),
    }
)


@cache
def _formats() -> list[str]:
    """PIL's names of the formats above: of others one, EPS, is a program, which PIL gives to Ghostscript to run."""
    known = Image.registered_extensions()
    return sorted({known[suffix] for suffix in IMAGE_SUFFIXES & known.keys()})


# what PIL's decoders raise on damaged bytes (found by flipping and cutting files of every format above)
_DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, TypeError, ArithmeticError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

_LARGE, _PIXELS_A_BYTE = 16 << 20, 10_000
"""A larger image (in pixels) with more pixels a byte is a bomb: a PNG of one bit and one colour has 8,000."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a stored image upright, by its EXIF orientation (Exif 3.0, section 4.6.6.1); 1 is upright."""


def decoded(data: bytes, upright: bool, where: str) -> Image.Image:
    """The image, its pixels otherwise as PIL decodes them: no mode conversion.

    Raises BadInput, which begins with `where`, for what cannot be decoded (PIL's limit against decompression bombs
    included), and for a large image in so few bytes that only its header can say so.
    """
    try:
        image: Image.Image = Image.open(BytesIO(data), formats=_formats())
        if image.width * image.height > max(_LARGE, _PIXELS_A_BYTE * len(data)):
            size = f"{image.width:,} x {image.height:,} pixels in {len(data):,} bytes"
            raise Image.DecompressionBombError(f"{size}, which no photo has")
        image.load()
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1)) if upright else None
        return image if turn is None else image.transpose(turn)
    except _DECODE_ERRORS as error:
        reason = "not an image of a format that is read" if isinstance(error, Image.UnidentifiedImageError) else error
        raise BadInput(f"{where} cannot be decoded ({reason}): repair or remove it") from error
