"""The end of a shared extraction: one command writes the manifests, whoever lives, of the whole and of nothing less."""

import threading
import time
from pathlib import Path

import pytest
from caches import command, reseal, viewset_of
from test_sharing import SHARED, VIEWS, contents

from extract.boards import SHARING, Board
from extract.leases import LEASE_S

MANIFESTS = "manifests"
"""The lease of who writes them."""


@pytest.fixture
def unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A view set whose shards are all committed, without its manifest, on which another machine has the lease."""
    command("extract", *VIEWS, *SHARED, "--out", tmp_path / "cache").succeeds()
    monkeypatch.setenv(LEASE_S, "1")
    viewset = viewset_of(tmp_path / "cache")
    (viewset / "viewset.json").rename(tmp_path / "viewset.json")
    board = Board(viewset)
    assert board.look() == {} and board.take(MANIFESTS)
    return viewset


def test_the_manifests_are_written_by_who_has_the_lease_and_the_others_wait(unfinished: Path, tmp_path: Path) -> None:
    """The other machine's manifest has a mark, by which it is told from what the command would write."""
    reseal(tmp_path / "viewset.json", lambda document: document.update(mark="of another machine"))

    def other() -> None:
        board, until = Board(unfinished), time.monotonic() + 2  # longer than a lease without a sign of life
        while time.monotonic() < until:
            board.touch(MANIFESTS)
            time.sleep(0.02)
        (tmp_path / "viewset.json").rename(unfinished / "viewset.json")
        board.clear()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        out = command("extract", *VIEWS, *SHARED, "--out", unfinished.parent).succeeds().out
    finally:
        thread.join()
    assert "done: 0 views made" in out and b"of another machine" in (unfinished / "viewset.json").read_bytes()
    assert not (unfinished.parent / SHARING).exists()


def test_whose_lease_on_the_manifests_shows_no_life_is_replaced(unfinished: Path, tmp_path: Path) -> None:
    command("extract", *VIEWS, *SHARED, "--out", unfinished.parent).succeeds()
    assert (unfinished / "viewset.json").read_bytes() == (tmp_path / "viewset.json").read_bytes()
    assert not (unfinished.parent / SHARING).exists()


@pytest.mark.slow
def test_a_manifest_of_fewer_views_is_not_that_of_the_whole(tmp_path: Path) -> None:
    for place, flags in (("shared", SHARED), ("alone", ("--devices", "cpu"))):
        for views in ("1", "2"):
            command("extract", *VIEWS, *flags, "--views", views, "--out", tmp_path / place).succeeds()
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
