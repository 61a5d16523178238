"""What the tests of the page start from: one short training, and copies of it under other names."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import caches

STEPS, BATCH_SIZE = 12, 8
HOSTILE = """<script>alert("x")</script><img src=x onerror='alert(1)'>&quot;"'>"""
"""What a caption or a class name may hold; a file name holds it without its slash."""


def train(cache: Path, run_dir: Path) -> Path:
    """A run of a few steps from the float32 logits of `cache`."""
    flags = ("--targets", "float32", "--student", "convnet:width=4,depth=2", "--devices", "cpu")
    sizes = ("--batch_size", str(BATCH_SIZE), "--max_steps", str(STEPS))
    caches.command("distill", "--shards", cache, "--run_dir", run_dir, *flags, *sizes).succeeds()
    return run_dir


def again(run: Path, name: str, change: Callable[[dict[str, Any]], Any] = dict) -> Path:
    """A copy of `run` beside it, its summary changed."""
    copy = Path(shutil.copytree(run, run.parent / name))
    summary = json.loads((copy / "summary.json").read_text())
    change(summary)
    (copy / "summary.json").write_text(json.dumps(summary))
    return copy


def write_page(cache: Path, *flags: str | Path) -> str:
    """What `python -m shards page CACHE FLAGS` writes."""
    output = cache.parent / "page.html"
    caches.command("shards", "page", cache, "--output", output, *flags).succeeds()
    return output.read_text()


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its tags with their attributes, and its text without script and style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        """The attributes of each such tag."""
        return [attributes for name, attributes in self.tags if name == tag]
