"""`wds:PATTERN`: WebDataset tars, indexed once by their headers and then read in place, never extracted."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from extract.photo import IMAGE_SUFFIXES
from extract.sources.base import Content, Document, Source
from extract.sources.captions import Captions
from extract.sources.columns import parse_options
from extract.sources.documents import MAX_DOCUMENT_BYTES, read_document, text_source
from extract.sources.labels import Label, number_labels
from extract.sources.left_out import LeftOut, shown, unreadable_note
from extract.sources.naming import content_revision, folder_safe_name, tar_safe_key
from extract.sources.splits import SplitFiles, files_revision, pick_split
from extract.sources.tar_members import find_tars, read
from extract.sources.tar_samples import Place, TarSample, image_place, stored_captions, stored_label, tar_samples
from shards.command.progress import counted
from shards.errors import BadInput

USAGE = "[:captions=FIELD]"
"""What may follow the pattern in `--data wds:`: the field of .json that captions are in; without it, .txt."""


@dataclass
class _Samples:
    """What the headers of the tars tell, a row a sample."""

    owners: dict[str, Path] = field(default_factory=dict)
    """Each key's tar."""
    images: list[Place | None] = field(default_factory=list)
    captions: list[Place | None] = field(default_factory=list)
    caption_faults: dict[int, str] = field(default_factory=dict)
    """Why captions that a row has cannot be read; who reads images alone never hears of it."""
    labels: list[Label] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    """Why a row cannot be read."""
    no_classes: Counter[str] = field(default_factory=Counter)
    """Types of what stands in a label's place and is none."""
    left_out: LeftOut = field(default_factory=LeftOut)

    def add(self, flag: str, sample: TarSample) -> None:
        """A row is the sample's image and label, or says why it has none: other rows are not to blame."""
        if (owner := self.owners.get(sample.key)) is not None:
            raise BadInput(f"{flag}: {_clash(sample, owner)}")
        self.owners[sample.key] = sample.tar
        image, label = None, None
        try:
            label = stored_label(flag, sample, self.no_classes)
            image = image_place(flag, sample)
        except BadInput as error:
            self.faults[len(self.images)] = str(error)
        self.images.append(image)
        self.labels.append(label)

    def add_captions(self, sample: TarSample, captions_field: str | None) -> tuple[str, ...]:
        """The captions of the sample, whose place is a row; none where they cannot be read."""
        ending = "txt" if captions_field is None else "json"
        texts: tuple[str, ...] = ()
        if captions_field != "" and ending in sample.members:
            try:
                texts = stored_captions(sample.content(ending), captions_field)
            except BadInput as error:
                where = f"{sample.key}.{ending} of {sample.tar.name}"
                self.caption_faults[len(self.captions)] = f"{where}: {str(error).removeprefix(where).lstrip()}"
        member = sample.members[ending] if texts else None
        self.captions.append((sample.tar, member.offset, member.size) if member else None)
        return texts


def open_split(path: str, split: str, data_dir: str | None) -> Source:
    """The samples of a tar, a folder of tars, a glob or a range such as train-{00000..00003}.tar, in stored order.

    The label is `.cls`, else the `label` in `.json`: a number or a name. Names are numbered by the train split.
    Captions are the lines of `.txt`, else the field of `.json` that PATH names. The revision covers each tar's name and
    size, each member's name and size, the labels, and the captions. A sample that has not one image keeps its place:
    --on_error decides. Raises BadInput for a key in two places, and for a cut, damaged or compressed tar.
    """
    pattern, options = parse_options("wds", path, USAGE)
    return open_tars(f"--data wds:{path}", pattern, split, options.get("captions"))


def open_tars(flag: str, pattern: str, split: str, captions_field: str | None = None) -> Source:
    """As `open_split`; captions are in `captions_field` of .json (empty: nowhere), or in .txt."""
    root, every, compressed = find_tars(flag, pattern)
    chosen = pick_split(flag, root, every, split)
    if captions_field is None and _hold_texts(flag, chosen.files[0]):
        return _open_texts(flag, root, chosen)
    samples = _Samples()
    captions = Captions(f"{flag}: {'.txt' if captions_field is None else '.json'}", bool(captions_field))
    num_several = 0
    parts: list[str | int | bytes] = []
    for tar in chosen.files:
        contents: list[str | int | bytes] = []
        for sample in tar_samples(flag, tar, samples.left_out):
            samples.add(flag, sample)
            texts = samples.add_captions(sample, captions_field)
            captions.add(texts)
            num_several += len(texts) > 1 and captions_field is None
            contents += [sample.key, str(samples.labels[-1]), len(sample.members)]
            for ending, member in sample.members.items():
                contents += [ending, member.size]
        parts += [tar.relative_to(root).as_posix(), tar.stat().st_size, content_revision(contents)]
    labels = number_labels(
        flag, samples.labels, train=lambda: [] if chosen.split == "train" else _labels(flag, chosen.train)
    )
    if any(isinstance(label, str) for label in samples.labels):
        parts.append(str(labels.names))

    def fetch(index: int) -> Content:
        place, captions_place = samples.images[index], samples.captions[index]
        if place is None:
            raise BadInput(samples.faults[index])
        texts = stored_captions(read(*captions_place), captions_field) if captions_place else ()
        return Content(read(*place), labels.of(index), texts, samples.caption_faults.get(index))

    source = Source(
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
        unreadable=tuple(samples.faults),
    )
    if not captions_field and not any(samples.captions) and not samples.caption_faults:
        return source
    notes = (f"{counted(num_several, 'text')} of several lines, each a caption",) * bool(num_several)
    if faults := list(samples.caption_faults.values()):
        notes = (*notes, f"the captions of {counted(len(faults), 'sample')} cannot be read, the first is {faults[0]}")
    return captions.pairs(source, notes)


def _hold_texts(flag: str, tar: Path) -> bool:
    """Whether no sample of the tar has an image, and one has a text."""
    found = False
    for sample in tar_samples(flag, tar, LeftOut()):
        if any(f".{ending}" in IMAGE_SUFFIXES for ending in sample.members):
            return False
        found |= "txt" in sample.members
    return found


def _open_texts(flag: str, root: Path, chosen: SplitFiles) -> Source:
    """The .txt of each sample as a stream; the revision covers each tar's name and size, and the classes.

    Labels are read when the source is opened, where the first sample has one.
    """
    first = next(_labels(flag, chosen.files))
    values = [] if first is None else list(_labels(flag, chosen.files))
    labels = number_labels(flag, values, train=lambda: _labels(flag, chosen.train))

    def documents() -> Iterator[Document]:
        samples = (sample for tar in chosen.files for sample in tar_samples(flag, tar, LeftOut()))
        for number, sample in enumerate(samples):
            yield _document(flag, sample, labels.of(number))

    name = folder_safe_name(f"wds-{root.resolve().name}")
    revision = files_revision(root, chosen.files, classes=labels.names)
    return text_source(
        name, revision, chosen.split, lambda start: islice(documents(), start, None), labels.names, labels.notes
    )


def _document(flag: str, sample: TarSample, label: int | None) -> Document:
    where, member = f"{flag}: sample {sample.key!r} of {sample.tar.name}", sample.members.get("txt")
    if member is None:
        return Document("", label, f"{where} has no text .txt, only {shown([*sample.members])}: mend the tar")
    if member.sparse:
        return Document("", label, f"{where} is stored sparse: write the tar without --sparse")
    data = os.pread(sample.stream.fileno(), min(member.size, MAX_DOCUMENT_BYTES + 1), member.offset)
    return read_document(where, data, label)


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


def _clash(sample: TarSample, owner: Path) -> str:
    """Why the tars that hold `sample` and, of the same key, another one are refused."""
    name = sample.tar.name
    if owner == sample.tar:
        return (
            f"the members of sample {sample.key!r} of {name} do not lie side by side: "
            f"write the tar with tar --sort=name"
        )
    return f"{name} has key {sample.key!r}, as has {owner.name}: rename one"


def _labels(flag: str, tars: list[Path]) -> Iterator[Label]:
    """The label of each sample; None where it cannot be read, which is told where the sample is extracted."""
    for tar in tars:
        for sample in tar_samples(flag, tar, LeftOut()):
            label = None
            with suppress(BadInput):
                label = stored_label(flag, sample, Counter())
            yield label
