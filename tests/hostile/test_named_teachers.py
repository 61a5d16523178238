"""Which teacher is loaded is the user's to say: one that a cache from elsewhere names is not opened for that."""

from pathlib import Path

import pytest
import yaml
from caches import SMALL, Outcome, command, extract, reseal_records, targetset_of, write_teacher
from test_named_data import harm
from watching import bounded, watching

from shards.mirror import LOCAL_CACHE

UNNAMED = "only the cache names its teacher"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Made on this machine, its teacher named by a relative path."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_teacher(tmp_path / "teacher")
    extract("--teacher", "run:teacher", "--out", tmp_path / "cache", *SMALL, "--codec", "float32")
    return tmp_path / "cache"


@pytest.fixture
def elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same cache, as another machine has copied it."""
    monkeypatch.setenv(LOCAL_CACHE, str(tmp_path / "another"))
    return cache


def verify(cache: Path, *flags: str) -> Outcome:
    return command("shards", "verify", cache, "--recompute", "2", *flags)


def test_the_machine_that_made_it_loads_it_in_any_folder(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify(cache).succeeds()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "2 views recomputed" in verify(cache).succeeds().out


def test_no_other_machine_loads_what_the_cache_names(elsewhere: Path, tmp_path: Path) -> None:
    """Until it was named once, as the one of this target set."""
    with watching(tmp_path) as watched:
        told = verify(elsewhere)
        told.refuses(f"{UNNAMED} (--teacher run:teacher)", "--recompute: say where the teacher is now with --teacher")
    assert harm(watched) == [] and not [path for path in watched.opened if str(tmp_path / "teacher") in path]
    write_teacher(tmp_path / "stranger", seed=1)
    verify(elsewhere, "--teacher", "run:stranger").refuses("run:stranger is not the teacher of", "weights_sha256")
    verify(elsewhere).refuses(UNNAMED)
    (tmp_path / "teacher").rename(tmp_path / "moved")
    for flags in (("--teacher", "run:moved"), ()):
        verify(elsewhere, *flags).succeeds()


EVIL: list[dict[str, object]] = [
    {"teacher": "hf:nobody/nothing"},
    {"teacher": "run:/"},
    {"teacher": "timm:resnet18"},
    {"teacher": "resnet18", "weights": "/etc/passwd"},
    {"teacher": "bert", "weights": "nobody/nothing"},
    {"teacher": ["run:teacher"]},
]


@pytest.mark.parametrize("flags", EVIL)
def test_neither_the_network_nor_a_file_is_asked_on_a_caches_word(
    elsewhere: Path, tmp_path: Path, flags: dict[str, object]
) -> None:
    path = targetset_of(elsewhere) / "extract.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | flags))
    reseal_records(path.parent, "targetset.json", "extract.yaml")
    (tmp_path / "work").mkdir()
    with watching(tmp_path) as watched, bounded(60, 2 << 30):
        verify(elsewhere).refuses(UNNAMED if isinstance(flags["teacher"], str) else "--teacher")
        if "weights" in flags:
            verify(elsewhere, "--teacher", str(flags["teacher"])).refuses(UNNAMED, str(flags["weights"]))
    assert harm(watched) == []


def test_what_is_missing_is_extracted_with_a_named_teacher_alone(elsewhere: Path, tmp_path: Path) -> None:
    """The saved flags of a half-written set are the cache's word, too."""
    (targetset_of(elsewhere) / "targetset.json").unlink()
    flags = ("--shards", elsewhere, "--run_dir", tmp_path / "run", "--on_missing", "extract")
    command("distill", *flags).refuses(f"{UNNAMED} (--teacher run:teacher)", "--on_missing 'extract --teacher ...'")
