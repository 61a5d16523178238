"""Slow others: what litdata, mosaicml-streaming and webdataset deliver of the same JPEG members from the same volume.

Each in its own format, in shards of as many samples, shuffled in its own way, with two workers, and each sample decoded
by the same decoder. Their workers' start is not counted: the rate is that of all batches but the first.
`pip install litdata mosaicml-streaming`; those that are not installed are left out.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch

NUM_WORKERS = 2

Batches = Callable[[Path], Iterable[Any]]
"""Batches of decoded pixels, of what was written into a folder."""


def write_others(folder: Path, contents: list[bytes], shard_size: int, batch_size: int) -> dict[str, Batches]:
    """Each library's copy of the JPEG files `contents`, in `folder/NAME`; how it reads them, by its name."""
    libraries = {"litdata": _litdata, "streaming": _streaming, "webdataset": _webdataset}
    return {
        name: library(folder / name, contents, shard_size, batch_size)
        for name, library in libraries.items()
        if find_spec(name) is not None
    }


def seconds_a_sample(batches: Iterable[Any], num_samples: int) -> float:
    """Of all batches but the first, which waits for the workers."""
    taken, start, first = 0, 0.0, 0
    for batch in batches:
        taken += len(batch)
        if not first:
            start, first = time.perf_counter(), taken
    assert taken == num_samples, f"{taken} of {num_samples} samples arrived"
    return (time.perf_counter() - start) / (taken - first)


def _decoded(content: bytes) -> torch.Tensor:
    return torch.from_numpy(simplejpeg.decode_jpeg(content, "RGB"))


def _litdata(folder: Path, contents: list[bytes], shard_size: int, batch_size: int) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_size=shard_size)
    for number, content in enumerate(contents):
        writer[number] = content
    writer.done()
    writer.merge()

    class Decoded(StreamingDataset):
        def __getitem__(self, index: Any) -> torch.Tensor:
            return _decoded(super().__getitem__(index))

    def read(place: Path) -> Iterable[Any]:
        dataset = Decoded(str(place), shuffle=True)
        return StreamingDataLoader(dataset, batch_size=batch_size, num_workers=NUM_WORKERS)

    return read


def _streaming(folder: Path, contents: list[bytes], shard_size: int, batch_size: int) -> Batches:
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    limit = int(np.mean([len(content) for content in contents]) * shard_size)
    with MDSWriter(out=str(folder), columns={"jpg": "bytes"}, size_limit=limit) as writer:
        for content in contents:
            writer.write({"jpg": content})

    class Decoded(StreamingDataset):
        def __getitem__(self, index: int) -> torch.Tensor:
            return _decoded(super().__getitem__(index)["jpg"])

    def read(place: Path) -> Iterable[Any]:
        clean_stale_shared_memory()
        dataset = Decoded(local=str(place), shuffle=True, batch_size=batch_size)
        return torch.utils.data.DataLoader(dataset, batch_size, num_workers=NUM_WORKERS)

    return read


def _webdataset(folder: Path, contents: list[bytes], shard_size: int, batch_size: int) -> Batches:
    import webdataset as wds

    folder.mkdir()
    with wds.ShardWriter(f"{folder}/%06d.tar", maxcount=shard_size, verbose=0) as writer:
        for number, content in enumerate(contents):
            writer.write({"__key__": f"{number:08d}", "jpg": content})

    def read(place: Path) -> Iterator[Any]:
        tars = sorted(str(path) for path in place.glob("*.tar"))
        samples = wds.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000).map(lambda sample: _decoded(sample["jpg"]))
        loader = wds.WebLoader(samples, batch_size=batch_size, num_workers=NUM_WORKERS)
        yield from loader

    return read
