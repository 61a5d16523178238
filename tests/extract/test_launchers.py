"""Launchers are found by the name of their file; SLURM's tasks know their rank; the script that starts them is bash."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from caches import command, contents

from extract.config import ALIASES, HIDDEN, ExtractConfig
from extract.launch import Launcher, launcher_names, make_launcher
from extract.launch.slurm import place_among_tasks
from extract.processes import PROCESS
from shards.command.arguments import parse
from shards.errors import BadInput

VIEWS = ("--teacher", "none", "--data", "digits", "--limit", "32", "--view", "size=16", "--shard_size", "4")
SLURM = "SLURM_ARRAY_TASK_"
RECORDED = {"COUNT": "3", "ID": "4", "MAX": "6", "MIN": "2", "STEP": "2"}
"""What sbatch --array=2-6:2 set in its second task (SLURM 22.05)."""


def array(**changes: str) -> dict[str, str]:
    return {SLURM + name: value for name, value in (RECORDED | changes).items()}


@pytest.fixture(autouse=True)
def no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)


def test_every_launcher_is_one_file_and_is_made_by_its_name() -> None:
    assert {"local", "shared", "slurm"} <= set(launcher_names())
    for name in ("local", "shared", "slurm"):
        assert isinstance(make_launcher(name), Launcher)


@pytest.mark.slow
def test_a_new_launcher_touches_no_other_file(tmp_path: Path) -> None:
    root = Path(shutil.copytree(Path(__file__).parents[2] / "extract", tmp_path / "extract")).parent
    shutil.copytree(Path(__file__).parents[2] / "shards", root / "shards")
    added = "from extract.launch import Launcher\n"
    added += "def make(options):\n    print('mine', options)\n    return Launcher()\n"
    (root / "extract/launch/mine.py").write_text(added)
    words = [sys.executable, "-m", "extract", *VIEWS, "--devices", "cpu", "--out", "cache", "--launch", "mine:a=1"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine {'a': '1'}" in done.stdout and "32 views made" in done.stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("slum", "unknown launcher 'slum': did you mean slurm?"),
        ("local:a=1", "--launch local: takes no options, found a=1"),
        ("shared:a", "--launch shared:a: expected NAME:OPTION=VALUE"),
    ],
)
def test_a_launcher_that_is_not_known_or_not_so(spec: str, words: str, tmp_path: Path) -> None:
    command("extract", *VIEWS, "--out", tmp_path / "cache", "--launch", spec).refuses(words)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (array(), (1, 3)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (2, 4)),
        (array() | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (3, 6)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "7", "SLURM_ARRAY_TASK_COUNT": "1"}, (0, 1)),
        (array(ID="7", MIN="3", MAX="7", STEP="1", COUNT="2"), (4, 5)),  # sbatch --array=3,7: some tasks once more
    ],
)
def test_the_place_of_a_task(environment: dict[str, str], place: tuple[int, int]) -> None:
    assert place_among_tasks(environment) == place


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "this is no task of SLURM"),
        (array(ID="8"), "rank 3 of 3: expected 0 to 2"),
        (array(ID="0"), "expected 0 to 2"),
        (array(ID="3"), "expected 0 to 2"),
        (array(ID="x"), "SLURM_ARRAY_TASK_ID='x': expected a number"),
        ({"SLURM_PROCID": "4", "SLURM_NTASKS": "4"}, "SLURM_PROCID=4: rank 4 of 4: expected 0 to 3"),
    ],
)
def test_a_task_outside_its_world_is_refused(
    environment: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command("extract", *VIEWS, "--out", tmp_path / "cache", "--launch", "slurm").refuses(words)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("text", ["4/4", "x/2", "3"])
def test_a_child_outside_its_world_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROCESS, text)
    command("extract", *VIEWS, "--out", tmp_path / "cache").refuses(f"{PROCESS}={text}", "expected")


def test_the_tasks_of_an_array_write_the_bytes_of_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("extract", *VIEWS, "--devices", "cpu", "--out", tmp_path / "alone").succeeds()
    for number in ("6", "2"):  # the task between never starts
        for name, value in array(ID=number).items():
            monkeypatch.setenv(name, value)
        command("extract", *VIEWS, "--devices", "cpu", "--out", tmp_path / "shared", "--launch", "slurm").succeeds()
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def script(*flags: str) -> list[str]:
    return command("extract", *VIEWS, *flags, "--dry_run").succeeds().out.splitlines()


def test_the_script_starts_the_same_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bash reads the words that were typed, whatever is in them; only --dry_run is gone."""
    folder = tmp_path / "it's $HOME; `here`"
    folder.mkdir()
    monkeypatch.chdir(folder)
    spec = 'slurm:tasks=5,time=4:00:00,gpus_per_task=1,partition=a,b,comment=it\'s a "test" $x'
    typed = ["--out", "$(touch x) 'y'\n\"z\" \\", "--data_dir", "*", "--launch", spec]
    lines = script(*typed)
    assert lines[0] == "#!/bin/bash" and "#SBATCH --array=0-4" in lines
    expected = ["--time=4:00:00", "--gpus-per-task=1", "--partition=a,b", '--comment=it\'s a "test" $x']
    found = [shlex.split(line.removeprefix("#SBATCH ")) for line in lines if line.startswith("#SBATCH ")]
    assert {word for (word,) in found} >= set(expected)
    text = "\n".join(lines)
    subprocess.run(["bash", "-n", "-c", text], check=True)
    shown = text.replace("\nexec ", "\npwd; printf '%s\\0' ")
    words = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True, cwd="/").stdout
    place, _, words = words.partition("\n")
    assert place == str(folder) and not list(folder.iterdir())
    assert words.split("\0")[:-1] == [sys.executable, "-m", "extract", *VIEWS, *typed]


def test_a_dry_run_that_stands_in_a_configuration_is_undone(tmp_path: Path) -> None:
    (tmp_path / "saved.yaml").write_text("dry_run: true\nlaunch: slurm:tasks=2\n")
    found = command("extract", *VIEWS, "--out", "x", "--config", tmp_path / "saved.yaml").succeeds().out
    assert shlex.split(found.splitlines()[-1])[-2:] == ["--dry_run", "false"]


@pytest.mark.parametrize("typed", [[], ["--dry_run"], ["--launch", "slurm:tasks=3,dry_run=true"]])
def test_an_option_that_stands_in_a_configuration_is_undone(tmp_path: Path, typed: list[str]) -> None:
    (tmp_path / "saved.yaml").write_text("launch: slurm:tasks=2,dry_run=true\n")
    found = command("extract", *VIEWS, "--config", tmp_path / "saved.yaml", "--out", "x", *typed).succeeds().out
    words = shlex.split(found.splitlines()[-1])
    task = parse(ExtractConfig, "extract", words[words.index("extract") + 1 :], "", aliases=ALIASES, hidden=HIDDEN)
    assert not task.dry_run and task.launch == ("slurm:tasks=3" if "--launch" in typed else "slurm:tasks=2")


@pytest.mark.parametrize("option", ["slurm:tasks=2,dry_run=true", "slurm:dry_run=true,tasks=2"])
def test_a_dry_run_is_an_option_of_the_launcher(option: str) -> None:
    lines = command("extract", *VIEWS, "--out", "x", "--launch", option).succeeds().out.splitlines()
    assert not any("dry_run" in line for line in lines)
    assert shlex.split(lines[-1])[-2:] == ["--launch", "slurm:tasks=2"]


@pytest.mark.parametrize("flag", [["--dry_run"], ["--dry_run", "true"], ["--dry_run=true"]])
def test_both_words_of_a_dry_run_are_gone_from_the_script(flag: list[str]) -> None:
    """A task that kept either of them would print the script again instead of working."""
    launch = ["--launch", "slurm:tasks=2,dry_run=true,time=1:00:00"]
    for typed in ([*launch, *flag], [*flag, *launch]):
        lines = command("extract", *VIEWS, "--out", "x", *typed).succeeds().out.splitlines()
        assert not any("dry" in line for line in lines)
        words = shlex.split(lines[-1])[4:]  # behind exec python -m extract
        assert words == [*VIEWS, "--out", "x", "--launch", "slurm:tasks=2,time=1:00:00"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--launch", "slurm"), "expected a number of tasks"),
        (("--launch", "slurm:tasks=0"), "expected a number of tasks"),
        (("--launch", "slurm:tasks=2,a b=c"), "expected an option of sbatch"),
        (("--launch", "slurm:tasks=2,comment=a\nsrun"), "expected an option of sbatch"),
        ((), "--launch local: needs no script; --launch slurm:tasks=8,dry_run=true"),
    ],
)
def test_no_script_of_what_is_not_to_be_started_so(flags: tuple[str, ...], words: str) -> None:
    command("extract", *VIEWS, "--out", "x", *flags, "--dry_run").refuses(words)


def test_options_are_named() -> None:
    with pytest.raises(BadInput, match="takes no options"):
        make_launcher("local:tasks=1,2")


@pytest.mark.slow
def test_two_tasks_that_run_the_printed_script_at_once_write_the_bytes_of_one_command(tmp_path: Path) -> None:
    """Each as bash runs it, with what SLURM 22.05 set in the two tasks of an array, a step of one process in each."""
    command("extract", *VIEWS, "--devices", "cpu", "--out", tmp_path / "alone").succeeds()
    flags = ("--devices", "cpu", "--out", str(tmp_path / "shared"), "--launch", "slurm:tasks=2,time=1:00:00")
    (tmp_path / "extract.sh").write_text("\n".join(script(*flags)))
    step = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_JOB_ID": "7",
    }
    tasks = [
        subprocess.Popen(
            ["bash", tmp_path / "extract.sh"],
            env=os.environ | step | array(ID=str(rank), COUNT="2", MIN="0", MAX="1", STEP="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for task in tasks:
        said = task.communicate()
        assert task.returncode == 0, said
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")
