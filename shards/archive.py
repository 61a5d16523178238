"""Archive: whether a file is what `torch.save` writes, a zip archive."""

import zipfile
from pathlib import Path


def is_archive(path: Path) -> bool:
    """Whether the file has a zip archive's end; of one that says it is in parts `zipfile` raises BadZipFile."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False
