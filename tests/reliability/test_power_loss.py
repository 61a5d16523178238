"""After a loss of power nothing promised is lost; `python -m tests.reliability power` tries every moment."""

import json
import shutil
from pathlib import Path

import pytest
import rows_modality
from losses import damaged, losses, promises, replayed, safe_since
from power_loss import CACHE, play
from power_scenarios import SCENARIOS
from recorder import Call, Disk, Recorder
from small_caches import quick_folder

from evaluate.runs import flags_path, merge_evaluation
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
    assert found == {None, b"", b"con", bytes(7), damaged(b"content", "garbage"), b"content"}


def test_a_long_write_is_torn_at_each_sector() -> None:
    content = b"a" * 512 + b"b" * 512 + b"c"
    calls = [Call("create", "file", 1), Call("sync", "."), Call("write", file=1, data=content)]
    found = {replayed(Disk(), calls, lost).files().get("file") for lost in losses(calls)} - {None}
    torn = {content[:at] for at in (0, 512, 1024)} | {bytes(512) + content[512:], content[:512] + bytes(512) + b"c"}
    assert found == {content, damaged(content, "garbage"), content[:512], bytes(1025), content[:1024] + b"\0", *torn}
    renamed = [*calls, Call("sync", file=1), Call("rename", "other", 1, "file")]
    names = {frozenset(replayed(Disk(), renamed, lost).files()) for lost in losses(renamed)}
    assert names == {frozenset({"file"}), frozenset({"other"}), frozenset({"file", "other"})}


def test_of_many_calls_some_losses_are_drawn() -> None:
    """None, all, each alone, all but each are among them."""
    calls = [Call("create", f"file-{number}", number) for number in range(20)]
    found = {frozenset(lost) for lost in losses(calls)}
    everything = frozenset(range(20))
    alone = {frozenset({number}) for number in range(20)}
    assert {frozenset(), everything} | alone | {everything - each for each in alone} <= found
    assert len(found) > 300 and len(found - {each for each in found if 2 < len(each) < 18}) < 200
    assert list(losses(calls, 1)) == list(losses(calls, 1)) != list(losses(calls, 2))


def test_what_was_there_before_is_promised_until_its_name_is_another_files() -> None:
    before = Disk(names={"flags": 1}, data={1: b"old"})
    calls = [Call("create", "draft", 2), Call("write", file=2, data=b"new"), Call("sync", file=2)]
    calls += [Call("rename", "flags", 2, "draft"), Call("sync", "."), Call("rename", "other", 2, "flags")]
    held = [each.get("flags") for each in promises(before, calls, lambda name: name == "flags")]
    assert held == [{b"old"}] * 4 + [{b"old", b"new"}, {b"new"}, None]


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


@pytest.mark.parametrize("name", ["extract", "shared", "grow", "killed", "push"])
def test_a_command_that_has_ended_has_synced_what_it_made(name: str) -> None:
    """All but the lock and notes, which are of no use after a loss of power, and what it removed."""
    calls = calls_of(name)
    unsafe = [call for call, since in zip(calls, safe_since(calls), strict=True) if since > len(calls)]
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
        assert sum(shards) == 10 and shards == sorted(shards)  # all files, and then ten records


def test_flags_of_a_result_are_under_its_new_key_before_the_key_is_there(tmp_path: Path) -> None:
    """Else the next result's flags took their place, and the former result could not be had again."""
    (tmp_path / "student.json").write_text('{"weights": {"sha256": "0"}}')
    record = {"data": "digits", "split": "validation", "num_samples": 6}
    merge_evaluation(tmp_path, "knn", record)
    flags_path(tmp_path, "knn").write_text("of six")
    recorder = Recorder(tmp_path)
    with recorder.recording():
        kept = merge_evaluation(tmp_path, "knn", record | {"num_samples": 8})
        write_atomically(flags_path(tmp_path, "knn"), b"of eight")
    assert kept is not None
    for moment in range(len(recorder.calls) + 1):
        for lost in losses(recorder.calls[:moment]):
            files = replayed(recorder.before, recorder.calls[:moment], lost).files()
            keys = [kept] if kept in json.loads(files["evaluation.json"]) else [kept, "knn"]
            assert b"of six" in [files.get(flags_path(tmp_path, key).name) for key in keys]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_promised_is_lost_and_the_same_command_goes_on(name: str) -> None:
    found = play(SCENARIOS[name], states=20)
    assert found.states == 20 and found.refused == []
