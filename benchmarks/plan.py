"""Plan: how near is what `--plan` says to what then happens, for three commands on the machine where it was probed?

Each command is planned and then run, in processes of their own, as a user does. Compared are the hours (what the run
itself reports) and the bytes that it left.
Limit: 1, a plan that is right; the ratio is the smaller over the larger: a plan above and one below count alike.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.materials import as_flags
from benchmarks.materials import material as material_of
from benchmarks.measure import Figure, Report, Sizes, Spread, run, settings_here
from shards.errors import BadInput

PHOTOS = {"teacher": "resnet50", "student": "resnet18", "image_size": 224}
TEXTS = {"data": "texts", "encoder": "minilm", "tokens": 128}
RESNET18 = PHOTOS | {"teacher": "resnet18", "image_size": 32}
BATCHES: dict[str, Any] = {"batch_size": 16, "epochs": 3, "seconds": 30}
CASES: Sizes = {
    "cpu": BATCHES | {"photos": PHOTOS | {"samples": 128}, "texts": TEXTS | {"samples": 256}},
    "cuda": BATCHES | {"batch_size": 256, "photos": PHOTOS | {"samples": 10_000}, "texts": TEXTS | {"samples": 20_000}},
    "quick": {"batch_size": 4, "epochs": 1, "seconds": 1}
    | {"photos": RESNET18 | {"samples": 16}, "texts": TEXTS | {"encoder": "tiny", "tokens": 16, "samples": 16}},
}
NEAR = 0.8


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Photos into logits, texts into a row a token, and a student from the logits."""
    settings = settings_here(CASES, options)
    size = settings["batch_size"]
    kinds = {
        kind: material_of(settings[kind], folder / kind, settings[kind]["samples"]) for kind in ("photos", "texts")
    }
    commands = {
        f"extract {kind}": ["extract", *as_flags(one.flags), "--out", folder / f"cache-{kind}", "--batch_size", size]
        for kind, one in kinds.items()
    }
    student = ["--student", settings["photos"]["student"], "--recipe", "resnet50-from-resnet101"]
    student += ["--batch_size", size, "--epochs", settings["epochs"], "--precision", "float32"]
    commands["distill photos"] = ["distill", "--shards", folder / "cache-photos", "--run_dir", folder / "run", *student]
    made = {"extract photos": "cache-photos", "extract texts": "cache-texts", "distill photos": "run"}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            shutil.rmtree(folder / made[name], ignore_errors=True)
            found[name].append(_compared(command, folder / made[name], folder / "plan.json", settings["seconds"]))
    report = Report("how near is a plan to what then happens?", "runs", settings)
    for name, rows in found.items():
        predicted, actual, stored = zip(*rows, strict=True)
        report.add_rates({f"{name}, planned": list(predicted), f"{name}, run": list(actual)})
        hours = Spread.of(min(one / other, other / one) for one, other in zip(predicted, actual, strict=True))
        signed = Spread.of(one / other for one, other in zip(predicted, actual, strict=True))
        report.figures.append(Figure(f"{name}: hours", f"1; planned over run: {signed}", hours, NEAR))
        report.figures.append(Figure(f"{name}: bytes", "1", Spread.of(stored), 0.98))
    return report


def _compared(command: list[Any], made: Path, saved: Path, seconds: float) -> tuple[float, float, float]:
    """Seconds planned and seconds run, as the run counts them; and the bytes' ratio, the smaller over the larger."""
    _run([*command, "--plan", f"seconds={seconds},save={saved}"])
    plan: Mapping[str, Any] = json.loads(saved.read_bytes())
    said = _run(command)
    actual = re.search(r" over ([\d,.]+) s", said.splitlines()[-1])
    assert actual is not None, said
    num_bytes = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    # distill counts from where its trainer begins
    planned = plan["seconds"] - plan.get("opening", 0)
    lasted = float(actual[1].replace(",", ""))
    return planned, max(lasted, 0.05), min(plan["bytes"] / num_bytes, num_bytes / plan["bytes"])


def _run(command: list[Any]) -> str:
    done = subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise BadInput(f"{command[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


if __name__ == "__main__":
    run(measure, "plan")
