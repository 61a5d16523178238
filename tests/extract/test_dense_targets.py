"""Dense targets end to end: a data2vec 2.0 checkpoint, its layer mean in int8 with kept statistics, read back."""

import caches
import pytest
import torch
from safetensors.torch import load_file, save_file

from extract.teachers import load_teacher
from shards.codecs.channels import CALIBRATION_SAMPLES, ChannelStatistics
from shards.decode import codec_of, read_decoded
from shards.errors import Damaged
from shards.layout import CALIBRATION
from shards.reader import TargetSet, ViewSet
from tests.extract.test_data2vec2_writer import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("data2vec2") / "tiny.pt", depth=2, average_top_k_layers=2)


def flags(checkpoint, cache):
    teacher = load_teacher("data2vec2", str(checkpoint))
    size = teacher.inputs.image_size
    small = ("--data", "digits", "--limit", "40", "--shard_size", "16", "--image_size", str(size))
    return teacher, ("--teacher", "data2vec2", "--weights", checkpoint, "--out", cache, *small)


def test_stored_layer_mean_is_what_the_live_teacher_says(checkpoint, tmp_path):
    teacher, arguments = flags(checkpoint, tmp_path / "cache")
    caches.extract(*arguments, "--codec", "int8")
    targetset = TargetSet(caches.targetset_of(tmp_path / "cache"))
    assert targetset.manifest.target == "layer_mean"
    assert CALIBRATION in targetset.manifest.files
    stored = read_decoded(targetset, codec_of(targetset), 0, ViewSet(caches.viewset_of(tmp_path / "cache")).usable)
    assert stored.shape[1:] == teacher.outputs["layer_mean"]
    outcome = caches.command("shards", "verify", tmp_path / "cache", "--recompute", "10").succeeds()
    assert "mean cosine" in outcome.out + outcome.err


def test_statistics_are_made_once_and_every_interruption_ends_in_the_same_bytes(checkpoint, tmp_path):
    _, arguments = flags(checkpoint, tmp_path / "whole")
    caches.extract(*arguments, "--codec", "int8")
    _, arguments = flags(checkpoint, tmp_path / "resumed")
    caches.extract(*arguments, "--codec", "int8")
    resumed = caches.targetset_of(tmp_path / "resumed")
    kept = (resumed / CALIBRATION).stat().st_mtime_ns
    for name in ("targetset.json", "commits/v00-00001.json"):
        (resumed / name).unlink()
    caches.extract(*arguments, "--codec", "int8")
    assert (resumed / CALIBRATION).stat().st_mtime_ns == kept
    assert caches.contents(tmp_path / "resumed") == caches.contents(tmp_path / "whole")


def test_statistics_that_changed_between_two_attempts_are_noticed(checkpoint, tmp_path):
    _, arguments = flags(checkpoint, tmp_path / "cache")
    caches.extract(*arguments, "--codec", "int8")
    folder = caches.targetset_of(tmp_path / "cache")
    state = load_file(folder / CALIBRATION)
    save_file({name: value + 1 for name, value in state.items()}, folder / CALIBRATION)
    (folder / "targetset.json").unlink()  # half written: no manifest holds the statistics' hash yet
    caches.command("extract", *arguments, "--codec", "int8").refuses("with other statistics than", "shards remove")


def test_statistics_belong_to_a_half_written_set_and_not_to_one_without_any(checkpoint, tmp_path):
    _, arguments = flags(checkpoint, tmp_path / "cache")
    caches.extract(*arguments, "--codec", "int8")
    int8 = caches.targetset_of(tmp_path / "cache")
    caches.extract(*arguments, "--codec", "float16")
    float16 = caches.targetset_of(tmp_path / "cache", "float16")
    (float16 / CALIBRATION).write_bytes((int8 / CALIBRATION).read_bytes())
    (int8 / "targetset.json").unlink()
    outcome = caches.command("shards", "verify", tmp_path / "cache")
    told = [line for line in (outcome.out + outcome.err).splitlines() if CALIBRATION in line]
    assert told and all(str(float16) in line for line in told)


def test_a_damaged_calibration_is_refused(checkpoint, tmp_path):
    _, arguments = flags(checkpoint, tmp_path / "cache")
    caches.extract(*arguments, "--codec", "int4")
    path = caches.targetset_of(tmp_path / "cache") / CALIBRATION
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    outcome = caches.command("shards", "verify", tmp_path / "cache")
    assert outcome.status == 2 and CALIBRATION in outcome.err


def test_statistics_that_a_whole_set_swears_to_and_that_are_none_are_refused(checkpoint, tmp_path):
    """Whoever made the cache made hash and file agree."""
    _, arguments = flags(checkpoint, tmp_path / "cache")
    caches.extract(*arguments, "--codec", "int4")
    folder = caches.targetset_of(tmp_path / "cache")
    whole = (folder / CALIBRATION).read_bytes()
    for content in (whole[:-7], b"", whole.replace(b"F32", b"F33"), b"\xff" * 64):
        (folder / CALIBRATION).write_bytes(content)
        caches.reseal_records(folder, "targetset.json", CALIBRATION)
        with pytest.raises(Damaged, match=r"is damaged \("):
            codec_of(TargetSet(folder))


def test_the_calibration_set_is_the_first_samples_of_the_plan():
    assert CALIBRATION_SAMPLES == 256
    rows = torch.arange(12.0).reshape(3, 2, 2)
    statistics = ChannelStatistics.of(rows)
    torch.testing.assert_close(statistics.mean, rows.reshape(-1, 2).mean(0))
    torch.testing.assert_close(statistics.std, rows.reshape(-1, 2).std(0, correction=0))


def test_another_input_size_than_the_positions_are_for_is_refused(checkpoint, tmp_path):
    _, arguments = flags(checkpoint, tmp_path / "cache")
    caches.command("extract", *arguments[:-1], "224").refuses("--image_size 224", "positions")


@pytest.mark.slow
def test_codebooks_do_not_hang_on_another_codec_of_the_same_command(checkpoint, tmp_path):
    both, alone = (tmp_path / name for name in ("both", "alone"))
    for cache, codecs in ((both, "pq:2,centroids=8,pq:2,centroids=16"), (alone, "pq:2,centroids=16")):
        size = ("--data", "digits", "--limit", "700", "--shard_size", "512", "--image_size", "12")
        target = ",".join(["cls"] * codecs.count("pq"))
        caches.extract(
            *("--teacher", "data2vec2", "--weights", checkpoint, "--out", cache),
            *size,
            "--target",
            target,
            "--codec",
            codecs,
        )
    states = [load_file(caches.targetset_of(cache, "cls-pq2-16") / CALIBRATION) for cache in (both, alone)]
    assert torch.equal(states[0]["centroids"], states[1]["centroids"])
