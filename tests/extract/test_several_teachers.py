"""Several teachers in one command: the same files as from a command each, the views made once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import caches
import pytest
from caches import command, contents, extract, write_teacher
from pairs import write_pairs
from texts import write_encoder

from extract.config import ExtractConfig
from extract.several import each_teacher
from shards.errors import BadInput

SMALL = (*caches.SMALL, "--shard_size", "16", "--batch_size", "8")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("networks")
    return write_teacher(folder / "one"), write_teacher(folder / "two", seed=1, width=6)


@pytest.fixture(scope="module")
def separate(networks: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("separate")
    extract("--teacher", f"run:{networks[0]}", "--target", "logits", "--out", cache, *SMALL)
    flags = ("--target", "pooled,logits", "--codec", "int8,float16")
    extract("--teacher", f"run:{networks[1]}", *flags, "--out", cache, *SMALL)
    return cache


def both(networks: tuple[Path, Path]) -> tuple[str, ...]:
    one, two = networks
    spec = f"run:{one}=logits,run:{two}=pooled,run:{two}=logits"
    return ("--teacher", spec, "--codec", "float16,int8,float16")


def test_the_files_are_those_of_a_command_each(networks: tuple[Path, Path], separate: Path, tmp_path: Path) -> None:
    told = extract(*both(networks), "--out", tmp_path, *SMALL).out
    assert contents(tmp_path) == contents(separate)
    assert "40 views made, 80 teacher forwards" in told


@pytest.mark.slow
def test_two_processes_and_a_kill_leave_the_same_files(
    networks: tuple[Path, Path], separate: Path, tmp_path: Path
) -> None:
    arguments = [sys.executable, "-m", "extract", *both(networks), "--out", str(tmp_path), *SMALL, "--devices", "2"]
    process = subprocess.Popen(arguments, start_new_session=True)
    while process.poll() is None and not list(tmp_path.glob("*/targets/*/commits/*")):
        pass
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(arguments, check=True)
    assert contents(tmp_path) == contents(separate)


@pytest.mark.slow
def test_an_image_teacher_and_a_text_teacher_read_the_same_pairs(networks: tuple[Path, Path], tmp_path: Path) -> None:
    data, encoder = write_pairs(tmp_path / "tars", 24), write_encoder(tmp_path / "encoder")
    flags = ("--data", f"wds:{data}:captions=caption", "--view", "pair:size=16,format=png", *SMALL[-4:], "--views", "2")
    flags += ("--devices", "cpu", "--codec", "int8")
    for name, target in ((f"run:{networks[0]}", "logits"), (f"hf:{encoder}", "pooled")):
        extract("--teacher", name, "--target", target, "--out", tmp_path / "separate", *flags)
    told = extract("--teacher", f"run:{networks[0]}=logits,hf:{encoder}=pooled", "--out", tmp_path / "one", *flags).out
    assert contents(tmp_path / "one") == contents(tmp_path / "separate")
    assert "48 views made, 96 teacher forwards" in told
    # the image teacher's rows were there: the text teacher is asked alone
    command("shards", "remove", "--yes", str(caches.targetset_of(tmp_path / "one", "hf-"))).succeeds()
    again = extract("--teacher", f"run:{networks[0]}=logits,hf:{encoder}=pooled", "--out", tmp_path / "one", *flags).out
    assert contents(tmp_path / "one") == contents(tmp_path / "separate") and "0 views made, 48 teacher" in again


def test_each_teacher_has_its_own_flags() -> None:
    config = ExtractConfig("a=logits,b:c=cls,a=pooled", "out", codec="topk:16,float16,int8", weights="b:c=x=1,y.pt")
    first, second = each_teacher(config)
    assert (first.teacher, first.target, first.codec, first.weights) == ("a", "logits,pooled", "topk:16,int8", None)
    assert (second.teacher, second.target, second.codec, second.weights) == ("b:c", "cls", "float16", "x=1,y.pt")
    weights = "a=http://x/?b=1,b:c=two.pt"
    given = [each.weights for each in each_teacher(ExtractConfig("a=logits,b:c=cls", "out", weights=weights))]
    assert given == ["http://x/?b=1", "two.pt"]


def test_one_teacher_is_itself(tmp_path: Path) -> None:
    (tmp_path / "lr=1,x").mkdir()
    for spec in ("resnet50", "none", f"run:{tmp_path}/lr=1,x", "hf:ORG/NAME:statistics=valid"):
        config = ExtractConfig(spec, "out", target="logits,pooled")
        assert each_teacher(config) == [config]
    (only,) = each_teacher(ExtractConfig("resnet50=logits", "out", weights="x.pt"))
    assert (only.teacher, only.target, only.weights) == ("resnet50", "logits", "x.pt")


def test_weights_name_the_set_of_a_file_that_they_mean() -> None:
    def keys(teacher: str, weights: str) -> list[tuple[str | None, str | None]]:
        configs = each_teacher(ExtractConfig(teacher, "out", weights=weights))
        return [(config.weights, config.weights_key) for config in configs]

    assert keys("beitv2", "x.pt:key=ema") == [("x.pt", "ema")]
    assert keys("hf:ORG/NAME", ":key=ema") == [(None, "ema")]
    assert keys("a=logits,b=cls", "a=x.pt:key=model.head,b=https://host/y.pt") == [
        ("x.pt", "model.head"),
        ("https://host/y.pt", None),
    ]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"teacher": "a=logits,b"}, "found 'b'"),
        ({"teacher": "a=logits,b=cls", "target": "logits"}, "--target logits"),
        ({"teacher": "a=logits,b=cls", "weights": "x.pt"}, "--weights x.pt: whose"),
        ({"teacher": "a=logits,b=cls", "weights_key": "ema"}, "--weights_key ema: whose"),
        ({"teacher": "a=logits,b=cls", "codec": "int8,int8,int8"}, "--codec int8,int8,int8"),
    ],
)
def test_what_is_nobodys_is_refused(flags: dict[str, str], word: str) -> None:
    with pytest.raises(BadInput, match=word):
        each_teacher(ExtractConfig(out="out", **flags))  # type: ignore[arg-type]


def test_the_second_teachers_mistake_names_it_and_leaves_nothing(networks: tuple[Path, Path], tmp_path: Path) -> None:
    spec = f"run:{networks[0]}=logits,run:{networks[1]}=cls"
    command("extract", "--teacher", spec, "--out", tmp_path / "cache", *SMALL).refuses("cls", "gives logits, pooled")
    assert not (tmp_path / "cache").exists()
