"""Named teachers: as data (`named.py`), a teacher is loaded where the user names it, never because a cache names it.

What a target set was extracted with may be any folder, file, URL or model of the hub. So a teacher that the user has
named (`extract --teacher`, `--recompute ... --teacher`) and that is the target set's, by its identity, is noted on this
machine, and later commands load what the note says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from extract.named import read_note, whole_path, write_note
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.plan import ExtractionPlan


class NamedTeacher(NamedTuple):
    """What --teacher and --weights say of one teacher."""

    teacher: str
    weights: str | None = None
    weights_key: str | None = None

    @classmethod
    def of(cls, flags: Mapping[str, Any]) -> "NamedTeacher":
        """Of the flags that a target set was extracted with."""
        weights, key = (None if flags.get(name) is None else str(flags[name]) for name in cls._fields[1:])
        return cls(str(flags.get("teacher")), weights, key)

    @property
    def is_built_in(self) -> bool:
        """Whether its name alone says it, so that its weights come from where its makers keep them."""
        return ":" not in self.teacher and self.weights is None

    def whole(self) -> "NamedTeacher":
        """The same by whole paths, which mean the same in any folder."""
        kind, colon, place = self.teacher.partition(":")
        is_path = colon and Path(place.partition(":")[0] or " ").expanduser().exists()  # options follow
        weights = self.weights
        if weights is not None and Path(weights).expanduser().exists():
            weights = whole_path(weights)
        return NamedTeacher(f"{kind}:{whole_path(place)}" if is_path else self.teacher, weights, self.weights_key)

    def __str__(self) -> str:
        return f"--teacher {self.teacher[:200]}" + (f" --weights {self.weights[:200]}" if self.weights else "")


def note_teacher(identity: dict[str, Any], teacher: NamedTeacher) -> None:
    """Later processes on this machine load `teacher`, which the user has named, for the target set of `identity`."""
    if not teacher.is_built_in:
        write_note(identity, teacher.whole()._asdict())


def note_teachers(plan: "ExtractionPlan") -> None:
    """The teachers of a command of extract are noted for their target sets."""
    for config, part in zip(plan.configs, plan.parts, strict=True):
        for job in part.targets:
            note_teacher(job.identity, NamedTeacher(config.teacher, config.weights, config.weights_key))


def named_teacher(identity: dict[str, Any], saved: NamedTeacher) -> NamedTeacher | None:
    """What may be loaded for the target set of `identity` where nothing is typed; None: only the cache names it.

    `saved` is what the cache says that it was extracted with.
    """
    if saved.is_built_in:
        return saved
    note = read_note(identity, NamedTeacher._fields)
    if note is None or note["teacher"] is None:
        return None
    return NamedTeacher(note["teacher"], note["weights"], note["weights_key"])


def unnamed_teacher(saved: NamedTeacher, remedy: str) -> BadInput:
    """What is raised for a teacher that only a cache names."""
    return BadInput(f"only the cache names its teacher ({saved}), not you on this machine: {remedy}")


def how_to_name(targetset: Path) -> str:
    """What to type for a command that has no flag of its own for the teacher of a target set."""
    verify = f"python -m shards verify {targetset} --recompute 1 --teacher SPEC"
    return f"if you trust it, name it once where it is now: {verify} (and --weights)"
