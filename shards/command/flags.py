"""The flags of `python -m shards` and its commands, one frozen dataclass each."""

from dataclasses import dataclass
from typing import Annotated

from shards.command.ranges import Count, CountFromZero, NotNegative, Positive, whole


@dataclass(frozen=True)
class PathsConfig:
    """What to list or to describe."""

    paths: tuple[str, ...]
    """A cache, or one view set or target set of it: CACHE, CACHE/VIEWSET or CACHE/VIEWSET/targets/TARGETSET."""


@dataclass(frozen=True)
class VerifyConfig:
    """What to verify, and how much."""

    paths: tuple[str, ...]
    """A cache, or one view set or target set of it: CACHE, CACHE/VIEWSET or CACHE/VIEWSET/targets/TARGETSET."""
    recompute: CountFromZero = 0
    """Rerun the teacher on N stored views of each target set and compare what it says with what is stored."""
    teacher: str | None = None
    """With --recompute: where the teacher is now (default: what the target set was extracted with)."""
    weights: str | None = None
    """With --recompute: where the teacher's weights are now (default: as extracted)."""
    render: CountFromZero = 0
    """Render N views of each view set that stores no pixels (store=source or none), of as many samples as can be, and
    compare their checksums; a view takes a core some 2 ms at 224 pixels, and a sample the decode of its image."""
    data: str | None = None
    """With --render or --recompute: where the original images of store=none are now, as --data of extract says it
    (default: as you named them on this machine)."""
    data_dir: str | None = None
    """With --data: a local copy, as of extract."""
    num_workers: Count | None = None
    """Threads that read and hash (default: the CPU's cores)."""


@dataclass(frozen=True)
class ViewConfig:
    """What to draw, and where to."""

    path: str
    """A view set, or a target set to see its teacher's top classes too; a cache will do where it holds one view set."""
    output: str | None = None
    """The image file to write, .png or .jpg; texts are printed."""
    num: Annotated[int, whole(1, 600)] = 24
    """Views on the sheet, spread evenly over the samples; all views of a sample lie side by side."""


@dataclass(frozen=True)
class ExportConfig:
    """What to export, and where to."""

    path: str
    """A target set, or a view set with one target set or none; a cache will do where it holds one view set."""
    output: str
    """The folder to write, new or empty; or a file ending in .parquet: features with keys and thumbnails, as
    embedding-atlas reads them."""


@dataclass(frozen=True)
class RemoveConfig:
    """What to remove."""

    paths: tuple[str, ...]
    """View sets (with their target sets) or target sets: CACHE/VIEWSET or CACHE/VIEWSET/targets/TARGETSET."""
    yes: bool = False
    """Do not ask; needed where there is no terminal to ask on."""


@dataclass(frozen=True)
class TransferConfig:
    """What to transfer, from where to where."""

    paths: tuple[str, ...]
    """Two: the cache (or one view set or target set of it) and the URL, s3://BUCKET/FOLDER, gs://, az:// or
    hf://datasets/OWNER/NAME; pull has them the other way round."""


@dataclass(frozen=True)
class PageConfig:
    """What to show on one page, and where to."""

    paths: tuple[str, ...]
    """A cache, or one view set or target set of it."""
    output: str
    """The HTML file to write; it opens from disk, without a server or network."""
    runs: str | None = None
    """A folder of runs of `python -m distill`, at any depth: their table, curves and what they saved."""
    num: Annotated[int, whole(1, 200)] = 24
    """Views of each view set on its sheet, spread evenly over the samples."""
    dollars_per_hour: NotNegative = 0.75
    """What an hour of the machine costs."""
    teacher_rate: Positive | None = None
    """Teacher forwards a second where students train (default: as the times of the cache's commits tell it)."""


@dataclass(frozen=True)
class LedgerConfig:
    """What to count, and what it is worth."""

    paths: tuple[str, ...]
    """A cache, or one view set or target set of it."""
    runs: str
    """A folder of runs of `python -m distill`, at any depth."""
    dollars_per_hour: NotNegative = 0.75
    """What an hour of the machine costs."""
    teacher_rate: Positive | None = None
    """Teacher forwards a second where students train (default: as the times of the cache's commits tell it)."""
