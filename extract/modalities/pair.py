"""Pairs: a view is an image with its captions; an image's network takes the pixels, a text's the captions, or both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from extract.modalities import image, text
from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
from extract.modalities.image import ImageInput, ImageViews
from extract.modalities.text import TextInput
from extract.sources.base import Sample
from shards.codecs.features import Features
from shards.errors import BadInput
from shards.views.base import Row, ViewCodec
from shards.views.image import format_text
from shards.views.pair import CAPTIONS, MAX_CAPTIONS, CaptionCount, Captions, PairCodec, TokenRows

CAPTION_TOKENS = 64
"""Tokens that a network takes of a caption: those of the thesis."""
DEFAULT_AUGMENT = "crop:scale=0.9-1"
"""Nearly all of the image, so that its captions still fit (the thesis, section Data)."""


@dataclass(frozen=True)
class PairInput(InputSpec):
    """An image and one of its captions, each as its own encoder takes it."""

    image: ImageInput
    text: TextInput
    modality: ClassVar[str] = "pair"

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`images`, `input_ids` and `attention_mask`, the captions cut to the batch's longest one."""
        return self.image.prepare(fields) | self.text.prepare(self.text.cut(_texts(fields)))

    def valid(self, fields: Mapping[str, Tensor]) -> None:
        """Its outputs have a row a sample."""

    def target(self, features: Features, fields: Mapping[str, Tensor], fed: Mapping[str, Any]) -> Features:
        """A target set's rows; of a teacher of captions the row of the caption that was read."""
        if CAPTIONS not in fed:
            return features
        rows = features.vectors
        return Features(rows[torch.arange(len(rows), device=rows.device), fields["caption"].to(torch.int64)])

    def reads(self, codec: ViewCodec, seed: int = 0) -> ViewCodec:
        """The pixels and a caption's tokens."""
        return _reading(codec, self.text, seed=seed)

    def example(self) -> dict[str, Tensor]:
        """A black image without words."""
        return self.image.example() | self.text.example() | {"caption": torch.zeros(1, dtype=torch.uint16)}

    def describe(self) -> dict[str, Any]:
        """Both inputs."""
        return {"image": self.image.describe(), "text": self.text.describe()}

    def files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return self.text.files()


@dataclass(frozen=True)
class CaptionsInput(InputSpec):
    """All captions of an image, for a network that takes texts: its outputs have a row a caption."""

    text: TextInput
    most: int
    """Rows a sample; those beyond its captions are zero."""
    modality: ClassVar[str] = "pair"

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The captions of all samples, one after the other, cut to the longest."""
        valid = self.valid(fields)
        rows = {name: fields[name][valid] for name in ("tokens", "length")}
        return self.text.prepare(self.text.cut(rows))

    def collect(self, outputs: dict[str, Tensor], fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each output with a row a caption as (batch, most, dim); those with a row a token are left out."""
        valid = self.valid(fields)
        return {
            name: rows.new_zeros(*valid.shape, rows.shape[1]).masked_scatter(valid[..., None], rows)
            for name, rows in outputs.items()
            if rows.dim() == 2
        }

    def valid(self, fields: Mapping[str, Tensor]) -> Bool[Tensor, "batch most"]:
        """Which rows are captions."""
        return fields["length"].to(torch.int64) > 0

    def reads(self, codec: ViewCodec, seed: int = 0) -> ViewCodec:
        """The tokens of all captions and no pixels."""
        return _reading(codec, self.text, self.most)

    def example(self) -> dict[str, Tensor]:
        """One sample of as many captions without words."""
        return {name: torch.stack([rows[0]] * self.most)[None] for name, rows in self.text.example().items()}

    def describe(self) -> dict[str, Any]:
        """Rows a sample, and the text's input."""
        return {CAPTIONS: self.most, "text": self.text.describe()}

    def files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return self.text.files()


@dataclass(frozen=True)
class TowersInput(InputSpec):
    """The stored rows of two teachers, of images and of their captions; no view is decoded."""

    image_dim: int
    text_dim: int
    most: int
    """Rows of captions a sample."""
    modality: ClassVar[str] = "pair"
    of_targets: ClassVar[frozenset[str]] = frozenset({"image", "text"})

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`image` (batch, dim), `text` (batch, most, dim), `captions`: how many of the latter are there."""
        return {name: fields[name] for name in ("image", "text")} | {CAPTIONS: fields[CAPTIONS].to(torch.int64)}

    def valid(self, fields: Mapping[str, Tensor]) -> None:
        """The network is told which rows are captions."""

    def beside(
        self, fields: Mapping[str, Tensor], targets: Sequence[Features], fed: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Tensor]:
        """The number of captions, and the rows of both towers."""
        rows = {tower_of(described): features.vectors for features, described in zip(targets, fed, strict=True)}
        return {**fields, **rows}

    def reads(self, codec: ViewCodec, seed: int = 0) -> ViewCodec:
        """The number of captions."""
        return codec.reading(CaptionCount(self.most), with_pixels=False) if isinstance(codec, PairCodec) else codec

    def example(self) -> dict[str, Tensor]:
        """One sample of zeros."""
        image, text = torch.zeros(1, self.image_dim), torch.zeros(1, self.most, self.text_dim)
        return {"image": image, "text": text, CAPTIONS: torch.ones(1, dtype=torch.uint16)}

    def describe(self) -> dict[str, Any]:
        """The widths of the rows."""
        return {"towers": {"image": self.image_dim, "text": self.text_dim, CAPTIONS: self.most}}


def tower_of(described: Mapping[str, Any]) -> str:
    """Which part of a pair a teacher sees whose input is described so: `image` or `text`."""
    return "text" if CAPTIONS in described else "image"


def _texts(fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: fields[name] for name in ("tokens", "length")}


def _reading(codec: ViewCodec, inputs: TextInput, most: int | None = None, seed: int = 0) -> ViewCodec:
    if not isinstance(codec, PairCodec):
        return codec  # whoever compares the fields says that they lack something
    captions = Captions(inputs.size, inputs.vocabulary.dtype, token_rows(inputs), most)
    return codec.reading(captions, with_pixels=most is None, seed=seed)


def token_rows(inputs: TextInput) -> TokenRows:
    """What makes rows of texts; the tokenizer is read when the first ones are asked for."""
    tokenizer = cache(lambda: inputs.tokenizer)
    return lambda captions: tokenizer().rows([(caption,) for caption in captions], inputs.size)


def input_of(where: str, described: dict[str, Any], folder: Path | None) -> InputSpec:
    """The input of an image, of captions or of both that was described; BadInput, from `where`, for none."""
    towers = described.get("towers")
    if isinstance(towers, dict):
        numbers = [towers.get(name) for name in ("image", "text", CAPTIONS)]
        if not all(type(number) is int and number > 0 for number in numbers):
            raise BadInput(f"{where}: towers cannot be {str(towers)[:80]}")
        return TowersInput(*(int(str(number)) for number in numbers))
    of_image, of_text, most = (described.get(name) for name in ("image", "text", CAPTIONS))
    if of_text is None:
        return image.input_of(where, described, folder)
    if isinstance(of_text, dict) and isinstance(of_image, dict):
        return PairInput(image.input_of(where, of_image, folder), text.input_of(where, of_text, folder))
    if isinstance(of_text, dict) and type(most) is int and 1 <= most <= MAX_CAPTIONS:
        return CaptionsInput(text.input_of(where, of_text, folder), most)
    raise BadInput(f"{where}: expected an image's input and a text's, or captions, found {str(described)[:80]}")


def adapted(inputs: InputSpec, codec: ViewCodec) -> CaptionsInput:
    """A text teacher's input over all captions of an image."""
    assert isinstance(inputs, TextInput) and isinstance(codec, PairCodec)
    return CaptionsInput(replace(inputs, size=min(inputs.size, CAPTION_TOKENS)), codec.most)


default_input: Callable[[PairCodec], ImageInput] = image.default_input


@dataclass(frozen=True)
class PairViews(ImageViews):
    """Each view a crop or a resize of the image, with all captions."""

    codec: PairCodec
    needs: ClassVar[frozenset[str]] = frozenset({"image", "texts"})

    def describe(self) -> dict[str, Any]:
        """The image's, and how many captions a view has at most."""
        return super().describe() | {CAPTIONS: self.codec.most}

    def flags(self) -> dict[str, str | int]:
        """--view."""
        options = [f"size={self.codec.image_size}", f"format={format_text(self.codec.image_format)}"]
        drawn = self.augment.text().partition(":")[2]
        return {"view": "pair:" + ",".join([f"{CAPTIONS}={self.codec.most}", *options, *filter(None, [drawn])])}

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """The pixels; the captions are among the facts."""
        captions = [caption for caption in sample.texts if caption.strip()]
        if not captions:
            raise BadInput(f"sample {sample.key} has no caption: give it one, or remove it")
        row, facts = super().make(sample, view)
        return row, facts | {CAPTIONS: captions[: self.codec.most]}


def maker_of(request: ViewRequest) -> PairViews:
    """The image's views with captions, as many as the flag, the cache or the source says."""
    asked, spec = _parse(request.spec)
    source = request.source and replace(request.source, default_augment=DEFAULT_AUGMENT)
    stored = request.stored or request.sibling or {}
    views = image.maker_of(replace(request, spec=spec, source=source))
    if views.codec.storage == "rendered":
        raise BadInput(f"--view {request.spec}: store= is of images without captions; leave it out")
    most = asked or stored.get(CAPTIONS) or (min(source.most_texts, MAX_CAPTIONS) if source else 1)
    codec = PairCodec(views.codec.image_size, views.codec.image_format, views.codec.augmented, most=most)
    return PairViews(views.augment, codec, views.upright)


def input_size(request: ViewRequest) -> int | None:
    """Pixels a side."""
    return image.input_size(replace(request, spec=_parse(request.spec)[1]))


def plain_maker(inputs: InputSpec) -> ViewMaker:
    """The whole image and all its captions."""
    assert isinstance(inputs, PairInput)
    views = image.plain_maker(inputs.image)
    return PairViews(views.augment, PairCodec(views.codec.image_size, views.codec.image_format, most=MAX_CAPTIONS))


def _parse(spec: str | None) -> tuple[int | None, str | None]:
    """`pair:captions=K,...`: K, and what is the image's, for whom a default stands where nothing is left."""
    options = (spec or "").removeprefix("pair").removeprefix(":").split(",")
    given = [option.partition("=")[2] for option in options if option.startswith(f"{CAPTIONS}=")]
    if any(not value.isdecimal() or not 1 <= int(value) <= MAX_CAPTIONS for value in given):
        raise BadInput(f"--view {spec}: {CAPTIONS}: expected 1 to {MAX_CAPTIONS}, found {given[0]}")
    rest = [option for option in options if option and not option.startswith(f"{CAPTIONS}=")]
    return (int(given[0]) if given else None), ",".join(rest) or None
