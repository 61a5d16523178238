"""A cache made to attack, pulled, read by its URL or copied: refused in one line or read right, and no harm is done."""

import contextlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import evil_store
import numpy as np
import pytest
from attacks import ATTACKS, LINKS
from caches import Outcome, command, contents, copied, targetset_of, viewset_of
from spoilers import Repository
from watching import bounded, peak_bytes, peak_restarts, watching

from shards.decode import codec_of, read_decoded
from shards.errors import TeacherShardsError
from shards.mirror import LOCAL_CACHE
from shards.reader import TargetSet, ViewSet, check_pair
from shards.stores import REGISTRY

MOST_BYTES = 512 << 20
QUICK = (
    *("name 0 in a manifest", "name 4 in the listing", "name 9 in a manifest", "tar of 1 PB in the listing"),
    *("tar of 1099511627776 bytes in its record", "HTML and escapes in a target set's target", "tar swapped"),
    *("a JPEG of 65,500 pixels a side", "YAML of aliases", "manifest is nested"),
)


def tensors(cache: Path) -> dict[str, np.ndarray]:
    """All that a training reads."""
    views, targets = ViewSet(viewset_of(cache)), TargetSet(targetset_of(cache))
    check_pair(views, targets)
    read: dict[str, np.ndarray] = {}
    for view in range(min(2, views.num_views, targets.num_views)):
        read[f"pixels {view}"] = views.rows(view, views.usable.tolist())["pixels"]
        read[f"labels {view}"] = views.labels(view, views.usable.tolist())
        read[f"targets {view}"] = np.asarray(read_decoded(targets, codec_of(targets), view, views.usable))
    return read


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen += [tag, *(name for name, _ in attrs if name.startswith("on"))]


def check(outcome: Outcome, lines: int | None = 1) -> None:
    """Done, or refused in one line; and a terminal is told nothing but text."""
    assert outcome.status in (0, 2), outcome
    assert "Traceback" not in outcome.err + outcome.out
    shown = (outcome.out + outcome.err).replace("\n", "")
    assert shown.isprintable(), [each for each in shown if not each.isprintable()]
    if outcome.status == 2 and lines:
        assert len(outcome.err.splitlines()) == lines, outcome.err[:2000]


def read_by_url(url: str, tmp_path: Path) -> None:
    """Row by row, as `distill --shards URL` reads too: right, or refused."""
    check(command("shards", "list", url))
    check(command("shards", "view", url, "--output", tmp_path / "sheet.png", "--num", "2"))


def read_folder(cache: Path, pristine: Path, tmp_path: Path) -> None:
    """By commands that read all of a cache, and as a training does: right, or refused."""
    check(command("shards", "info", cache))
    check(command("shards", "verify", cache), lines=None)
    page = tmp_path / "page.html"
    check(command("shards", "page", cache, "--output", page, "--num", "2"))
    if page.exists():
        tags = Tags(page.read_text(errors="replace")).seen
        assert tags.count("script") == 1 and not [tag for tag in tags if tag.startswith("on")]
    with contextlib.suppress(TeacherShardsError, OSError):
        read, right = tensors(cache), tensors(pristine)
        for name, rows in read.items():
            assert np.array_equal(rows, right[name]), name


def attacked(attack: Any, pristine: Path, tmp_path: Path, by_store: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    monkeypatch.setitem(REGISTRY, "evil", "evil_store")
    repository = Repository(copied(pristine, tmp_path / "made/cache"))
    attack(repository)
    evil_store.HELD.clear()
    evil_store.LISTED.clear()
    if by_store:
        evil_store.HELD.update(contents(repository.cache))
        evil_store.LISTED.update(repository.listed)
    peak_restarts()
    with watching(tmp_path) as watched, bounded(300, 4 << 30):
        if by_store:
            pulled = tmp_path / "pulled"
            check(command("shards", "pull", "evil://hub", pulled))
            read_by_url("evil://hub", tmp_path)
            if pulled.exists():
                read_folder(pulled, pristine, tmp_path)
        else:
            check(command("shards", "list", repository.cache))
            read_folder(repository.cache, pristine, tmp_path)
    assert watched.faults == []
    assert peak_bytes() < MOST_BYTES
    made = {path.name for path in tmp_path.iterdir()}
    assert made <= {"made", "home", "pulled", "page.html", "sheet.png"}, made


def test_there_are_enough() -> None:
    assert len(ATTACKS) + len(LINKS) >= 150 and set(QUICK) <= ATTACKS.keys()


@pytest.mark.parametrize("name", QUICK)
def test_a_hostile_repository(name: str, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked(ATTACKS[name], pristine, tmp_path, True, monkeypatch)


@pytest.mark.parametrize("name", ["plan is a pipe", "commit is a socket", "tar is a link to a device"])
def test_a_hostile_folder(name: str, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked(LINKS[name], pristine, tmp_path, False, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_every_hostile_repository(name: str, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked(ATTACKS[name], pristine, tmp_path, True, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINKS)
def test_every_hostile_folder(name: str, pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attacked(LINKS[name], pristine, tmp_path, False, monkeypatch)
