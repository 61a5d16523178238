"""Digests: by which a sample of a source is told from another one of its name and size."""

import numpy as np

from extract.sources.base import Sample
from extract.sources.naming import content_revision


def digest(sample: Sample) -> str:
    """16 hex digits of the SHA-256 of a sample's file, label, texts and fields."""
    fields = [np.asarray(values, "<i8").tobytes() for _, values in sorted((sample.fields or {}).items())]
    return content_revision([sample.encoded or b"", str(sample.label), *sample.texts, *fields])[:16]
