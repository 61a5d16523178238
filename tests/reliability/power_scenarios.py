"""The commands whose power is cut: each begins with a cache as another left it."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from posixpath import basename
from typing import Any
from unittest.mock import patch

import rows_modality
import yaml
from caches import command, contents
from measuring import is_of_evaluation, kept_of_evaluation, measured_before, measured_so_far, measures
from power_loss import Scenario, play
from pytest import MonkeyPatch
from small_caches import check, extraction, run, sets_in, shelf, without_drafts

from extract.leases import LEASE_S
from shards.errors import BadInput
from shards.mirror import mirror_path
from shards.remove import remove
from shards.transfer import pull, push

BOTH = ["logits-float32", "pooled-int8"]
KINDS = ("", *BOTH)


def nothing(place: Path) -> None:
    """An empty place."""


def extracts(views: int, **options: Any) -> Callable[[Path], None]:
    """Shards of one sample: a command makes many files."""

    def work(place: Path) -> None:
        run(lambda: extraction(place, "train", views, BOTH, shard_size=1, **options))

    return work


def extracts_there(place: Path) -> None:
    """Into a store, by a machine that has nothing of it yet, and waits little for one that died while it ended."""
    url = f"file://{place}"
    shutil.rmtree(mirror_path(url), ignore_errors=True)
    with patch.dict(os.environ, {LEASE_S: "0.3"}):
        run(lambda: extraction(url, "train", 2, BOTH, shard_size=1))


def removes(place: Path) -> None:
    ((folder, _),) = [each for name, each in sets_in(place).items() if name == ("train", "")]
    remove((str(folder),), True)


def killed_then_again(place: Path) -> None:
    """A kill halfway leaves folders whose names were not synced, which the next command finds."""
    run(lambda: extraction(place, "train", 2, BOTH, shard_size=1), 60)
    extracts(2)(place)


def cached(views: int) -> Path:
    """A whole cache; one of three views has grown from one."""
    place = shelf() / f"cache-{views}"
    if not place.exists():
        if views == 3:
            shutil.copytree(cached(1), place)
        extracts(views)(place)
    return place


def bucket() -> str:
    """The URL of a cache in a folder that stands for a bucket."""
    url = f"file://{shelf() / 'bucket'}"
    if not (shelf() / "bucket").exists():
        push(str(cached(2)), url)
    return url


def pushes(views: int) -> Callable[[Path], None]:
    def work(place: Path) -> None:
        run(lambda: push(str(cached(views)), f"file://{place}"))

    return work


def pulled(check_cache: Callable[[Path], None]) -> Callable[[Path], None]:
    """What lies in a store is checked as it comes out of it; where no manifest is there is nothing."""

    def check_store(place: Path) -> None:
        if any(place.glob("*/viewset.json")):
            there = place.with_name("pulled")
            run(lambda: pull(f"file://{place}", str(there)))
            check_cache(there)

    return check_store


def pulls(place: Path) -> None:
    pull(bucket(), str(place))


def checks(*views: int) -> Callable[[Path], None]:
    """Each set has one of these numbers of views, or is not whole; what is whole reads as it must."""

    def check_cache(place: Path) -> None:
        whole = {name: views for name, (_, views) in sets_in(place).items() if views}
        assert set(whole.values()) <= {*views}, whole
        check(place, whole, [("train", kind) for kind in KINDS])

    return check_cache


def is_document(name: str) -> bool:
    """A manifest, plan or commit record."""
    return basename(name) in ("viewset.json", "targetset.json", "plan.json") or "/commits/v" in name


def is_manifest(name: str) -> bool:
    """What a pulled cache is known by."""
    return basename(name) in ("viewset.json", "targetset.json")


def without_notes(place: Path) -> dict[str, bytes]:
    """The notes of commands that share a cache go when the next ones that do are through."""
    return {name: content for name, content in contents(place).items() if not name.startswith(".sharing/")}


RECIPE = {"student": "linear_rows", "objective": "kl", "batch_size": 1, "epochs": 10, "lr": 0.05, "checkpoint_every": 1}
KEPT = ("student.safetensors", "student.json", "run.json", "checkpoints/best.safetensors")


def distils(place: Path) -> None:
    """A student is trained for thirty steps, a checkpoint after each, and validated ten times."""
    recipe = shelf() / "recipe.yaml"
    if not recipe.exists():
        recipe.write_text(yaml.safe_dump(RECIPE | {"validation_fraction": 0.4, "fits": {"modality": "row"}}))
    flags = ("--shards", cached(2), "--targets", "logits-float32", "--recipe", recipe)
    done = command("distill", *flags, "--run_dir", place, "--devices", "cpu")
    if done.status == 2:
        raise BadInput(done.err)
    done.succeeds()


def is_of_run(name: str) -> bool:
    return basename(name) in ("last.ckpt", *map(basename, (*KEPT, "summary.json")))


def kept_of_run(place: Path) -> dict[str, bytes]:
    return {name: (place / name).read_bytes() for name in KEPT}


def nothing_listed(place: Path) -> None:
    """A run is read by the command itself."""


SCENARIOS = {
    "extract": Scenario(nothing, extracts(2), extracts(2), checks(2), is_document),
    "shared": Scenario(nothing, extracts(2, launch="shared"), extracts(2), checks(2), is_document, without_notes),
    "grow": Scenario(extracts(1), extracts(3), extracts(3), checks(1, 3), is_document),
    "remove": Scenario(extracts(2), removes, extracts(2), checks(2), is_document),
    "killed": Scenario(nothing, killed_then_again, extracts(2), checks(2), is_document),
    "pull": Scenario(nothing, pulls, pulls, checks(2), is_manifest),
    "upload": Scenario(nothing, extracts_there, extracts_there, pulled(checks(2)), is_document, without_drafts),
    "push": Scenario(nothing, pushes(2), pushes(2), pulled(checks(2)), is_manifest, without_drafts),
    "push_more": Scenario(pushes(1), pushes(3), pushes(3), pulled(checks(1, 3)), is_manifest, without_drafts),
    "evaluate": Scenario(measured_before, measures, measures, measured_so_far, is_of_evaluation, kept_of_evaluation),
    "distill": Scenario(nothing, distils, distils, nothing_listed, is_of_run, kept_of_run, "logs"),
}


def tell(names: Sequence[str], states: int, seed: int, workers: int) -> None:
    """What so many losses of each command did, printed; AssertionError for the first that went wrong."""
    shelf()  # before any fork
    with MonkeyPatch.context() as patch:
        rows_modality.register(patch)
        for name in names or SCENARIOS:
            found = play(SCENARIOS[name], states, seed, workers)
            print(
                f"{name}: {found.states:,} distinct states of {found.calls:,} calls, {len(found.unread):,} not read "
                f"before the command went on, {len(found.refused):,} refused",
                flush=True,
            )
            for line in sorted({*found.unread, *found.refused}):
                print(f"  {line}")
