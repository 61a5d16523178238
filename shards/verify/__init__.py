"""Verify: every byte of a cache against its manifests, and every manifest against the others; lists all damage.

`documents` reads the manifests, plans and commit records of a set, compares them with each other and with the files in
the folder, and makes one table of each set: for every file its record (size, SHA-256) and what else must be true of it.
`files` has these checks. Threads then read every file of the tables.
"""

from concurrent.futures import ThreadPoolExecutor

from shards.cache import ListedViewSet
from shards.command.progress import Progress
from shards.verify.documents import tables_of
from shards.verify.files import damage_of
from shards.verify.findings import Findings


def verify(listed: list[ListedViewSet], num_threads: int) -> Findings:
    """The view sets of `listed`, or the target sets that paths name, have been read and checked when this returns."""
    findings = Findings()
    tables = [table for viewset in listed for table in tables_of(viewset, findings)]
    files = [(folder, relative, entry) for folder, table in tables for relative, entry in table.items()]
    with Progress("verify", len(files), "files") as progress, ThreadPoolExecutor(num_threads) as pool:
        for (folder, relative, entry), damage in zip(
            files, pool.map(lambda file: damage_of(*file), files), strict=True
        ):
            findings.num_files += 1
            findings.num_bytes += entry.record.size
            if damage:
                findings.add(folder / relative, damage)
            progress.advance()
    return findings
