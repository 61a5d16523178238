"""What a source leaves out: hidden and system files by their names, what is no image or cannot be read, counted."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from shards.command.progress import counted

_SYSTEM_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
)
"""Lower case. A file manager or a network storage makes them; @eaDir holds a thumbnail of every photo beside it."""
_SHOWN = 4


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system's own."""
    return name.startswith(".") or is_system_folder(name)


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name is made by a system for itself."""
    return name.lower() in _SYSTEM_FOLDERS


@dataclass
class LeftOut:
    """What reading the names of a source passes by."""

    system: Counter[str] = field(default_factory=Counter)
    """Hidden and system files and folders, by name."""
    endings: Counter[str] = field(default_factory=Counter)
    """Other files, by the ending that is no image's."""
    beside: list[str] = field(default_factory=list)
    """Names beside the folder of the split that belong to no split, or to another folder of the same split."""
    empty: list[str] = field(default_factory=list)
    """Folders that stand where classes do and hold no image."""

    def hide(self, name: str) -> None:
        """A hidden or system name is passed by; macOS adds a `._NAME` to every file."""
        self.system["._*" if name.startswith("._") else name] += 1

    def file(self, name: str) -> None:
        """A file is passed by, as its name has no image's ending."""
        self.endings[PurePosixPath(name).suffix.lower() or "no ending"] += 1

    def take_back(self, name: str) -> None:
        """A file that was passed by is read after all."""
        if name in self.beside:
            self.beside.remove(name)
        else:
            self.endings -= Counter([PurePosixPath(name).suffix.lower() or "no ending"])

    def notes(self, flag: str) -> tuple[str, ...]:
        """One clause that counts everything; none where nothing is left out."""
        endings = [f"{ending} {number:,}" for ending, number in _by_count(self.endings)]
        kinds = (
            (len(self.beside), "name", " beside the split", self.beside),
            (len(self.empty), "folder", " without an image", self.empty),
            (self.endings.total(), "file", " without an image's ending", endings),
            (self.system.total(), "hidden or system name", "", [name for name, _ in _by_count(self.system)]),
        )
        parts = [f"{counted(count, noun)}{what} ({shown(names)})" for count, noun, what, names in kinds if count]
        return (f"{flag}: left out {', '.join(parts)}",) if parts else ()


def unreadable_note(count: int, total: int, first: str) -> str:
    """The note that `count` of `total` samples cannot be read, as opening the source tells."""
    return f"{count:,} of {counted(total, 'sample')} cannot be read, the first is {first}"


def shown(names: list[str], most: int = _SHOWN) -> str:
    """The first `most` of `names`."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _by_count(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent first, and alike ones by name: a folder lists its files in any order."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
