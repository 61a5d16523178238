"""Same device: commands that make a target set at the same time have one type of device, which decides its bytes.

A note of the target set says which (`extract/boards.py`). It counts while a command of that type lives; a shard that is
committed, and in no manifest yet, says more.
"""

import time

from extract.boards import Board
from extract.leases import lease_s
from extract.pipeline import Extraction
from extract.plan_targets import TargetSetJob
from shards.command.devices import device_type
from shards.documents import read_commit, read_targetset_manifest
from shards.errors import BadInput
from shards.layout import commit_path, place_of, targetset_is_whole

DEVICE = ".device"
_LOOKS_A_LEASE = 20


def device_note(targetset: str) -> str:
    """The name of the note that says which type of device makes a target set."""
    return targetset + DEVICE


def check_device(board: Board, extraction: Extraction) -> None:
    """The target sets are made on this type of device, and on no other; BadInput where another one makes them.

    Where only a note says so, and no command of that type shows life for LEASE_S seconds, the note is replaced.
    """
    ours = device_type(extraction.device)
    for job in [job for part in extraction.parts for job in part.targets]:
        theirs = _committed_by(job) or ours
        if theirs == ours:
            theirs = _noted(board, device_note(job.folder.name), ours)
        if theirs != ours:
            raise BadInput(
                f"{job.folder.name} is being made on {theirs}, and this machine has {ours}, which computes other "
                f"bytes; share it among machines of one type, or give another --out"
            )


def _committed_by(job: TargetSetJob) -> str | None:
    """The type of device of a committed shard that no manifest has; None where there is none."""
    whole = read_targetset_manifest(job.folder).num_views if targetset_is_whole(job.folder) else 0
    for path in sorted((job.folder / commit_path(0, 0)).parent.glob("v*.json")):
        place = place_of(f"commits/{path.name}")
        if place is not None and place[0] >= whole and (record := read_commit(job.folder, *place)) is not None:
            return record.device
    return None


def _noted(board: Board, note: str, ours: str) -> str:
    """The type of device that the note says: `ours` where nobody has written another one, or where none of it lives."""
    theirs = board.first(note, ours.encode()).decode()
    if theirs == ours:
        return ours
    before = board.look()
    until = time.monotonic() + lease_s()
    while time.monotonic() < until:
        time.sleep(lease_s() / _LOOKS_A_LEASE)
        for name, state in board.look().items():
            if state != before.get(name) and not name.endswith(DEVICE) and board.device_of(name) in (theirs, ""):
                return theirs
    board.remove(note)
    return board.first(note, ours.encode()).decode()
