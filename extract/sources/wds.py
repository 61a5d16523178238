"""`wds:PATTERN`: WebDataset tars, indexed once by their headers and then read in place, never extracted."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from extract.sources.base import IMAGE_SUFFIXES, Document, Source, content_revision, folder_safe_name, tar_safe_key
from extract.sources.documents import MAX_DOCUMENT_BYTES, read_document, text_source
from extract.sources.labels import Label, number_labels
from extract.sources.left_out import LeftOut, is_system_folder, shown, unreadable_note
from extract.sources.splits import SplitFiles, files_revision, pick_split
from extract.sources.tar_members import Member, find_tars, members, read
from shards.command.progress import counted
from shards.errors import BadInput

_MOST_LABEL_BYTES = 1 << 20


@dataclass
class _Group:
    """The members of one tar that share a key, next to each other, by their endings in lower case."""

    tar: Path
    key: str
    members: dict[str, Member] = field(default_factory=dict)


@dataclass
class _Samples:
    """What the headers of the tars tell, a row a sample."""

    owners: dict[str, Path] = field(default_factory=dict)
    """Each key's tar."""
    images: list[tuple[Path, int, int] | None] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    """Why a row cannot be read."""
    no_classes: Counter[str] = field(default_factory=Counter)
    """Types of what stands in a label's place and is none."""
    left_out: LeftOut = field(default_factory=LeftOut)


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The samples of a tar, a folder of tars, a glob or a range such as train-{00000..00003}.tar, in stored order.

    The label is `.cls`, else the `label` in `.json`: a number or a name. Names are numbered by the train split. The
    revision covers each tar's name and size, each member's name and size, and the labels. A sample that has not one
    image keeps its place: --on_error decides. Raises BadInput for a key in two places, and for a cut, damaged or
    compressed tar.
    """
    flag = f"--data wds:{path}"
    root, every, compressed = find_tars(flag, path)
    chosen = pick_split(flag, root, every, split)
    samples = _Samples()
    parts: list[str | int | bytes] = []
    for tar in chosen.files:
        contents: list[str | int | bytes] = []
        for group in _groups(flag, tar, samples.left_out):
            if not samples.owners and _is_text(group):
                return _open_texts(flag, root, chosen, labelled=_label(flag, group, Counter()) is not None)
            _check_owner(flag, group, samples.owners)
            _add(flag, group, samples)
            contents += [group.key, str(samples.labels[-1]), len(group.members)]
            for ending, member in group.members.items():
                contents += [ending, member.size]
        parts += [tar.relative_to(root).as_posix(), tar.stat().st_size, content_revision(contents)]
    labels = number_labels(
        flag, samples.labels, train=lambda: [] if chosen.split == "train" else _labels(flag, chosen.train)
    )
    if any(isinstance(label, str) for label in samples.labels):
        parts.append(str(labels.names))
    images, faults = samples.images, samples.faults

    def fetch(index: int) -> tuple[bytes, int | None]:
        place = images[index]
        if place is None:
            raise BadInput(faults[index])
        return read(*place), labels.of(index)

    return Source(
        name=folder_safe_name(f"wds-{root.resolve().name}"),
        revision=content_revision(parts),
        split=chosen.split,
        keys=[tar_safe_key(key) for key in samples.owners],
        class_names=labels.names,
        fetch=fetch,
        notes=(
            *labels.notes,
            *(f"{flag}: {note}" for note in _notes(samples, compressed)),
            *samples.left_out.notes(flag),
        ),
        unreadable=tuple(faults),
    )


def _is_text(group: _Group) -> bool:
    return "txt" in group.members and not any(f".{ending}" in IMAGE_SUFFIXES for ending in group.members)


def _open_texts(flag: str, root: Path, chosen: SplitFiles, labelled: bool) -> Source:
    """The .txt of each sample as a stream; the revision covers each tar's name and size, and the classes.

    Labels are read when the source is opened, where the first sample has one.
    """
    values = list(_labels(flag, chosen.files)) if labelled else []
    labels = number_labels(flag, values, train=lambda: _labels(flag, chosen.train))

    def documents() -> Iterator[Document]:
        groups = (group for tar in chosen.files for group in _groups(flag, tar, LeftOut()))
        for number, group in enumerate(groups):
            yield _document(flag, group, labels.of(number))

    name = folder_safe_name(f"wds-{root.resolve().name}")
    revision = files_revision(root, chosen.files, classes=labels.names)
    return text_source(
        name, revision, chosen.split, lambda start: islice(documents(), start, None), labels.names, labels.notes
    )


def _document(flag: str, group: _Group, label: int | None) -> Document:
    where, member = f"{flag}: sample {group.key!r} of {group.tar.name}", group.members.get("txt")
    if member is None:
        return Document("", label, f"{where} has no text .txt, only {', '.join(group.members)}: mend the tar")
    if member.sparse:
        return Document("", label, f"{where} is stored sparse: write the tar without --sparse")
    return read_document(where, read(group.tar, member.offset, min(member.size, MAX_DOCUMENT_BYTES + 1)), label)


def _notes(samples: _Samples, compressed: list[Path]) -> Iterator[str]:
    if samples.faults:
        first = next(islice(samples.owners, min(samples.faults), None))
        yield unreadable_note(len(samples.faults), len(samples.images), first)
    if samples.no_classes:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in samples.no_classes.most_common())
        yield f"{counted(samples.no_classes.total(), 'label')} of types that are no class ({kinds}) count as none"
    if compressed:
        names = shown([file.name for file in compressed])
        yield f"{counted(len(compressed), 'compressed tar')} left out ({names}): gunzip to read them"


def _check_owner(flag: str, group: _Group, owners: dict[str, Path]) -> None:
    name, owner = group.tar.name, owners.get(group.key)
    if owner == group.tar:
        raise BadInput(
            f"{flag}: the members of sample {group.key!r} of {name} do not lie side by side: "
            f"write the tar with tar --sort=name"
        )
    if owner is not None:
        raise BadInput(f"{flag}: {name} has key {group.key!r}, as has {owner.name}: rename one")


def _groups(flag: str, tar: Path, left_out: LeftOut) -> Iterator[_Group]:
    """The tar's samples as webdataset groups them: neighbours alike up to the first dot of the file's name."""
    group = _Group(tar, "")
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
        if group.key != folder + slash + stem:
            if group.members:
                yield group
            group = _Group(tar, folder + slash + stem)
        if ending.lower() in group.members:
            raise BadInput(f"{flag}: {tar.name} holds {member.name} twice: rename one")
        group.members[ending.lower()] = member
    if group.members:
        yield group


def _add(flag: str, group: _Group, samples: _Samples) -> None:
    """A row of `samples` is the group's image and label, or says why it has none: other rows are not to blame."""
    samples.owners[group.key] = group.tar
    image, label = None, None
    try:
        label = _label(flag, group, samples.no_classes)
        image = _image(flag, group)
    except BadInput as error:
        samples.faults[len(samples.images)] = str(error)
    samples.images.append(image)
    samples.labels.append(label)


def _image(flag: str, group: _Group) -> tuple[Path, int, int]:
    """Where the sample's image lies."""
    endings = [ending for ending in group.members if f".{ending}" in IMAGE_SUFFIXES]
    where = f"{flag}: sample {group.key!r} of {group.tar.name}"
    if len(endings) != 1:
        raise BadInput(f"{where} must have one image, but has {', '.join(group.members)}: mend the tar")
    member = group.members[endings[0]]
    if member.sparse:
        raise BadInput(f"{where} is stored sparse: write the tar without --sparse")
    return group.tar, member.offset, member.size


def _label(flag: str, group: _Group, no_classes: Counter[str]) -> Label:
    """The label as it is stored, a number or a text; None for none, for a negative number and for what is no class."""
    ending = next((ending for ending in ("cls", "json") if ending in group.members), None)
    if ending is None:
        return None
    member = group.members[ending]
    where = f"{flag}: {group.key}.{ending} of {group.tar.name}"
    if member.size > _MOST_LABEL_BYTES:
        raise BadInput(f"{where} has {member.size} bytes, at most {_MOST_LABEL_BYTES} are a label: mend the tar")
    if member.sparse:
        raise BadInput(f"{where} is stored sparse: write the tar without --sparse")
    text = read(group.tar, member.offset, member.size)
    try:
        value = json.loads(text) if ending == "json" else _number_or_text(text.decode().strip())
    except (ValueError, RecursionError) as error:
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


def _labels(flag: str, tars: list[Path]) -> Iterator[Label]:
    """The label of each sample; None where it cannot be read, which is told where the sample is extracted."""
    for tar in tars:
        for group in _groups(flag, tar, LeftOut()):
            label = None
            with suppress(BadInput):
                label = _label(flag, group, Counter())
            yield label


def _number_or_text(text: str) -> int | str:
    if not text:
        raise ValueError("it is empty")
    try:
        return int(text)
    except ValueError:
        return text
