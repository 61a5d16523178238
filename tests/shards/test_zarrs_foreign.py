"""Arrays that somebody rewrote with a compressor: read by zarr-python, equal to what they were, or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from caches import NUM_SAMPLES, SHARD_SIZE, contents, extract, reseal_records, targetset_of, viewset_of
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.errors import Damaged
from shards.loader import BatchLoader, Reading
from shards.reader import TargetSet, ViewSet

COMPRESSORS: dict[str, list[Any]] = {
    "zstd": [zarr.codecs.ZstdCodec(level=5)],
    "gzip": [zarr.codecs.GzipCodec()],
    "blosc": [zarr.codecs.BloscCodec(cname="lz4")],
    "zstd and crc32c": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()],
}


def rewrite(folder: Path, compressors: list[Any], chunk_rows: int | None) -> None:
    """Every array of a target set written anew by zarr-python, sharded or not, and its manifest sealed for that."""
    names = []
    for path in sorted(folder.glob("*/zarr.json")):
        values = zarr.open_array(str(path.parent), mode="r", zarr_format=3)[:]
        shutil.rmtree(path.parent)
        whole = (1, SHARD_SIZE, *values.shape[2:])
        array = zarr.create_array(
            str(path.parent),
            shape=values.shape,
            dtype=values.dtype,
            shards=whole if chunk_rows else None,
            chunks=(1, chunk_rows, *values.shape[2:]) if chunk_rows else whole,
            compressors=compressors,
            fill_value=0,
            config={"write_empty_chunks": True},
        )
        array[:] = values
        names += [file.relative_to(folder).as_posix() for file in path.parent.rglob("*") if file.is_file()]
    reseal_records(folder, "targetset.json", *names)


@pytest.fixture(scope="module")
def of_three_arrays(pristine: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache with one more target set, of three small arrays of two types."""
    cache = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("foreign") / "cache"))
    shutil.rmtree(viewset_of(cache) / "targets")
    extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", "topk:4")
    return cache


@pytest.mark.parametrize("chunk_rows", [1, 4, SHARD_SIZE, None])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_rewritten_arrays_read_equal(of_three_arrays: Path, tmp_path: Path, name: str, chunk_rows: int | None) -> None:
    cache = Path(shutil.copytree(of_three_arrays, tmp_path / "cache"))
    rewrite(targetset_of(cache), COMPRESSORS[name], chunk_rows)
    ours, foreign = TargetSet(targetset_of(of_three_arrays)), TargetSet(targetset_of(cache))
    assert ours.mapped and not foreign.mapped
    for samples in (np.arange(NUM_SAMPLES), np.array([0, 15, 16, 39]), np.array([23])):
        for view in range(2):
            expected, found = ours.read(view, samples), foreign.read(view, samples)
            assert expected.keys() == found.keys() and len(found) == 3
            for array in expected:
                np.testing.assert_array_equal(found[array], expected[array])
                assert found[array].dtype == expected[array].dtype


@settings(max_examples=15)
@given(st.sets(st.integers(0, NUM_SAMPLES - 1), min_size=1), st.integers(0, 1))
def test_any_rows_of_a_rewritten_array_read_equal(
    of_three_arrays: Path, tmp_path_factory: pytest.TempPathFactory, chosen: set[int], view: int
) -> None:
    cache = tmp_path_factory.getbasetemp() / "rewritten-once"
    if not cache.exists():
        shutil.copytree(of_three_arrays, cache)
        rewrite(targetset_of(cache), COMPRESSORS["zstd"], 2)
    samples = np.array(sorted(chosen))
    expected = TargetSet(targetset_of(of_three_arrays)).read(view, samples)
    found = TargetSet(targetset_of(cache)).read(view, samples)
    for array in expected:
        np.testing.assert_array_equal(found[array], expected[array])


def test_a_training_step_is_given_the_same_batches(of_three_arrays: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(of_three_arrays, tmp_path / "cache"))
    rewrite(targetset_of(cache), COMPRESSORS["zstd"], 4)

    def batches(root: Path) -> list[dict[str, np.ndarray]]:
        readings = [Reading(np.arange(start, NUM_SAMPLES, 5), view) for view in range(2) for start in range(5)]
        targets = TargetSet(targetset_of(root))
        loader = BatchLoader(ViewSet(viewset_of(root)), [targets], lambda: iter(readings), 8)
        stored = (batch.targets[targets.folder.name] for batch in loader)
        return [{name: array.numpy().copy() for name, array in arrays.items()} for arrays in stored]

    for ours, theirs in zip(batches(of_three_arrays), batches(cache), strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_rewritten_array_that_its_manifest_does_not_list_is_refused(cache: Path) -> None:
    folder = targetset_of(cache)
    sealed = (folder / "targetset.json").read_bytes()
    rewrite(folder, COMPRESSORS["zstd"], 4)
    (folder / "targetset.json").write_bytes(sealed)
    with pytest.raises(Damaged, match=r"values/zarr\.json"):
        TargetSet(folder).read(0, np.arange(3))


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove", "swap"])
def test_a_damaged_object_of_a_rewritten_array_is_refused(cache: Path, spoil: str) -> None:
    folder = targetset_of(cache)
    rewrite(folder, COMPRESSORS["zstd"], 4)
    path, other = folder / "values/c/0/1/0", folder / "values/c/1/1/0"
    data = bytearray(path.read_bytes())
    if spoil == "flip":
        data[20] ^= 4
        path.write_bytes(data)
    elif spoil == "cut":
        path.write_bytes(data[:-1])
    elif spoil == "remove":
        path.unlink()
    else:
        path.write_bytes(other.read_bytes()), other.write_bytes(data)
    targets = TargetSet(folder)
    assert targets.read(0, np.arange(16))  # another shard is whole
    with pytest.raises(Damaged):
        targets.read(0, np.arange(20, 24))


def nonsense(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def change(path: Path, **fields: Any) -> None:
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | fields).encode())


def inner(path: Path, **fields: Any) -> None:
    """Change the configuration of the sharding codec."""
    document = json.loads(path.read_bytes())
    document["codecs"][0]["configuration"] |= fields
    path.write_bytes(json.dumps(document).encode())


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no JSON": (lambda path: nonsense(path, b"{"), "cannot be read as JSON"),
    "no object": (lambda path: nonsense(path, b"[3]"), "zarr version None"),
    "too deep": (lambda path: nonsense(path, b"[" * 100_000), "cannot be read as JSON"),
    "too large": (lambda path: nonsense(path, b" " * (2 << 20)), "larger than"),
    "version 2": (lambda path: change(path, zarr_format=2), "zarr version 2"),
    "a group": (lambda path: change(path, node_type="group"), "node_type"),
    "an absurd shape": (lambda path: change(path, shape=[2, 10**15, 10]), "shape is"),
    "a negative shape": (lambda path: change(path, shape=[-2, 40, 10]), "shape is"),
    "a shape of text": (lambda path: change(path, shape="many"), "shape is"),
    "another type": (lambda path: change(path, data_type="float64"), "data_type is"),
    "objects": (lambda path: change(path, data_type="object"), "data_type is"),
    "a fill value": (lambda path: change(path, fill_value=1), "fill_value is"),
    "other keys": (lambda path: change(path, chunk_key_encoding={"name": "v2"}), "chunk_key_encoding is"),
    "other chunks": (
        lambda path: change(path, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [1, 40, 10]}}),
        "chunks of",
    ),
    "absurd chunks": (
        lambda path: change(path, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [10**9, 16, 10]}}),
        "chunks of",
    ),
    "chunks of nothing": (lambda path: change(path, chunk_grid=[1]), "chunks of"),
    "an unknown codec": (lambda path: change(path, codecs=[LITTLE, {"name": "rot13"}]), "unknown codecs rot13"),
    "pickle": (lambda path: change(path, codecs=[{"name": "numcodecs.pickle"}]), "unknown codecs numcodecs.pickle"),
    "no codecs": (lambda path: change(path, codecs=[]), "zarr cannot"),
    "codecs of text": (lambda path: change(path, codecs="bytes"), "unknown codecs None"),
    "a codec of text": (lambda path: change(path, codecs=["bytes", {"name": "zstd"}]), "unknown codecs None"),
    "an inner codec unknown": (lambda path: inner(path, codecs=[{"name": "exec"}]), "unknown codecs exec"),
    "an index codec unknown": (lambda path: inner(path, index_codecs=[{"name": "exec"}]), "unknown codecs exec"),
    "a configuration of text": (
        lambda path: change(path, codecs=[{"name": "sharding_indexed", "configuration": "codecs"}]),
        "zarr cannot",
    ),
    "inner chunks that do not fit": (lambda path: inner(path, chunk_shape=[1, 7, 10]), "zarr cannot"),
    "absurd inner chunks": (lambda path: inner(path, chunk_shape=[1, 10**12, 10]), "zarr cannot"),
    "an index at the start": (lambda path: inner(path, index_location="start"), "zarr cannot"),
    "no shards": (lambda path: change(path, codecs=[LITTLE]), "zarr cannot"),
    "zstd where none is": (lambda path: inner(path, codecs=[LITTLE, {"name": "zstd"}]), "zarr cannot"),
    "a transformer": (lambda path: change(path, storage_transformers=[{"name": "x"}]), "storage_transformers"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_metadata_that_is_not_in_order_is_refused(cache: Path, name: str) -> None:
    """Sealed anew in the manifest: somebody meant it."""
    folder = targetset_of(cache)
    spoil, says = HOSTILE[name]
    spoil(folder / "values/zarr.json")
    reseal_records(folder, "targetset.json", "values/zarr.json")
    with pytest.raises(Damaged, match=says) as refused:
        TargetSet(folder).read(0, np.arange(NUM_SAMPLES))
    assert str(folder / "values") in str(refused.value) and "\n" not in str(refused.value)[:200]


def test_a_byte_order_that_the_metadata_declares_is_honoured(cache: Path) -> None:
    """Big-endian is valid zarr: values come out as numbers of this machine, not as swapped bytes."""
    folder = targetset_of(cache)
    expected = TargetSet(folder).read(0, np.arange(NUM_SAMPLES))["values"]
    big = (expected.astype(">f4"), TargetSet(folder).read(1, np.arange(NUM_SAMPLES))["values"].astype(">f4"))
    change(folder / "values/zarr.json", codecs=[BIG])
    names = ["values/zarr.json"]
    for view, rows in enumerate(big):
        for shard in range(3):
            part = np.zeros((SHARD_SIZE, 10), ">f4")
            held = rows[shard * SHARD_SIZE : (shard + 1) * SHARD_SIZE]
            part[: len(held)] = held
            names.append(f"values/c/{view}/{shard}/0")
            (folder / names[-1]).write_bytes(part.tobytes())
    reseal_records(folder, "targetset.json", *names)
    np.testing.assert_array_equal(TargetSet(folder).read(0, np.arange(NUM_SAMPLES))["values"], expected)


def test_a_version_2_array_is_refused(cache: Path) -> None:
    folder = targetset_of(cache)
    (folder / "values/.zarray").write_text('{"zarr_format": 2}')
    with pytest.raises(Damaged, match="zarr version 2"):
        TargetSet(folder)


def test_extract_does_not_write_over_a_rewritten_array(cache: Path, teacher: Path) -> None:
    """Its metadata would become ours, and its compressed objects unreadable."""
    from caches import command

    rewrite(targetset_of(cache), COMPRESSORS["zstd"], 4)
    before = contents(cache)
    flags = ("--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32")
    command("extract", *flags).refuses("values/zarr.json", "rewritten")
    command("extract", *flags, "--views", "3").refuses("values/zarr.json", "rewritten")
    assert {name: contents(cache)[name] for name in before} == before
