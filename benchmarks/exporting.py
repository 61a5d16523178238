"""Exporting: features with keys and thumbnails as parquet, over a bare write of the same columns by pyarrow.

A cache of one photo under many keys, JPEGs of 224 pixels, and CLS rows of 768 values in float16. `export` reads,
decodes and checks rows and views and makes thumbnails; the limit has all of that in
memory and writes the very same row groups.
"""

import argparse
import itertools
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.measure import Figure, Report, alternate, per_unit, run, share
from benchmarks.synthetic import write_many_views, write_targets
from shards.features_table import ROWS, WRITING, export_features
from shards.reader import TargetSet, ViewSet

SIZES = {"num_samples": 4096, "shard_size": 512, "image_size": 224}
QUICK_SIZES = {"num_samples": 24, "shard_size": 8, "image_size": 32}


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Bytes of the file a second, whoever writes it."""
    sizes = QUICK_SIZES if options.quick else SIZES
    views = write_many_views(folder / "cache", sizes["num_samples"], sizes["shard_size"], sizes["image_size"])
    targets, _ = write_targets(views, "cls", "float16")
    viewset, targetset = ViewSet(views.folder), TargetSet(targets)
    _, size = export_features(viewset, targetset, folder / "first.parquet")
    table, numbers = pq.read_table(folder / "first.parquet"), itertools.count()

    def exported() -> None:
        export_features(viewset, targetset, folder / f"export-{next(numbers)}.parquet")

    def written() -> None:
        with pq.ParquetWriter(folder / f"bare-{next(numbers)}.parquet", table.schema, **WRITING) as writer:
            writer.write_table(table, row_group_size=ROWS)

    seconds = alternate({"export": per_unit(exported, size), "bare": per_unit(written, size)}, options.rounds)
    report = Report("what does a table of features cost beside writing it?", "bytes", sizes | {"bytes": size})
    report.add_rates(seconds)
    ratio = share(seconds["bare"], seconds["export"])
    report.figures.append(Figure("export over a bare write of the same columns", "the bare write", ratio, GOAL))
    return report


GOAL = 0.02
"""A thumbnail is decoded, shrunk and encoded: that is what the time goes to."""

if __name__ == "__main__":
    run(measure, "exporting")
