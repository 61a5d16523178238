"""Modalities by name: how views are made of samples, and what a network takes of them; one file and one line each."""

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from shards.errors import BadInput
from shards.views import DEFAULT_MODALITY, modality_of

if TYPE_CHECKING:
    from pathlib import Path

    from extract.modalities.base import InputSpec, ViewMaker, ViewRequest
    from shards.views.base import ViewCodec


class Entry(NamedTuple):
    """One modality: its module, and the kinds of view that --view may name."""

    module: str
    kinds: tuple[str, ...]
    needs: frozenset[str]
    """The parts of a sample that its views are made of."""
    size: str = "size"
    """The field of an input's description that its views' size stands in."""
    feeds: frozenset[str] = frozenset()
    """The other modalities whose teachers take its views."""


REGISTRY = {
    "image": Entry("extract.modalities.image", ("crop", "resize"), frozenset({"image"}), "image_size"),
    "text": Entry("extract.modalities.text", ("blocks",), frozenset({"texts"})),
    "pair": Entry(
        "extract.modalities.pair",
        ("pair",),
        frozenset({"image", "texts"}),
        "image_size",
        frozenset({"image", "text"}),
    ),
}
"""A module offers `maker_of(request) -> ViewMaker`, `input_of(where, described, folder) -> InputSpec`,
`default_input(codec) -> InputSpec` where no teacher has one, `plain_maker(inputs) -> ViewMaker` for evaluation, and
`input_size(request)`, the size that a teacher is to take."""


class Pixels(int):
    """A size in pixels a side: nothing to a network of texts, whose size is in tokens."""


def view_maker(request: "ViewRequest") -> "ViewMaker":
    """What makes the views that are asked for: images unless the flag, the cache or the teacher says otherwise."""
    maker: ViewMaker = _module(_modality(request) or "image").maker_of(request)
    return maker


def input_size(request: "ViewRequest") -> int | None:
    """The size that the flag or the cache asks of a teacher's input; None where its own is meant."""
    modality = _modality(request)
    size: int | None = _module(modality).input_size(request) if modality else None
    return Pixels(size) if modality and size is not None and REGISTRY[modality].size == "image_size" else size


def plain_maker(inputs: "InputSpec") -> "ViewMaker":
    """What makes a sample's one view without augmentation, as a network with those inputs takes it."""
    maker: ViewMaker = _module(inputs.modality).plain_maker(inputs)
    return maker


def input_of(
    where: str, modality: str, described: dict[str, Any], folder: "Path | None" = None, size: int | None = None
) -> "InputSpec":
    """The input that `describe` described, its `files` in `folder`; BadInput, which begins with `where`, for none.

    `size` takes the place of the size that it was described with.
    """
    if modality not in REGISTRY:
        known = ", ".join(sorted(REGISTRY))
        raise BadInput(f"{where}: takes {modality!r}, known are {known}: a newer version wrote it; install that one")
    if size is not None and not (isinstance(size, Pixels) and REGISTRY[modality].size == "size"):
        described = described | {REGISTRY[modality].size: int(size)}
    inputs: InputSpec = _module(modality).input_of(where, described, folder)
    return inputs


def adapted(inputs: "InputSpec", codec: "ViewCodec") -> "InputSpec":
    """A teacher's input as views of `codec` feed it: itself, unless the modality makes another of it."""
    if inputs.modality == codec.modality or inputs.modality in codec.feeds:
        return inputs
    if inputs.modality not in REGISTRY[codec.modality].feeds:
        return inputs  # whoever compares it with the views says what they lack
    other: InputSpec = _module(codec.modality).adapted(inputs, codec)
    return other


def size_of(described: dict[str, Any]) -> int | None:
    """The size of the views that an input of that description takes, of any modality; of captions their tokens."""
    if "text" in described and "image" not in described:
        described = described["text"]
    return next((described[entry.size] for entry in REGISTRY.values() if entry.size in described), None)


def part_of(described: dict[str, Any]) -> str:
    """Which part of a view a teacher sees whose input is described so: `image` or `text`, also of a pair."""
    own = described["text"] if "text" in described and "image" not in described else described
    return next((modality for modality, entry in REGISTRY.items() if entry.size in own), "")


def default_input(codec: "ViewCodec") -> "InputSpec":
    """What a network is fed of views that no teacher has said anything of."""
    inputs: InputSpec = _module(codec.modality).default_input(codec)
    return inputs


def _module(modality: str) -> Any:
    return importlib.import_module(REGISTRY[modality].module)


def _modality(request: "ViewRequest") -> str | None:
    if request.stored is not None:
        return modality_of(request.stored)
    kind = (request.spec or "").partition(":")[0]
    if kind and "=" not in kind:
        kinds = {each: modality for modality, entry in REGISTRY.items() for each in entry.kinds}
        if kind not in kinds:
            raise BadInput(f"--view {request.spec}: expected one of {', '.join(sorted(kinds))}, found {kind!r}")
        return kinds[kind]
    if request.sibling is not None:
        return modality_of(request.sibling)
    taken = request.inputs.modality if request.inputs is not None else None
    if request.source is not None:
        fitting = [name for name, entry in REGISTRY.items() if entry.needs <= request.source.has]
        fitting = [name for name in fitting if taken in (None, name) or taken in REGISTRY[name].feeds]
        return max(fitting, key=lambda name: len(REGISTRY[name].needs), default=taken or DEFAULT_MODALITY)
    if taken is not None:
        return taken
    return DEFAULT_MODALITY if request.spec else None
