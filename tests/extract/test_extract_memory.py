"""Memory of extract: batches of every teacher are counted; their size is that of any machine; used up is one line."""

import io
import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import joblib
import pytest
import torch
from caches import SMALL, command, contents, extract, viewset_of
from PIL import Image
from texts import WORDS, write_corpus, write_encoder

from extract import teachers
from extract.config import ExtractConfig
from extract.launch.ray import _ready
from extract.memory import batch_bytes, batch_within, batches_within, growths_of
from extract.modalities.image import ImageInput
from extract.phases import Work, begin, planned
from extract.plan_targets import Part
from extract.processes import MAX_COMPUTE_THREADS
from extract.teachers.base import Teacher, freeze
from shards.bill.live_bytes import LiveBytes

CPU = torch.device("cpu")
SIZES = (2, 6)


def write_long_captions(folder: Path) -> Path:
    """Eight small pictures, each with three captions that no encoder takes whole."""
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w") as tar:
        for number in range(8):
            buffer = io.BytesIO()
            Image.new("RGB", (16, 16), (20 * number, 90, 30)).save(buffer, "PNG")
            captions = [" ".join(WORDS * 4)] * 3
            for ending, content in (("json", json.dumps({"caption": captions}).encode()), ("png", buffer.getvalue())):
                member = tarfile.TarInfo(f"{number:05d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def works(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Work]:
    """The work of a command whose views are of that kind, planned and not begun."""
    folder = tmp_path_factory.mktemp("kinds")
    encoder, corpus = write_encoder(folder / "encoder"), write_corpus(folder / "corpus")
    pairs = f"wds:{write_long_captions(folder / 'tars')}:captions=caption"
    image, text = f"run:{teacher}", f"hf:{encoder}"
    digits = {"data": "digits", "limit": 16, "view": "resize:size=16"}
    of_pairs = {"data": pairs, "view": "pair:size=16,format=png"}
    kinds = {
        "image": ExtractConfig(image, "", target="logits,pooled", codec="float16,int8", **digits),
        "text": ExtractConfig(text, "", data=f"text:{corpus}", target="layer_mean", view="blocks:size=32"),
        "vocabulary": ExtractConfig(text, "", data=f"text:{corpus}", target="mlm_logits", view="blocks:size=32"),
        "pair": ExtractConfig(text, "", target="pooled", codec="int8", **of_pairs),
        "several": ExtractConfig(f"{image}=logits,{text}=pooled", "", codec="int8", **of_pairs),
    }
    return lambda kind: planned(replace(kinds[kind], out=str(folder / kind), devices="cpu"))


def taken(work: Work, part: Part, size: int) -> int:
    """Live bytes of the first `size` real samples of a part, as the pipeline computes them."""
    extraction = replace(work.extraction, parts=[part])
    (shard,) = next(extraction.shards([((0, 0), [part])]))
    rows = [torch.randn(4, *job.row_shape) for job in part.targets]
    jobs = [
        replace(job, codec=job.codec.calibrate(some)) if job.codec.has_statistics else job
        for job, some in zip(part.targets, rows, strict=True)
    ]
    fields = list(shard.batch(list(range(size))).values())
    with LiveBytes() as live:
        live.count(fields)
        extraction.encode(shard, replace(part, targets=jobs), list(range(size)))
    return live.peak


@pytest.mark.parametrize("kind", ["image", "text", "vocabulary", "pair", "several"])
def test_what_real_batches_take_is_counted(works: Callable[[str], Work], kind: str) -> None:
    work = works(kind)
    for part in work.plan.parts:
        growths = growths_of(part, CPU, "float32")
        for size in SIZES:
            counted, real = batch_bytes(growths, size), taken(work, part, size)
            assert real <= 1.05 * counted and counted <= 1.5 * real, (size, counted, real)


def test_of_several_teachers_the_weights_add_up_and_the_largest_batch_counts(works: Callable[[str], Work]) -> None:
    work = works("several")
    parts = work.plan.parts
    networks = [part.teacher.network for part in parts if part.teacher]
    weights = sum(rows.nbytes for network in networks for rows in network.state_dict().values())
    largest = max(batch_bytes(growths_of(part, CPU, "float32"), 5) for part in parts)
    config = ExtractConfig("", "", max_memory=f"{int(weights + MAX_COMPUTE_THREADS * largest) + 1}B")
    assert batches_within(config, parts, CPU, 4, speaks=False) == (5, 4)
    assert batch_within(config, parts, CPU, MAX_COMPUTE_THREADS, speaks=False) == 5
    assert batch_within(config, parts, CPU, 3, speaks=False) > 5  # as many as a GPU has in work


def cap_for(teacher: Path, out: Path, size: int, at_a_time: int = MAX_COMPUTE_THREADS) -> str:
    """A cap in which so many batches of that size fit, and none that is a sample larger."""
    part = planned(
        ExtractConfig(f"run:{teacher}", str(out), data="digits", limit=40, view="resize:size=16")
    ).plan.parts[0]
    assert part.teacher is not None
    weights = sum(rows.nbytes for rows in part.teacher.network.state_dict().values())
    return f"{int(weights + at_a_time * batch_bytes(growths_of(part, CPU, 'float32'), size)) + 1}B"


@pytest.mark.slow
def test_the_batch_and_all_bytes_are_the_same_on_any_number_of_cores(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--teacher", f"run:{teacher}", *SMALL)
    cap = cap_for(teacher, tmp_path / "counted", 5)
    for cores in (1, 3, 64):
        monkeypatch.setattr(joblib, "cpu_count", lambda cores=cores: cores)
        done = extract(*flags, "--out", tmp_path / str(cores), "--max_memory", cap)
        at_a_time = min(cores, MAX_COMPUTE_THREADS)
        assert "batches of 5 instead of 64" in done.out and f"here {at_a_time} at a time: " in done.out
    extract(*flags, "--out", tmp_path / "five", "--batch_size", "5")
    alone = contents(tmp_path / "1")
    assert contents(tmp_path / "3") == contents(tmp_path / "64") == alone
    five = contents(tmp_path / "five")
    rows = [name for name in alone if "/c/" in name or ".tar" in name]
    assert rows and all(five[name] == alone[name] for name in rows)
    assert "max_memory" not in (viewset_of(tmp_path / "1") / "extract.yaml").read_text()


def test_where_few_batches_of_one_sample_fit_cores_wait(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    cap = cap_for(teacher, tmp_path, 1, at_a_time=3)
    config = ExtractConfig(f"run:{teacher}", str(tmp_path), data="digits", limit=40, view="resize:size=16")
    extraction = planned(replace(config, max_memory=cap)).extraction
    assert (extraction.batch_size, extraction.compute_threads, extraction.num_threads) == (1, 3, 8)


def test_a_task_of_ray_has_no_more_threads_than_fit(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    config = ExtractConfig(f"run:{teacher}", str(tmp_path / "cache"), data="digits", limit=40, view="resize:size=16")
    capped = replace(config, max_memory=cap_for(teacher, tmp_path / "counted", 1, at_a_time=3), devices="cpu")
    for given, threads, computing in ((config, 40, MAX_COMPUTE_THREADS), (capped, 40, 3), (capped, 1, 1)):
        out = str(tmp_path / f"{computing}")
        begun = planned(replace(given, out=out))  # the command begins what its tasks find
        begin(begun.plan, shared=True)
        extraction = _ready(replace(given, out=out), threads)[0].extraction
        assert (extraction.num_threads, extraction.compute_threads) == (threads, computing)


def test_a_cap_below_a_batch_of_one_is_refused_with_what_would_fit(tmp_path: Path, teacher: Path) -> None:
    flags = ("--teacher", f"run:{teacher}", "--out", tmp_path / "cache", *SMALL)
    refused = command("extract", *flags, "--max_memory", "1kB")
    refused.refuses("--max_memory 1kB: the teacher takes", "give more than that, or a smaller teacher")
    command("extract", *flags, "--max_memory", "many").refuses("--max_memory many: expected a size above 0")
    assert contents(tmp_path / "cache") == {}


class Exhausting(torch.nn.Module):
    """Asks for more memory than there is, as a GPU's allocator says it, unless a sample is alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(images) > 1:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.64 GiB of which\n"
                "1.00 GiB is free."
            )
        return {"logits": self.head(images.mean((2, 3)))}


@pytest.fixture
def exhausting(monkeypatch: pytest.MonkeyPatch) -> str:
    """A teacher of the registry."""
    module = ModuleType("extract.teachers.exhausting")

    def load(spec: str, weights: str | None, image_size: int | None) -> Teacher:
        torch.manual_seed(0)
        return freeze(spec, spec, Exhausting(), ImageInput(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), None)

    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "extract.teachers.exhausting", module)
    monkeypatch.setitem(teachers.REGISTRY, "exhausting", "exhausting")
    return "exhausting"


def test_a_device_without_memory_is_one_line_that_says_what_to_lower(exhausting: str, tmp_path: Path) -> None:
    flags = ("--teacher", exhausting, "--out", tmp_path / "cache", *SMALL)
    used_up = "extract: CUDA out of memory. Tried to allocate 20.00 GiB; "
    command("extract", *flags, "--plan", "seconds=0.5").refuses(used_up)
    command("extract", *flags).refuses(used_up + "give --batch_size below 64, or --max_memory 24GB", "resumes")
    command("extract", *flags, "--batch_size", "1").succeeds()
    capped = command("extract", *flags, "--out", tmp_path / "capped", "--max_memory", "24GB")
    capped.refuses(used_up + "kernels take more than is counted: give --max_memory below 24GB")
