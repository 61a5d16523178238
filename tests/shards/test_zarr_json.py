"""zarr.json: an array in another form than extract writes (compressed, of another shape) is refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from caches import SHARD_SIZE, command, contents, copied, reseal, reseal_records, targetset_of

from shards.errors import Damaged
from shards.reader import TargetSet

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


@pytest.mark.parametrize("chunk_rows", [4, SHARD_SIZE, None])
@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_compressed_array_is_refused_by_every_command(
    pristine: Path, teacher: Path, tmp_path: Path, name: str, chunk_rows: int | None
) -> None:
    """The manifest was sealed for it, so somebody meant it; what extract would add could not be read beside it."""
    cache = copied(pristine, tmp_path / "cache")
    folder = targetset_of(cache)
    rewrite(folder, COMPRESSORS[name], chunk_rows)
    before = contents(cache)
    with pytest.raises(Damaged, match="re-written in another form"):
        TargetSet(folder)
    again = ("extract", "--teacher", f"run:{teacher}", "--out", cache, "--codec", "float32")
    for words in (("shards", "export", folder, "--output", tmp_path / "out"), again, (*again, "--views", "3")):
        command(*words).refuses("values/zarr.json", "re-written in another form (compressed?)", "extract again")
    verified = command("shards", "verify", cache)
    assert verified.status == 2 and "re-written in another form" in verified.err.splitlines()[0]
    assert {name: contents(cache)[name] for name in before} == before


def test_a_layout_that_is_not_the_manifests_is_refused(cache: Path) -> None:
    folder = targetset_of(cache)
    reseal(folder / "targetset.json", lambda manifest: manifest.update(layouts={"values": [16, 4]}))
    with pytest.raises(Damaged, match=r"layout is \(16, 8\), its manifest says \(16, 4\)"):
        TargetSet(folder)


@pytest.mark.parametrize("layout", [[16, 3], [8, 8], [40, 40], [16, 0], [16, 1 << 40], [16], "16,8", [16.0, 8.0]])
def test_an_absurd_layout_is_refused(cache: Path, layout: Any) -> None:
    folder = targetset_of(cache)
    reseal(folder / "targetset.json", lambda manifest: manifest.update(layouts={"values": layout}))
    with pytest.raises(Damaged, match=r"layout"):
        TargetSet(folder)


def nonsense(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def change(path: Path, **fields: Any) -> None:
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | fields).encode())


def inner(path: Path, **fields: Any) -> None:
    """Change the configuration of the sharding codec."""
    document = json.loads(path.read_bytes())
    document["codecs"][0]["configuration"] |= fields
    path.write_bytes(json.dumps(document).encode())


def grid(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no JSON": (lambda path: nonsense(path, b"{"), "not JSON"),
    "no object": (lambda path: nonsense(path, b"[3]"), "expected an object, found a list"),
    "too deep": (lambda path: nonsense(path, b"[" * 100_000), "not JSON"),
    "too large": (lambda path: nonsense(path, b" " * (2 << 20)), "larger than"),
    "version 2": (lambda path: change(path, zarr_format=2), "zarr version 2"),
    "a group": (lambda path: change(path, node_type="group"), "node_type is"),
    "fewer views": (lambda path: change(path, shape=[1, 40, 10]), "announces 1 views, its manifest 2"),
    "an absurd shape": (lambda path: change(path, shape=[2, 10**15, 10]), "shape is"),
    "an absurd row": (lambda path: change(path, shape=[2, 40, 10**15]), "describes no array"),
    "a negative shape": (lambda path: change(path, shape=[-2, 40, 10]), "describes no array"),
    "a shape of text": (lambda path: change(path, shape="many"), "describes no array"),
    "a shape of fractions": (lambda path: change(path, shape=[2, 40, 10.0]), "describes no array"),
    "another type": (lambda path: change(path, data_type="float16"), "data_type is float16"),
    "objects": (lambda path: change(path, data_type="object"), "describes no array"),
    "a fill value": (lambda path: change(path, fill_value=1), "fill_value is"),
    "other keys": (lambda path: change(path, chunk_key_encoding={"name": "v2"}), "chunk_key_encoding is"),
    "other chunks": (lambda path: change(path, chunk_grid=grid(1, 20, 10)), "describes no array"),
    "absurd chunks": (lambda path: change(path, chunk_grid=grid(10**9, 16, 10)), "chunk_grid is"),
    "chunks of nothing": (lambda path: change(path, chunk_grid=[1]), "describes no array"),
    "an unknown codec": (lambda path: change(path, codecs=[LITTLE, {"name": "rot13"}]), "describes no array"),
    "pickle": (lambda path: inner(path, codecs=[LITTLE, {"name": "numcodecs.pickle"}]), "codecs is"),
    "big-endian": (lambda path: inner(path, codecs=[BIG, {"name": "crc32c"}]), "codecs is"),
    "no codecs": (lambda path: change(path, codecs=[]), "describes no array"),
    "codecs of text": (lambda path: change(path, codecs="bytes"), "describes no array"),
    "inner chunks that do not fit": (lambda path: inner(path, chunk_shape=[1, 7, 10]), "describes no array"),
    "other inner chunks": (lambda path: inner(path, chunk_shape=[1, 4, 10]), "layout is"),
    "absurd inner chunks": (lambda path: inner(path, chunk_shape=[1, 10**12, 10]), "describes no array"),
    "an index at the start": (lambda path: inner(path, index_location="start"), "codecs is"),
    "a transformer": (lambda path: change(path, storage_transformers=[{"name": "x"}]), "storage_transformers"),
    "one field more": (lambda path: change(path, consolidated_metadata={}), "consolidated_metadata is"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_metadata_that_is_not_in_order_is_refused(cache: Path, name: str) -> None:
    """Sealed anew in the manifest: somebody meant it."""
    folder = targetset_of(cache)
    spoil, says = HOSTILE[name]
    spoil(folder / "values/zarr.json")
    reseal_records(folder, "targetset.json", "values/zarr.json")
    with pytest.raises(Damaged, match=says) as refused:
        TargetSet(folder).read(0, np.arange(3))
    assert str(folder / "values") in str(refused.value) and "\n" not in str(refused.value)[:200]


def test_a_version_2_array_is_refused(cache: Path) -> None:
    folder = targetset_of(cache)
    (folder / "values/.zarray").write_text('{"zarr_format": 2}')
    with pytest.raises(Damaged, match="zarr version 2"):
        TargetSet(folder)
