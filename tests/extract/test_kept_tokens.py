"""--keep_tokens end to end: which tokens are kept, that their rows are the whole set's, and who refuses what."""

import json
from collections.abc import Callable
from pathlib import Path

import caches
import numpy as np
import pytest
import zarr

from extract.modalities.draws import draw_tokens
from shards.decode import as_arrays, codec_of, read_decoded
from shards.errors import Damaged
from shards.identity import sha256_of
from shards.listing import saved_flags
from shards.reader import TargetSet, ViewSet
from shards.zarrs import pack
from tests.extract.test_data2vec2_writer import write_checkpoint

SMALL = ("--data", "digits", "--limit", "40", "--shard_size", "16", "--devices", "cpu")
NUM_TOKENS, KEEP = 10, 4
"""Of a 12-pixel image in patches of 4: CLS and 9 patches."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The flags of a tiny data2vec 2.0."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("data2vec2") / "tiny.pt", depth=2, average_top_k_layers=2)
    return ("--teacher", "data2vec2", "--weights", str(checkpoint))


@pytest.fixture(scope="module")
def both(teacher: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two views of 40 digits, the layer means of each whole and in part, in int8 and in int4; never written to."""
    cache = tmp_path_factory.mktemp("kept") / "cache"
    caches.extract(*teacher, *SMALL, "--out", cache, "--views", "2")
    caches.extract(*teacher, "--out", cache, "--target", "layer_mean,cls", "--keep_tokens", "4")
    caches.extract(*teacher, "--out", cache, "--target", "layer_mean_no_cls,layer_mean", "--codec", "int8,int4")
    caches.extract(
        *teacher,
        "--out",
        cache,
        "--target",
        "layer_mean_no_cls,layer_mean",
        "--codec",
        "int8,int4",
        "--keep_tokens",
        "4",
    )
    return cache


def targets_of(cache: Path, name: str) -> Path:
    """The only target set whose name ends in `name` and a hash."""
    (folder,) = (one for one in (caches.viewset_of(cache) / "targets").iterdir() if one.name[:-9].endswith(name))
    return folder


@pytest.mark.parametrize("name", ["layer_mean-int8", "layer_mean-int4", "layer_mean_no_cls-int8"])
def test_a_kept_row_is_the_whole_sets_row_at_its_position(both: Path, name: str) -> None:
    kept, whole = (TargetSet(targets_of(both, name + tokens)) for tokens in ("-4tokens", ""))
    keys = ViewSet(caches.viewset_of(both)).plan.keys
    extra = 0 if "no_cls" in name else 1
    for view in range(2):
        some, every = (read_decoded(one, codec_of(one), view, np.arange(40)) for one in (kept, whole))
        np.testing.assert_array_equal(some.rows, some.take_from(every))
        drawn = [draw_tokens(0, key, view, KEEP, every.shape[1], extra) for key in keys]
        np.testing.assert_array_equal(some.positions, np.stack(drawn))


def test_what_was_kept_is_in_name_identity_and_manifest(both: Path) -> None:
    kept, whole = (TargetSet(targets_of(both, name)) for name in ("mean-int8-4tokens", "mean-int8"))
    assert kept.manifest.keep_tokens == KEEP and kept.row_shape == whole.row_shape == (NUM_TOKENS, 16)
    assert kept.identity["codec"] == {"name": "int8", "keep_tokens": KEEP} and kept.manifest.codec == "int8"
    assert kept.bytes_per_sample == KEEP * (16 + 2 + 1)
    assert whole.manifest.keep_tokens is None and whole.identity["codec"] == {"name": "int8"}
    assert whole.manifest.teacher_settings["embed_dim"] == 16


def test_a_vector_of_the_same_command_is_stored_whole(both: Path) -> None:
    cls = TargetSet(targets_of(both, "-cls-float16"))  # the default of a vector
    assert cls.manifest.keep_tokens is None and cls.arrays.keys() == {"values"}


def test_plain_zarr_reads_the_positions(both: Path) -> None:
    folder = targets_of(both, "mean-int8-4tokens")
    positions = zarr.open_group(str(folder), mode="r")["positions"]
    assert positions.shape == (2, 40, KEEP) and positions.dtype == np.uint8  # type: ignore[union-attr]
    np.testing.assert_array_equal(positions[1], TargetSet(folder).read(1, np.arange(40))["positions"])  # type: ignore[index]
    assert (positions[:][..., 0] == 0).all()  # type: ignore[index]


def test_kept_rows_are_exported_with_their_positions(both: Path, tmp_path: Path) -> None:
    import webdataset

    folder = targets_of(both, "mean-int8-4tokens")
    caches.command("shards", "export", folder, "--output", tmp_path / "out").succeeds()
    targets = TargetSet(folder)
    expected = as_arrays(read_decoded(targets, codec_of(targets), 0, np.arange(16)), "layer_mean")
    samples = webdataset.WebDataset(str(tmp_path / "out/v00-00000.tar"), shardshuffle=False).decode()
    for index, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["rows.npy"], expected["rows"][index])
        np.testing.assert_array_equal(sample["positions.npy"], expected["positions"][index])


@pytest.mark.slow
def test_the_live_teacher_says_what_was_kept_and_finds_what_it_did_not_say(both: Path, tmp_path: Path) -> None:
    cache = caches.copied(both, tmp_path / "cache")
    found = caches.command("shards", "verify", cache, "--recompute", "20").succeeds()
    assert found.out.count("20 views recomputed") == 7
    folder = targets_of(cache, "mean-int8-4tokens")
    change(folder, "values", lambda values: -values)
    refused = caches.command("shards", "verify", cache, "--recompute", "20")
    assert refused.status == 2 and f"{folder}: view 0 of digit-0002: cosine " in refused.err
    assert "4 stored rows are not what the teacher says" in refused.err  # of the 20, those in this shard


def change(folder: Path, name: str, to: Callable[[np.ndarray], np.ndarray]) -> None:
    """One array of the first shard, changed under valid checksums and hashes, as somebody who means harm would."""
    targets, relative = TargetSet(folder), f"{name}/c/0/0/0" + ("/0" if name != "positions" else "")
    rows = targets.read(0, np.arange(16))[name]
    content = pack(targets.arrays[name], to(rows).astype(rows.dtype))
    (folder / relative).write_bytes(content)
    record = {relative: {"size": len(content), "sha256": sha256_of(content)}}
    commit = "commits/v00-00000.json"
    caches.reseal(folder / commit, lambda document: document["files"].update(record))
    caches.reseal_records(folder, "targetset.json", relative, commit)


def test_a_position_outside_of_the_sequence_is_refused_under_valid_hashes(both: Path, tmp_path: Path) -> None:
    folder = targets_of(caches.copied(both, tmp_path / "cache"), "mean-int8-4tokens")
    change(folder, "positions", lambda positions: positions + 7)
    targets = TargetSet(folder)
    told = "has the number 12, expected numbers below 10"
    with pytest.raises(Damaged, match=told):
        read_decoded(targets, codec_of(targets), 0, np.arange(16))
    caches.command("shards", "export", folder, "--output", tmp_path / "out").refuses(told)


@pytest.mark.parametrize("keep", [3, 11, None, "4"])
def test_a_manifest_that_tells_another_number_of_tokens_is_refused(both: Path, tmp_path: Path, keep: object) -> None:
    folder = targets_of(caches.copied(both, tmp_path / "cache"), "mean-int8-4tokens")
    caches.reseal(folder / "targetset.json", lambda document: document.update(keep_tokens=keep))
    with pytest.raises(Damaged, match=r"not those of its codec|names no codec of its rows|keep_tokens cannot be"):
        codec_of(TargetSet(folder))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--keep_tokens", "11"), "layer_mean of data2vec2-base has 10 tokens, of which the first 1"),
        (("--keep_tokens", "0"), "--keep_tokens 0: expected a whole number of at least 1"),
        (("--keep_tokens", "10", "--target", "layer_mean,layer_mean_no_cls"), "has 9 tokens; give 1 to 9"),
        (
            ("--keep_tokens", "4", "--target", "cls,pooled"),
            "--target cls,pooled has no tokens; its targets with tokens",
        ),
    ],
    ids=str,
)
def test_tokens_that_cannot_be_kept_are_refused(
    teacher: tuple[str, ...], tmp_path: Path, flags: tuple[str, ...], says: str
) -> None:
    caches.command("extract", *teacher, *SMALL, "--out", tmp_path / "cache", *flags).refuses(says)
    assert caches.contents(tmp_path / "cache") == {}


def test_all_extra_tokens_must_fit_and_all_are_kept(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "registers.pt", num_extra_tokens=3)
    flags = ("--teacher", "data2vec2", "--weights", checkpoint, *SMALL, "--out", tmp_path / "cache")
    caches.command("extract", *flags, "--keep_tokens", "2").refuses(
        "has 12 tokens, of which the first 3", "give 3 to 12"
    )
    caches.extract(*flags, "--keep_tokens", "4")
    targets = TargetSet(caches.targetset_of(tmp_path / "cache"))
    positions = targets.read(0, np.arange(40))["positions"]
    assert (positions[:, :3] == [0, 1, 2]).all() and len(np.unique(positions[:, 3])) > 1


def test_a_teacher_without_tokens_keeps_none(tmp_path: Path) -> None:
    network = caches.write_teacher(tmp_path / "teacher")
    flags = ("--teacher", f"run:{network}", *caches.SMALL, "--out", tmp_path / "cache", "--keep_tokens", "4")
    caches.command("extract", *flags).refuses("run-teacher gives none with tokens")


def test_tokens_of_validation_views_are_drawn_too(teacher: tuple[str, ...], tmp_path: Path) -> None:
    """A plain resize draws nothing, so its view set has no seed: the tokens' is 0 then."""
    caches.extract(*teacher, *SMALL, "--out", tmp_path, "--split", "validation", "--keep_tokens", "4")
    folder = caches.viewset_of(tmp_path, "validation")
    views, targets = ViewSet(folder), TargetSet(caches.targetset_of(tmp_path, split="validation"))
    assert json.loads((folder / "viewset.json").read_bytes())["identity"]["seed"] is None
    positions = targets.read(0, np.arange(40))["positions"]
    expected = [draw_tokens(0, key, 0, KEEP, NUM_TOKENS, 1) for key in views.plan.keys]
    np.testing.assert_array_equal(positions, np.stack(expected))


def test_student_and_average_are_two_teachers_of_one_file(teacher: tuple[str, ...], tmp_path: Path) -> None:
    for flags in ((), ("--weights_key", "ema")):
        caches.extract(*teacher, *SMALL, "--out", tmp_path, *flags)
    folders = [*(caches.viewset_of(tmp_path) / "targets").iterdir()]
    assert len({TargetSet(folder).identity["teacher"]["weights_sha256"] for folder in folders}) == 2
    found = caches.command("shards", "verify", tmp_path, "--recompute", "5").succeeds()  # each by its saved flags
    assert found.out.count("5 views recomputed") == 2
    caches.command("extract", *teacher, "--out", tmp_path, "--weights_key", "mean").refuses("'mean'", "ema, student")
    (average,) = (folder for folder in folders if saved_flags(folder)["weights_key"] == "ema")
    verify = ("shards", "verify", average, "--recompute", "5", "--weights")
    file = teacher[teacher.index("--weights") + 1]
    caches.command(*verify, f"{file}:key=ema").succeeds()
    caches.command(*verify, f"{file}:key=student").refuses("teacher.weights_sha256")
