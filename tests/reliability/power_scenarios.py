"""The commands whose power is cut: each begins with a cache as another left it."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from posixpath import basename

import rows_modality
import yaml
from caches import command, contents
from power_loss import Scenario, play
from pytest import MonkeyPatch
from small_caches import check, extraction, run, sets_in

from shards.errors import BadInput
from shards.remove import remove
from shards.transfer import pull, push

BOTH = ["logits-float32", "pooled-int8"]
KINDS = ("", *BOTH)


def nothing(place: Path) -> None:
    """An empty place."""


def extracts(views: int, **options: str) -> Callable[[Path], None]:
    def work(place: Path) -> None:
        run(lambda: extraction(place, "train", views, BOTH, **options))

    return work


def removes(place: Path) -> None:
    ((folder, _),) = [each for name, each in sets_in(place).items() if name == ("train", "")]
    remove((str(folder),), True)


def killed_then_again(place: Path) -> None:
    """A kill halfway leaves folders whose names were not synced, which the next command finds."""
    run(lambda: extraction(place, "train", 2, BOTH), 60)
    extracts(2)(place)


@cache
def bucket() -> str:
    """The URL of a cache in a folder that stands for a bucket; it stays until this process ends."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    extracts(2)(Path(folder, "cache"))
    push(f"{folder}/cache", f"file://{folder}/bucket")
    return f"file://{folder}/bucket"


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


RECIPE = {"student": "linear_rows", "objective": "kl", "batch_size": 2, "epochs": 2, "lr": 0.05, "checkpoint_every": 1}
KEPT = ("student.safetensors", "student.json", "run.json", "checkpoints/best.safetensors")


def distils(place: Path) -> None:
    """A student is trained for three steps, a checkpoint after each, and validated twice."""
    recipe = Path(bucket().removeprefix("file://")).with_name("recipe.yaml")
    recipe.write_text(yaml.safe_dump(RECIPE | {"validation_fraction": 0.4, "fits": {"modality": "row"}}))
    flags = ("--shards", recipe.with_name("cache"), "--targets", "logits-float32", "--recipe", recipe)
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
    "distill": Scenario(nothing, distils, distils, nothing_listed, is_of_run, kept_of_run, "logs"),
}


def tell(names: Sequence[str], stride: int) -> None:
    """What every loss at every `stride`th moment did, printed; AssertionError at the first that went wrong."""
    with MonkeyPatch.context() as patch:
        rows_modality.register(patch)
        for name in names or SCENARIOS:
            found = play(SCENARIOS[name], stride=stride)
            print(f"{name}: {found.calls:,} calls, {found.states:,} states, {len(found.refused):,} refused", flush=True)
            for line in sorted(set(found.refused)):
                print(f"  {line}")
