"""Further: what one view more of a stored view set takes, from some samples of its source."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from extract.bill.probe import probe_views, trial_of
from extract.modalities import view_maker
from extract.modalities.base import InputSpec, ViewRequest
from extract.named import named_for
from extract.plan_targets import Part
from extract.plan_views import SCRATCH, ViewSetJob
from extract.sources import is_of_the_hub, open_source
from shards.command.devices import share_of_cores
from shards.documents import Plan
from shards.errors import TeacherShardsError
from shards.reader import ViewSet
from shards.views.base import Row

_SAMPLES, _TIMED = 512, 64
"""Of the source, at most: a corpus is not tokenised whole for a table; and of those whose reading is timed."""


@dataclass(frozen=True)
class ViewSeconds:
    """What a view of a sample takes on all cores of this machine."""

    read: float
    """A stored one."""
    make: float | None
    """One that is not there yet; None where nobody can tell."""
    unknown: str = ""
    """Why."""
    all_alike: bool = False
    """There can be no further ones."""


def timed_rows(viewset: ViewSet, samples: Sequence[int]) -> tuple[Row, float]:
    """The fields of `samples` of view 0, and the seconds of a sample where all cores read."""
    few = samples[:_TIMED]
    viewset.rows(0, few[:1])  # opens files
    with ThreadPoolExecutor(share_of_cores()) as pool:
        start = time.perf_counter()
        list(pool.map(lambda sample: viewset.rows(0, [sample]), few))
        taken = time.perf_counter() - start
    return viewset.rows(0, samples), taken / len(few)


def probe_further(viewset: ViewSet, inputs: InputSpec, read: float, trial: Path, seconds: float) -> ViewSeconds:
    """The making of further views that a teacher of `inputs` reads as fast as `read`; some are made in `trial`."""
    plan = Plan.read(viewset.folder)
    maker = view_maker(ViewRequest(None, plan.identity, None, True, None, inputs))
    if maker.all_alike:
        return ViewSeconds(read, None, "such views are all alike", True)
    data = named_for(plan.identity, plan.request)
    if data is None:
        return ViewSeconds(read, None, "only the cache names its data")
    try:
        if is_of_the_hub(*data):
            why = "comes from the hub, which a training's plan asks for nothing"
            return ViewSeconds(read, None, f"--data {data.data} {why}")
        few = min(_SAMPLES, plan.request["limit"] or _SAMPLES)
        source = open_source(data.data, plan.request["split"], data.data_dir, few).only(maker.needs)
        source = maker.arrange(source, trial / SCRATCH, True)
        first = Plan(list(source.keys), plan.shard_size, plan.identity, None, plan.request)
        job = ViewSetJob(viewset.folder, first, viewset.num_views + 1, viewset.num_views + 1, source, maker)
        part = Part(job)
        probed = probe_views(part, trial_of(part, trial / "further" / "views"), share_of_cores(), seconds)
    except TeacherShardsError as error:
        return ViewSeconds(read, None, str(error))
    return ViewSeconds(read, probed.seconds_to_make)
