"""`python -m shards`: what list, info, view and remove print, write, refuse and leave behind."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import caches
import numpy as np
import pytest
from PIL import Image

from shards.__main__ import COMMANDS
from shards.contact_sheet import CELL
from shards.lock import writing
from shards.reader import ViewSet


def shards(*flags: str | Path) -> caches.Outcome:
    return caches.command("shards", *flags)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom shards.__main__ import main\n"
        f"try: main({[*filter(None, [command]), '--help']!r})\nexcept SystemExit: pass\n"
        "assert not {'torch', 'zarr', 'numpy', 'rich', 'PIL'} & sys.modules.keys(), sys.modules.keys()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: " in found.stdout


def test_commands_that_do_not_exist(tmp_path: Path) -> None:
    shards("verfy", tmp_path).refuses("unknown command", "did you mean verify?")
    assert shards().status == 2
    shards("list").refuses("PATH is missing")
    shards("list", tmp_path / "nowhere").refuses("no such folder", "python -m extract")
    shards("info", tmp_path).refuses("holds no view set", "python -m extract")
    for flag in ("--recompte", "--recomp"):
        shards("verify", tmp_path, flag, "3").refuses("did you mean --recompute?")


def test_list_says_what_is_whole_and_what_is_half_written(full: Path) -> None:
    lines = shards("list", full).succeeds().out.splitlines()
    assert lines[0].split() == ["name", "samples", "views", "size", "state"] and len(lines) == 5
    assert lines[1].startswith(caches.viewset_of(full).name) and lines[1].endswith("whole")
    assert lines[1].split()[1:3] == [str(caches.NUM_SAMPLES), "2"]
    assert len({line.index(line.split()[-1]) for line in lines[1:]}) == 1  # aligned
    topk = caches.targetset_of(full, "topk")
    (topk / "targetset.json").unlink()
    (topk / "commits/v01-00001.json").unlink()
    (caches.targetset_of(full, "pooled") / "targetset.json").write_text("{}")
    lines = shards("list", full).succeeds().out.splitlines()
    states = {name: next(line for line in lines if name in line) for name in ("topk", "pooled", "float32")}
    assert states["topk"].endswith("half written, 5 of 6 shards")
    assert "damaged: python -m shards verify" in states["pooled"]
    assert states["float32"].endswith("whole")


def test_sizes_are_what_lies_on_the_disk(pristine: Path) -> None:
    info = shards("info", caches.targetset_of(pristine)).succeeds().out
    size = sum(len(content) for content in caches.contents(caches.targetset_of(pristine)).values())
    assert f"({size:,} bytes)" in info


def test_info_tells_what_there_is_to_know(full: Path) -> None:
    found = shards("info", full).succeeds().out
    for text in ("identity.augment.scale", "request.data ", "digits", "skipped", "topk:3", "remaining_mass_mean"):
        assert text in found
    assert found.count("identity.teacher.weights_sha256") == 3
    folder = caches.targetset_of(full, "pooled")
    assert f"python -m distill --shards {folder.parent.parent} --targets {folder.name}" in found
    alone = shards("info", folder).succeeds().out
    assert "pooled (" in alone and "request.data" not in alone
    (folder / "targetset.json").unlink()
    assert "finish it" in shards("info", folder).succeeds().out


def test_on_a_terminal_the_list_is_a_table(pristine: Path) -> None:
    shown, _ = on_a_terminal("list", pristine)
    assert caches.viewset_of(pristine).name in shown and "whole" in shown and "─" in shown


def on_a_terminal(*flags: str | Path, typed: str = "") -> tuple[str, int]:
    """What `python -m shards FLAGS` shows on a wide terminal where `typed` is typed, and its exit status."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "shards", *map(str, flags)]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    os.write(main, typed.encode())
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    return shown.decode(), child.wait()


def test_view_draws_the_stored_pixels(full: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.png"
    shards("view", caches.targetset_of(full, "topk"), "--output", output, "--num", "8").succeeds()
    with Image.open(output) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    viewset = ViewSet(caches.viewset_of(full))
    first = viewset.usable[caches.NUM_SAMPLES // 8]  # 4 samples of 2 views each: the middle of the first quarter
    stored = Image.open(io.BytesIO(viewset.storage.content(0, int(first), "jpg"))).convert("RGB")
    enlarged = np.asarray(stored).repeat(CELL // caches.IMAGE_SIZE, 0).repeat(CELL // caches.IMAGE_SIZE, 1)
    shown = pixels[12 : 12 + CELL, 12 : 12 + CELL].astype(int)
    assert np.abs(shown - enlarged).max() <= 4  # two JPEG decoders
    text = pixels[12 + CELL : 12 + CELL + 6 * 17, 12 : 12 + CELL]
    assert (text < 100).any(axis=(1, 2)).sum() > 30 and (text > 200).mean() > 0.8  # dark letters on white

    found = shards("view", full, "--output", tmp_path / "views.jpg", "--num", "3").succeeds()
    assert "to see what a teacher says name one of" in found.out
    shards("view", caches.targetset_of(full, "pooled"), "--output", tmp_path / "pooled.png").succeeds()
    for flags, says in ((("sheet.bmp",), ".png or .jpg"), (("sheet.png", "--num", "0"), "--num")):
        refused = shards("view", full, "--output", tmp_path / flags[0], *flags[1:])
        refused.refuses(says)
        assert refused.out == ""  # no hint before the error
    shards("view", tmp_path / "nowhere", "--output", tmp_path / "sheet.txt").refuses(".png or .jpg")


def test_remove_a_target_set_and_then_its_view_set(full: Path) -> None:
    topk = caches.targetset_of(full, "topk")
    shards("remove", topk).refuses("--yes")
    assert topk.exists()
    shards("remove", topk, "--yes", "false").refuses("--yes")
    assert topk.exists()
    shards("remove", "--yes", topk).succeeds()
    assert not topk.exists()
    shards("verify", full).succeeds()
    rest = [caches.targetset_of(full, name) for name in ("float32", "pooled")]
    shards("remove", *rest, "--yes").succeeds()
    viewset = caches.viewset_of(full)
    shards("verify", viewset).succeeds()
    shards("remove", viewset, "--yes").succeeds()
    assert not any(full.iterdir())


def test_remove_asks_on_a_terminal(cache: Path) -> None:
    targetset = caches.targetset_of(cache)
    shown, status = on_a_terminal("remove", targetset, typed="n\n")
    assert status == 0 and "[y/N]" in shown and "nothing was removed" in shown and targetset.exists()
    shown, status = on_a_terminal("remove", targetset, typed="y\n")
    assert status == 0 and "freed" in shown and not targetset.exists()


def test_remove_refuses_what_it_should(cache: Path, tmp_path: Path) -> None:
    viewset, targetset = caches.viewset_of(cache), caches.targetset_of(cache)
    before = caches.contents(cache)
    shards("remove", cache, "--yes").refuses("is a whole cache", viewset.name)
    shards("remove", tmp_path, "--yes").refuses("holds no view set")
    shards("remove", viewset / "views", "--yes").refuses("holds no view set")
    with writing(cache):
        shards("remove", targetset, "--yes").refuses("is writing here")
    (targetset / "values/mine.txt").touch()
    shards("remove", viewset, "--yes").refuses("mine.txt", "Nothing was removed")
    (targetset / "values/mine.txt").unlink()
    (tmp_path / "cache2").mkdir()
    (tmp_path / "cache2" / viewset.name).symlink_to(viewset)
    shards("remove", tmp_path / "cache2" / viewset.name, "--yes").refuses("is a link")
    (viewset / "views/v00-00000.tar").rename(tmp_path / "tar")
    (viewset / "views/v00-00000.tar").symlink_to(tmp_path / "tar")
    shards("remove", viewset, "--yes").refuses("is a link")
    (viewset / "views/v00-00000.tar").unlink()
    (tmp_path / "tar").rename(viewset / "views/v00-00000.tar")
    assert caches.contents(cache) == before


KILLED_AFTER = """
import os, sys
from shards.__main__ import main
left = int(sys.argv.pop(1))
def hook(event, arguments):
    global left
    if event == "os.remove":
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(hook)
main(sys.argv[1:])
"""


@pytest.mark.parametrize("num_removed", [0, 1, 2, 5, 9, 12, 15, 21, 25, 27])
def test_a_killed_remove_leaves_half_written_sets(cache: Path, num_removed: int) -> None:
    viewset = caches.viewset_of(cache)
    command = [sys.executable, "-c", KILLED_AFTER, str(num_removed), "remove", str(viewset), "--yes"]
    assert subprocess.run(command, check=False).returncode == 9
    found = shards("verify", cache)
    assert "damage" not in found.err and "foreign" not in found.err, found.err
    assert (found.status == 0) == (num_removed == 0)
    if num_removed:
        assert "half written" in found.err
    shards("remove", viewset, "--yes").succeeds()
    assert not viewset.exists()
