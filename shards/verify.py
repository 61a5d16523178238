"""Verify: every byte of a cache against its manifests, and every manifest against the others; lists all damage.

First the documents are compared with each other and with what lies in the folders (shards/verify_documents.py); that
leaves a list of files, each with what must be true of it (shards/verify_contents.py), which threads then read.
"""

from concurrent.futures import ThreadPoolExecutor

from shards.command.progress import Progress
from shards.errors import RESTORE, Damaged, one_line
from shards.reader import check_file
from shards.selection import Selection
from shards.verify_documents import FileRecord, records_of
from shards.verify_folder import Findings


def verify(selections: list[Selection], num_threads: int) -> Findings:
    """Everything that `selections` name has been read and checked when this returns."""
    findings = Findings()
    records = [record for selection in selections for record in records_of(selection, findings)]
    with Progress("verify", len(records), "files") as progress, ThreadPoolExecutor(num_threads) as pool:
        for record, damage in zip(records, pool.map(_damage, records), strict=True):
            findings.num_files += 1
            findings.num_bytes += record.held["size"]
            if damage:
                findings.found(record.path, damage)
            progress.advance()
    return findings


def _damage(record: FileRecord) -> str | None:
    try:
        path = check_file(record.folder, record.relative, record.held)
        if record.content is not None:
            record.content(path)
    except Damaged as error:
        return one_line(error)
    except OSError as error:  # a bad sector is damage too, and the other files still want reading
        return f"{record.path}: cannot be read ({error.strerror}); {RESTORE}"
    return None
