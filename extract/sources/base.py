"""What a source is: samples in a fixed order, each with a stable key, and one function that reads one of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unicodedata import category

from PIL import Image

from extract.photo import decoded
from shards.errors import BadInput


@dataclass(frozen=True)
class Sample:
    """One raw sample: a photo, a document, an image and its captions, or a pair of sentences."""

    key: str
    image: Image.Image | None = None
    """Decoded, in whatever mode it was stored."""
    texts: tuple[str, ...] = ()
    label: int | float | None = None
    """A class's number, or a score; None: it has none."""
    encoded: bytes | None = None
    """The image's file, where the source has one."""
    fields: dict[str, Any] | None = None
    """A view's fields, of a sample that was cut out of documents."""


class Content(NamedTuple):
    """What a source holds at one index."""

    image: bytes | Image.Image | None
    """Encoded, or decoded where nothing was encoded; None where it is missing."""
    label: int | float | None
    texts: tuple[str, ...] = ()
    fault: str | None = None  # why texts that are there cannot be read


class Document(NamedTuple):
    """One document of a corpus, without null bytes and empty lines; its number is its place in the stream."""

    text: str
    """Empty where nothing is left."""
    label: int | None = None
    fault: str | None = None
    """Why it cannot be read: the text is empty then."""
    num_null_bytes: int = 0
    num_empty_lines: int = 0
    """What was left out of a document that has a text."""


PAIR = frozenset({"image", "texts"})
"""What a source of pairs gives: an image and all its captions."""


class Images(NamedTuple):
    """What a source of pairs is without its captions."""

    revision: str
    unreadable: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """The samples of one split of a dataset, in a fixed order; any number of threads may read."""

    name: str  # folder-safe: lower case, [a-z0-9_.-]
    revision: str  # changes when the content does; never depends on the path or on time
    split: str  # the data's own split, so `validation` of a dataset that only has `test` says `test`
    keys: Sequence[str]  # unique and tar-safe
    class_names: tuple[str, ...] | None  # None: no labels
    # the fields of a Content, those at the end left out; of a stream nothing, as it has no keys
    fetch: Callable[[int], tuple[Any, ...]] = field(default=lambda index: (None, None), repr=False)
    default_augment: str | None = None
    has: frozenset[str] = frozenset({"image"})  # which parts of a sample it gives: image, texts
    most_texts: int = 1  # how many texts a sample has at most
    notes: tuple[str, ...] = ()
    """What was left out, guessed or ambiguous, a clause each that begins with the flag; said before work starts."""
    unreadable: tuple[int, ...] = ()
    """The indices at which opening tells that nothing can be read: `read` says why."""
    encoded: bool = True
    """Images are files, which may carry an EXIF orientation and change under the same revision."""
    documents: Callable[[int], Iterator[Document]] | None = field(default=None, repr=False)
    """Of a corpus, which is a stream without keys: its documents from a number on, in the same order each time."""
    images: Images | None = None
    """Of a source of pairs alone: how the same images are told where nobody reads the captions."""
    upright: bool = True
    """Images are turned as their EXIF orientation says; False only for a view set that was begun without."""

    def only(self, parts: frozenset[str]) -> "Source":
        """The source for who reads `parts` alone: of pairs, images that no change of a caption makes another source."""
        if self.images is None or "texts" in parts:
            return self
        revision, unreadable, notes = self.images
        unreadable = tuple(index for index in unreadable if index < len(self.keys))
        has = self.has - {"texts"}
        return replace(self, revision=revision, unreadable=unreadable, notes=notes, has=has, images=None)

    def read(self, index: int) -> Sample:
        """The sample at `index`, upright, its pixels otherwise as PIL decodes them: no mode conversion.

        Raises BadInput with the key and the reason when the image cannot be decoded (PIL's limit against
        decompression bombs included), its label is not one of the classes, or a pair has no caption.
        """
        if not 0 <= index < len(self.keys):
            raise IndexError(f"source {self.name} has {len(self.keys)} samples, so no index {index}")
        key = self.keys[index]
        where = f"source {self.name}: sample {key}"
        image, label, texts, fault = Content(*self.fetch(index))
        if image is None and "image" in self.has:
            raise BadInput(f"{where} holds no image: remove it")
        texts = written(texts) if self.has == PAIR else texts if "texts" in self.has else ()
        if self.has == PAIR and not texts:
            raise BadInput(f"{where} has no caption that can be read: {fault or 'write one in UTF-8, or remove it'}")
        encoded = image if isinstance(image, bytes) else None
        if isinstance(image, bytes):
            image = decoded(image, self.upright, where)
        if label is not None and self.class_names is not None and label >= len(self.class_names):
            raise BadInput(f"{where} has label {label}, but there are {len(self.class_names)} classes: mend the label")
        return Sample(key, image, texts, label, encoded)


def written(captions: Iterable[str]) -> tuple[str, ...]:
    """The captions with a letter, number, sign or symbol, without the space around them: no tokenizer keeps others."""
    return tuple(caption.strip() for caption in captions if any(category(each)[0] in "LNPS" for each in caption))
