"""Rendering: views that are stored without their pixels, rendered and compared with the checksums of these."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.cache import ListedViewSet
from shards.command.flags import VerifyConfig
from shards.command.progress import Progress, counted
from shards.decode import spread
from shards.documents import ViewSetManifest, read_viewset_manifest
from shards.errors import BadInput, Damaged, NewerVersion, one_line
from shards.reader import ViewSet
from shards.storage.originals import give
from shards.views import view_codec

_PART = 4096
"""Samples that wait for a thread."""


class Rendered(NamedTuple):
    """How many views are stored without pixels, how many of these were rendered, and what that came to."""

    num: int = 0
    num_rendered: int = 0
    most: int = 0
    """Such views of one view set, at most."""
    wrong: tuple[str, ...] = ()
    """A line for each view that is not rendered to the pixels that the teacher saw."""
    are_none: bool = False
    """Whether views were to be rendered, and no whole view set stores any without its pixels."""

    def __str__(self) -> str:
        """What is proved of pixels, to stand behind what is said of files; nothing where all pixels are stored."""
        if self.are_none:
            return "; nothing rendered: no whole view set among these stores views without their pixels"
        right, left = self.num_rendered - len(self.wrong), self.num - self.num_rendered
        said = f"; {counted(right, 'view')} rendered to the pixels that the teacher saw" if right else ""
        if left:
            said += (
                f"; {counted(left, 'view')} not rendered, their pixels not compared: --render {self.most} renders all"
            )
        return said


def name_originals(config: VerifyConfig) -> None:
    """Original images are read from what the user names, as --data and --data_dir; BadInput where none are to be."""
    if config.data_dir and not config.data:
        raise BadInput(f"--data_dir {config.data_dir}: is a copy of what? give --data too")
    if config.data:
        if not config.render and not config.recompute:
            raise BadInput("--data says where the original images are for --render N or --recompute N; give that too")
        give([(config.data, config.data_dir)])


def without_pixels(manifest: ViewSetManifest) -> int:
    """Views whose pixels are not stored."""
    if view_codec(manifest.identity).storage != "rendered":
        return 0
    return manifest.num_views * (manifest.num_samples - len(manifest.skipped))


def render(listed: Iterable[ListedViewSet], num: int, num_threads: int) -> Rendered:
    """Of each whole view set of `listed` that stores no pixels `num` views are rendered and compared.

    They are of as many samples as can be, evenly spread. BadInput or IdentityMismatch where they are rendered from
    original images whose data nobody has named, are gone, or are others now.
    """
    nums = _without_pixels(each.folder for each in listed if each.named is None and each.whole)
    total, wrong = sum(min(num, each) for each in nums.values()), list[str]()
    if total:
        with Progress("render", total, "views") as progress, ThreadPoolExecutor(num_threads) as pool:
            for folder in nums:
                _render(ViewSet(folder), num, pool, progress, wrong)
    return Rendered(sum(nums.values()), total, max(nums.values(), default=0), tuple(wrong), bool(num and not nums))


def _without_pixels(folders: Iterable[Path]) -> dict[Path, int]:
    nums = {}
    for folder in folders:
        try:
            nums[folder] = without_pixels(read_viewset_manifest(folder))
        except NewerVersion:  # of which nothing is said but that
            continue
    return {folder: num for folder, num in nums.items() if num}


def _render(viewset: ViewSet, num: int, pool: ThreadPoolExecutor, progress: Progress, wrong: list[str]) -> None:
    """A line for each view whose pixels are others is in `wrong`."""
    usable, num_views = viewset.usable, viewset.num_views
    of_each, more = divmod(min(num, len(usable) * num_views), len(usable))
    counts = np.full(len(usable), of_each)
    counts[spread(len(usable), more)] += 1
    rows = np.flatnonzero(counts)

    def compare(number: int) -> tuple[int, list[str]]:
        """All that are wanted of one sample, whose image is decoded once for them; other views of the next one."""
        row = rows[number]
        views = [(number + further) % num_views for further in range(counts[row])]
        lines = (_fault(viewset, view, int(usable[row])) for view in views)
        return len(views), [line for line in lines if line is not None]

    def advance(count: int, lines: list[str]) -> None:
        progress.advance(count)
        wrong.extend(lines)

    advance(*compare(0))  # it opens the data, which every thread would do again where they are refused
    for start in range(1, len(rows), _PART):
        for compared in pool.map(compare, range(start, min(start + _PART, len(rows)))):
            advance(*compared)


def _fault(viewset: ViewSet, view: int, sample: int) -> str | None:
    try:
        viewset.row(view, sample)
    except Damaged as error:
        return one_line(error)
    return None
