"""Bad flags, names, files and images: one line that says what to do, exit status 2, and nothing is written."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from caches import SMALL, command, contents, copied, extract, viewset_of
from PIL import Image


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--teacher", "resnet110"), ("unknown teacher 'resnet110'", "did you mean", "resnet101")),
        (("--teacher", "efficientnet-lite0"), ("unknown teacher", "did you mean efficientnet_lite0")),
        (("--teacher", "nothing_like_it"), ("unknown teacher", "known are", "resnet50")),
        (("--teacher", "run:"), ("names no folder", "--teacher run:DIR")),
        (("--teacher", "run:/nowhere"), ("/nowhere/student.json", "no such file", "python -m distill")),
        (("--data", "digts"), ("unknown source 'digts'", "did you mean digits")),
        (("--data", "folder:/nowhere"), ("no folder is found at /nowhere",)),
        (("--data", "digits:here"), ("write --data digits",)),
        (("--data", "/"), ("a path needs its scheme",)),
        (("--data_dir", "/tmp"), ("--data_dir /tmp", "takes none")),
        (("--codec", "floot16"), ("unknown codec 'floot16'", "float16")),
        (("--codec", "float16:2"), ("--codec float16:2", "no argument")),
        (("--target", "tokens"), ("--target tokens", "gives logits, pooled")),
        (("--view", "2", "--viewz", "2"), ("python -m extract --help",)),
        (("--viewz", "2"), ("did you mean --view", "python -m extract --help")),
        (("--augment", "crop:seed=one"), ("--view 'crop:seed=one'", "seed=N")),
        (("--limit", "1.5"), ("--limit 1.5: expected a whole number", "python -m extract --help")),
        (("--config", "/nowhere.yaml"), ("--config /nowhere.yaml: No such file", "python -m extract --help")),
    ],
    ids=str,
)
def test_extract_refuses_it(teacher: Path, tmp_path: Path, flags: tuple[str, ...], says: tuple[str, ...]) -> None:
    given = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {"--teacher": f"run:{teacher}"}
    given |= dict(zip(flags[::2], flags[1::2], strict=True))
    words = [word for flag in given.items() for word in flag]
    command("extract", *words, "--out", tmp_path / "cache").refuses(*says)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("teachr: none", ("no such flag: teachr", "did you mean teacher?")),
        ("views: three", ("--views three: expected a whole number",)),
        ("views: [", ("is not YAML", "line 1")),
        ("", ("holds no flags", "--print_config")),
        ("- views", ("holds no flags", "--print_config")),
    ],
)
def test_a_config_file_that_is_none(tmp_path: Path, content: str, says: tuple[str, ...]) -> None:
    (tmp_path / "flags.yaml").write_text(content)
    for words in (("--config", f"{tmp_path}/flags.yaml"), (f"--config={tmp_path}/flags.yaml",)):
        found = command("extract", *words, "--teacher", "none", "--out", tmp_path / "cache")
        found.refuses(*says, "python -m extract --help")
        assert "Parser" not in found.err and "jsonargparse" not in found.err


@pytest.mark.parametrize("missing", ["--teacher", "--out"])
def test_extract_says_which_flag_is_needed(tmp_path: Path, missing: str) -> None:
    flags = {"--teacher": "none", "--out": str(tmp_path)}
    del flags[missing]
    command("extract", *(word for flag in flags.items() for word in flag)).refuses(missing.strip("-"), "--help")


@pytest.fixture(scope="module")
def several(pristine: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with two target sets and, of another source, a second view set."""
    root = tmp_path_factory.mktemp("several")
    cache = copied(pristine, root / "cache")
    extract("--teacher", f"run:{teacher}", "--out", cache, "--codec", "topk:3")
    (root / "photos").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(root / "photos" / f"{name}.png")
    flags = ("--data", f"folder:{root / 'photos'}", "--image_size", "16", "--augment", "crop")
    extract("--teacher", "none", "--out", cache, *flags)
    return cache


def digits_of(cache: Path) -> Path:
    (folder,) = cache.glob("digits-*")
    return folder


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--recipe", "digit"), ("unknown recipe 'digit'", "did you mean digits")),
        (("--recipe", "nothing_like_it"), ("unknown recipe", "known are")),
        (("--recipe", "nowhere.yaml"), ("nowhere.yaml", "no such file", "known recipes are")),
        (("--batch_size", "8", "--student", "resnet80"), ("unknown student 'resnet80'", "did you mean")),
        (("--batch_size", "8", "--student", "resnet8:width=wide"), ("width wide: expected a whole number",)),
        (("--batch_size", "8", "--student", "resnet8:wdth=3"), ("unknown argument 'wdth'",)),
        (("--targets", "resnet"), ("--targets resnet", "no target set fits", "run-teacher-logits")),
        (("--batch_size", "1000"), ("--batch_size 1000",)),
        (("--batch_size", "0"), ("--batch_size 0",)),
        (("--objective", "kl:temperature=0"), ("kl", "temperature")),
        (("--label_weight", "2"), ("--label_weight 2",)),
        (("--precision", "int8"), ("--precision int8",)),
        (("--epoch", "3", "--epohcs", "3"), ("python -m distill --help",)),
        (("--epohcs", "3"), ("did you mean --epochs",)),
        (("--devices", "tpu"), ("--devices tpu",)),
    ],
    ids=str,
)
def test_distill_refuses_it(pristine: Path, tmp_path: Path, flags: tuple[str, ...], says: tuple[str, ...]) -> None:
    refused = command("distill", "--shards", pristine, "--run_dir", tmp_path / "run", *flags)
    refused.refuses(*says)
    assert not list(tmp_path.glob("run/student.*"))


def test_distill_says_what_there_is_where_several_things_fit(several: Path, tmp_path: Path) -> None:
    flags = ("--run_dir", tmp_path / "run")
    command("distill", "--shards", several, *flags).refuses("several view sets fit", "digits-train-", "folder-photos-")
    one = ("distill", "--shards", digits_of(several), *flags)
    command(*one).refuses("name one", "logits-float32", "logits-topk3")
    command(*one, "--targets", "logits").refuses("several target sets fit")
    command(*one, "--targets", "float32=much").refuses("NAME=WEIGHT", "'much'")


def test_distill_says_what_is_missing_where_nothing_fits(several: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    flags = ("--run_dir", tmp_path / "run")
    command("distill", "--shards", tmp_path / "empty", *flags).refuses("holds no view set", "python -m extract")
    command("distill", "--shards", tmp_path / "nowhere", *flags).refuses("no such folder", "python -m extract")
    command("distill", "--shards", tmp_path / "file", *flags).refuses(str(tmp_path / "file"))
    (photos,) = several.glob("folder-*")
    command("distill", "--shards", photos, *flags).refuses("no target set", "python -m extract")
    command("distill", "--shards", photos, *flags, "--recipe", "supervised").refuses("has no labels")


def test_distill_takes_a_view_set_or_a_target_set_by_its_path(several: Path, tmp_path: Path) -> None:
    flags = ("--student", "convnet:width=4,depth=1", "--batch_size", "8", "--max_steps", "1", "--devices", "cpu")
    target_set = next(digits_of(several).glob("targets/*topk3*"))
    done = command("distill", "--shards", target_set, "--run_dir", tmp_path / "run", *flags).succeeds()
    assert target_set.name in done.out


EVIL = "!!python/object/apply:os.system ['touch {mark}']"


@pytest.mark.parametrize(("name", "flag"), [("extract", "--config"), ("distill", "--config"), ("distill", "--recipe")])
def test_yaml_runs_nothing(pristine: Path, tmp_path: Path, name: str, flag: str) -> None:
    mark = tmp_path / "mark"
    evil = tmp_path / "evil.yaml"
    evil.write_text(f"student: {EVIL.format(mark=mark)}\nteacher: {EVIL.format(mark=mark)}\n")
    where = (
        ("--out", tmp_path / "cache") if name == "extract" else ("--shards", pristine, "--run_dir", tmp_path / "run")
    )
    command(name, *where, flag, evil).refuses(name)
    assert not mark.exists()


def test_a_broken_recipe_is_refused(pristine: Path, tmp_path: Path) -> None:
    for text in ("{", "- 1", "student: resnet8\nobjective: kl\nlr: fast", "student: resnet8\nobjective: kl\nlrr: 1"):
        (tmp_path / "mine.yaml").write_text(text)
        refused = command("distill", "--shards", pristine, "--recipe", tmp_path / "mine.yaml")
        refused.refuses(str(tmp_path / "mine.yaml"))


def bomb() -> bytes:
    """A PNG of a hundred bytes whose header claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


BAD_IMAGES = {"no image": b"not an image at all", "an empty file": b"", "a cut image": None, "a bomb": bomb()}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_an_undecodable_image_is_named_or_skipped(tmp_path: Path, kind: str, on_error: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "abc":
        Image.effect_noise((64, 64), 60).convert("RGB").save(photos / f"{name}.png")
    data = BAD_IMAGES[kind]
    if kind == "a cut image":
        data = (photos / "b.png").read_bytes()[:2000]
    (photos / "b.png").write_bytes(data or b"")
    flags = ("--data", f"folder:{photos}", "--augment", "crop", "--image_size", "16", "--on_error", on_error)
    outcome = command("extract", "--teacher", "none", "--out", tmp_path / "cache", *flags)
    if on_error == "fail":
        outcome.refuses("sample b", "repair or remove it")
    else:
        assert "1 sample skipped: b" in outcome.succeeds().out


def test_names_of_files_that_are_no_plain_words_are_kept_apart(tmp_path: Path) -> None:
    """Spaces, dots, quotes and line ends in file names: each has a key of its own in the tar."""
    import webdataset

    names = ["a b", "a.b", "a'b", "ä", "a%20b", "a\nb", "-rf", "a,b", "c:d"]
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (8, 8), (20 * index, 0, 0)).save(photos / f"{name}.png")
    flags = ("--data", f"folder:{photos}", "--augment", "crop", "--image_size", "8", "--image_format", "png")
    extract("--teacher", "none", "--out", tmp_path / "cache", *flags)
    tar = viewset_of(tmp_path / "cache") / "views/v00-00000.tar"
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode("rgb8"))
    assert len({sample["__key__"] for sample in samples}) == len(names)
    assert sorted(int(sample["png"][0, 0, 0]) for sample in samples) == [20 * index for index in range(len(names))]


@pytest.mark.slow
def test_a_cache_named_as_a_package_is_not_taken_for_it(pristine: Path, tmp_path: Path) -> None:
    """`--out shards/` from the folder that holds it, which Python looks into first: the package is still found."""
    copied(pristine, tmp_path / "shards")
    run = subprocess.run(
        [sys.executable, "-m", "extract", "--teacher", "none", "--out", "shards/"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "0 views made" in run.stdout
