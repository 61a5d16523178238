"""Images whose views are rendered when they are read: the maker of `--view crop:...,store=source`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.modalities.crop import draw, to_rgb
from extract.modalities.draws import Uniform
from extract.modalities.image import ImageViews
from extract.sources.base import Sample, Source
from shards.errors import BadInput
from shards.layout import Place
from shards.storage.base import ViewStorage
from shards.storage.rendered import Storage
from shards.views import image
from shards.views.base import Row
from shards.views.image import format_text
from shards.views.rendered import COLUMNS, MAX_SIDE, STORE, RenderedCodec, size_of

_KEPT = "kept image"
"""The field of a sample that the view set keeps: its image's file."""


@dataclass(frozen=True)
class RenderedViews(ImageViews):
    """Each view a random resized crop of the sample's image, which is shrunk and encoded once for all of them."""

    codec: RenderedCodec

    @property
    def bytes_a_view(self) -> float:
        """A row, and its checksum in the commit record."""
        return 2.0 * COLUMNS + 6

    @property
    def bytes_a_sample(self) -> float:
        """An image of 4 to 3, as a q95 JPEG of 0.4 bytes a pixel; headers and the json add 3 kB."""
        return self.codec.source_size**2 * 4 / 3 * 0.4 + 3072

    @property
    def records_digests(self) -> bool:
        """The images themselves are kept, so no later view is made of others."""
        return False

    def describe(self) -> dict[str, Any]:
        """The image's, and how large it is kept."""
        return super().describe() | {STORE: {"kind": "source", "source_size": self.codec.source_size}}

    def former(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """No earlier version stored views so."""
        return []

    def flags(self) -> dict[str, str | int]:
        """--view."""
        codec = self.codec
        options = [self.augment.text(), f"size={codec.image_size}", f"format={format_text(codec.image_format)}"]
        return {"view": ",".join([*options, "store=source", f"source_size={codec.source_size}"])}

    def reading(self, source: Source | None, storage: ViewStorage, place: Place) -> Callable[[int], Sample]:
        """The images that the view set keeps, where it has those of that shard."""
        assert isinstance(storage, Storage)
        kept = storage.kept_image(*place)
        if kept is None:
            return super().reading(source, storage, place)

        def read(index: int) -> Sample:
            content, label = kept(index)
            return Sample(storage.plan.keys[index], label=label, fields={_KEPT: content})

        return read

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """`pixels`: the bytes of the image's file, from which the storage renders; crop and flip, the image's size."""
        content: bytes = (sample.fields or {}).get(_KEPT) or self._encoded(sample)
        size = size_of(content)
        box, flip = draw(self.augment, *size, Uniform(self.augment.seed or 0, sample.key, view))
        return {"pixels": np.frombuffer(content, np.uint8)}, {"crop": list(box), "flip": flip, "size": list(size)}

    def _encoded(self, sample: Sample) -> bytes:
        """The file of the sample's image, its short side `source_size` unless it is smaller."""
        assert sample.image is not None
        try:
            upright = to_rgb(sample.image)
        except BadInput as error:
            raise BadInput(f"sample {sample.key}: {error}") from None
        width, height = upright.size
        times = self.codec.source_size / min(width, height)
        if times < 1:
            shrunk = [max(self.codec.source_size, round(side * times)) for side in (width, height)]
            upright = upright.resize((shrunk[0], shrunk[1]), image.Image.Resampling.BICUBIC)
        if max(upright.size) > MAX_SIDE:
            raise BadInput(f"sample {sample.key} is {width} x {height} pixels: too long to be stored; remove it")
        return image.encode(np.asarray(upright), self.codec.image_format)


def rendered(views: ImageViews, source_size: int) -> RenderedViews:
    """The same views, rendered from images whose short side is `source_size`; BadInput where they are all alike."""
    if views.all_alike:
        raise BadInput("--view store=source: a resize has one view a sample, whose pixels take less; leave store= out")
    pixels, interpolation = views.codec, views.augment.interpolation
    kept = RenderedCodec(pixels.image_size, pixels.image_format, pixels.augmented, source_size, interpolation)
    return RenderedViews(views.augment, kept, views.upright)
