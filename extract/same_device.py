"""Same device: commands that make a target set at the same time have one type of device, which decides its bytes.

A note of the target set says which (`extract/boards.py`). It counts while a command of that type lives; a shard that is
committed, and in no manifest yet, says more. A note that does not count is not removed, for two machines might do so at
a time, the later one with the note that the earlier one has put in its place: the next note follows it, and of those
who write that one the first has it.
"""

import time
from collections.abc import Iterable, Mapping

from extract.boards import DEVICE_NOTE, Board, device_note, noted_targetset
from extract.leases import lease_s
from extract.pipeline import Extraction
from extract.plan_targets import TargetSetJob
from shards.command.devices import device_type
from shards.documents import read_commit, read_targetset_manifest
from shards.errors import BadInput
from shards.layout import commit_path, inside, place_of, targetset_is_whole

_LOOKS_A_LEASE = 20


def check_device(board: Board, extraction: Extraction) -> None:
    """The target sets are made on this type of device, and on no other; BadInput where another one makes them.

    Where only a note says so, and no command of that type shows life for LEASE_S seconds, another note follows it.
    """
    ours = device_type(extraction.device)
    for job in [job for part in extraction.parts for job in part.targets]:
        theirs = _committed_by(job) or ours
        if theirs == ours:
            theirs = agreed_device(board, job.folder.name, ours)
        if theirs != ours:
            raise BadInput(
                f"{job.folder.name} is being made on {theirs}, and this machine has {ours}, which computes other "
                f"bytes; share it among machines of one type, or give another --out"
            )


def tell_devices(extraction: Extraction) -> None:
    """Of a target set whose rows another type of device has computed a line says so, where further ones are made here.

    As where a machine vanished and another goes on alone, or where a set grows.
    """
    ours = device_type(extraction.device)
    for job in [job for part in extraction.parts for job in part.targets]:
        listed = read_targetset_manifest(job.folder).devices if targetset_is_whole(job.folder) else None
        theirs = sorted({*(listed or ()), _committed_by(job) or ours} - {ours})
        places = extraction.views.places(job.num_views)
        if theirs and not all(inside(job.folder, commit_path(*place)).exists() for place in places):
            told = f"{', '.join(theirs)} computed the rows that are there, and this machine has {ours}"
            print(
                f"extract: note: {job.folder.name}: {told}: rows agree as closely as these compute, not bit for bit; "
                f"the manifest lists all"
            )


def _committed_by(job: TargetSetJob) -> str | None:
    """The type of device of a committed shard that no manifest has; None where there is none."""
    whole = read_targetset_manifest(job.folder).num_views if targetset_is_whole(job.folder) else 0
    for path in sorted((job.folder / commit_path(0, 0)).parent.glob("v*.json")):
        place = place_of(f"commits/{path.name}")
        if place is not None and place[0] >= whole and (record := read_commit(job.folder, *place)) is not None:
            return record.device
    return None


def agreed_device(board: Board, targetset: str, ours: str) -> str:
    """The type of device that the last note says: `ours` where nobody has written another one, or none of it lives."""
    number, replaced = _last(board.look(), targetset), list[tuple[str, dict[str, object]]]()
    while (theirs := board.first(device_note(targetset, number), ours.encode()).decode()) != ours:
        before = board.look()
        until = time.monotonic() + lease_s()
        while time.monotonic() < until:
            time.sleep(lease_s() / _LOOKS_A_LEASE)
            if _lives(board, theirs, before):
                return theirs
        replaced.append((theirs, before))
        number = max(number + 1, _last(board.look(), targetset))
    for theirs, before in replaced:
        if _lives(board, theirs, before):  # it came back while our note was written, and has not seen it
            board.first(device_note(targetset, number + 1), theirs.encode())
            return theirs
    return ours


def _last(notes: Iterable[str], targetset: str) -> int:
    """The number of the last note of a target set; 0 where there is none."""
    found = filter(None, map(DEVICE_NOTE.fullmatch, notes))
    return max((int(note["number"] or 0) for note in found if note["targetset"] == targetset), default=0)


def _lives(board: Board, device: str, before: Mapping[str, object]) -> bool:
    """Whether a lease of a command with that type of device is another than `before`."""
    return any(
        state != before.get(name) and noted_targetset(name) is None and board.device_of(name) in (device, "")
        for name, state in board.look().items()
    )
