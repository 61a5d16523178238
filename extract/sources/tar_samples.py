"""The samples of a WebDataset tar: its members by key, and what they hold: an image's place, a label, captions."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from extract.photo import IMAGE_SUFFIXES
from extract.sources.captions import caption_texts
from extract.sources.labels import Label
from extract.sources.left_out import LeftOut, is_system_folder, shown
from extract.sources.tar_members import Member, members
from shards.errors import BadInput, one_line

_MOST_BYTES = 1 << 20
"""Of a label, or of all captions of an image."""

Place = tuple[Path, int, int]
"""A tar, and where in it content lies."""


@dataclass
class TarSample:
    """The members of one tar that share a key, next to each other, by their endings in lower case."""

    tar: Path
    key: str
    stream: BinaryIO
    """The tar, open as long as its samples are walked through."""
    members: dict[str, Member] = field(default_factory=dict)

    def content(self, ending: str) -> bytes:
        """What a small member holds, a label or captions; BadInput, which begins with its name, where it is not."""
        member, where = self.members[ending], f"{self.key}.{ending} of {self.tar.name}"
        if member.size > _MOST_BYTES:
            raise BadInput(f"{where} has {member.size} bytes, a label or captions have at most {_MOST_BYTES}")
        if member.sparse:
            raise BadInput(f"{where} is stored sparse: write the tar without --sparse")
        return os.pread(self.stream.fileno(), member.size, member.offset)


def tar_samples(flag: str, tar: Path, left_out: LeftOut) -> Iterator[TarSample]:
    """The tar's samples as webdataset groups them: neighbours alike up to the first dot of the file's name."""
    with tar.open("rb", buffering=0) as stream:
        sample = TarSample(tar, "", stream)
        for member in members(flag, tar):
            folder, slash, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            if base.startswith("__") and base.endswith("__"):  # webdataset's own
                continue
            if (system := next(filter(is_system_folder, folder.split("/")), None)) or not stem:
                left_out.hide(system or base)
                continue
            if not ending:
                left_out.file(base)
                continue
            if sample.key != folder + slash + stem:
                if sample.members:
                    yield sample
                sample = TarSample(tar, folder + slash + stem, stream)
            if ending.lower() in sample.members:
                raise BadInput(f"{flag}: {tar.name} holds {member.name} twice: rename one")
            sample.members[ending.lower()] = member
        if sample.members:
            yield sample


def image_place(flag: str, sample: TarSample) -> Place:
    """Where the sample's image lies."""
    endings = [ending for ending in sample.members if f".{ending}" in IMAGE_SUFFIXES]
    where = f"{flag}: sample {sample.key!r} of {sample.tar.name}"
    if len(endings) != 1:
        raise BadInput(f"{where} must have one image, but has {shown([*sample.members])}: mend the tar")
    member = sample.members[endings[0]]
    if member.sparse:
        raise BadInput(f"{where} is stored sparse: write the tar without --sparse")
    return sample.tar, member.offset, member.size


def stored_label(flag: str, sample: TarSample, no_classes: Counter[str]) -> Label:
    """The label as it is stored, a number or a text; None for none, for a negative number and for what is no class."""
    ending = next((ending for ending in ("cls", "json") if ending in sample.members), None)
    if ending is None:
        return None
    try:
        text = sample.content(ending)
        value: Any = json.loads(text) if ending == "json" else _number_or_text(text.decode().strip())
    except BadInput as error:
        raise BadInput(f"{flag}: {error}") from error
    except (ValueError, RecursionError) as error:
        where = f"{flag}: {sample.key}.{ending} of {sample.tar.name}"
        raise BadInput(f"{where} cannot be read ({error}): mend the tar") from error
    if isinstance(value, dict):
        value = value.get("label")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return value if value >= 0 else None
    if value is not None and not isinstance(value, str):
        no_classes[type(value).__name__] += 1
    return value if isinstance(value, str) else None


def stored_captions(content: bytes, captions_field: str | None) -> tuple[str, ...]:
    """The captions in a .txt, a line each as CLIP-benchmark stores them, or in a field of .json; BadInput says why not.

    A .json without the field has none.
    """
    try:
        if captions_field is None:
            return tuple(content.decode().strip().split("\n"))
        row = json.loads(content)
    except UnicodeDecodeError as error:
        raise BadInput(f"byte {error.start:,} ({content[error.start]:#04x}) is not UTF-8: convert it") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"it is no json ({one_line(error)}): mend the tar") from error
    return caption_texts(row.get(captions_field)) if isinstance(row, dict) else ()


def _number_or_text(text: str) -> int | str:
    if not text:
        raise ValueError("it is empty")
    try:
        return int(text)
    except ValueError:
        return text
