"""Flags and saved configurations of distill: ranges, what an objective may say of labels, former flags."""

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from caches import command
from test_recipes import ONE
from training import PLAIN, distill, same, write_recipe

from distill.config import HIDDEN, DistillConfig, unfolded
from distill.recipe import (
    Recipe,
    load_recipe,
    resolve,
)
from shards.command.arguments import parse
from shards.command.ranges import expected
from shards.errors import BadInput


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("kl:temperature=2,label_weight=0.1", ("kl:temperature=2", 0.1)),
        ("mse:label_weight=1", ("mse", 1.0)),
        ("label_weight=0.5", (None, 0.5)),
        ("cosine", ("cosine", None)),
    ],
)
def test_an_objective_may_say_the_share_of_the_labels(objective: str, said: tuple[str | None, float | None]) -> None:
    config = unfolded(DistillConfig(".", objective=objective))
    assert (config.objective, config.label_weight) == said
    same = unfolded(DistillConfig(".", objective=said[0], label_weight=said[1]))
    assert same == config


@pytest.mark.parametrize("share", ["1.5", "much", "0.1,label_weight=0.2"])
def test_a_share_of_the_labels_is_one(share: str) -> None:
    with pytest.raises(BadInput, match=r"label_weight.*(expected a number from 0 to 1|given twice)"):
        unfolded(DistillConfig(".", objective=f"kl:label_weight={share}"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--lr", "0"), "--lr 0.0: expected a number above 0"),
        (("--lr", "nan"), "--lr nan: expected a number above 0"),
        (("--batch_size", "0"), "--batch_size 0: expected a whole number of at least 1"),
        (("--accumulate", "-1"), "--accumulate -1"),
        (("--max_steps", "0"), "--max_steps 0"),
        (("--epochs", "0"), "--epochs 0"),
        (("--label_weight", "1.5"), "--label_weight 1.5: expected a number from 0 to 1"),
        (("--weight_decay", "-1"), "--weight_decay -1.0: expected a number of at least 0"),
        (("--precision", "float8"), "--precision float8: expected float32 or bfloat16 or float16"),
        (("--seed", "-1"), "--seed -1: expected a whole number from 0 to 4294967295"),
    ],
)
def test_flags_that_make_no_sense(flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}.*; python -m distill --help lists the flags$"):
        parse(DistillConfig, "distill", ["--shards", ".", *flags], "")


def test_an_objective_that_makes_no_sense() -> None:
    with pytest.raises(BadInput, match="--objective kl:temperature=0: temperature 0: expected a number above 0"):
        resolve(load_recipe("digits"), DistillConfig(shards=".", objective="kl:temperature=0"))


def test_every_flag_but_those_of_the_machine_is_a_recipes_field() -> None:
    flags = {one.name for one in fields(DistillConfig)}
    assert len(flags - set(HIDDEN)) <= 20
    known = {one.name for one in fields(Recipe)}
    assert flags - known == {
        "shards",
        "recipe",
        "run_dir",
        "targets",
        "devices",
        "logger",
        "read",
        "on_missing",
        "plan",
        "max_memory",
    }


def test_a_flag_has_the_range_of_the_recipes_field() -> None:
    flags, known = (get_type_hints(kind, include_extras=True) for kind in (DistillConfig, Recipe))
    for name in flags.keys() & known.keys():
        assert expected(flags[name]) == expected(known[name]), name


def test_a_runs_saved_configuration_gives_the_same_weights(shards: Path, tmp_path: Path) -> None:
    recipe, run, other = write_recipe(tmp_path / "test.yaml"), tmp_path / "run", tmp_path / "other"
    distill(shards, run, *ONE, "--recipe", recipe, "--lr", "0.02", "--label_weight", "0.25").succeeds()
    recipe.unlink()  # the run holds a copy
    command("distill", "--config", run / "config.yaml", "--run_dir", other).succeeds()
    assert same(run, other)
    assert "finished before" in command("distill", "--config", run / "config.yaml").succeeds().out
    saved = yaml.safe_load((run / "recipe.yaml").read_text())
    assert saved["lr"] == 0.02 and saved["label_weight"] == 0.25 and saved["student"] == PLAIN["student"]
    assert parse(DistillConfig, "distill", ["--config", str(run / "config.yaml")], "").lr == 0.02


@pytest.mark.parametrize("value", ["null", "false"])
def test_a_configuration_that_was_saved_with_compile_is_read(value: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"shards: {tmp_path / 'none'}\ncompile: {value}\n")
    command("distill", "--config", tmp_path / "config.yaml").refuses("no such folder")
    command("distill", "--shards", "x", "--compile", "true").refuses("--compile", "field of the recipe")


def test_a_configuration_that_was_saved_with_warmup_is_read_where_its_recipe_says_the_same(tmp_path: Path) -> None:
    config, recipe = tmp_path / "config.yaml", tmp_path / "recipe.yaml"
    recipe.write_text("student: resnet8\nobjective: mse\nwarmup: 0.05\n")
    for warmup, said in (
        ("null", "no such folder"),
        ("0.05", "no such folder"),
        ("0.2", "write warmup: 0.2 in a recipe"),
    ):
        config.write_text(f"shards: {tmp_path / 'none'}\nrecipe: {recipe}\nwarmup: {warmup}\n")
        command("distill", "--config", config).refuses(said)
    command("distill", "--shards", "x", "--warmup", "0.05").refuses("--warmup", "field of the recipe")
