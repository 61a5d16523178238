"""Export: views and decoded targets as WebDataset tars that plain webdataset reads, with nothing of this project."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from shards.ahead import ahead
from shards.command.progress import Progress
from shards.commit import write_atomically, write_sealed
from shards.decode import as_arrays, codec_of
from shards.errors import BadInput
from shards.layout import shard_name
from shards.ranges import request_threads
from shards.reader import TargetSet, ViewSet, check_pair
from shards.records import Files
from shards.tar import pack

if TYPE_CHECKING:
    from shards.codecs.base import Codec

DESCRIPTION_FILE = "export.json"
ROWS, AHEAD, MOST_BYTES = 64, 16, 8 << 20
"""Samples that are read together, by few requests as they lie beside each other; how many times that many ahead; of
their targets, whose rows may be large."""
Piece = tuple[int, Int[np.ndarray, " count"]]
"""A view, and samples of one shard."""
Read = tuple[Sequence[int], list[dict[str, bytes]], dict[str, np.ndarray]]
"""Samples, and of each the members of its view, and a row of each stored array."""


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
    rows = ROWS if targetset is None else min(ROWS, max(1, MOST_BYTES // targetset.bytes_per_sample))
    samples_in = [viewset.usable_in(shard) for shard in range(viewset.plan.num_shards)]
    pieces = (
        (view, samples[start : start + rows])
        for view in range(num_views)
        for samples in samples_in
        for start in range(0, len(samples), rows)
    )
    with (
        Progress("export", len(viewset.usable) * num_views) as progress,
        request_threads() as requests,
        ThreadPoolExecutor(AHEAD, thread_name_prefix="export") as pool,
    ):

        def read(piece: Piece) -> Read:
            view, samples = piece
            members = viewset.storage.members(view, samples.tolist(), requests)
            return samples.tolist(), members, {} if targetset is None else targetset.read(view, samples)

        arrived = ahead(pool, read, pieces, AHEAD)
        for view, (shard, samples) in ((view, each) for view in range(num_views) for each in enumerate(samples_in)):
            of_shard = islice(arrived, -(-len(samples) // rows))
            packed, _ = pack(_contents(viewset, of_shard, codec, targetset))
            name = f"{shard_name(view, shard)}.tar"
            files[name] = write_atomically(output / name, packed)
            count += len(samples)
            progress.advance(len(samples))
    write_sealed(output / DESCRIPTION_FILE, _description(viewset, targetset, num_views, files))
    return count, sum(record.size for record in files.values())


def _contents(
    viewset: ViewSet, pieces: Iterator[Read], codec: "Codec | None", targetset: TargetSet | None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each sample's key and its members: those of the view as they are stored, and a row of each decoded array."""
    import torch

    for samples, members, stored in pieces:
        decoded: dict[str, np.ndarray] = {}
        if targetset is not None and codec is not None:
            rows = codec.decode({name: torch.from_numpy(array) for name, array in stored.items()})
            decoded = as_arrays(rows, targetset.manifest.target)
        for position, (sample, contents) in enumerate(zip(samples, members, strict=True)):
            for name, array in decoded.items():
                buffer = io.BytesIO()
                np.save(buffer, array[position], allow_pickle=False)
                contents[f"{name}.npy"] = buffer.getvalue()
            yield viewset.plan.keys[sample], contents


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
