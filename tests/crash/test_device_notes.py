"""The note of a target set's type of device counts while a command of it lives; a committed shard counts always."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import caches
import pytest
from caches import SMALL, command, contents, copied, targetset_of, viewset_of

from extract.boards import SHARING, Board, device_note
from extract.leases import LEASE_S
from shards.documents import read_targetset_manifest

OTHER = "NVIDIA H100"


@contextlib.contextmanager
def living(board: Board, lease: str) -> Iterator[None]:
    """A command has the lease, and touches it while the block runs."""
    board.look()
    assert board.take(lease)
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(0.05):
            board.touch(lease)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def unfinished(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose target set has no shard of view 1 any more; a note says that it is made on another device."""
    monkeypatch.setenv(LEASE_S, "1")
    cache = copied(pristine, tmp_path / "cache")
    targets = targetset_of(cache)
    (targets / "targetset.json").unlink()
    for path in targets.glob("commits/v01-*.json"):
        path.unlink()
    board = Board(viewset_of(cache))
    board.look()
    assert board.first(f"{targets.name}.device", OTHER.encode()) == OTHER.encode()
    return cache


@pytest.fixture
def flags(unfinished: Path, teacher: Path) -> tuple[str, ...]:
    own = ("--teacher", f"run:{teacher}", *SMALL, "--views", "2", "--codec", "float32", "--launch", "shared")
    return (*own, "--out", str(unfinished))


def test_the_note_of_the_dead_is_replaced(unfinished: Path, flags: tuple[str, ...], pristine: Path) -> None:
    """Whose lease on a further view stays too, as of a command that makes more views; a third one lives meanwhile."""
    board = Board(viewset_of(unfinished), OTHER)
    board.look()
    assert board.take("v07-00000")
    with living(Board(viewset_of(unfinished), "a third"), "v06-00000"):
        command("extract", *flags).succeeds()
    there = contents(unfinished)
    assert {name: there[name] for name in there if not name.startswith(SHARING)} == contents(pristine)


@pytest.mark.parametrize("device", [OTHER, ""])
def test_the_note_of_the_living_is_kept(unfinished: Path, flags: tuple[str, ...], device: str) -> None:
    """Also if its lease does not say its device, as one of an earlier version."""
    name = targetset_of(unfinished).name
    with living(Board(viewset_of(unfinished), device), "v01-00000"):
        command("extract", *flags).refuses(f"{name} is being made on {OTHER}, and this machine has CPU")
    assert (unfinished / SHARING / viewset_of(unfinished).name / f"{name}.device").read_text() == OTHER


def test_a_committed_shard_says_it_without_a_note(unfinished: Path, flags: tuple[str, ...]) -> None:
    """As where the last command that shared the cache, of other targets, took all notes away."""
    targets = targetset_of(unfinished)
    Board(viewset_of(unfinished)).remove(f"{targets.name}.device")
    caches.reseal(targets / "commits/v00-00000.json", lambda document: document.update(device=OTHER))
    command("extract", *flags).refuses(f"{targets.name} is being made on {OTHER}, and this machine has CPU")
    assert not (targets / "targetset.json").exists()


def test_who_goes_on_alone_on_another_type_of_device_is_told(unfinished: Path, flags: tuple[str, ...]) -> None:
    """As a machine that takes the place of a vanished one; nothing is said where nothing is left to make."""
    targets = targetset_of(unfinished)
    for path in targets.glob("commits/v00-*.json"):
        caches.reseal(path, lambda document: document.update(device=OTHER))
    alone = [flag for flag in flags if flag not in ("--launch", "shared")]
    words = f"note: {targets.name}: {OTHER} computed the rows that are there, and this machine has CPU"
    assert words in command("extract", *alone).succeeds().out
    devices = read_targetset_manifest(targets).devices
    assert devices is not None and OTHER in devices and len(devices) == 2
    assert "note:" not in command("extract", *alone).succeeds().out


def test_who_was_taken_for_dead_hears_it_before_its_first_shard(
    unfinished: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its codecs learn it has no lease; another type of device begins meanwhile."""
    from extract import calibrate

    targets, calibrated = targetset_of(unfinished), calibrate.calibrated
    notes = unfinished / SHARING / viewset_of(unfinished).name
    board = Board(viewset_of(unfinished), OTHER)

    def meanwhile(extraction: object) -> object:
        assert (notes / device_note(targets.name, 1)).read_text() != OTHER  # which follows the note of the dead
        assert board.first(device_note(targets.name, 2), OTHER.encode()) == OTHER.encode()
        assert board.take("v06-00000")
        threading.Timer(0.3, lambda: board.touch("v06-00000")).start()
        return calibrated(extraction)  # type: ignore[arg-type]

    monkeypatch.setattr(calibrate, "calibrated", meanwhile)
    before = {name for name in contents(unfinished) if "/commits/" in name}
    command("extract", *flags).refuses(f"{targets.name} is being made on {OTHER}, and this machine has CPU")
    assert {name for name in contents(unfinished) if "/commits/" in name} == before
