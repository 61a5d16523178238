"""The README's tree: one line a file, taken from the files themselves. `python tests/readme_tree.py` writes it anew."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("extract", "shards", "distill", "evaluate", "benchmarks")
START, END = "<!-- tree: python tests/readme_tree.py -->\n", "<!-- end of tree -->\n"


def line(path: Path) -> str:
    """The first sentence of a module's docstring, or of a YAML file's first comment."""
    if path.suffix == ".yaml":
        return path.read_text().splitlines()[0].lstrip("# ")
    document = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(document.split("\n\n")[0].split())


def order(path: Path) -> tuple[bool, Path, bool, str]:
    return len(path.parts) > 2, path.parent, path.name != "__main__.py", path.name


def tree() -> str:
    """Every source file under its package, the commands first."""
    lines = []
    for package in PACKAGES:
        found = [path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".yaml")]
        lines.append(f"{package}/")
        for path in sorted(found, key=order):
            lines.append(f"  {path.relative_to(package).as_posix():<34} {line(ROOT / path)}".rstrip())
    return "```text\n" + "\n".join(lines) + "\n```\n"


def with_tree(readme: str) -> str:
    """`readme` with the tree between its marks."""
    before, _, rest = readme.partition(START)
    return before + START + tree() + END + rest.partition(END)[2]


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_tree(readme.read_text()))
