"""Study: what the studies share: the project's own commands in this process, and the files that their pages show."""

import argparse
import contextlib
import importlib
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards.commit import write_atomically


def command(module: str, *flags: object) -> None:
    """`python -m MODULE FLAGS`."""
    importlib.import_module(f"{module}.__main__").main([str(flag) for flag in flags])


def once(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, kept in `path`, so that a study that is begun again does not measure it again."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(make()) + "\n").encode())
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def write_study(out: Path, name: str, study: dict[str, Any]) -> None:
    """`out`/NAME.json."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / f"{name}.json", (json.dumps(study, indent=1) + "\n").encode())


@contextlib.contextmanager
def drawing(path: Path, num_axes: int = 2) -> Iterator[Sequence[Any]]:
    """So many axes side by side, saved in `path` as an SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "teacher-shards", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, num_axes, figsize=(5 * num_axes, 4), layout="constrained")
    yield axes
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def mean_and_range(values: Sequence[float], digits: int = 4) -> str:
    """The mean, and where there are several their range."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def parser(name: str, data: str, several: bool = False) -> argparse.ArgumentParser:
    """The flags that every study of a cache has; `data` says what --data takes, `several` of them one after another."""
    made = argparse.ArgumentParser(f"benchmarks.{name}")
    made.add_argument("--data", required=True, nargs="+" if several else None, help=data)
    made.add_argument("--work", type=Path, required=True, help="a folder for the cache and the runs; resumes there")
    made.add_argument("--out", type=Path, default=Path("docs"), help="where the figures and the plot go")
    return made
