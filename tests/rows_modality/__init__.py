"""A modality of five leaves: a view is a row of 16 floats, read from a text of 16 numbers, with noise or without."""

import importlib
import sys

import pytest

from extract import modalities, networks, sources, teachers
from shards import views as view_codecs


def register(patch: pytest.MonkeyPatch) -> None:
    """Each leaf is named by one line in its registry, and is found where the project's own lie."""
    patch.setitem(view_codecs.REGISTRY, "row", "rows_modality.views")
    entry = modalities.Entry("rows_modality.modality", ("row",), frozenset({"texts", "numbers"}))
    patch.setitem(modalities.REGISTRY, "row", entry)
    patch.setitem(sources.SOURCES, "rows", sources.Entry("rows", "", False))
    patch.setitem(teachers.REGISTRY, "rows", "rows")
    patch.setitem(networks.REGISTRY, "linear_rows", "rows")
    for folder in ("source", "teacher", "network"):
        leaf = importlib.import_module(f"rows_modality.{folder}")
        patch.setitem(sys.modules, f"extract.{folder}s.rows", leaf)
