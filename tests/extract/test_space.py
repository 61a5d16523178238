"""Disk and cores: what a plan says before it begins, and what it takes of the machine."""

import re
import shutil
from pathlib import Path

import caches
import joblib
import pytest

from extract.config import ExtractConfig
from extract.disk import PROBE_FROM_BYTES, announce, write_rate
from extract.modalities import view_maker
from extract.modalities.base import ViewRequest
from extract.modalities.image import ImageInput
from extract.plan_targets import plan_targets
from extract.plan_views import ViewSetJob
from extract.teachers.base import Teacher
from shards.command.devices import share_of_cores
from shards.command.progress import human_bytes
from shards.documents import Plan
from shards.errors import BadInput


def dense_job(folder: Path, num_samples: int, **flags: int) -> tuple[ViewSetJob, list]:
    """A plan of so many samples whose tars are to be made, and of 197 x 768 numbers of each in int8."""
    import torch

    keys = [f"sample-{number}" for number in range(num_samples)]
    maker = view_maker(ViewRequest("resize", None, None, False, None, None))
    views = ViewSetJob(folder, Plan(keys, 512, maker.describe(), None, {}), 1, 1, None, maker)
    outputs = {"layer_mean": (197, 768)}
    inputs = ImageInput(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    teacher = Teacher("dense", "dense", "0" * 64, inputs, outputs, torch.nn.Identity(), None)
    return views, plan_targets(ExtractConfig("dense", str(folder), **flags), views, teacher)  # type: ignore[arg-type]


def test_a_large_plan_measures_the_disk_and_says_how_long_it_takes_at_least(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(*dense_job(tmp_path, 8000))
    said = capsys.readouterr().out
    assert "8,000 x 197 x 768 int8: 151,690 bytes a sample, 1.2 GB in all, 8,000 rows to make" in said
    assert "with --keep_tokens 32: 197.4 MB in all" in said
    assert re.search(r"this disk writes [\d.]+ [kMG]B/s: 1.4 GB take at least \d+ (s|min|h)$", said, re.M)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing of it is left


def test_a_small_plan_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce(*dense_job(tmp_path, 5000))
    assert PROBE_FROM_BYTES > 5000 * (151_690 + 24_000) and "this disk" not in capsys.readouterr().out
    announce(*dense_job(tmp_path, 8000, keep_tokens=49))
    said = capsys.readouterr().out
    assert "37,779 bytes a sample" in said and "this disk" not in said


@pytest.mark.parametrize("num_samples", [3, 21, 40])
def test_the_size_that_is_announced_is_the_size_on_disk(teacher: Path, tmp_path: Path, num_samples: int) -> None:
    flags = ("--data", "digits", "--limit", str(num_samples), "--shard_size", "16", "--views", "2")
    done = caches.extract("--teacher", f"run:{teacher}", "--out", tmp_path, *flags, "--codec", "float32")
    stored = sum(len(data) for name, data in caches.contents(tmp_path).items() if "/values/c/" in name)
    assert f"40 bytes a sample, {human_bytes(stored)} in all, {2 * num_samples} rows to make" in done.out
    assert 40 * 2 * num_samples < stored <= 1.2 * 40 * 2 * num_samples + 24 * 2 * -(-num_samples // 16)


def test_what_does_not_fit_is_refused_with_what_would_make_it_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    with pytest.raises(
        BadInput, match=r"1.4 GB are needed and 1.0 GB are free: --keep_tokens 32 or --codec int4; .* 71.\d%"
    ):
        announce(*dense_job(tmp_path, 8000))
    with pytest.raises(BadInput, match="are free: no codec and no --keep_tokens makes it fit; .* 3.6% of the samples"):
        announce(*dense_job(tmp_path, 160_000))


def test_a_probe_that_the_disk_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        write_rate(tmp_path)
    assert caches.contents(tmp_path) == {}


def test_cores_are_shared_out_and_the_environment_may_lower_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_of_cores(1) == joblib.cpu_count() and share_of_cores(1000) == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert share_of_cores(1) == 1
