"""The text study on a tiny corpus and encoder: every variant runs, and its figures are those of plain arithmetic."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from texts import WIDTH, write_corpus, write_encoder

from benchmarks.embeddings import nearest_other, neighbour_agreement
from benchmarks.text_study import LAYER_MEAN, VARIANTS, main, table

pytestmark = pytest.mark.slow
LINES = 120


def run_study(folder: Path, out: Path) -> dict:
    """The study of what lies in `folder`, whose figures go to `out`."""
    flags = ("--teacher", folder / "bert", "--data", f"text:{folder / 'lines'}")
    folders = ("--work", folder / "work", "--out", out)
    sizes = ("--lines", LINES, "--block", 16, "--depth", 2, "--batch_size", 8, "--max_steps", 4)
    main([str(flag) for flag in (*flags, *folders, *sizes)])
    study: dict = json.loads((out / "text_study.json").read_text())
    return study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_encoder(folder / "bert")
    write_corpus(folder / "lines", LINES)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> dict:
    return run_study(folder, folder / "out")


def test_each_variant_has_its_figures(study: dict, folder: Path) -> None:
    rows = {(row["target"], row["stored"], row["seed"]): row for row in study["rows"]}
    assert rows.keys() == {(each.target, each.name, seed) for each in VARIANTS for seed in each.seeds}
    assert study["held_out_lines"] == LINES // 10 and (folder / "out/text_study.svg").stat().st_size > 10_000
    assert table(study).count("\n| `") == len(VARIANTS)
    sizes = {row["stored"]: row["bytes_a_token"] for row in study["rows"]}
    scale, position = 2, 1  # beside a token's values: a float16 number and a byte
    assert sizes["float16"] == 2 * WIDTH and sizes["int8"] == WIDTH + scale
    assert sizes["int8, a quarter of the tokens"] == (WIDTH + scale + position) / 4
    assert sizes["live teacher"] is None and sizes["not distilled"] is None
    assert all(0 <= row["neighbours"] <= 1 and row["cosine"] <= 1 for row in study["rows"])


def test_what_is_stored_in_float16_teaches_as_the_live_teacher_does(study: dict) -> None:
    """float16 rounds a value by 2^-11 of itself at most, and both losses are against float32 targets."""
    loss = {row["stored"]: row["loss"] for row in study["rows"] if row["target"] == LAYER_MEAN}
    assert loss["float16"] == pytest.approx(loss["live teacher"], rel=2e-2)
    assert loss["live teacher"] < loss["not distilled"] < loss["int8, from a random start"]


def test_a_study_that_is_begun_again_trains_nothing_twice(study: dict, folder: Path) -> None:
    runs = {path: path.stat().st_mtime_ns for path in (folder / "work/runs").rglob("*") if path.is_file()}
    assert run_study(folder, folder / "again") == study
    assert {path: path.stat().st_mtime_ns for path in (folder / "work/runs").rglob("*") if path.is_file()} == runs


def test_neighbours_are_those_of_all_cosines() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher, other = torch.randn(40, 8, generator=generator), torch.randn(40, 8, generator=generator)
    teacher[7] = 2 * teacher[3]  # equal by cosine: each is the other's nearest
    cosines = F.cosine_similarity(teacher[:, None], teacher[None], dim=2).fill_diagonal_(-2)
    rows = nearest_other(teacher)
    torch.testing.assert_close(cosines.gather(1, rows[:, None])[:, 0], cosines.amax(1))
    assert rows[3] == 7 and rows[7] == 3
    assert neighbour_agreement(teacher, 3 * teacher) == 1 > neighbour_agreement(other, teacher)
