"""Same source: the source still holds what the stored views were made from, by a digest of each sample.

A revision covers names and sizes, since to read a large source whole before each command would take hours. So each
commit record keeps what the samples were, and whoever makes another view of them compares.
"""

from dataclasses import replace

from extract.plan_views import ViewSetJob
from extract.sources.base import Sample
from extract.sources.digests import digest
from shards.documents import read_commit
from shards.errors import RESTORE, BadInput, Damaged, IdentityMismatch
from shards.layout import commit_path

SPOT_CHECKS = 8
_NOT_READ = ""


def recorded_digests(job: ViewSetJob, shard: int) -> list[str]:
    """What view 0 recorded of each row of `shard`; nothing where it is not committed or recorded none."""
    record = read_commit(job.folder, 0, shard)
    digests = (record and record.digests) or []
    if digests and len(digests) != len(job.plan.rows(shard)):
        raise Damaged(f"{job.folder / commit_path(0, shard)}: its digests are not those of its rows; {RESTORE}")
    return digests


def check_sample(job: ViewSetJob, sample: Sample, recorded: str) -> None:
    """Raises IdentityMismatch where `sample` is another than the one that view 0 recorded."""
    if recorded == _NOT_READ or recorded == digest(sample):
        return
    if sample.fields and recorded == digest(replace(sample, fields=None)):
        return  # of an earlier version, which left the fields out: of a corpus its digests tell the label alone
    raise IdentityMismatch(
        f"--data {job.plan.request['data']}: sample {sample.key} is another image, text or label than the one in "
        f"view 0 of {job.folder}, under the same name and size: restore the data, or give another --out"
    )


def check_source(job: ViewSetJob, skip_errors: bool) -> None:
    """Before views are made: a few samples are those of view 0, and all can be read as far as opening tells."""
    source = job.source
    if source is None or not job.missing():
        return
    if source.unreadable and not (skip_errors and len(source.unreadable) < len(source.keys)):
        try:
            source.read(source.unreadable[0])
        except BadInput as error:
            remedy = "or leave such samples out with --on_error skip"
            raise BadInput(f"{error}, {remedy}" if not skip_errors else f"{error}; every sample is so") from None
    committed = [shard for shard in range(job.plan.num_shards) if recorded_digests(job, shard)]
    for spot in range(SPOT_CHECKS if committed else 0):
        shard = committed[spot * len(committed) // SPOT_CHECKS]
        rows = job.plan.rows(shard)
        row = spot * len(rows) // SPOT_CHECKS
        if recorded := recorded_digests(job, shard)[row]:
            check_sample(job, source.read(rows[row]), recorded)
