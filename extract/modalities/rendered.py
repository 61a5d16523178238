"""Images whose views are rendered when they are read: the makers of `--view crop:...,store=source` and `store=none`."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.modalities.crop import draw, to_rgb
from extract.modalities.draws import Uniform
from extract.modalities.image import ImageViews
from extract.named import Data, know, named_for, note, unnamed
from extract.sources import open_source
from extract.sources.base import Sample, Source
from extract.sources.digests import digest
from shards.documents import Plan
from shards.errors import BadInput, IdentityMismatch, TeacherShardsError
from shards.identity import differences
from shards.keys import sha256_of_keys
from shards.layout import Place
from shards.mirror import origin_of
from shards.storage.base import ViewStorage
from shards.storage.originals import Reader
from shards.storage.rendered import Storage
from shards.views import image
from shards.views.base import Row
from shards.views.image import format_text
from shards.views.rendered import (
    COLUMNS,
    MAX_PIXELS,
    MAX_SIDE,
    STORE,
    OriginalCodec,
    RenderedCodec,
    size_of,
    stored_as,
)
from shards.views.resampling import LINEAR_EXACT, MOST_SHRUNK, not_antialiased, opencv

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
        """An image of 4 to 3, as a q90 JPEG of 0.3 bytes a pixel; headers and the json add 3 kB."""
        return self.codec.source_size**2 * 4 / 3 * 0.3 + 3072

    @property
    def records_digests(self) -> bool:
        """The images themselves are kept, so no later view is made of others."""
        return False

    @property
    def store(self) -> dict[str, Any]:
        """The identity's field: how large the images are kept."""
        return {"kind": "source", "source_size": self.codec.source_size}

    def describe(self) -> dict[str, Any]:
        """The image's, and what views are rendered from."""
        return super().describe() | {STORE: self.store}

    def former(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """No earlier version stored views so."""
        return []

    def flags(self) -> dict[str, str | int]:
        """--view."""
        codec = self.codec
        options = [self.augment.text(), f"size={codec.image_size}", f"format={format_text(codec.image_format)}"]
        stored = [f"store={self.store['kind']}"]
        stored += [f"{name}={value}" for name, value in self.store.items() if name != "kind"]
        return {"view": ",".join([*options, *stored])}

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
        upright = _rgb_of(sample)
        width, height = upright.size
        times = self.codec.source_size / min(width, height)
        if times < 1:
            shrunk = [max(self.codec.source_size, round(side * times)) for side in (width, height)]
            upright = upright.resize((shrunk[0], shrunk[1]), image.Image.Resampling.BICUBIC)
        if max(upright.size) > MAX_SIDE or upright.width * upright.height > MAX_PIXELS:
            kept = f"would be kept as {upright.width} x {upright.height} pixels, too many"
            raise BadInput(f"sample {sample.key} {kept}; give a smaller source_size, or remove it")
        return image.encode(np.asarray(upright), self.codec.image_format)


def _rgb_of(sample: Sample) -> image.Image.Image:
    assert sample.image is not None
    try:
        return to_rgb(sample.image)
    except BadInput as error:
        raise BadInput(f"sample {sample.key}: {error}") from None


@dataclass(frozen=True)
class OriginalViews(RenderedViews):
    """Each view a random resized crop of the original image, which is not stored."""

    codec: OriginalCodec

    @property
    def bytes_a_sample(self) -> float:
        """The json and the label, with their headers in the tar."""
        return 2048.0

    @property
    def records_digests(self) -> bool:
        """Further views are made of the source, as views of pixels are."""
        return self.upright

    @property
    def store(self) -> dict[str, Any]:
        """The identity's field."""
        return {"kind": "none"}

    def reading(self, source: Source | None, storage: ViewStorage, place: Place) -> Callable[[int], Sample]:
        """The source."""
        return ImageViews.reading(self, source, storage, place)

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """`pixels`: the whole image's, from which the storage renders; crop and flip, the image's size."""
        upright = _rgb_of(sample)
        if max(upright.size) > MAX_SIDE:
            raise BadInput(f"sample {sample.key} is {upright.width} x {upright.height} pixels: too long; remove it")
        box, flip = draw(self.augment, *upright.size, Uniform(self.augment.seed or 0, sample.key, view))
        return {"pixels": np.asarray(upright)}, {"crop": list(box), "flip": flip, "size": list(upright.size)}


def rendered(views: ImageViews, store: dict[str, Any]) -> RenderedViews:
    """The same views, rendered from what `store`, an identity's field, says; BadInput where they are all alike."""
    if views.all_alike:
        ask = "has one view a sample, whose pixels take less; leave store= out"
        raise BadInput(f"--view store={store['kind']}: a resize {ask}")
    codec = stored_as(views.codec, store, views.augment.interpolation)
    if codec.interpolation == LINEAR_EXACT:
        opencv()  # refuses where it is not installed
        most = MOST_SHRUNK * codec.image_size
        if isinstance(codec, OriginalCodec) or codec.source_size > most:
            raise BadInput(not_antialiased(f"size={codec.image_size},store=source,source_size={most} or less"))
    if isinstance(codec, OriginalCodec):
        return OriginalViews(views.augment, codec, views.upright)
    return RenderedViews(views.augment, codec, views.upright)


_NAME_IT = (
    "restore it, or name it where it is now (distill --read data=, of several view sets one for each, or "
    "shards verify --render 1 --data)"
)


def original_reader(folder: Path, plan: Plan, given: Sequence[tuple[str, str | None]]) -> Reader:
    """What reads the original image of a sample of the view set in `folder`, by its index in `plan`.

    The data are those that the user has named: of those `given`, as --data and --data_dir are, the first that are this
    view set's, else those that an earlier command noted. BadInput where only the cache names them or they are gone,
    IdentityMismatch where they are other data now.
    """
    request, identity = plan.request, plan.identity
    why = f"{folder}: its views are rendered from the original data (store=none)"
    data, noted = [Data(*each).whole() for each in given], named_for(identity, request)
    if noted is not None and noted not in data:
        data.append(noted)
    if not data:
        raise BadInput(f"{why}; {unnamed(request['data'], request.get('data_dir'), _how_to_name(folder, request))}")
    refused: list[TeacherShardsError] = []
    for each in data:
        try:
            source = _same_source(why, each, plan)
        except (BadInput, IdentityMismatch) as error:
            refused.append(error)
            continue
        if given and each == noted and refused:
            print(f"{folder}: its data are those that were named before: {each.data}", file=sys.stderr)
        know(identity, each)
        note(identity)
        return _reader_of(source)
    if len(refused) == 1:
        raise refused[0]
    tried = "; ".join(str(error).removeprefix(f"{why}, ") for error in refused)
    raise IdentityMismatch(f"{why}, and none that are named are these: {tried}")


def _reader_of(source: Source) -> Reader:
    return Reader(lambda sample: np.asarray(_rgb_of(source.read(sample))), lambda sample: digest(source.read(sample)))


def _same_source(why: str, data: Data, plan: Plan) -> Source:
    """The images of `data`, opened and compared with the identity of the view set; what is raised begins with `why`."""
    request, identity = plan.request, plan.identity
    try:
        source = open_source(data.data, request["split"], data.data_dir, request.get("limit"))
    except BadInput as error:
        raise BadInput(f"{why}, which cannot be opened: {error}; {_NAME_IT}") from None
    source = replace(source.only(frozenset({"image"})), upright="orientation" in identity)
    now: dict[str, Any] = {"source": source.name, "revision": source.revision, "split": source.split}
    now |= {"keys": sha256_of_keys(source.keys), "num_samples": len(source.keys)}
    if found := differences({name: identity.get(name) for name in now}, now):
        raise IdentityMismatch(f"{why}, which is other data now ({data.data}): {'; '.join(found)}; {_NAME_IT}")
    return source


def _how_to_name(folder: Path, request: dict[str, Any]) -> str:
    """What to type where only the cache names its data."""
    by_distill = "python -m distill --read data=SCHEME:PATH"
    if origin_of(folder) is not None:
        return f"if you trust them, {by_distill} says where they are"
    verify = shlex.join(["python", "-m", "shards", "verify", str(folder), "--render", "1", "--data", "SCHEME:PATH"])
    remedy = f"if you trust them, {verify}, or {by_distill}, says where they are"
    flags = {"out": folder.parent, **{name: request.get(name) for name in ("split", "data", "data_dir")}}
    words = [word for name, value in flags.items() if value is not None for word in (f"--{name}", str(value))]
    return f"{remedy}, or, as they are there, {shlex.join(['python', '-m', 'extract', '--teacher', 'none', *words])}"
