"""Caption files beside a folder's images: csv, jsonl or Flickr's NAME#i<TAB>CAPTION, one or more lines an image."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from extract.sources.captions import caption_texts
from extract.sources.columns import CAPTION_NAMES
from extract.sources.left_out import shown
from shards.errors import BadInput, one_line

USAGE = "[:captions=FILE]"
"""What may follow the path in `--data folder:`."""
_USUAL = re.compile(r"(captions|metadata)\.(txt|csv|tsv|jsonl)|.+\.token|results\.csv")
_FILE_NAMES = ("file_name", "image", "image_name", "filename", "file", "name", "path", "filepath", "image_path")
_TEXT_NAMES = (*CAPTION_NAMES, "comment")


class CaptionFile:
    """The captions of images by their names, as one file tells them."""

    def __init__(self, flag: str, path: Path) -> None:
        self.path = path
        self._by_name: dict[str, list[str]] = {}
        self.lost: list[str] = []
        """Names in the file beside the images that no image has, or several have."""
        try:
            for name, texts in _rows(f"{flag}: {path.name}", path):
                self._by_name.setdefault(PurePosixPath(name).as_posix(), []).extend(texts)
        except (OSError, ValueError, RecursionError, csv.Error) as error:
            raise BadInput(f"{flag}: {path} cannot be read ({one_line(error)}): store it as UTF-8") from error

    def of(self, base: Path, names: list[str]) -> list[tuple[str, ...]]:
        """The captions of each image, whose name is relative to `base`; a bare name in the file means the only such."""
        counts = Counter(PurePosixPath(name).name for name in names)
        captions: list[tuple[str, ...]] = []
        lost = dict.fromkeys(self._by_name)
        for name in names:
            bare = PurePosixPath(name).name
            known = (name, f"{base.name}/{name}", *([bare] if counts[bare] == 1 else []))
            found = next((each for each in known if each in self._by_name), None)
            captions.append(() if found is None else tuple(self._by_name[found]))
            lost.pop(found or "", None)
        # a file above the splits' folders names the images of all splits
        self.lost = list(lost) if self.path.parent == base else []
        return captions


def find_caption_file(flag: str, folders: tuple[Path, ...], chosen: str | None) -> CaptionFile | None:
    """The caption file called `chosen` (empty: none), else the only usual one in the first of `folders` with any."""
    if chosen is not None:
        if not chosen:
            return None
        found = [folder / chosen for folder in folders if (folder / chosen).is_file()]
        if not found:
            raise BadInput(f"{flag}: no file {chosen} in {folders[-1]}: name one that is there")
        return CaptionFile(flag, found[0])
    for folder in folders:
        usual = sorted(path for path in folder.iterdir() if _USUAL.fullmatch(path.name) and _has_captions(flag, path))
        if len(usual) > 1:
            names = [path.name for path in usual]
            raise BadInput(
                f"{flag}: captions may be in any of {shown(names)}: write :captions={names[0]} (captions= for none)"
            )
        if usual:
            return CaptionFile(flag, usual[0])
    return None


def _has_captions(flag: str, path: Path) -> bool:
    """Whether a file of a usual name is one of captions: metadata of `datasets` may tell something else."""
    if not path.name.startswith("metadata.") or not path.is_file():
        return path.is_file()
    try:
        return next(_rows(f"{flag}: {path.name}", path), None) is not None
    except (BadInput, OSError, ValueError, RecursionError, csv.Error):
        return False


def _rows(where: str, path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """An image's name and captions from each line."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        if path.suffix == ".jsonl":
            lines = (json.loads(line) for line in stream if line.strip())
            yield from _fields(where, (line for line in lines if isinstance(line, dict)))
            return
        first = stream.readline()
        stream.seek(0)
        delimiter = next((each for each in "\t|," if each in first), ",")
        quoted = delimiter == ","  # Flickr's captions hold quotes that close nowhere
        rows = csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        header = [name.strip() for name in next(rows, [])]
        if delimiter == "\t" and not {name.lower() for name in header} & {*_FILE_NAMES}:
            stream.seek(0)
            for name, _, text in (line.partition("\t") for line in stream if line.strip()):
                yield re.sub(r"#\d+$", "", name), (text,)
            return
        yield from _fields(where, (dict(zip(header, row, strict=False)) for row in rows if row))


def _fields(where: str, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """As `_rows`, of rows by column, of which the first tells which columns are meant."""
    names: list[str] = []
    texts: list[str] = []
    for row in rows:
        if not names:
            names = [name for name in _FILE_NAMES if name in row]
            texts = [name for name in row if name.lower() in _TEXT_NAMES]
            if not names or len(texts) != 1:
                raise BadInput(
                    f"{where}: expected a column file_name and one of captions, found {', '.join(row)}: rename them "
                    f"(--data folder:PATH:captions= takes the images alone)"
                )
        if isinstance(row.get(names[0]), str):
            yield row[names[0]], caption_texts(row.get(texts[0]))
