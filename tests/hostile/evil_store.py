"""A store that says whatever it is told to: its listing need not be of what it holds (`evil://NAME`)."""

from collections.abc import Iterator

from shards.stores.base import Store

HELD: dict[str, bytes] = {}
LISTED: dict[str, int] = {}
"""Sizes that the listing has in the place of the true ones, also of files that are not there."""


class Evil(Store):
    """The files of HELD."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._folder = self.url.partition("://")[2].partition("/")[2]

    def _names(self) -> Iterator[tuple[str, int]]:
        inside = f"{self._folder}/" if self._folder else ""
        for name, size in ({name: len(content) for name, content in HELD.items()} | LISTED).items():
            if name.startswith(inside):
                yield name.removeprefix(inside), size

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {name: size for name, size in sorted(self._names()) if name.startswith(prefix)}

    def get(self, name: str) -> bytes:
        whole = f"{self._folder}/{name}".lstrip("/") if self._folder else name
        if whole not in HELD:
            raise self.missing(name)
        return HELD[whole]

    def get_range(self, name: str, offset: int, size: int) -> memoryview:
        content = self.get(name)[offset : offset + size]
        if len(content) != size:
            raise self.cut_off(name, offset + size, offset + len(content))
        return memoryview(content)

    def holds(self, name: str, size: int, sha256: str) -> bool:
        return False

    def put(self, name: str, content: bytes, sha256: str) -> None:
        raise self.read_only()

    def create(self, name: str, content: bytes) -> bytes | None:
        raise self.read_only()

    def creates_only_if_absent(self) -> bool:
        raise self.read_only()

    def remove(self, name: str) -> None:
        raise self.read_only()


def open_url(url: str) -> Evil:
    """The store that `url` names."""
    return Evil(url)
