"""--help answers before anything heavy is imported (its time is a benchmark's business)."""

import subprocess
import sys
from pathlib import Path

import pytest

from shards.__main__ import COMMANDS

HEAVY = {"torch", "lightning", "datasets", "transformers", "wandb", "torchvision", "sklearn", "zarr", "numpy", "PIL"}
RUN = """
import runpy, sys
sys.argv = ["{name}", *{flags}]
try:
    runpy.run_module("{name}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("STATUS", end.code)
print("MODULES", *{{module.partition(".")[0] for module in sys.modules}})
"""


@pytest.mark.parametrize("command", ["extract", "distill", "evaluate", "shards", *(f"shards {x}" for x in COMMANDS)])
def test_help_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    name, *words = command.split()
    program = RUN.format(name=name, flags=[*words, "--help"])
    # in another folder: the installed packages answer, wherever a user stands
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    printed, _, rest = run.stdout.partition("STATUS")
    status, _, modules = rest.partition("MODULES")
    assert status.strip() in ("0", "None"), run.stderr
    assert "usage" in printed.lower() and len(printed) > 300
    assert not HEAVY & set(modules.split())


@pytest.mark.parametrize(("name", "num_flags"), [("extract", 20), ("distill", 20), ("evaluate", 20)])
def test_a_command_has_at_most_twenty_flags_each_with_its_help(name: str, num_flags: int) -> None:
    import dataclasses
    import importlib

    module = importlib.import_module(f"{name}.config")
    (config,) = (
        one for one in vars(module).values() if dataclasses.is_dataclass(one) and one.__module__ == module.__name__
    )
    fields = [field.name for field in dataclasses.fields(config)]
    shown = [field for field in fields if field not in getattr(module, "HIDDEN", ())]
    assert len(shown) <= num_flags, f"{len(shown)} flags: {shown}"
    import docstring_parser

    documented = {one.arg_name: one.description for one in docstring_parser.parse_from_object(config).params}
    assert all(documented.get(field) for field in fields)
