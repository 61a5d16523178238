"""Clash: two modules of one name, of which Python takes the wrong one.

Either a file in the user's folder is called as a library is, or `evaluate` is the package that Hugging Face publishes.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from shards.errors import BadInput

ROOT = Path(__file__).parents[2]
"""The folder of our packages."""

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
    origin = Path(spec.origin) if spec.origin else next(iter(folders), Path("evaluate"))
    text = _beginning(origin)
    if MARK in text:
        return None
    if any((folder / "__main__.py").is_file() and (folder / "tasks").is_dir() for folder in folders):
        remedy = f"pip uninstall evaluate, then install {MARK} again, which it was mixed with"
    elif MARK in _beginning(ROOT / "evaluate" / "__init__.py"):
        remedy = f"pip uninstall evaluate, or run python -m evaluate from {ROOT}"
    else:
        remedy = f"pip uninstall evaluate, then install {MARK} again"
    whose = "Hugging Face's package of that name" if "huggingface" in text.lower() else f"another package than {MARK}'s"
    return f"python -m evaluate finds {whose} ({origin}): {remedy}"


class HiddenLibraries(MetaPathFinder):
    """Refuses, at its import, each library that a file in `folder` hides: `python -m` looks into that folder first.

    It finds no module itself, so a file that no import asks for may have any name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing; BadInput where the top-level module `fullname` would be the user's in place of the library's."""
        if path is None and (clash := hidden_library(fullname, self._folder)):
            raise BadInput(clash)
        return None


def refuse_hidden_libraries() -> None:
    """From here on, an import of a library that a file in the current folder hides ends in one line that names it."""
    folder = Path.cwd()
    searched = bool(sys.path) and sys.path[0] in ("", str(folder))
    if searched and not any(isinstance(finder, HiddenLibraries) for finder in sys.meta_path):
        sys.meta_path.insert(0, HiddenLibraries(folder))


def hidden_library(name: str, folder: Path) -> str | None:
    """One line that names the file in `folder` that Python takes for the installed library `name`, else None."""
    users = PathFinder.find_spec(name, [str(folder)])
    if users is None or users.origin is None or Path(users.origin).parent == ROOT / name:
        return None  # a folder without __init__.py hides nothing, and a package of ours is no other's
    elsewhere = [entry for entry in sys.path if Path(entry).absolute() != folder]
    library = PathFinder.find_spec(name, elsewhere)
    if library is None or library.origin is None or Path(library.origin).resolve() == Path(users.origin).resolve():
        return None
    return f"{users.origin} hides the library {name} ({library.origin}): rename it, or work in another folder"


def _beginning(path: Path) -> str:
    return path.read_text(errors="replace")[:4096] if path.is_file() else ""
