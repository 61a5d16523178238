"""Reading: the mapped reader against a raw read and copy of the same bytes; beside it what others offer.

Compared: `TargetSet.gather` into a reused buffer, against numpy copying the same rows of one flat memory-mapped file
into a reused buffer (in order a block a call; shuffled the faster of one `np.take` a batch and a copy a row).
Limit: bytes a row over the rate of that copy. The page cache is warm, and every row was checked before, as later epochs
find them: with `--read check=once` it is not checked again, with `check=always`, the default, it is each time.
"""

import argparse
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import Figure, Report, alternate, fastest, per_unit, run, share
from benchmarks.synthetic import bare_views, write_targets
from shards import tar
from shards.draws import permutation
from shards.reader import TargetSet

GOALS = {"in order": 0.9, "shuffled": 0.8}
SIZES = {"dense": (1024, 64), "logits": (65536, 1024)}
QUICK_SIZES = {"dense": (64, 16), "logits": (2048, 64)}
"""Samples in all and in a batch."""
SLOW_SHARE = 8
"""Others, at a tenth of the limit, read a part of the batches and take a turn for eight of the mapped reader's."""

Reader = Callable[[np.ndarray], None]
"""Puts the rows of ascending samples into the one buffer of its workload."""


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """Every reader on dense rows and on logits, in order and shuffled."""
    sizes = QUICK_SIZES if options.quick else SIZES
    report = Report("how fast are stored rows read, as a share of a raw copy?", "rows", {"samples and batch": sizes})
    for target, (num_samples, batch_size) in sizes.items():
        path, stored = write_targets(bare_views(folder / target, num_samples), target, "float16")
        rows = stored["values"]
        out = np.empty((batch_size, *rows.shape[1:]), rows.dtype)
        ours, always = _ours(path, out, "once"), _ours(path, out, "always")
        raw = _raw(folder / f"{target}.flat", rows, out)
        others = {"zarr-python": _zarr(path, out), "datasets": _arrow(folder / f"{target}.arrow", rows, out)}
        tars = _write_tars(folder / f"{target}-tars", rows)
        in_order = np.arange(num_samples).reshape(-1, batch_size)
        shuffled = np.sort(permutation(num_samples, 0, 0).reshape(-1, batch_size), axis=1)
        for order, batches in {"in order": in_order, "shuffled": shuffled}.items():
            few = batches[: max(2, len(batches) // SLOW_SHARE)]
            for reader in (ours, always, *raw[order].values(), *others.values()):
                _check(reader, rows, batches[0], out)
            mapped = {"mapped reader, check=once": ours, "mapped reader, check=always": always}
            readers = mapped | raw[order]
            fast = {name: _pass(reader, batches) for name, reader in readers.items()}
            seconds = alternate(fast, options.rounds * (1 if options.quick else SLOW_SHARE))
            best = fastest({name: seconds[name] for name in raw[order]})
            rate = rows[0].nbytes / np.median(seconds[best]) / 1e9
            limit = f"{rows[0].nbytes:,} bytes a row over {rate:.1f} GB/s ({best})"
            report.add_rates(seconds, f"{target} {order}: ")
            for name, goal in zip(mapped, (GOALS[order], None), strict=True):
                ratio = share(seconds[best], seconds[name])
                report.figures.append(Figure(f"{target} {order}: {name}, over raw", limit, ratio, goal))
            slow = {best: fast[best]} | {name: _pass(reader, few) for name, reader in others.items()}
            slow["webdataset"] = _webdataset(tars, out, few.size, order == "shuffled")
            seconds = alternate(slow, options.rounds)
            reference = seconds.pop(best)
            report.add_rates(seconds, f"{target} {order}: ")
            for name in seconds:
                ratio = share(reference, seconds[name])
                report.figures.append(Figure(f"{target} {order}: {name} over raw", limit, ratio))
    return report


def _pass(reader: Reader, batches: np.ndarray) -> Callable[[], float]:
    def work() -> None:
        for samples in batches:
            reader(samples)

    return per_unit(work, batches.size)


def _check(reader: Reader, rows: np.ndarray, samples: np.ndarray, out: np.ndarray) -> None:
    """A reader that is fast because it reads something else would be no comparison."""
    out[:] = 0
    reader(samples)
    assert np.array_equal(out, rows[samples]), f"{reader} read other rows than were written"


def _ours(path: Path, out: np.ndarray, check: str) -> Reader:
    targetset = TargetSet(path)
    targetset.checked.check = check
    targetset.read(0, np.arange(targetset.num_samples))  # opens every shard, and checks every row
    buffers = {"values": out.reshape(len(out), -1).view(np.uint8)}
    return lambda samples: targetset.gather(0, samples, buffers)


def _raw(path: Path, rows: np.ndarray, out: np.ndarray) -> dict[str, dict[str, Reader]]:
    rows.tofile(path)
    flat = np.asarray(np.memmap(path, rows.dtype, "r", shape=rows.shape))

    def block(samples: np.ndarray) -> None:
        out[:] = flat[samples[0] : samples[-1] + 1]

    def take(samples: np.ndarray) -> None:
        np.take(flat, samples, axis=0, out=out, mode="clip")

    def rowwise(samples: np.ndarray) -> None:
        for place, sample in enumerate(samples.tolist()):
            out[place] = flat[sample]

    shuffled: dict[str, Reader] = {"raw, np.take": take, "raw, a row a copy": rowwise}
    return {"in order": {"raw, a block a copy": block}, "shuffled": shuffled}


def _zarr(path: Path, out: np.ndarray) -> Reader:
    import zarr

    array = zarr.open_array(str(path / "values"), mode="r")

    def read(samples: np.ndarray) -> None:
        ordered = samples[-1] - samples[0] == len(samples) - 1
        out[:] = array[0, samples[0] : samples[-1] + 1] if ordered else array.oindex[0, samples]

    return read


def _arrow(path: Path, rows: np.ndarray, out: np.ndarray) -> Reader:
    import datasets
    import pyarrow

    datasets.disable_progress_bars()
    flat = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), rows[0].size)
    datasets.Dataset(pyarrow.table({"values": flat})).save_to_disk(str(path))
    dataset = datasets.load_from_disk(str(path)).with_format("arrow")  # "numpy" copies through lists, ten times slower

    def read(samples: np.ndarray) -> None:
        ordered = samples[-1] - samples[0] == len(samples) - 1
        table = dataset[int(samples[0]) : int(samples[-1]) + 1] if ordered else dataset[samples]
        start = 0
        for piece in table["values"].chunks:
            out[start : start + len(piece)] = piece.flatten().to_numpy().reshape(-1, *out.shape[1:])
            start += len(piece)

    return read


def _write_tars(folder: Path, rows: np.ndarray) -> list[str]:
    """As many rows as a round reads, one .npy a sample, in shards of 512."""
    folder.mkdir()
    wanted = max(512, len(rows) // SLOW_SHARE)
    paths = []
    for start in range(0, min(wanted, len(rows)), 512):
        samples = []
        for number, row in enumerate(rows[start : start + 512], start):
            buffer = io.BytesIO()
            np.save(buffer, row)
            samples.append((f"sample-{number}", {"npy": buffer.getvalue()}))
        paths.append(folder / f"{start:06d}.tar")
        paths[-1].write_bytes(tar.pack(samples)[0])
    return [str(path) for path in paths]


def _webdataset(paths: list[str], out: np.ndarray, count: int, shuffle: bool) -> Callable[[], float]:
    """`count` samples in the order of the tars, or through a shuffle buffer of 256 samples; it has no random access."""
    import webdataset

    def samples() -> Iterator[np.ndarray]:
        dataset = webdataset.WebDataset(paths, shardshuffle=len(paths) if shuffle else False)
        dataset = (dataset.shuffle(256) if shuffle else dataset).decode().to_tuple("npy")
        yield from (row for (row,) in dataset)

    def work() -> None:
        for number, row in zip(range(count), samples(), strict=False):
            out[number % len(out)] = row

    return per_unit(work, count)


if __name__ == "__main__":
    run(measure, "reading")
