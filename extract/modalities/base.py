"""What a modality brings to extract and distill: a maker of views, and the input that a network takes of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor, nn

from extract.sources.base import Sample, Source
from shards.codecs.features import Features
from shards.layout import Place
from shards.storage.base import ViewStorage
from shards.views.base import Row, ViewCodec


@runtime_checkable
class InputSpec(Protocol):
    """How the stored fields of views become what one network takes; each teacher and each student has its own.

    An input that inherits from this has the defaults that stand here.
    """

    modality: ClassVar[str]
    of_targets: ClassVar[frozenset[str]] = frozenset()
    """Those of its fields that come from stored targets, and from no view."""

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's arguments, by name and in its forward's order, for a batch of fields on any device."""
        ...

    def valid(self, fields: Mapping[str, Tensor]) -> Bool[Tensor, "batch tokens"] | None:
        """Which tokens are content and which padding; None where every one is content."""
        ...

    def worth_keeping(self, fields: Mapping[str, Tensor]) -> Bool[Tensor, "batch tokens"] | None:
        """Which tokens --keep_tokens draws from; None where from all."""
        return self.valid(fields)

    def cut(self, fields: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The fields without what is padding in every row, for outputs that have a row a sample and none a token."""
        return fields

    def collect(self, outputs: dict[str, Tensor], fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's outputs with a row a sample, of those that it gave for what `prepare` made of `fields`."""
        return outputs

    def target(self, features: Features, fields: Mapping[str, Tensor], fed: Mapping[str, Any]) -> Features:
        """What a target set's rows say of the views `fields`, its teacher's input being described by `fed`."""
        return features.within(self.valid(fields))

    def beside(
        self, fields: Mapping[str, Tensor], targets: Sequence[Features], fed: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, Tensor]:
        """The fields, and those that come from stored targets, each of a teacher whose input `fed` describes."""
        return fields

    def reads(self, codec: ViewCodec, seed: int = 0) -> ViewCodec:
        """How the views are read for this input; alternatives, such as captions, are drawn with `seed`."""
        return codec

    def example(self) -> dict[str, Tensor]:
        """The fields of a batch of one, of the shapes and types that `prepare` takes."""
        ...

    def describe(self) -> dict[str, Any]:
        """The input as JSON, from which the modality's `input_of` makes it again; part of a target set's identity."""
        ...

    def files(self) -> dict[str, bytes]:
        """What lies beside the description, by its file's name: a tokenizer."""
        return {}


@runtime_checkable
class ViewMaker(Protocol):
    """How one view set's views are made of its source's samples.

    A maker that inherits from this has the defaults that stand here.
    """

    codec: ViewCodec
    needs: ClassVar[frozenset[str]]
    """What a sample must have: image, texts."""

    @property
    def all_alike(self) -> bool:
        """Whether the views of one sample are all the same, so that more than one is a waste."""
        ...

    @property
    def bytes_a_view(self) -> float:
        """About how many bytes a stored view takes in its tar."""
        ...

    @property
    def bytes_a_sample(self) -> float:
        """About how many bytes all views of a sample share."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """The maker's part of a view set's identity; `seed` is one of its fields."""
        ...

    def former(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """What an earlier version made of the same flags, where that differs from `identity`: its view sets go on."""
        return []

    @property
    def records_digests(self) -> bool:
        """Whether commit records keep a digest of each sample; views that are all alike are never made again."""
        return not self.all_alike

    def flags(self) -> dict[str, str | int]:
        """The flags of `python -m extract` that ask for these views, each resolved."""
        ...

    def files(self) -> dict[str, bytes]:
        """What lies beside the view set's plan, by its file's name: a tokenizer."""
        return {}

    def arrange(self, source: Source, scratch: Path, skip_errors: bool) -> Source:
        """The source whose samples `make` takes: `source`, read as its views are made, or cut out of its documents.

        What that needs on the disk lies in the folder `scratch`, where a killed command finds it again.
        """
        return source

    def reading(self, source: Source | None, storage: ViewStorage, place: Place) -> Callable[[int], Sample]:
        """What gives the samples that one shard's views are made of: the source, or what the view set keeps of it."""
        assert source is not None
        return source.read

    def make(self, sample: Sample, view: int) -> tuple[Row, dict[str, Any]]:
        """The fields of one view of a sample, before they are encoded, and the facts that its .json tells.

        Fixed by (seed, key, view) and nothing else. BadInput where the sample cannot be shown.
        """
        ...


@dataclass(frozen=True)
class ViewRequest:
    """What is known of the views that are asked for, from the strongest to the weakest."""

    spec: str | None
    """--view."""
    stored: dict[str, Any] | None
    """The identity of the view set that grows or is read; it says whatever the flags leave out."""
    sibling: dict[str, Any] | None
    """The identity of another split's view set: both are to be stored alike."""
    training: bool
    """Whether the split is one to learn from."""
    source: Source | None
    """Where the samples come from; None where every view asked for is stored and it cannot be opened."""
    inputs: InputSpec | None
    """The teacher's."""


def feed(network: nn.Module, inputs: InputSpec, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every output of `network`, by name and a row a sample, for stored fields on the network's device."""
    return inputs.collect(network(*inputs.prepare(fields).values()), fields)


def shapes(fields: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Each field's shape for one sample."""
    return {name: tuple(rows.shape[1:]) for name, rows in fields.items()}


def mismatch(inputs: InputSpec, codec: ViewCodec) -> str | None:
    """How the fields that a network takes differ from those that views have; None where they fit."""
    fields = inputs.reads(codec).fields
    taken, stored = shapes(inputs.example()), {name: shape for name, (_, shape) in fields.items()}
    if inputs.modality != codec.modality and inputs.modality not in codec.feeds:
        return f"its views are {codec.modality}, the network takes {inputs.modality}"
    wrong = [name for name, shape in taken.items() if stored.get(name) != shape and name not in inputs.of_targets]
    if not wrong and inputs.describe().get("vocabulary") != codec.vocabulary:
        return "its views are of another vocabulary than the network's tokenizer"
    if not wrong:
        return None
    return f"its views have {wrong[0]} of {stored.get(wrong[0])}, the network takes {taken[wrong[0]]}"
