"""Crop: which part of an image a view shows, fixed by (seed, key, view index) and nothing else, and its pixels."""

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from extract.modalities.draws import Uniform
from shards.errors import BadInput
from shards.views.resampling import INTERPOLATIONS, resized

Pixels = UInt8[np.ndarray, "height width 3"]
Box = tuple[int, int, int, int]
"""left, top, width, height in pixels of the source image."""

_ATTEMPTS = 10
_MAX_RATIO = 1000
_NUMBER = r"([0-9]*\.?[0-9]+)"
_OPTIONS = {
    "scale": f"{_NUMBER}-{_NUMBER}",
    "ratio": f"{_NUMBER}-{_NUMBER}",
    "flip": _NUMBER,
    "seed": "(-?[0-9]{1,18})",
    "interpolation": f"({'|'.join(INTERPOLATIONS)})",
}
_EXPECTED = (
    "scale=LOW-HIGH, ratio=LOW-HIGH, flip=P, seed=N, size=PIXELS, format=jpeg:QUALITY or interpolation=NAME "
    f"({', '.join(INTERPOLATIONS)})"
)


@dataclass(frozen=True)
class Augment:
    """Random resized crop and horizontal flip (`crop`), or a plain resize of the whole image (`resize`)."""

    kind: str
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    interpolation: str = "bicubic"
    seed: int | None = None
    """None where it was not given: the view set's then, else 0. A field of its own in a view set's identity."""

    def describe(self) -> dict[str, Any]:
        """The augmentation's part of a view set's identity."""
        described = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        del described["seed"]
        return described if self.kind == "crop" else {"kind": "resize", "interpolation": self.interpolation}

    def text(self) -> str:
        """What `parse_augment` makes this of."""
        if self.kind == "resize":
            return self.kind
        scale, ratio = (f"{_plain(low)}-{_plain(high)}" for low, high in (self.scale, self.ratio))
        seed = "" if self.seed is None else f",seed={self.seed}"
        resampled = "" if self.interpolation == INTERPOLATIONS[0] else f",interpolation={self.interpolation}"
        return f"{self.kind}:scale={scale},ratio={ratio},flip={_plain(self.flip)}{seed}{resampled}"

    @classmethod
    def from_description(cls, described: dict[str, Any]) -> "Augment":
        """The augmentation that an identity describes."""
        values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in described.items()}
        return cls(**values)


def _plain(number: float) -> str:
    return str(np.format_float_positional(number, trim="-"))


def parse_augment(text: str) -> Augment:
    """`resize`, `crop`, or `crop:scale=LOW-HIGH,ratio=LOW-HIGH,flip=P,seed=N,...` with any of these; else BadInput."""
    kind, _, options = text.partition(":")
    if kind == "resize" and not options:
        return Augment("resize")
    if kind != "crop":
        expected = "crop, crop:scale=0.08-1,ratio=0.75-1.3333,flip=0.5,seed=0,size=224,format=jpeg:95 or resize"
        raise BadInput(f"--view {text!r}: expected {expected}")
    values: dict[str, Any] = {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        found = re.fullmatch(_OPTIONS.get(name, "(?!)"), value)
        value_of = _value(name, found.groups()) if found and name not in values else None
        if value_of is None:
            raise BadInput(f"--view {text!r}: {option!r} is not {_EXPECTED}")
        values[name] = value_of
    if values.get("scale", (0, 1))[1] > 1:
        raise BadInput(f"--view {text!r}: a crop's scale is a share of the image, at most 1")
    return Augment("crop", **values)


def _value(name: str, found: tuple[str, ...]) -> tuple[float, float] | float | int | str | None:
    """An option's value; None where its numbers make no sense."""
    if name == "interpolation":
        return found[0]
    if name == "seed":
        return int(found[0])
    if name == "flip":
        return float(found[0]) if float(found[0]) <= 1 else None
    low, high = map(float, found)
    return (low, high) if 0 < low <= high <= _MAX_RATIO else None


def draw(augment: Augment, width: int, height: int, uniform: Uniform) -> tuple[Box, bool]:
    """The crop and flip of one view of a `width` x `height` image.

    As torchvision's RandomResizedCrop (Szegedy et al. 2015, arXiv:1409.4842, section 6): area uniform in `scale`,
    log-aspect uniform in `ratio`, ten attempts, then the central crop nearest to `ratio`.
    """
    if augment.kind == "resize":
        return (0, 0, width, height), False
    flip = uniform() < augment.flip
    for _ in range(_ATTEMPTS):
        area = width * height * uniform(*augment.scale)
        aspect = math.exp(uniform(math.log(augment.ratio[0]), math.log(augment.ratio[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        left, top = uniform(), uniform()
        if 0 < crop_width <= width and 0 < crop_height <= height:
            box = (int(left * (width - crop_width + 1)), int(top * (height - crop_height + 1)), crop_width, crop_height)
            return box, flip
    aspect = min(max(width / height, augment.ratio[0]), augment.ratio[1])
    crop_width, crop_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    return ((width - crop_width) // 2, (height - crop_height) // 2, max(1, crop_width), max(1, crop_height)), flip


def render(image: Image.Image, box: Box, flip: bool, image_size: int, interpolation: str = "bicubic") -> Pixels:
    """The `image_size` x `image_size` RGB pixels of one crop, as torchvision's: cut first, then resized."""
    left, top, width, height = box
    cut = to_rgb(image).crop((left, top, left + width, top + height))
    return np.ascontiguousarray(resized(cut, flip, image_size, interpolation))


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` as RGB; transparent pixels on white, for a palette or alpha channel says nothing of what is behind."""
    # Pillow's own conversion of 16 bits would cut at 255; it spreads a PGM of 9 to 16 bits over 0..65535 in mode I
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image)
        grey = np.where(values == image.info.get("transparency"), 255, values >> 8)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadInput(f"its pixels are of mode {image.mode}, whose black and white are unknown: store 8 or 16 bits")
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
