"""The README's tree: one line a folder, taken from the folders themselves. `python tests/readme_tree.py` writes it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("extract", "shards", "distill", "evaluate", "benchmarks")
START, END = "<!-- tree: python tests/readme_tree.py -->\n", "<!-- end of tree -->\n"


def line(folder: Path) -> str:
    """The first paragraph of a folder's `__init__.py`, which says what is inside."""
    document = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    return " ".join(document.split("\n\n")[0].split())


def tree() -> str:
    """Every package and, beneath it, its folders of code."""
    lines = []
    for package in PACKAGES:
        folders = sorted({path.parent for path in (ROOT / package).rglob("*.py")})
        for folder in folders:
            depth = len(folder.relative_to(ROOT).parts) - 1
            lines.append(f"{'  ' * depth + folder.name + '/':<18}{line(folder)}".rstrip())
    return "```text\n" + "\n".join(lines) + "\n```\n"


def with_tree(readme: str) -> str:
    """`readme` with the tree between its marks."""
    before, _, rest = readme.partition(START)
    return before + START + tree() + END + rest.partition(END)[2]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_tree(readme.read_text()))
