"""Each benchmark runs at tiny sizes and writes what a reader of its numbers needs; how fast it is, is not asked."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import NAMES, codec_study, codec_study_texts, logits_bias, pair_study, text_study, views_study
from benchmarks.measure import Spread, alternate, share

ROOT = Path(__file__).parents[2]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *words], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_quick_run_writes_its_figures(name: str, tmp_path: Path) -> None:
    if name == "slow_volume":
        pytest.importorskip("mfusepy", reason="a slow volume needs FUSE: pip install mfusepy")
    done = run(name, "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    paths = sorted(tmp_path.iterdir())
    assert paths
    for path in paths:
        _check(json.loads(path.read_text()), path.name, name, done.stdout.replace("\n", " "))


@pytest.mark.slow
def test_processes_that_are_killed_write_the_bytes_of_one(tmp_path: Path) -> None:
    done = run("sharing", "--case", "kill", "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for where in ("folder", "bucket"):
        assert f"sharing: {where}: 1 killed; every byte that of a single process: yes" in done.stdout


def _check(found: dict[str, Any], file: str, name: str, printed: str) -> None:
    assert file.startswith(f"{name}-") and found["benchmark"].startswith(name) and found["quick"]
    assert {"device", "cpu", "date", "revision", "num_cores", "num_threads", "settings", "unit"} <= found.keys()
    assert found["versions"]["python"] and found["versions"]["torch"]
    for spread in [*found["rates"].values(), *(figure["ratio"] for figure in found["figures"])]:
        assert spread["least"] <= spread["median"] <= spread["most"]
    assert all(rate["least"] > 0 for rate in found["rates"].values())
    for figure in found["figures"]:
        assert figure["compared"] and figure["limit"] and figure["reached"] is None
        assert figure["compared"] in printed
    assert any(figure["goal"] for figure in found["figures"])


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("codec_study", codec_study.table),
        ("codec_study_texts", codec_study_texts.table),
        ("text_study", text_study.table),
        ("pair_study", pair_study.table),
        ("views_study", views_study.table),
    ],
)
def test_a_studys_page_shows_its_figures(name: str, table: Callable[[dict[str, Any]], str]) -> None:
    study = json.loads((ROOT / f"docs/{name}.json").read_text())
    assert table(study) in (ROOT / f"docs/{name}.md").read_text()


def test_the_text_studys_page_shows_what_codecs_do_to_gradients() -> None:
    page, paths = (ROOT / "docs/text_study.md").read_text(), sorted((ROOT / "docs").glob("logits_bias*.json"))
    assert logits_bias.table(json.loads((ROOT / "docs/logits_bias.json").read_text())) in page
    assert paths and logits_bias.SUMMARY in page
    for path in paths:
        _, figures = logits_bias.summary(json.loads(path.read_text()), "").split("|  |")
        assert figures in page, path.name


def test_unknown_name_is_one_line() -> None:
    done = run("reeding", "--quick")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "reading" in done.stderr


def test_contenders_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []
    times = {"a": iter([9.0, 1.0, 2.0]), "b": iter([9.0, 2.0, 8.0])}

    def contender(name: str):
        def timed() -> float:
            order.append(name)
            return next(times[name])

        return timed

    seconds = alternate({name: contender(name) for name in times}, rounds=2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert seconds == {"a": [1.0, 2.0], "b": [2.0, 8.0]}
    assert share(seconds["a"], seconds["b"]) == Spread(0.375, 0.25, 0.5)


@pytest.mark.slow
def test_the_page_on_a_thousand_nodes_shows_what_is_simulated() -> None:
    words = [sys.executable, "-m", "benchmarks.thousand_nodes"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    page = (ROOT / "docs/thousand_nodes.md").read_text()
    tables = done.stdout.strip().split("\n\n")
    assert len(tables) == 6 and all(each in page for each in tables)
