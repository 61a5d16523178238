"""Export: views and decoded targets as WebDataset tars that plain webdataset reads, with nothing of this project."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from shards.command.progress import Progress
from shards.commit import write_atomically, write_sealed
from shards.decode import as_arrays, codec_of, read_decoded
from shards.errors import BadInput
from shards.layout import shard_name
from shards.reader import TargetSet, ViewSet, check_pair
from shards.records import Files
from shards.tar import pack

DESCRIPTION_FILE = "export.json"


def export(viewset: ViewSet, targetset: TargetSet | None, output: Path) -> tuple[int, int]:
    """`output` holds one tar for each (view, shard), and export.json; returns the samples and the bytes written.

    A sample is KEY.jpg or KEY.png, KEY.json, KEY.cls where it has a label, and KEY.TARGET.npy (float32), or of
    probabilities KEY.classes.npy, KEY.log_probabilities.npy and, for topk, KEY.log_remaining.npy. Skipped samples are
    left out.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"--output {output}: is not empty; give a new folder, or empty it")
    num_views = viewset.num_views
    if targetset is not None:
        check_pair(viewset, targetset)
        num_views = min(num_views, targetset.num_views)
    codec = codec_of(targetset) if targetset is not None else None
    files: Files = {}
    count = 0
    with Progress("export", len(viewset.usable) * num_views) as progress:
        for view, shard in ((view, shard) for view in range(num_views) for shard in range(viewset.plan.num_shards)):
            samples = viewset.usable_in(shard)
            decoded: dict[str, np.ndarray] = {}
            if targetset is not None and codec is not None and len(samples) > 0:
                rows = read_decoded(targetset, codec, view, samples)
                decoded = as_arrays(rows, targetset.manifest.target)
            packed, _ = pack(_contents(viewset, view, samples, decoded))
            name = f"{shard_name(view, shard)}.tar"
            files[name] = write_atomically(output / name, packed)
            count += len(samples)
            progress.advance(len(samples))
    write_sealed(output / DESCRIPTION_FILE, _description(viewset, targetset, num_views, files))
    return count, sum(record.size for record in files.values())


def _contents(
    viewset: ViewSet, view: int, samples: Int[np.ndarray, " count"], decoded: dict[str, np.ndarray]
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each sample's key and its members: those of the view as they are stored, and a row of each decoded array."""
    for position, sample in enumerate(samples.tolist()):
        members = viewset.storage.members(view, sample)
        for name, rows in decoded.items():
            buffer = io.BytesIO()
            np.save(buffer, rows[position], allow_pickle=False)
            members[f"{name}.npy"] = buffer.getvalue()
        yield viewset.plan.keys[sample], members


def _description(viewset: ViewSet, targetset: TargetSet | None, num_views: int, files: Files) -> dict[str, Any]:
    """What whoever receives the export needs to know, without the cache."""
    document = {
        "kind": "export",
        "format": 1,
        "views": num_views,
        "class_names": viewset.class_names,
        "viewset": viewset.identity,
        "files": files,
    }
    if targetset is not None:
        manifest = targetset.manifest
        document |= {name: getattr(manifest, name) for name in ("teacher", "target", "codec", "row_shape")}
        document["targetset"] = targetset.identity
    return document
