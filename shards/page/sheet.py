"""Sheet: some stored views as a person sees them, with what each teacher says beside them."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from shards.cache import ListedViewSet
from shards.contact_sheet import Cell, caption_of
from shards.decode import spread
from shards.errors import TeacherShardsError, one_line
from shards.layout import TOKENIZER, inside
from shards.page.said import Said, said_of
from shards.page.sets import anchor_of, short
from shards.reader import TargetSet, ViewSet, check_pair
from shards.thumbnail import COARSE, thumbnail
from shards.views.base import Row

SIDE = 168
"""Pixels a side of a thumbnail; smaller views are embedded as they are, and drawn as coarse squares up to COARSE."""
MOST_WORDS = 48
"""Tokens of a text that are shown one by one."""
MOST_MISTAKES = 8
"""Views that are shown since a teacher is sure of another class than their label."""
MOST_BYTES = 3_000_000
"""Of all pictures of a page, as they are embedded: the rest of its view sets have no sheet then."""


@dataclass(frozen=True)
class View:
    """One stored view."""

    key: str
    anchor: str
    lines: list[str]
    """What is stored beside it: crop, text, captions, label."""
    picture: str | None
    """A data URI; None where the view is read, or damaged."""
    coarse: bool
    words: list[str]
    """A text's first tokens."""
    said: dict[str, Said] = field(default_factory=dict)
    """By target set, what its teacher says."""
    problem: str = ""
    label: int | None = None

    def is_wrong(self, said: Said) -> bool:
        """Whether the teacher's likeliest class is not the label."""
        return said.first is not None and self.label is not None and said.first != self.label

    @property
    def mistake(self) -> float | None:
        """The probability of the wrong class that a teacher is surest of; None where none is wrong, or nobody knows."""
        return max((said.classes[0][1] for said in self.said.values() if self.is_wrong(said)), default=None)


@dataclass(frozen=True)
class Sheet:
    """Some views of one view set; `problems` are the one-line reasons of what could not be read."""

    name: str
    anchor: str
    views: list[View]
    num_samples: int
    problems: list[str]
    num_spread: int = 0
    """Of the views, those that come first: spread over the samples. The others are mistakes of a teacher."""

    @property
    def are_texts(self) -> bool:
        """Whether its views are read rather than looked at."""
        return bool(self.views) and all(view.picture is None for view in self.views)

    @property
    def num_compared(self) -> int:
        """Of the views that are spread, those whose label a teacher's class can be compared with."""
        return sum(
            view.label is not None and any(said.first is not None for said in view.said.values())
            for view in self.views[: self.num_spread]
        )

    @property
    def num_wrong(self) -> int:
        """Of these, those of which a teacher's likeliest class is not the label."""
        return sum(view.mistake is not None for view in self.views[: self.num_spread])

    @property
    def num_bytes(self) -> int:
        """Bytes of its pictures."""
        maps = sum(len(said.picture or "") for view in self.views for said in view.said.values())
        return maps + sum(len(view.picture or "") for view in self.views)


def sheet_of(listed: ListedViewSet, num: int, mistakes: Sequence[Cell] = ()) -> Sheet | None:
    """`num` views of a whole view set, spread evenly over the samples, and the first of `mistakes` that are others.

    None while it is half written.
    """
    if not listed.whole:
        return None
    name, anchor = listed.folder.name, anchor_of("sheet", listed.folder)
    try:
        viewset = ViewSet(listed.folder)
    except (TeacherShardsError, OSError) as error:
        return Sheet(name, anchor, [], 0, [one_line(error)])
    num_views = min(viewset.num_views, num)
    samples = viewset.usable[spread(len(viewset.usable), -(-num // num_views))]
    cells = [(view, int(sample)) for sample in samples for view in range(num_views)][:num]
    num_spread = len(cells)
    cells += [cell for cell in mistakes if cell not in cells][: min(num, MOST_MISTAKES)]
    words_of, rows, views, problems = tokenizer_words(listed.folder), dict[Cell, Row](), dict[Cell, View](), list[str]()
    for cell in cells:
        views[cell], row = _view(viewset, *cell, words_of)
        if row is not None:
            rows[cell] = row
    for targetset in listed.targetsets:
        if not targetset.whole:
            continue
        try:
            opened = TargetSet(targetset.folder)
            check_pair(viewset, opened)
            for cell, said in said_of(viewset, opened, rows, words_of).items():
                views[cell].said[targetset.folder.name] = said
        except (TeacherShardsError, OSError) as error:
            problems.append(one_line(error))
    problems = [short(problem) for problem in problems]
    return Sheet(name, anchor, list(views.values()), len(viewset.plan.keys), problems, num_spread)


def _view(
    viewset: ViewSet, view: int, sample: int, words_of: Callable[[list[int]], list[str]] | None
) -> tuple[View, Row | None]:
    key = viewset.plan.keys[sample]
    anchor = anchor_of("view", viewset.folder.name, key, view)
    try:
        row = viewset.row(view, sample)
        _, *lines = caption_of(viewset, view, sample)
        picture = viewset.codec.picture(row)
        label = int(viewset.labels(view, [sample])[0]) if viewset.labelled else None
    except (TeacherShardsError, OSError) as error:
        return View(short(key), anchor, [], None, False, [], problem=short(one_line(error))), None
    words = []
    if words_of is not None and "tokens" in row:
        words = words_of(row["tokens"][: min(MOST_WORDS, int(row["length"]))].tolist())
    coarse = picture is not None and max(picture.size) <= COARSE
    uri = None if picture is None else data_uri(picture)
    return View(short(key, 200), anchor, [short(line) for line in lines], uri, coarse, words, label=label), row


def tokenizer_words(folder: Path) -> Callable[[list[int]], list[str]] | None:
    """From token ids to words, by the view set's tokenizer; None where it has none that can be read."""
    if not (folder / TOKENIZER).is_file():
        return None
    import tokenizers

    try:
        tokenizer: Any = tokenizers.Tokenizer.from_buffer(inside(folder, TOKENIZER).read_bytes())
    except Exception:  # the library raises nothing finer; each view's caption says that it is damaged
        return None
    return lambda ids: [short(tokenizer.id_to_token(each) or f"token {each}", 40) for each in ids]


def data_uri(picture: Image.Image) -> str:
    """The picture's thumbnail as the page embeds it."""
    kind, content = thumbnail(picture, SIDE)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
