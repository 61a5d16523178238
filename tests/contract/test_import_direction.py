"""A package imports only those to its left: shards <- extract <- distill <- evaluate; and no imports go in a circle."""

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import shards

PACKAGES = ("shards", "extract", "distill", "evaluate")
ROOT = Path(shards.__file__).parent.parent
EXCEPT = {
    "shards/__main__.py imports extract.recompute",
    "shards/storage/originals.py imports extract.modalities.rendered",
}
"""`python -m shards verify --recompute N` runs a teacher again: the command alone knows of it, no module does. Views of
`store=none` are rendered from the original data, which only a source reads: one leaf opens it, by name."""
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def modules(source: str) -> set[str]:
    """Every module that the source names: imported anywhere in it, or as a dotted string for importlib."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.rstrip(".")
            if text.partition(".")[0] in PACKAGES and "." in text and text.replace(".", "_").isidentifier():
                found.add(text)
    return found


def test_there_are_files_of_every_package() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES) and len(FILES) > 50


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_to_its_left(package: str) -> None:
    to_its_right = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == package
        for module in modules(path.read_text())
        if module.partition(".")[0] in to_its_right and not module.endswith((".json", ".yaml"))
    ]
    assert set(wrong) - EXCEPT == set()


def node(module: str) -> str:
    """The folder that holds `module`; of a package's top, whose files stand above and below its folders, the file."""
    path = ROOT.joinpath(*module.split("."))
    while not path.is_dir() and not path.with_suffix(".py").is_file():
        path = path.parent  # a name in a module, or a file's name
    if path.is_dir():
        return module_name(path / "__init__.py") if path.parent == ROOT else module_name(path)
    return module_name(path) if path.parent.parent == ROOT else module_name(path.parent)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def folder_imports() -> dict[str, set[str]]:
    """Each folder, and each file of a package's top, with those that it imports."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        importer = node(module_name(path))
        imported = {module for module in modules(path.read_text()) if module.partition(".")[0] in PACKAGES}
        imported = {module for module in imported if not module.endswith((".json", ".yaml"))}
        graph.setdefault(importer, set()).update(node(module) for module in imported)
        graph[importer].discard(importer)
    return graph


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of `graph`, its first node repeated at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_imports_between_folders_go_in_a_circle() -> None:
    graph = folder_imports()
    graph["shards.__main__"] -= {"extract.recompute"}  # see EXCEPT
    graph["shards.storage"] -= {"extract.modalities"}
    assert cycle(graph) == []
    assert {"extract.networks", "extract.networks.data2vec2", "shards.codecs", "shards.errors"} <= graph.keys()


def test_the_walk_finds_a_circle_and_its_folders() -> None:
    assert node("extract.networks.state_dict") == "extract.networks"
    assert node("extract.networks.data2vec2.named.NamedOutputs") == "extract.networks.data2vec2"
    assert node("extract.plan") == "extract.plan" and node("shards") == "shards.__init__"
    found = cycle({"extract.networks": {"extract.teachers"}, "extract.teachers": {"extract.networks"}})
    assert set(found) == {"extract.networks", "extract.teachers"}


def test_the_parts_of_extract_import_only_those_before_them() -> None:
    """sources, networks <- teachers <- plan <- pipeline."""
    graph = folder_imports()
    later = ["extract.teachers", "extract.plan_views", "extract.plan_targets", "extract.plan", "extract.pipeline"]
    for folder in ("extract.sources", "extract.networks", "extract.networks.data2vec2"):
        assert not graph[folder] & set(later), folder
    assert not (graph["extract.sources"] & {"extract.networks"} or graph["extract.networks"] & {"extract.sources"})
    for position, name in enumerate(later[:-1]):
        assert not graph[name] & set(later[position + 1 :]), name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import extract.plan", {"extract.plan"}),
        ("def f():\n    from distill.data import CacheData", {"distill.data"}),
        ("NAMES = {'kl': 'distill.objectives.kl'}", {"distill.objectives.kl"}),
        ("if TYPE_CHECKING:\n    import evaluate", {"evaluate"}),
        ("importlib.import_module(f'extract.teachers.{name}')", {"extract.teachers"}),
        ("'a sentence on extract. And so on'", set()),
    ],
)
def test_the_walk_sees_every_kind_of_import(source: str, expected: set[str]) -> None:
    assert modules(source) == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_too_long_and_none_runs_at_import(path: Path) -> None:
    """300 lines a file; and no call at a module's top level but in an assignment, which sets up no work."""
    source = path.read_text()
    assert len(source.splitlines()) <= 300
    for node in ast.parse(source).body:
        is_main = isinstance(node, ast.If) and "__main__" in ast.dump(node.test)
        assert is_main or not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)), ast.unparse(node)
