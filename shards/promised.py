"""Promised: sets that another process is still making, as they will be; their rows are read as they are committed."""

from dataclasses import dataclass, field
from pathlib import Path

from shards.documents import TargetSetManifest, ViewSetManifest, read_document
from shards.layout import TARGETSET_MANIFEST, VIEWSET_MANIFEST

FOLDER = "TEACHER_SHARDS_PROMISES"
"""Set for an extraction that is to promise: the folder where it writes what the manifests will say."""
READY = "ready"
"""In that folder, when all is written."""


@dataclass(frozen=True)
class Promises:
    """Manifests by the name of a set's folder; their `files` are those of the shards that may be read already."""

    viewsets: dict[str, ViewSetManifest] = field(default_factory=dict)
    targetsets: dict[str, TargetSetManifest] = field(default_factory=dict)


def read_promises(folder: Path) -> Promises:
    """What an extraction promised in `folder`."""
    views, targets = folder.glob(f"*/{VIEWSET_MANIFEST}"), folder.glob(f"*/targets/*/{TARGETSET_MANIFEST}")
    return Promises(
        {path.parent.name: read_document(path, ViewSetManifest) for path in views},
        {path.parent.name: read_document(path, TargetSetManifest) for path in targets},
    )
