"""Spans: rows as ranges of a store's files, the pages of a disk that they touch, and which are fetched together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

PAGE = 4096
_GAP, _MOST = 1024, 8 << 20
"""Bytes between neighbours that are fetched too to save a request; bytes of a request."""


class Span(NamedTuple):
    """A row: `size` bytes from `offset` on of the store's file `name`."""

    name: str
    offset: int
    size: int

    @property
    def pages(self) -> slice:
        """The pages that it touches."""
        return slice(self.offset // PAGE, -(-(self.offset + self.size) // PAGE))


def num_pages(spans: Sequence[Span]) -> int:
    """Pages that the spans touch together: small rows share them."""
    count, name, end = 0, "", 0
    for span in sorted(spans):
        if span.name != name:
            name, end = span.name, 0
        count += max(0, span.pages.stop - max(span.pages.start, end))
        end = max(end, span.pages.stop)
    return count


def groups(numbers: list[int], spans: Sequence[Span]) -> Iterator[list[int]]:
    """`numbers` of spans, those of neighbours together."""
    group: list[int] = []
    for number in sorted(numbers, key=lambda number: spans[number]):
        span = spans[number]
        if group:
            first, last = spans[group[0]], spans[group[-1]]
            gap = span.offset - last.offset - last.size
            if span.name != first.name or not 0 <= gap <= _GAP or span.offset + span.size - first.offset > _MOST:
                yield group
                group = []
        group.append(number)
    if group:
        yield group
