"""What a source is: samples in a fixed order, each with a stable key, and one function that reads one of them."""

import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import ExifTags, Image

from shards.errors import BadInput

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga"),
    }
)

_MOST_CLASSES = 1_000_000

# what PIL's decoders raise on damaged bytes (found by flipping and cutting files of every format above)
_DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError, EOFError, LookupError, TypeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)

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
        image, label, texts = Content(*self.fetch(index))
        if image is None and "image" in self.has:
            raise BadInput(f"{where} holds no image: remove it")
        if self.has == PAIR:
            texts = written(texts)
            if not texts:
                raise BadInput(f"{where} has no caption that can be read: write one in UTF-8, or remove it")
        elif "texts" not in self.has:
            texts = ()
        encoded = image if isinstance(image, bytes) else None
        if isinstance(image, bytes):
            try:
                image = Image.open(BytesIO(image))
                image.load()
                image = _upright(image) if self.upright else image
            except _DECODE_ERRORS as error:
                reason = "not an image that PIL knows" if isinstance(error, Image.UnidentifiedImageError) else error
                raise BadInput(f"{where} cannot be decoded ({reason}): repair or remove it") from error
        if label is not None and self.class_names is not None and label >= len(self.class_names):
            raise BadInput(f"{where} has label {label}, but there are {len(self.class_names)} classes: mend the label")
        return Sample(key, image, texts, label, encoded)


def written(captions: Iterable[str]) -> tuple[str, ...]:
    """The captions that say anything, without the space around them."""
    return tuple(text for caption in captions if (text := caption.strip()))


def _upright(image: Image.Image) -> Image.Image:
    """`image` as its EXIF orientation shows it, as browsers and `datasets` do."""
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def tar_safe_key(text: str) -> str:
    """`text` percent-encoded to [A-Za-z0-9_/%-], one to one: webdataset ends a key at the first dot, so '.' is %2E."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_/-]*", text):
        return text
    encoded = quote(text.encode("utf-8", "surrogateescape"), safe="/").replace(".", "%2E").replace("~", "%7E")
    return "%2F" + encoded[1:] if encoded.startswith("/") else encoded


def folder_safe_name(text: str) -> str:
    """`text` in lower case with everything outside [a-z0-9_.-] made '-', never empty."""
    return re.sub(r"[^a-z0-9_.-]+", "-", text.lower()).strip(".-") or "unnamed"


def content_revision(parts: Iterable[str | int | bytes]) -> str:
    """The SHA-256 (64 hex digits) of `parts`, each under its length, so that no two lists of parts meet."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def numbered_classes(flag: str, labels: Iterable[int | None]) -> tuple[str, ...] | None:
    """'0', '1' ... up to the largest label, for classes that are numbered but not named; None without labels."""
    largest = max((label for label in labels if label is not None), default=-1)
    if largest >= _MOST_CLASSES:
        raise BadInput(
            f"{flag}: a label is {largest}, more than {_MOST_CLASSES} classes: check the label column or member"
        )
    return tuple(str(label) for label in range(largest + 1)) or None
