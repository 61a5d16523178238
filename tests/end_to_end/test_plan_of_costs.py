"""`--plan` says before a run what it will write, and leaves nothing behind."""

import errno
import json
import os
import re
from pathlib import Path

import caches
import pytest

from extract.stages import BATCHES_IN_FLIGHT
from shards.bill.disk import DiskRates


def amount(folder: Path) -> tuple[int, int]:
    """Bytes and files."""
    stored = caches.contents(folder)
    return sum(map(len, stored.values())), len(stored)


def planned(saved: Path, name: str, *flags: str | Path) -> tuple[dict, str]:
    """The plan that `python -m NAME FLAGS --plan` saves, and what it prints."""
    out = caches.command(name, *flags, "--plan", f"seconds=0.5,save={saved}").succeeds().out
    return json.loads(saved.read_bytes()), out


@pytest.mark.slow
def test_an_extraction_writes_what_its_plan_says(teacher: Path, tmp_path: Path) -> None:
    cache, codec = tmp_path / "cache", "topk:3"
    flags = ("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "2", "--codec", codec)
    plan, out = planned(tmp_path / "plan.json", "extract", *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert "40 samples x 2 views, run-teacher: 80 views and 80 forwards to make" in out
    assert "held by" in out and f"logits *  {codec}" in out and "int4" in out
    caches.extract(*flags)
    num_bytes, num_files = amount(cache)
    assert plan["files"] == num_files and abs(plan["bytes"] / num_bytes - 1) < 0.02
    before = caches.contents(cache)
    plan, out = planned(tmp_path / "plan.json", "extract", *flags[:-3], "3", *flags[-2:])
    assert "40 samples x 3 views, run-teacher: 40 views and 40 forwards to make" in out
    assert caches.contents(cache) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "plan.json"]
    plan, out = planned(tmp_path / "plan.json", "extract", *flags)
    assert plan["seconds"] == plan["once"] and "0 views and 0 forwards to make" in out


def epoch_seconds(out: str) -> tuple[float, float]:
    """An epoch with the teacher in the loop, and from the cache."""
    units = {"s": 1, "min": 60, "h": 3600}
    found = re.search(r"an epoch takes (\S+) (\w+) with the teacher in the loop and (\S+) (\w+) from the cache", out)
    assert found, out
    return float(found[1]) * units[found[2]], float(found[3]) * units[found[4]]


def test_break_even_of_growth_and_of_a_further_teacher_on_stored_views(
    cache: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch from the cache reads one view and its targets, whatever is stored of them already.

    The disk is so slow that reading alone decides. Where no view is to be made, an epoch with that teacher in the loop
    reads the stored ones too.
    """
    rate = 1e4
    monkeypatch.setattr("extract.bill.command.probe_disk", lambda *_: DiskRates(1e8, rate, 0.0, 1e12))
    other = caches.write_teacher(tmp_path / "other", seed=1, width=8)
    flags = ("--out", cache, *caches.SMALL, "--codec", "float32", "--teacher")
    plan, further = planned(tmp_path / "plan.json", "extract", *flags, f"run:{other}")
    _, grown = planned(tmp_path / "plan.json", "extract", *flags, f"run:{teacher}", "--views", "4")
    assert "0 views and 80 forwards to make" in further and "80 views and" in grown
    caches.extract(*flags, f"run:{other}")
    parts = "*/views/**/*", "*/targets/run-other*/values/c/**/*"
    sizes = [sum(path.stat().st_size for path in cache.glob(part) if path.is_file()) / 2 for part in parts]
    for out in (further, grown):
        assert epoch_seconds(out)[1] == pytest.approx(sum(sizes) / rate, rel=0.05)
    assert epoch_seconds(further)[0] == pytest.approx(sizes[0] / rate, rel=0.05)
    assert plan["break_even_epochs"] is None and "the cache never beats" in further  # from so slow a disk
    for name, why in ((f"run:{other}", "all of its targets are made"), ("none", "there is no teacher")):
        _, out = planned(tmp_path / "plan.json", "extract", *flags, name)
        assert f"against the teacher in the loop: not known: {why}" in out


def test_codebooks_of_few_vectors_have_no_cosine_in_a_plan(teacher: Path, tmp_path: Path) -> None:
    """Sixteen samples' vectors would be known by heart."""
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL, "--codec", "pq:2,centroids=16")
    plan, out = planned(tmp_path / "plan.json", "extract", *flags)
    assert "pq:2,centroids=16 of logits learns its codebooks from 40 vectors of 40 samples: " in out
    cosines = {row["codec"]: row["cosine"] for row in plan["alternatives"] if row["target"] == "logits *"}
    assert cosines["pq:2,centroids=16"] == "-"


@pytest.mark.slow
def test_a_training_writes_what_its_plan_says(cache: Path, tmp_path: Path) -> None:
    before, run = caches.contents(cache), tmp_path / "run"
    flags = ("--shards", cache, "--run_dir", run, "--student", "convnet:width=4", "--epochs", "2", "--batch_size", "8")
    plan, out = planned(tmp_path / "plan.json", "distill", *flags, "--devices", "cpu")
    assert caches.contents(cache) == before and not run.exists()
    assert f"{plan['steps']:,} steps (2 epochs) of 8" in out
    assert "the teacher in the loop" in out
    done = caches.command("distill", *flags, "--devices", "cpu").succeeds()
    assert f"{plan['steps']:,} steps" in done.out
    num_bytes, num_files = amount(run)
    assert plan["files"] == num_files and abs(plan["bytes"] / num_bytes - 1) < 0.1


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOENT])
def test_a_plan_never_works_on_the_cache_itself(
    number: int, cache: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without hard links gets copies; a file that goes away meanwhile, as a run's own do, is left out."""
    gone = "v01-00002.json"
    link = os.link

    def refuses(path: Path, name: Path, **options: bool) -> None:
        if number == errno.EPERM or path.name == gone:
            raise OSError(number, os.strerror(number), str(path))
        link(path, name, **options)

    monkeypatch.setattr(os, "link", refuses)
    before, there = caches.contents(cache), sorted(cache.parent.iterdir())
    flags = ("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL, "--views", "2", "--codec", "float16")
    out = caches.command("extract", *flags, "--plan", "seconds=0.5").succeeds().out
    assert f"{8 if number == errno.ENOENT else 0} views and 80 forwards to make" in out
    assert caches.contents(cache) == before and sorted(cache.parent.iterdir()) == there


def test_a_plan_stands_beside_what_happened(teacher: Path, tmp_path: Path) -> None:
    cache, saved = tmp_path / "cache", tmp_path / "cache.plan.json"
    flags = ("--teacher", f"run:{teacher}", "--out", cache, *caches.SMALL)
    plan, _ = planned(saved, "extract", *flags)
    out = caches.extract(*flags).out
    assert f"): {saved}" in out.splitlines()[-1] and "extract: planned: time" in out.splitlines()[-1]
    noted = json.loads(saved.read_bytes())
    happened = noted.pop("happened")
    assert noted == plan and happened["num_bytes"] == amount(cache)[0] and happened["seconds"] > 0
    before = saved.read_bytes()
    for where in ("seconds=0.5", f"seconds=0.5,save={saved}"):
        out = caches.command("extract", *flags, "--plan", where).succeeds().out
        assert "what happened" in out and f"{happened['num_bytes'] / plan['bytes']:,.2f}" in out
    assert f"{happened['num_bytes'] / plan['bytes']:,.2f}" in page_plans(cache)
    assert saved.read_bytes() == before
    assert "extract: planned" not in caches.extract(*flags, "--views", "2").out  # other work than was planned


def page_plans(cache: Path, *flags: str | Path) -> str:
    """The part of the page with plans beside what happened."""
    output = cache.parent / "page.html"
    caches.command("shards", "page", cache, "--output", output, "--num", "1", *flags).succeeds()
    return output.read_text().partition('<section id="plans">')[2].partition("</section>")[0]


@pytest.mark.slow
def test_a_plan_of_a_training_stands_beside_what_happened(cache: Path, tmp_path: Path) -> None:
    run, saved = tmp_path / "run", tmp_path / "run.plan.json"
    flags = ("--shards", cache, "--run_dir", run, "--student", "convnet:width=4", "--epochs", "1", "--batch_size", "8")
    plan, _ = planned(saved, "distill", *flags, "--devices", "cpu")
    out = caches.command("distill", *flags, "--devices", "cpu").succeeds().out
    assert "distill: planned: time" in out.splitlines()[-1]
    happened = json.loads(saved.read_bytes())["happened"]
    assert happened["seconds"] == json.loads((run / "summary.json").read_bytes())["seconds"]
    out = caches.command("distill", *flags, "--devices", "cpu", "--plan", "seconds=0.5").succeeds().out
    assert "is finished" in out and "ratio" in out
    shown = page_plans(cache, "--runs", tmp_path)
    for name, took in (("seconds", happened["seconds"]), ("bytes", happened["num_bytes"])):
        opening = plan["opening"] if name == "seconds" else 0
        assert f"{took / (plan[name] - opening):,.2f}" in shown
    out = caches.command("distill", *flags[:-3], "2", *flags[-2:], "--plan", "seconds=0.5").succeeds().out
    assert "is finished" not in out and "(2 epochs)" in out  # another run's plan is made
    document = json.loads(saved.read_bytes())
    saved.write_text(json.dumps(document | {"device_profile": "h100"}))
    out = caches.command("distill", *flags, "--devices", "cpu", "--plan", "seconds=0.5").succeeds().out
    assert "is finished" not in out


@pytest.mark.slow
def test_a_training_from_two_sets_lists_what_else_there_is(teacher: Path, tmp_path: Path) -> None:
    flags = ("--teacher", f"run:{teacher}", "--devices", "cpu", "--image_size", "16", "--data", "digits")
    one, other = tmp_path / "one", tmp_path / "other"
    caches.extract(*flags, "--limit", "8", "--out", one)
    caches.extract(*flags, "--limit", "60", "--out", other)
    caches.extract(*flags, "--limit", "8", "--out", one, "--target", "pooled")
    run = ("--student", "convnet:width=4", "--epochs", "1", "--batch_size", "4", "--devices", "cpu")
    run = (*run, "--targets", "logits", "--run_dir", tmp_path / "run")
    plan, _ = planned(tmp_path / "plan.json", "distill", "--shards", f"{one}=1,{other}=30", *run)
    assert plan["break_even_epochs"] is None or plan["break_even_epochs"] > 0
    rows = [(*row[:4], row[7]) for row in plan["alternatives"]]
    assert rows[0] == ("logits *", "float16", "all", "1", "the cache") == tuple(rows[0])
    assert ("pooled", "float16", "all", "1", "the cache") in rows and len(set(rows)) == len(rows)
    assert ("pooled", "int8", "all", "1", "extract") in rows and ("logits", "float16", "all", "4", "extract") in rows


def test_a_card_that_is_not_here_is_predicted_and_the_plan_says_so(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *caches.SMALL)
    out = caches.command("extract", *flags, "--plan", "device_profile=rtx4090,seconds=0.5").succeeds().out
    assert "the teacher is a prediction, measured on no rtx4090" in out and "the rtx4090 has 24.0 GB" in out
    capped = ("--max_memory", "3MB", "--plan", "device_profile=rtx4090,seconds=0.5")
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    out = caches.command("extract", *flags, *capped).succeeds().out
    assert f"{BATCHES_IN_FLIGHT} at a time" in out and "; fits: --max_memory gives 3.0 MB" in out


@pytest.mark.slow
def test_what_cannot_be_planned_is_refused_in_one_line(
    teacher: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--teacher", f"run:{teacher}", *caches.SMALL)
    (tmp_path / "file").touch()
    for name, where in (("extract", "--out"), ("distill", "--run_dir")):
        rest = flags if name == "extract" else ("--shards", cache, "--batch_size", "8")
        caches.command(name, *rest, where, tmp_path / "file/cache", "--plan").refuses(where, "cannot be written")
    out = ("--out", tmp_path / "new")
    caches.command("extract", *flags, *out, "--plan", "device_profile=h300").refuses("h300", "rtx4090", "h200")
    caches.command("extract", *flags[:2], *out, "--devices", "cuda:7", "--plan").refuses("--devices cuda:7")
    small = ("--max_memory", "1KB", "--plan", "seconds=0.5")
    caches.command("extract", *flags, *out, *small).refuses("--max_memory 1KB", "make it")
    run = ("--shards", cache, "--batch_size", "8", "--run_dir", tmp_path / "run", "--student", "convnet:width=4")
    caches.command("distill", *run, *small).refuses("--max_memory 1KB", "still takes")
    caches.command("distill", *run, "--devices", "cuda:7", "--plan").refuses("--devices cuda:7")
    caches.command("distill", "--shards", cache, "--plan", "device_profile=h300").refuses("h300", "rtx4090", "h200")
    inside = f"save={tmp_path / 'new/plan.json'}"
    caches.command("extract", *flags, *out, "--plan", inside).refuses("in which a plan writes nothing")
    monkeypatch.setattr("extract.bill.command.probe_disk", None)  # the place is looked at before anything is probed
    for place in (tmp_path, tmp_path / "file/plan.json", "/proc/plan.json", "/proc/self/new/plan.json"):
        caches.command("extract", *flags, *out, "--plan", f"save={place}").refuses(f"save={place}", "no file")
    monkeypatch.undo()
    few = "40 samples have 40 vectors of logits, fewer than a codebook's 256 centroids"
    caches.command("extract", *flags, *out, "--codec", "pq:2", "--plan", "seconds=0.5").refuses(few)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "file"]
