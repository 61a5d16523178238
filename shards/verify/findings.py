"""Findings: what verify says in the end, a line each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from shards.errors import Damaged, NewerVersion, one_line

Document = TypeVar("Document")


@dataclass
class Findings:
    """Damage by path, sets that are half written or of a newer version, and what is odd but harmless."""

    damage: dict[Path, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    newer: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_sets: int = 0
    num_files: int = 0
    num_bytes: int = 0
    _lines: set[str] = field(default_factory=set)

    def add(self, path: Path, damage: str | Damaged) -> None:
        """The file or folder at `path` is damaged; of several reasons the first is kept, and no line stands twice."""
        line = damage if isinstance(damage, str) else one_line(damage)
        if line not in self._lines and path not in self.damage:
            self.damage[path] = line
            self._lines.add(line)

    def read(self, path: Path, read: Callable[[], Document]) -> Document | None:
        """The document at `path`, as `read` gives it; None, and its damage is added, where it cannot be read.

        NewerVersion is passed on: of a set with such a document nothing can be judged.
        """
        try:
            return read()
        except NewerVersion:
            raise
        except Damaged as error:
            self.add(path, error)
            return None
