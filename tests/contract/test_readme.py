"""The README says what is so: its tree is that of the folders, its commands have the flags that it names."""

import dataclasses
import importlib
import re

import readme_tree

from distill.config import DistillConfig
from evaluate.config import EvaluateConfig
from extract.config import ExtractConfig

CONFIGS = {"extract": ExtractConfig, "distill": DistillConfig, "evaluate": EvaluateConfig}


def test_the_tree_has_one_true_line_a_folder():
    readme = (readme_tree.ROOT / "README.md").read_text()
    assert readme_tree.with_tree(readme) == readme, "run python tests/readme_tree.py"


def test_commands_name_flags_that_exist_and_at_most_twenty_a_command():
    readme = (readme_tree.ROOT / "README.md").read_text() + (readme_tree.ROOT / "Makefile").read_text()
    commands = re.findall(r"-m (extract|distill|evaluate) ([^\n`']*)", readme)
    commands += re.findall(r"'(extract) ([^']*)'", readme)  # the value of --on_missing
    assert {name for name, _ in commands} == CONFIGS.keys()
    for name, flags in commands:
        known = {field.name for field in dataclasses.fields(CONFIGS[name])} | {"help", "config", "print_config"}
        assert set(re.findall(r"--(\w+)", flags)) <= known, (name, flags)
    for config in CONFIGS.values():
        hidden = getattr(importlib.import_module(config.__module__), "HIDDEN", ())
        assert len({field.name for field in dataclasses.fields(config)} - set(hidden)) <= 20
