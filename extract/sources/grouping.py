"""Grouping: rows of one image, each with a caption, as one sample with all of them: the teacher sees an image once."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from extract.sources.base import Content, Source
from extract.sources.captions import paired
from extract.sources.columns import keys_from_paths
from shards.command.progress import counted
from shards.errors import BadInput

Captions = Iterable[tuple[str, ...]]


def pairs_of_rows(
    source: Source,
    where: str,
    chosen: bool,
    captions: Captions,
    images: Sequence[Any] | None,
    paths: Sequence[str | None] = (),
) -> Source:
    """`source`, a sample a row with its captions, as one of pairs; rows that `images` says show one image are one.

    Such a sample has the captions of all its rows, in their order, and the image and the label of its first row that
    has an image; its key is the stem of its path in `paths` where these tell all apart, else its first row's. `images`
    is None where nothing tells which rows show one image; a path that comes up again is said to the user then.
    """
    if images is None:
        twice = len(paths) - len(set(paths))
        note = f"{where}: {counted(twice, 'row')} repeat the name of an image: if they show the same one, group=COLUMN "
        repeats = (f"{note}names the column that tells images apart",) if twice and None not in paths else ()
        return paired(replace(source, notes=(*source.notes, *repeats)), where, chosen, captions)
    rows: dict[Hashable, list[int]] = {}
    for row, image in enumerate(images):
        if isinstance(image, list | dict | bytes):
            raise BadInput(f"{where}: group= names a column of {type(image).__name__}: name one of numbers or texts")
        rows.setdefault(row if image is None else (image,), []).append(row)
    if len(rows) == len(images):
        return paired(source, where, chosen, captions)
    unreadable, texts, members = set(source.unreadable), list(captions), list(rows.values())
    first = [next((row for row in of_image if row not in unreadable), of_image[0]) for of_image in members]
    together = [tuple(text for row in of_image for text in texts[row]) for of_image in members]

    def fetch(index: int) -> Content:
        return Content(*source.fetch(first[index]))._replace(texts=together[index])

    note = f"{where}: {len(images):,} rows show {counted(len(rows), 'image')}, whose captions are kept together"
    grouped = replace(
        source,
        keys=(keys_from_paths(paths[row] for row in first) if paths else None) or [source.keys[row] for row in first],
        fetch=fetch,
        unreadable=tuple(index for index, row in enumerate(first) if row in unreadable),
        notes=(*source.notes, note),
    )
    return paired(grouped, where, chosen, together)
