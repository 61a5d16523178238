"""The spine, as docs/design.md names it, stays small and knows no leaf; leaves stay readable alone."""

import re

from test_import_direction import FILES, ROOT, modules

LEAVES = (
    *("extract.sources.", "extract.modalities.", "extract.teachers.", "extract.networks."),
    *("shards.views.", "shards.storage.", "shards.codecs."),
    *("distill.objectives.", "distill.students.", "evaluate.tasks."),
)
MOST_LINES = 3_500
"""docs/design.md says why."""
SHARED = {"extract.modalities.draws", "shards.codecs.codes", "shards.codecs.distribution"}
"""In these folders, but no leaves: random numbers by (seed, key, view), and what codecs decode to that give no rows."""


def spine() -> list[str]:
    chapter = (ROOT / "docs/design.md").read_text().split("\n## The spine\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\S+\.py)` \|", chapter, re.MULTILINE)


def num_lines(name: str) -> int:
    return len((ROOT / name).read_text().splitlines())


def test_the_spine_is_small() -> None:
    files = spine()
    assert 20 < len(files) == len(set(files)) <= 32
    assert {name.partition("/")[0] for name in files} == {"shards", "extract", "distill", "evaluate"}
    assert sum(map(num_lines, files)) <= MOST_LINES, {name: num_lines(name) for name in files}


def test_the_spine_imports_no_leaf() -> None:
    files = spine()
    known = SHARED | {name.removesuffix(".py").replace("/", ".") for name in files}
    imported = {(name, module) for name in files for module in modules((ROOT / name).read_text())}
    assert [(name, module) for name, module in imported if module not in known and module.startswith(LEAVES)] == []


def test_no_file_is_longer_than_a_leaf_may_be() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): num_lines(path.relative_to(ROOT).as_posix()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 260} == {}
