"""Finishing: the manifests of an extraction, when every shard is committed; of commands that share it one writes them.

To write them means to read every commit record. So who writes has a lease meanwhile (`extract/leases.py`), and the
others wait: a look is one listing of the notes. Whoever sees the lease gone finds the manifests, or writes them; who
vanishes with the lease is replaced. Two that write all the same write the same bytes.
"""

import json
import shutil
import time
from collections.abc import Iterable

from extract.boards import Board, noted_targetset
from extract.leases import Leases
from extract.manifests import finish_targets, finish_views
from extract.phases import Work
from extract.pipeline import Counts
from extract.plan import ExtractionPlan
from extract.sharing import turn
from shards.command.progress import counted, human_bytes
from shards.documents import read_document, read_targetset_manifest, read_viewset_manifest
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST, place_of
from shards.listing import measured_on, shown_errors
from shards.remote import KINDS

_NOTE = "manifests"
_FIRST_PAUSE_S, _LONGER, _LOOKS_A_LEASE = 0.1, 1.5, 6
"""Between two looks: the first pause, what the next one is longer by, and how many there are at least in LEASE_S."""


def finish(work: Work) -> None:
    """The manifests are on the disk, and in the bucket if it is one; every shard must be committed."""
    plan = work.plan
    if work.upload is not None:  # else a manifest could name documents in whose place the bucket has another's
        work.upload.send(())
    finish_views(plan.views)
    shutil.rmtree(plan.views.scratch, ignore_errors=True)
    for part in plan.parts:
        for job in part.targets:
            teacher = part.teacher
            assert teacher is not None
            finish_targets(job, plan.views, teacher.name, teacher.settings, teacher.class_names)
    if work.upload is not None:
        work.upload.finish()


def finish_alone(work: Work, board: Board) -> None:
    """As `finish`, by this command. Of commands that write to one bucket and share no work one finishes at a time.

    Else one of fewer views could look for the other's manifest, find none, and announce its own views behind it.
    """
    if work.upload is None:  # this command has the folder's lock
        return finish(work)
    with Leases(board) as leases:
        while not leases.take(_NOTE):
            time.sleep(leases.lease_s / _LOOKS_A_LEASE)
            leases.look()
        finish(work)


def finish_together(work: Work, board: Board) -> None:
    """As `finish`, by this command or by another that shares the work, and no note is left; the manifests are here."""
    with Leases(board) as leases:
        pause_s = min(_FIRST_PAUSE_S, leases.lease_s / _LOOKS_A_LEASE)
        while leases.has_note(_NOTE) or not _are_there(work):
            if leases.take(_NOTE):
                if not _are_there(work):  # who had the lease may have ended just now
                    with turn(work.plan.views.folder.parent):
                        if work.upload is not None:
                            work.upload.fetch_commits(work.upload.commits_there())  # of other machines
                            work.upload.fetch_statistics()
                        finish(work)
                break
            time.sleep(pause_s)
            pause_s = min(_LONGER * pause_s, leases.lease_s / _LOOKS_A_LEASE)
            leases.look()
        board.clear(lambda names: _of_others(work, names))  # who comes late left notes too
    board.free()


def _of_others(work: Work, names: Iterable[str]) -> set[str]:
    """Those of the notes `names` that commands need which make other target sets of these views, or more views."""
    places = {name: place_of(f"commits/{name}.json") for name in names}
    beyond = {name for name, place in places.items() if place is not None and place[0] >= work.plan.views.num_views}
    ours = {None} if beyond else {None, *(job.folder.name for job in work.plan.targets)}
    return beyond | {name for name in names if noted_targetset(name) not in ours}


def _are_there(work: Work) -> bool:
    """Whether all sets have manifests of as many views as are asked for; what is written last is looked at first."""
    views, targets = work.plan.views, work.plan.targets
    manifests = [(job.folder / TARGETSET_MANIFEST, job.num_views) for job in reversed(targets)]
    for path, num_views in [*manifests, (views.folder / VIEWSET_MANIFEST, views.num_views)]:
        is_there = path.exists() if work.upload is None else work.upload.fetch_document(path)
        if not is_there or read_document(path, KINDS[path.name]).num_views < num_views:
            return False
    return True


def tell(plan: ExtractionPlan, counts: Counts, start: float) -> None:
    """What was done since `start`, and what the manifests say, is printed."""
    views = read_viewset_manifest(plan.views.folder)
    records = [*views.files.values()]
    for job in plan.targets:
        manifest = read_targetset_manifest(job.folder)
        records += manifest.files.values()
        print(f"extract: {job.folder.name}: codec error on {measured_on(manifest)}: {shown_errors(manifest)}")
    if views.skipped:
        shown = ", ".join(views.skipped[:5]) + (" ..." if len(views.skipped) > 5 else "")
        print(f"extract: {counted(len(views.skipped), 'sample')} skipped: {shown}")
    size = sum(record.size for record in records)
    seconds = time.monotonic() - start
    done = max(counts.views, counts.teacher_forwards)
    held = ""
    if done:
        print(f"extract: seconds: {json.dumps(counts.where_it_went())}")
        held = f", held by {counts.held_by()}"
    print(
        f"extract: done: {counts.views:,} views made, {counts.teacher_forwards:,} teacher forwards, "
        f"{human_bytes(size)} in the cache, {done / seconds:,.0f} samples/s over {seconds:,.1f} s{held}: "
        f"{plan.views.folder}"
    )
