"""After a loss of power nothing promised is lost; `python -m tests.reliability power` tries every moment."""

import shutil
from pathlib import Path

import pytest
import rows_modality
from power_loss import CACHE, is_safe, losses, play, replayed
from power_scenarios import SCENARIOS
from recorder import Call, Disk, Recorder
from small_caches import quick_folder

from shards.commit import write_atomically
from shards.layout import place_of


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows_modality.register(monkeypatch)


def test_a_file_that_is_written_atomically_is_whole_or_not_there(tmp_path: Path) -> None:
    """And what is not synced may be lost: the disk is as weak as it says."""
    recorder = Recorder(tmp_path)
    with recorder.recording():
        write_atomically(tmp_path / "folder/file", b"content")
    kinds = [call.kind for call in recorder.calls]
    assert kinds == ["mkdir", "sync", "create", "write", "sync", "rename", "sync"]
    for moment in range(len(kinds) + 1):
        disks = [replayed(recorder.before, recorder.calls[:moment], lost) for lost in losses(recorder.calls[:moment])]
        held = [disk.files().get("folder/file") for disk in disks]
        assert set(held) <= ({b"content"} if moment == len(kinds) else {None, b"content"})
    careless = [Call("create", "file", 1), Call("write", file=1, data=b"content"), Call("rename", "other", 1, "file")]
    found = {replayed(Disk(), careless, lost).files().get("other") for lost in losses(careless)}
    assert found == {None, b"", b"con", bytes(7), b"content"}


def calls_of(name: str) -> list[Call]:
    """What a command asks of the disk."""
    root = quick_folder()
    try:
        SCENARIOS[name].before(root / CACHE)
        recorder = Recorder(root, SCENARIOS[name].beside)
        with recorder.recording():
            SCENARIOS[name].command(root / CACHE)
    finally:
        shutil.rmtree(root)
    return recorder.calls


@pytest.mark.parametrize("name", ["extract", "shared", "grow", "killed"])
def test_a_command_that_has_ended_has_synced_what_it_made(name: str) -> None:
    """All but the lock and notes, which are of no use after a loss of power, and what it removed."""
    calls = calls_of(name)
    unsafe = [call for place, call in enumerate(calls) if not is_safe(call, calls[place + 1 :])]
    notes = {call.file for call in calls if call.kind == "create" and "/." in call.path}
    unsafe = [call for call in unsafe if call.kind != "write" or call.file not in notes]  # what a lease says
    assert len(calls) > 200 and {call.kind for call in unsafe} <= {"create", "unlink", "rmdir"}
    assert [call.path for call in unsafe if call.kind == "create" and "/." not in call.path] == []


def test_a_commit_record_is_pulled_after_what_it_names() -> None:
    """A pull that was cut off left shards that counted as committed and were not there."""
    names = [call.path for call in calls_of("pull") if call.kind == "rename"]
    sets = {name.partition("/commits/")[0] for name in names if "/commits/v" in name}
    assert len(sets) == 3
    for folder in sets:
        own = [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]
        shards = [name.startswith("commits/") for name in own if place_of(name) is not None]
        assert sum(shards) == 4 and shards == sorted(shards)  # all files, and then four records


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_promised_is_lost_and_the_same_command_goes_on(name: str) -> None:
    found = play(SCENARIOS[name], stride=13)
    assert found.states > 5 and found.refused == []
