"""Clash: Hugging Face publishes a package called `evaluate` too; here is how one of the two is told from the other."""

import importlib.util
from pathlib import Path

MARK = "teacher-shards"
"""What the first lines of our own evaluate/__init__.py hold."""


def evaluate_clash() -> str | None:
    """One line that says which other package `python -m evaluate` would run in place of ours and what to do, else None.

    Nothing is imported. It asks from two sides: `evaluate` itself, where pip installed both packages into one folder
    (theirs has replaced our __init__.py, ours is still the only __main__.py), and any other command of ours, where
    theirs stands earlier on the path, none of our code would run, and Python alone would answer.
    """
    spec = importlib.util.find_spec("evaluate")
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = Path(spec.origin) if spec.origin else next(iter(folders), Path("evaluate"))
    text = _beginning(found)
    if MARK in text:
        return None
    if any((folder / "__main__.py").is_file() and (folder / "tasks").is_dir() for folder in folders):
        remedy = f"pip uninstall evaluate, then install {MARK} again, which it was mixed with"
    elif MARK in _beginning((root := Path(__file__).parent.parent.parent) / "evaluate" / "__init__.py"):
        remedy = f"pip uninstall evaluate, or run python -m evaluate from {root}"
    else:
        remedy = f"pip uninstall evaluate, then install {MARK} again"
    whose = "Hugging Face's package of that name" if "huggingface" in text.lower() else f"another package than {MARK}'s"
    return f"python -m evaluate finds {whose} ({found}): {remedy}"


def _beginning(path: Path) -> str:
    return path.read_text(errors="replace")[:4096] if path.is_file() else ""
