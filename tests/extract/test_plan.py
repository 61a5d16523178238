"""Plan: what makes a view set or a target set another one, what does not, and what a cache fills in."""

import json
from pathlib import Path

import numpy as np
import pytest
from caches import command, contents, extract, targetset_of, viewset_of, write_teacher
from PIL import Image

BASE = {"--data": "digits", "--limit": "12", "--shard_size": "5", "--image_size": "8", "--views": "2"}


def views(out: Path, **changes: str) -> Path:
    """The view set that BASE with some flags changed makes in `out`."""
    flags = BASE | {f"--{name}": value for name, value in changes.items()}
    extract("--teacher", "none", "--out", out, *(word for flag in flags.items() for word in flag))
    return viewset_of(out, flags.get("--split", "train"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return views(tmp_path_factory.mktemp("plan") / "base")


CHANGES = [
    ({"augment": "crop:scale=0.7-1,ratio=0.9-1.1,flip=0,seed=1"}, "seed: the cache has 0, asked for 1"),
    ({"augment": "crop:flip=1"}, "augment.flip: the cache has 0.0, asked for 1.0"),
    ({"augment": "crop:scale=0.5-1,ratio=0.9-1.1,flip=0"}, "augment.scale: the cache has [0.7, 1.0], asked for [0.5"),
    ({"augment": "resize", "views": "1"}, 'augment.kind: the cache has "crop", asked for "resize"'),
    ({"image_size": "12"}, "image_size: the cache has 8, asked for 12"),
    ({"image_format": "png"}, 'image_format.format: the cache has "jpeg", asked for "png"'),
    ({"image_format": "jpeg:80"}, "image_format.quality: the cache has 95, asked for 80"),
    ({"limit": "13"}, "num_samples: the cache has 12, asked for 13"),
]


@pytest.mark.parametrize(("changes", "difference"), CHANGES, ids=lambda value: str(value)[:20])
def test_what_changes_the_meaning_of_a_byte_is_another_view_set(
    base: Path, tmp_path: Path, changes: dict[str, str], difference: str
) -> None:
    other = views(tmp_path / "other", **changes)
    assert other.name != base.name
    # at the same place it is refused, and the difference names each field with both values
    flags = BASE | {f"--{name}": value for name, value in changes.items()}
    before = contents(base.parent)
    words = (word for flag in flags.items() for word in flag)
    command("extract", "--teacher", "none", "--out", base.parent, *words).refuses(difference, "shards remove")
    assert contents(base.parent) == before


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": "3"}, {"devices": "cpu"}, {"shard_size": "4"}, {"views": "1"}],
    ids=str,
)
def test_what_changes_no_byte_of_a_view_is_not(base: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    assert views(tmp_path / "other", **changes).name == base.name


def test_another_split_is_another_view_set_beside_it(tmp_path: Path) -> None:
    train = views(tmp_path, views="1")
    validation = views(tmp_path, views="1", split="validation")
    assert train.parent == validation.parent and train.name[-8:] != validation.name[-8:]
    held = json.loads((validation / "viewset.json").read_bytes())["identity"]
    assert held["augment"]["kind"] == "resize" and held["seed"] is None


def photos(folder: Path, names: str = "abc", seed: int = 0) -> Path:
    for index, name in enumerate(names):
        pixels = np.random.default_rng(seed + index).integers(0, 256, (10, 10, 3), dtype=np.uint8)
        folder.mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_a_view_set_follows_the_content_of_its_source_and_not_its_path(tmp_path: Path) -> None:
    first, moved = photos(tmp_path / "1" / "photos"), photos(tmp_path / "2" / "photos")
    renamed, fewer = photos(tmp_path / "3" / "photos", "abd"), photos(tmp_path / "4" / "photos", "ab")
    made = [
        views(tmp_path / f"cache{index}", data=f"folder:{folder}", augment="crop").name
        for index, folder in enumerate((first, moved, renamed, fewer))
    ]
    assert made[0] == made[1] and len(set(made)) == 3


def test_a_source_that_changed_is_refused_at_its_place(tmp_path: Path) -> None:
    data = f"folder:{photos(tmp_path / 'photos')}"
    views(tmp_path / "cache", data=data, augment="crop")
    Image.new("RGB", (30, 30)).save(tmp_path / "photos" / "b.png")
    flags = ("--data", data, "--augment", "crop", "--image_size", "8", "--limit", "12")
    command("extract", "--teacher", "none", "--out", tmp_path / "cache", *flags).refuses("revision: the cache has")


def test_a_source_asked_for_by_another_path_is_the_view_set_that_is_there(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    there = views(tmp_path / "cache", data=f"folder:{tmp_path}/photos", augment="crop", shard_size="2")
    before = contents(there)
    flags = ("--data", f"folder:{tmp_path}/./photos", "--augment", "crop", "--image_size", "8", "--limit", "12")
    extract("--teacher", "none", "--out", tmp_path / "cache", *flags, "--views", "2")
    assert contents(there) == before


def test_what_the_flags_leave_out_the_cache_says(tmp_path: Path) -> None:
    special = {"image_size": "10", "image_format": "png", "augment": "crop:flip=1,seed=3"}
    folder = views(tmp_path / "cache", **special)
    before = contents(folder)
    teacher = write_teacher(tmp_path / "teacher")  # its own image size is 16
    extract("--teacher", f"run:{teacher}", "--out", tmp_path / "cache")
    targets = targetset_of(tmp_path / "cache")
    manifest = json.loads((targets / "targetset.json").read_bytes())
    assert manifest["num_views"] == 2 and manifest["num_samples"] == 12
    assert manifest["identity"]["teacher"]["preprocessing"]["image_size"] == 10
    after = {name: data for name, data in contents(folder).items() if not name.startswith("targets/")}
    assert after == before


def test_a_validation_split_is_stored_as_its_train_split_is(tmp_path: Path) -> None:
    views(tmp_path / "cache", image_size="10", image_format="png")
    extract("--teacher", "none", "--out", tmp_path / "cache", "--split", "validation", "--limit", "6")
    identity = json.loads((viewset_of(tmp_path / "cache", "validation") / "viewset.json").read_bytes())["identity"]
    assert identity["image_size"] == 10 and identity["image_format"] == {"format": "png"}


def test_a_cache_of_several_sources_asks_which(tmp_path: Path) -> None:
    views(tmp_path / "cache")
    data = f"folder:{photos(tmp_path / 'photos')}"
    extract("--teacher", "none", "--out", tmp_path / "cache", "--data", data, "--image_size", "8")
    command("extract", "--teacher", "none", "--out", tmp_path / "cache").refuses("--data", "several sources", "digits")


def test_a_view_set_is_no_cache(base: Path) -> None:
    before = contents(base)
    command("extract", "--teacher", "none", "--out", base).refuses("is a view set", f"--out {base.parent}")
    assert contents(base) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split": "validation", "views": "2"}, "such views are all alike"),
        ({"augment": "resize"}, "such views are all alike"),
        ({"views": "0"}, "--views 0"),
        ({"limit": "0"}, "--limit 0"),
        ({"shard_size": "-1"}, "--shard_size -1"),
        ({"batch_size": "0"}, "--batch_size 0"),
        ({"split": "../train"}, "--split"),
        ({"split": "trian"}, "--split"),
        ({"on_error": "ignore"}, "--on_error ignore: expected fail or skip"),
        ({"precision": "int8"}, "--precision int8: expected float32 or bfloat16 or float16"),
        ({"image_format": "webp"}, "--view format=webp"),
        ({"augment": "cutmix"}, "found 'cutmix'"),
        ({"devices": "tpu"}, "--devices tpu"),
        ({"views": "many"}, "views"),
    ],
    ids=str,
)
def test_flags_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    flags = BASE | {f"--{name}": value for name, value in changes.items()}
    words = [word for flag in flags.items() for word in flag]
    command("extract", "--teacher", "none", "--out", tmp_path / "cache", *words).refuses(says)
    assert contents(tmp_path) == {}


def test_another_shard_size_is_refused_where_a_plan_is_kept(base: Path) -> None:
    flags = BASE | {"--shard_size": "6"}
    words = [word for flag in flags.items() for word in flag]
    command("extract", "--teacher", "none", "--out", base.parent, *words).refuses("--shard_size 6", "has 5")


def target_name(out: Path, teacher: Path, *flags: str) -> str:
    extract("--teacher", f"run:{teacher}", "--out", out, *flags)
    return targetset_of(out).name


def test_what_changes_the_meaning_of_a_row_is_another_target_set(base: Path, tmp_path: Path) -> None:
    """Each beside a copy of the same view set, so that the names can be compared."""
    import shutil

    def name(label: str, folder: Path, *flags: str) -> str:
        shutil.copytree(base.parent, tmp_path / label)
        return target_name(tmp_path / label, folder, *flags)

    teacher = write_teacher(tmp_path / "teacher")
    first = name("first", teacher)
    assert name("batch", teacher, "--batch_size", "3") == first
    others = [
        name("weights", write_teacher(tmp_path / "b" / "teacher", seed=1)),
        name("architecture", write_teacher(tmp_path / "c" / "teacher", width=5)),
        name("codec", teacher, "--codec", "float32"),
        name("argument", teacher, "--codec", "topk:3"),
        name("argument2", teacher, "--codec", "topk:4"),
        name("target", teacher, "--target", "pooled"),
        name("precision", teacher, "--precision", "bfloat16"),
    ]
    assert len({first, *others}) == 8
    digests = {full.rpartition("-")[2] for full in (first, *others)}
    assert len(digests) == 8  # in the hash, not in the readable part alone


def test_another_preprocessing_is_another_target_set(base: Path, tmp_path: Path) -> None:
    import shutil

    from extract.networks import export_network, load_exported

    teacher = write_teacher(tmp_path / "teacher")
    network, document = load_exported(teacher)
    document = {name: value for name, value in document.items() if name not in ("weights", "format")}
    export_network(tmp_path / "other" / "teacher", network, document | {"mean": [0.1, 0.2, 0.3]})
    names = []
    for label, folder in (("x", teacher), ("y", tmp_path / "other" / "teacher")):
        shutil.copytree(base.parent, tmp_path / label)
        names.append(target_name(tmp_path / label, folder))
    assert names[0] != names[1]


def test_the_identity_of_a_teacher_does_not_hang_on_its_folder(base: Path, tmp_path: Path) -> None:
    import shutil

    names = []
    for label in ("x", "y"):
        shutil.copytree(base.parent, tmp_path / label)
        names.append(target_name(tmp_path / label, write_teacher(tmp_path / f"{label}-runs" / "teacher")))
    assert names[0] == names[1]


def test_a_half_written_target_set_is_finished_before_another_begins(base: Path, tmp_path: Path) -> None:
    import shutil

    cache = Path(shutil.copytree(base.parent, tmp_path / "cache"))
    teacher = write_teacher(tmp_path / "teacher")
    extract("--teacher", f"run:{teacher}", "--out", cache)
    (targetset_of(cache) / "targetset.json").unlink()
    retrained = write_teacher(tmp_path / "again" / "teacher", seed=5)
    refused = command("extract", "--teacher", f"run:{retrained}", "--out", cache)
    refused.refuses("half written", "teacher.weights_sha256: the cache has", "shards remove")
    extract("--teacher", f"run:{teacher}", "--out", cache)
    extract("--teacher", f"run:{retrained}", "--out", cache)
    assert len(list((viewset_of(cache) / "targets").iterdir())) == 2
