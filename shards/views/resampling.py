"""Resampling: how the part of an image that a view shows becomes square pixels, the same ones on every machine.

Pillow's filters are integer arithmetic in plain C. OpenCV's INTER_LINEAR_EXACT is fixed-point arithmetic, whose weights
are multiples of 1/256. Others (torch's uint8 kernels, OpenCV's other modes) end in other pixels on another processor.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shards.errors import BadInput

Pixels = UInt8[np.ndarray, "height width 3"]

LINEAR_EXACT = "linear_exact"
"""OpenCV's: a quarter of the time of Pillow's `bilinear`, and not antialiased: for images that are hardly shrunk."""
MOST_SHRUNK = 2
"""Times that an image may be as large as its views where nothing is antialiased: each of its pixels still counts."""
INTERPOLATIONS = ("bicubic", "bilinear", LINEAR_EXACT)


def is_known(interpolation: str) -> bool:
    """Whether views can be resampled so."""
    return interpolation == LINEAR_EXACT or interpolation.upper() in Image.Resampling.__members__


def resized(cut: Image.Image, flip: bool, image_size: int, interpolation: str) -> Pixels:
    """The `image_size` x `image_size` pixels of an RGB image, antialiased as Pillow's resize is, flipped or not.

    What is to be shown is cut out before: resize's own `box` would let the filter reach beyond the crop.
    """
    small = cut.resize((image_size, image_size), Image.Resampling[interpolation.upper()])
    # numpy takes 30 times as long to copy pixels of 3 bytes backwards
    return np.asarray(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else small)


def resample(cut: Pixels, flip: bool, interpolation: str, out: UInt8[np.ndarray, "size size 3"]) -> None:
    """Fill `out`, which is contiguous, with the pixels `cut`, resized and flipped or not."""
    if interpolation != LINEAR_EXACT:
        out[:] = resized(Image.fromarray(cut), flip, len(out), interpolation)
        return
    cv2 = opencv()
    small = cv2.resize(cut, out.shape[:2], dst=None if flip else out, interpolation=cv2.INTER_LINEAR_EXACT)
    if flip:
        cv2.flip(small, 1, dst=out)


def not_antialiased(remedy: str) -> str:
    """Why LINEAR_EXACT is refused where images may be shrunk more than MOST_SHRUNK times."""
    why = f"is not antialiased: it is of images that are kept at most {MOST_SHRUNK} times as large as the views"
    return f"--view interpolation={LINEAR_EXACT} {why}; give {remedy}, or interpolation=bilinear"


@cache
def opencv() -> Any:
    """OpenCV's module; BadInput where it is not installed."""
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        needs = f"needs OpenCV ({error}): pip install 'teacher-shards[opencv]'"
        raise BadInput(f"--view interpolation={LINEAR_EXACT}: {needs}") from None
