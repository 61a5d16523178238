"""The commands whose power is cut: each begins with a cache as another left it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import rows_modality
from power_loss import Scenario, play
from pytest import MonkeyPatch
from small_caches import extraction, run, sets_in

from shards.remove import remove

BOTH = ["logits-float32", "pooled-int8"]
KINDS = ("", *BOTH)


def nothing(cache: Path) -> None:
    """An empty place."""


def extracts(views: int, **options: str) -> Callable[[Path], None]:
    return lambda cache: extraction(cache, "train", views, BOTH, **options)


def removes(cache: Path) -> None:
    ((folder, _),) = [each for name, each in sets_in(cache).items() if name == ("train", "")]
    remove((str(folder),), True)


def killed_then_again(cache: Path) -> None:
    """A kill halfway leaves folders whose names were not synced, which the next command finds."""
    run(lambda: extraction(cache, "train", 2, BOTH), 60)
    extraction(cache, "train", 2, BOTH)


def _allowed(*views: int) -> dict[tuple[str, str], set[int]]:
    return {("train", kind): {0, *views} for kind in KINDS}


SCENARIOS = {
    "extract": Scenario(nothing, extracts(2), extracts(2), _allowed(2)),
    "shared": Scenario(nothing, extracts(2, launch="shared"), extracts(2), _allowed(2)),
    "grow": Scenario(extracts(1), extracts(3), extracts(3), _allowed(1, 3)),
    "remove": Scenario(extracts(2), removes, extracts(2), _allowed(2)),
    "killed": Scenario(nothing, killed_then_again, extracts(2), _allowed(2)),
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
