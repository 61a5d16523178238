"""What the tests of caches start from: a tiny teacher, small caches of digits, and commands run as a user runs them."""

import contextlib
import importlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from extract.networks import build_network, export_network
from shards.command.run import run_command
from shards.identity import sha256_of
from shards.sealed import sealed

NUM_SAMPLES, SHARD_SIZE, IMAGE_SIZE = 40, 16, 16
NUM_SHARDS = 3
"""The last one is short: 16 + 16 + 8 samples."""

DIGITS = ("--data", "digits", "--limit", str(NUM_SAMPLES), "--shard_size", str(SHARD_SIZE))
SMALL = (*DIGITS, "--image_size", str(IMAGE_SIZE), "--devices", "cpu")
"""The flags of a small view set, to which --teacher and --out are added."""


def write_teacher(
    folder: Path,
    seed: int = 0,
    width: int = 4,
    change: Callable[[torch.nn.Module], Any] | None = None,
    num_classes: int = 10,
) -> Path:
    """A network of random weights exported as `distill` exports one, so that `--teacher run:FOLDER` loads it."""
    torch.manual_seed(seed)
    network = build_network("convnet", num_classes, width=width, depth=2)
    if change is not None:
        change(network)
    document = {"architecture": "convnet", "arguments": {"width": width, "depth": 2}, "num_classes": num_classes}
    document |= {"image_size": IMAGE_SIZE, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    export_network(folder, network, document | {"class_names": [str(digit) for digit in range(num_classes)]})
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: its exit status and what it printed."""

    status: int
    out: str
    err: str

    def refuses(self, *words: str) -> None:
        """It was the user's mistake: one line on stderr that holds `words`, exit status 2, no traceback."""
        assert self.status == 2, self
        assert len(self.err.strip().splitlines()) == 1, self.err
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"

    def succeeds(self) -> "Outcome":
        assert self.status == 0, self
        return self


def command(name: str, *flags: str | Path) -> Outcome:
    """`python -m NAME FLAGS`, in this process."""
    main = importlib.import_module(f"{name}.__main__").main
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_command(main, name, [str(flag) for flag in flags])
        except SystemExit as end:
            status = int(end.code or 0)
    return Outcome(status, out.getvalue(), err.getvalue())


def extract(*flags: str | Path) -> Outcome:
    """`python -m extract FLAGS`, which must succeed."""
    return command("extract", *flags).succeeds()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under `folder` but the lock, by its path relative to it."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def viewset_of(cache: Path, split: str = "train") -> Path:
    """The only view set of a split."""
    (folder,) = cache.glob(f"*-{split}-*")
    return folder


def targetset_of(cache: Path, name: str = "", split: str = "train") -> Path:
    """The only target set whose name holds `name`."""
    (folder,) = (path for path in (viewset_of(cache, split) / "targets").iterdir() if name in path.name)
    return folder


def reseal(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a sealed document and give it the seal of its new content, as somebody who means harm would."""
    document = json.loads(path.read_bytes())
    document.pop("sha256")
    change(document)
    path.write_bytes(sealed(document))


def reseal_records(folder: Path, manifest: str, *names: str) -> None:
    """The manifest of `folder` tells the size and hash that the files `names` have now.

    The commit records of their shards lose the rows' checksums, which tell of any change of a row.
    """
    for path in (folder / "commits").glob("*.json"):
        document = json.loads(path.read_bytes())
        if "checksums" in document and set(names) & document["files"].keys():
            reseal(path, lambda document: document.pop("checksums"))
            if path != folder / manifest:
                names = (*dict.fromkeys((*names, path.relative_to(folder).as_posix())),)
    fresh = {name: (folder / name).read_bytes() for name in names}
    records = {name: {"size": len(data), "sha256": sha256_of(data)} for name, data in fresh.items()}
    reseal(folder / manifest, lambda document: document["files"].update(records))


def copied(cache: Path, to: Path) -> Path:
    """A copy of `cache` that a test may spoil."""
    return Path(shutil.copytree(cache, to))
