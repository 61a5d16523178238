"""A run's folder: its run.json reads back equal, or is refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from training import distill, write_recipe

from distill.folder import RUN, Run, former_run
from shards.errors import BadInput

KEPT = Run({"objective": "kl"}, {"viewset": "ab", "targetsets": []}, [1.0, 2], None, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"num_views": 0}, "num_views cannot be 0"), ({"weights": ["a"]}, "weights cannot be"), ({"x": 1}, "x cannot be")],
)
def test_a_run_reads_back_equal_or_is_bad_input(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    fields = {"recipe": KEPT.recipe, "cache": KEPT.cache, "weights": KEPT.weights, "validation": None, "num_views": 1}
    assert former_run(tmp_path) is None
    (tmp_path / RUN).write_text(json.dumps(fields))
    assert former_run(tmp_path) == KEPT
    (tmp_path / RUN).write_text(json.dumps(fields | change))
    with pytest.raises(BadInput, match=rf"{says}.*; give another --run_dir"):
        former_run(tmp_path)


def test_a_run_may_lie_in_a_folder_whose_name_is_no_utf8(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / os.fsdecode(b"run\xff")
    flags = ("--targets", "one-logits-float32", "--max_steps", "2", "--recipe", write_recipe(tmp_path / "test.yaml"))
    distill(shards, run, *flags).succeeds()
    best = json.loads((run / "summary.json").read_text())
    assert best["best_step"] == 2 and best["best_val_loss"] > 0
