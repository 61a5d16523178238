"""Spans: rows as ranges of a store's files, the pages of a disk that they touch, and which are fetched together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

PAGE = 4096
_GAP, _MOST = PAGE - 1, 8 << 20
"""Bytes between neighbours that are fetched too (a label lies 2 kB behind its image), and bytes of a request."""


class Span(NamedTuple):
    """A row: `size` bytes from `offset` on of the store's file `name`."""

    name: str
    offset: int
    size: int
    file_size: int = 0
    """Where it is given, the row is fetched and kept with the rest of its pages: there are other rows in them."""

    @property
    def pages(self) -> slice:
        """The pages that it touches."""
        return slice(self.offset // PAGE, -(-(self.offset + self.size) // PAGE))

    @property
    def fetched(self) -> tuple[int, int]:
        """The part of the file that is fetched for it: where it begins and where it ends."""
        if not self.file_size:
            return self.offset, self.offset + self.size
        return self.pages.start * PAGE, min(self.pages.stop * PAGE, self.file_size)


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
    """`numbers` of spans, those of neighbours together: what is fetched of each group is one part of a file."""
    group: list[int] = []
    start = end = 0
    for number in sorted(numbers, key=lambda number: spans[number]):
        first, last = spans[number].fetched
        is_near = group and spans[number].name == spans[group[0]].name and first - end <= _GAP
        if not (is_near and last - start <= _MOST):
            if group:
                yield group
            group, start, end = [], first, last
        group.append(number)
        end = max(end, last)
    if group:
        yield group
