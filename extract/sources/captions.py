"""Captions: what makes a source of images one of pairs, in which all captions of an image stay together."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from extract.sources.base import PAIR, Images, Source, written
from extract.sources.naming import content_revision, without_halves
from shards.command.progress import counted
from shards.errors import BadInput


def caption_texts(value: Any) -> tuple[str, ...]:
    """A stored value as captions: a text is one, a list holds several, anything else holds none."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(without_halves(each) for each in texts if isinstance(each, str))


class Captions:
    """The captions of each sample, added in the samples' order: hashed, and counted where they lack; none is kept."""

    def __init__(self, where: str, chosen: bool) -> None:
        """`where` is the flag and the place of the captions; `chosen`: the user named that place."""
        self._where, self._chosen = where, chosen
        self._digest = hashlib.sha256()
        self._lacking: list[int] = []
        self._num_samples = self._num_empty = self._most = 0

    def add(self, texts: tuple[str, ...]) -> None:
        """The captions of the next sample."""
        kept = written(texts)
        self._digest.update(content_revision(kept).encode())
        self._most = max(self._most, len(kept))
        if kept:
            self._num_empty += len(texts) - len(kept)
        else:
            self._lacking.append(self._num_samples)
        self._num_samples += 1

    def pairs(self, source: Source, notes: tuple[str, ...] = ()) -> Source:
        """`source`, whose `fetch` gives the captions too, as one of pairs; `notes` begin after the place.

        The revision covers the captions; a sample without any is not readable as a pair. Where no sample is a pair,
        `source` stays one of images, and BadInput says so where the captions were chosen.
        """
        unreadable = tuple(sorted({*source.unreadable, *self._lacking}))
        if len(unreadable) == self._num_samples:
            if self._chosen:
                raise BadInput(f"{self._where}: no image has a caption: name another place, or none (captions=)")
            notes = (*notes, "no image has a caption")
            return replace(source, notes=(*source.notes, *(f"{self._where}: {note}" for note in notes)))
        if self._num_empty:
            notes = (*notes, f"{counted(self._num_empty, 'empty caption')} left out")
        if self._lacking:
            total, first = counted(self._num_samples, "sample"), source.keys[self._lacking[0]]
            notes = (*notes, f"{len(self._lacking):,} of {total} have no caption, the first is {first}")
        return replace(
            source,
            revision=content_revision([source.revision, self._digest.digest()]),
            has=PAIR,
            most_texts=self._most,
            notes=(*source.notes, *(f"{self._where}: {note}" for note in notes)),
            unreadable=unreadable,
            images=Images(source.revision, source.unreadable, source.notes),
        )


def paired(source: Source, where: str, chosen: bool, captions: Iterable[tuple[str, ...]]) -> Source:
    """`source` as one of pairs (see `Captions.pairs`), by the captions of each sample."""
    gathered = Captions(where, chosen)
    for texts in captions:
        gathered.add(texts)
    return gathered.pairs(source)
