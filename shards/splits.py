"""Splits: the names that people give to train, validation and test, and which of several splits one of them means."""

from collections.abc import Collection

from shards.errors import BadInput

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),  # `datasets` counts the last two as test as well
}


def canonical_split(name: str) -> str:
    """`train`, `validation` or `test` for any of their names in any case (`Val`: `validation`); else `name` itself."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), name)


def choose_split(flag: str, wanted: str, available: Collection[str]) -> str:
    """The name in `available` that `wanted` means: itself, its other names in any case, `test` where validation lacks.

    Raises BadInput where two names differ in case alone and `wanted` is neither, and where none fits.
    """
    if wanted in available:
        return wanted
    canonical = canonical_split(wanted)
    last_resort = SPLIT_NAMES["test"] if canonical == "validation" else ()
    for name in (wanted.lower(), *SPLIT_NAMES.get(canonical, ()), *last_resort):
        matching = [name] if name in available else sorted(each for each in available if each.lower() == name)
        if len(matching) > 1:
            raise BadInput(f"{flag}: split {wanted!r} may be {' or '.join(matching)}: give --split one of these")
        if matching:
            return matching[0]
    raise BadInput(f"{flag}: no split {wanted!r}, only {', '.join(sorted(available))}: give --split one of these")
