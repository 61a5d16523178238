"""Images: a view is a crop or a resize of a photo; a network takes its pixels normalised."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
from extract.modalities.crop import Augment, draw, parse_augment, render
from extract.modalities.draws import Uniform
from extract.sources.base import Sample, Source
from shards.errors import BadInput, IdentityMismatch
from shards.views.base import Row
from shards.views.image import PixelCodec, format_text, parse_image_format
from shards.views.rendered import STORE, parse_store
from shards.views.resampling import LINEAR_EXACT, not_antialiased

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224
MAX_SIZE = 4096
"""The most pixels a side that a network may ask for."""
_MAX_NUMBER = 1e6  # no mean or deviation of a pixel is near it; NaN and infinity are not below it


@dataclass(frozen=True)
class ImageInput(InputSpec):
    """Square pixels in [0, 1], minus mean, over std, per RGB channel."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    modality: ClassVar[str] = "image"

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`images`: float32 (batch, 3, height, width)."""
        return {"images": normalise(fields["pixels"], self.mean, self.std)}

    def valid(self, fields: Mapping[str, Tensor]) -> None:
        """Every pixel is content."""

    def example(self) -> dict[str, Tensor]:
        """One black image."""
        return {"pixels": torch.zeros(1, self.image_size, self.image_size, 3, dtype=torch.uint8)}

    def describe(self) -> dict[str, Any]:
        """Image size, mean and std."""
        return asdict(self)


def normalise(
    pixels: UInt8[Tensor, "batch height width 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch 3 height width"]:
    """(x / 255 - mean) / std per channel, float32; channels first in shape, last in memory, as convolutions like it."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=pixels.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=pixels.device)
    return torch.addcmul(shift, pixels.float(), scale).permute(0, 3, 1, 2)


def input_of(where: str, described: dict[str, Any], folder: Path | None) -> ImageInput:
    """The input that `ImageInput.describe` described; BadInput, which begins with `where`, for what is none."""
    size, mean, std = (described.get(name) for name in ("image_size", "mean", "std"))
    fits = {
        "image_size": type(size) is int and 1 <= size <= MAX_SIZE,
        "mean": _is_three_numbers(mean),
        "std": _is_three_numbers(std) and min(std) > 0,  # type: ignore[arg-type]
    }
    if wrong := [name for name, fit in fits.items() if not fit]:
        raise BadInput(f"{where}: {wrong[0]} is missing or cannot be {str(described.get(wrong[0]))[:80]}")
    return ImageInput(size, tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]


def _is_three_numbers(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 3
        and all(type(number) in (int, float) and abs(number) < _MAX_NUMBER for number in value)
    )


def default_input(codec: PixelCodec) -> ImageInput:
    """ImageNet's mean and deviation, at the size of the views."""
    return ImageInput(codec.image_size, IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True)
class ImageViews(ViewMaker):
    """Each view a random resized crop, perhaps flipped, or a resize of the whole image."""

    augment: Augment
    codec: PixelCodec
    upright: bool = True
    """Whether photos are turned by their EXIF orientation, which the source does as it reads them.

    Not in a view set that was begun before that was done; a source whose images are no files has nothing to turn.
    """
    needs: ClassVar[frozenset[str]] = frozenset({"image"})

    @property
    def all_alike(self) -> bool:
        """Whether the views of one sample are all the same."""
        return self.augment.kind == "resize"

    @property
    def bytes_a_view(self) -> float:
        """A q95 JPEG of a photo is about 0.4 bytes a pixel; headers and the json add 3 kB."""
        return self.codec.image_size**2 * 0.4 + 3072

    def describe(self) -> dict[str, Any]:
        """The augmentation, its seed (None: nothing is drawn), image size and codec; the orientation of photos."""
        orientation = {"orientation": "upright"} if self.upright else {}
        return orientation | {
            "augment": self.augment.describe(),
            "seed": self.augment.seed,
            "image_size": self.codec.image_size,
            "image_format": self.codec.image_format,
        }

    def former(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """Without the orientation, which an earlier version did not know."""
        return [{name: value for name, value in identity.items() if name != "orientation"}]

    @property
    def records_digests(self) -> bool:
        """Not in a view set that an earlier version began; images that are no files are covered by the revision."""
        return self.upright

    def arrange(self, source: Source, scratch: Path, skip_errors: bool) -> Source:
        """The source, which turns its photos or leaves them as they are stored."""
        return replace(source, upright=self.upright)

    def flags(self) -> dict[str, str | int]:
        """The flags that caches have been saved with since before there was --view."""
        size, image_format = self.codec.image_size, format_text(self.codec.image_format)
        return {"augment": self.augment.text(), "image_size": size, "image_format": image_format}

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """The pixels of one view; the crop in pixels of the original, whether it is flipped, the original's size."""
        assert sample.image is not None
        uniform = Uniform(self.augment.seed or 0, sample.key, view)
        box, flip = draw(self.augment, *sample.image.size, uniform)
        try:
            pixels = render(sample.image, box, flip, self.codec.image_size, self.augment.interpolation)
        except BadInput as error:
            raise BadInput(f"sample {sample.key}: {error}") from None
        return {"pixels": pixels}, {"crop": list(box), "flip": flip, "size": list(sample.image.size)}


def maker_of(request: ViewRequest) -> ImageViews:
    """What is asked for: the flag first, then what the cache has, then the source's and the teacher's defaults."""
    asked, stored = _parse(request.spec), request.stored or {}
    alike = request.stored or request.sibling or {}
    if asked.augment is None and "augment" in stored:
        augment = Augment.from_description(stored["augment"])
    else:
        suggested = request.source.default_augment if request.source else None
        default = (suggested or "crop") if request.training else "resize"
        spec = asked.augment or default
        augment = parse_augment(f"{default.partition(':')[0]}{spec}" if spec.startswith(":") else spec)
    seed = augment.seed if augment.seed is not None else stored.get("seed") or 0
    augment = replace(augment, seed=seed if augment.kind == "crop" else None)  # a plain resize draws nothing
    size = asked.size or alike.get("image_size") or _size_of(request.inputs) or DEFAULT_SIZE
    renders = asked.store in ("source", "none") if asked.store else augment.kind == "crop" and STORE in alike
    if request.stored is None and renders != (STORE in alike):
        alike = {}  # what is stored of the other split is no view, or what is stored here
    quality = 90 if renders else 95  # the images are most of the bytes of many views
    image_format = asked.image_format or alike.get("image_format") or parse_image_format(f"jpeg:{quality}")
    encoded = request.source is not None and request.source.encoded
    upright = "orientation" in stored if request.stored else encoded
    views = ImageViews(augment, PixelCodec(size, image_format, augment.kind != "resize"), upright)
    return _as_stored(views, asked, request)


def _as_stored(views: ImageViews, asked: "_Asked", request: ViewRequest) -> ImageViews:
    """The views as pixels, or rendered: as the flag says, else as the cache's are."""
    alike = request.stored or (request.sibling if not views.all_alike else None) or {}
    theirs, kind, size = alike.get(STORE) or {}, asked.store, asked.source_size
    if theirs and kind in (None, theirs["kind"]):
        kind, size = theirs["kind"], size or (theirs.get("source_size") and str(theirs["source_size"]))
    store = parse_store(request.spec or "", kind, size, views.codec.image_size)
    if store is None and theirs and request.stored:
        ask = "ask for what it has, or give another --out"
        raise IdentityMismatch(f"--view {request.spec}: store: the cache has {alike[STORE]['kind']}; {ask}")
    if store is None:
        if views.augment.interpolation == LINEAR_EXACT:
            raise BadInput(not_antialiased("store=source"))
        return views
    from extract.modalities.rendered import rendered

    return rendered(views, store)


def input_size(request: ViewRequest) -> int | None:
    """Pixels a side of a view, where the flag or the cache says so."""
    alike = request.stored or request.sibling or {}
    size: int | None = _parse(request.spec).size or alike.get("image_size")
    return size


def plain_maker(inputs: InputSpec) -> ImageViews:
    """The whole image, resized to what a network takes, its pixels as they are."""
    size = _size_of(inputs)
    assert size is not None
    return ImageViews(Augment("resize"), PixelCodec(size, parse_image_format("png")))


def _size_of(inputs: InputSpec | None) -> int | None:
    return inputs.image_size if isinstance(inputs, ImageInput) else None


@dataclass(frozen=True)
class _Asked:
    augment: str | None
    """What `parse_augment` takes; before the colon stands nothing where the default kind is meant."""
    size: int | None
    image_format: dict[str, str | int] | None
    store: str | None = None
    source_size: str | None = None


_OPTIONS = ("size", "format", "store", "source_size")
"""Of --view, beside the augmentation's own."""


def _parse(spec: str | None) -> _Asked:
    """`KIND:NAME=VALUE,...` or `NAME=VALUE,...`: size, format, and the augmentation's own options."""
    if spec is None:
        return _Asked(None, None, None)
    head, _, rest = spec.partition(":")
    kind, text = ("", spec) if "=" in head else (head, rest)
    options = [option.partition("=") for option in filter(None, text.split(","))]
    values = {name: value for name, _, value in options if name in _OPTIONS}
    augmentation = ",".join(f"{name}={value}" for name, _, value in options if name not in values)
    if "size" in values and not (values["size"].isdecimal() and 1 <= int(values["size"]) <= MAX_SIZE):
        raise BadInput(f"--view {spec}: size: expected 1 to {MAX_SIZE} pixels, found {values['size']}")
    return _Asked(
        f"{kind}:{augmentation}".removesuffix(":") if kind or augmentation else None,
        int(values["size"]) if "size" in values else None,
        parse_image_format(values["format"]) if "format" in values else None,
        values.get("store"),
        values.get("source_size"),
    )
