"""Qualified targets: which target sets a term's `to` means: a target's name, or image/pooled and text/pooled."""

from extract.modalities import part_of
from shards.documents import TargetSetManifest

EVERY_TARGET = "*"


def is_to(to: str | None, manifest: TargetSetManifest) -> bool:
    """Whether `to` means the target sets of such a manifest; before a slash stands what the teacher sees of a pair."""
    part, _, target = (to or "").rpartition("/")
    seen = part_of(manifest.identity["teacher"]["preprocessing"])
    return target in (EVERY_TARGET, manifest.target) and part in ("", seen)
