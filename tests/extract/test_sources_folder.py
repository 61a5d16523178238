"""What a folder of images may hold: names in any case and with any ending, and what is no sample, counted."""

import io
from pathlib import Path

import pytest
from caches import command, extract, viewset_of
from PIL import Image

from extract.sources import open_source
from shards.documents import Plan
from shards.errors import BadInput


def image(grey: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("L" if kind != "AVIF" else "RGB", (8, 8), grey if kind != "AVIF" else (grey,) * 3).save(stream, kind)
    return stream.getvalue()


def touch(root: Path, *names: str) -> None:
    """Image i of `names` is of grey 10 * i."""
    for row, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(image(10 * row))


def greys(data: str) -> dict[str, int]:
    source = open_source(data, "train")
    return {key: source.read(index).image.getpixel((0, 0)) for index, key in enumerate(source.keys)}


@pytest.mark.parametrize(
    ("names", "keys", "clashing"),
    [
        (["a.jpg", "a.png", "b.png"], ["a%2Ejpg", "a%2Epng", "b"], 2),
        (["c/a.jpg", "c/a.png", "d/a.png"], ["c/a%2Ejpg", "c/a%2Epng", "d/a"], 2),
        (["a.JPG", "a.jpg"], ["a%2EJPG", "a%2Ejpg"], 2),
        (["a.jpg", "a.jpg.png", "a.png"], ["a%2Ejpg", "a%2Ejpg%2Epng", "a%2Epng"], 3),
        (["a.jpg.png", "a.png"], ["a%2Ejpg", "a"], 0),
    ],
)
def test_files_that_differ_in_the_ending_alone_are_two_images(
    tmp_path: Path, names: list[str], keys: list[str], clashing: int
) -> None:
    touch(tmp_path, *names)
    assert greys(f"folder:{tmp_path}") == {key: 10 * row for row, key in enumerate(keys)}
    notes = open_source(f"folder:{tmp_path}", "train").notes
    note = f"{clashing} images differ from another in the ending alone"
    assert [note in each for each in notes] == ([True] if clashing else [])


def test_what_is_no_sample_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "train/ant/0.png", "train/bee/0.png", "train/bee/.hidden.png", "train/ant/._0.png")
    touch(
        tmp_path, "train/ant/@eaDir/0.png/THUMB_M.jpg", "train/bee/@eaDir/0.png/THUMB_M.jpg", "train/__MACOSX/a/0.png"
    )
    touch(tmp_path, "train/0_notes/a.xml", "train/Thumbs.db", "train/ant/0.png.bak", "train/ant/README", "extra/0.png")
    source = open_source(f"folder:{tmp_path}", "train")
    assert (list(source.keys), source.class_names) == (["ant/0", "bee/0"], ("ant", "bee"))
    assert [source.read(index).label for index in range(2)] == [0, 1]
    (note,) = source.notes
    assert note.startswith(f"--data folder:{tmp_path}: left out 1 name beside the split (extra), ")
    assert "1 folder without an image (0_notes), " in note
    assert "4 files without an image's ending (.bak 1, .db 1, .xml 1, no ending 1), " in note
    assert note.endswith("5 hidden or system names (@eaDir, ._*, .hidden.png, __MACOSX)")


def test_nothing_left_out_is_nothing_said(tmp_path: Path) -> None:
    touch(tmp_path, "train/ant/0.png", "val/ant/0.png")
    assert open_source(f"folder:{tmp_path}", "train").notes == ()


def test_folders_without_an_image_do_not_number_the_classes_of_another_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/b/0.png", "train/c/0.png", "train/a/notes.txt", "val/c/0.png")
    source = open_source(f"folder:{tmp_path}", "validation")
    assert (source.class_names, source.read(0).label) == (("b", "c"), 1)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        *((".JPG", "JPEG"), (".Jpeg", "JPEG"), (".jpe", "JPEG"), (".jfif", "JPEG"), (".PNG", "PNG"), (".webp", "WEBP")),
        *((".avif", "AVIF"), (".jp2", "JPEG2000"), (".tga", "TGA"), (".pnm", "PPM"), (".bmp", "BMP"), (".dib", "DIB")),
    ],
)
def test_endings_of_images(tmp_path: Path, ending: str, kind: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(image(200, kind))
    source = open_source(f"folder:{tmp_path}", "train")
    assert list(source.keys) == ["a"] and source.notes == ()
    assert source.read(0).image.convert("L").getpixel((4, 4)) == pytest.approx(200, abs=3)


def test_a_split_in_capitals_is_augmented_as_train_is(tmp_path: Path) -> None:
    touch(tmp_path / "pets", "Training/cat/0.png", "Training/dog/0.png", "Testing/dog/0.png")
    flags = ("--teacher", "none", "--data", f"folder:{tmp_path}/pets", "--image_size", "8", "--out", tmp_path / "cache")
    extract(*flags, "--split", "Training")
    folder = viewset_of(tmp_path / "cache")
    plan = Plan.read(folder)
    assert (plan.identity["split"], plan.identity["augment"]["kind"]) == ("train", "crop")
    assert plan.keys == ["cat/0", "dog/0"]
    extract(*flags, "--split", "Testing")
    plan = Plan.read(viewset_of(tmp_path / "cache", "test"))
    assert (plan.identity["augment"]["kind"], plan.keys) == ("resize", ["dog/0"])
    # whatever case the split is asked for in, it is the view set that is there
    extract(*flags, "--split", "Training", "--views", "2")
    extract(*flags, "--split", "train", "--views", "3")
    assert viewset_of(tmp_path / "cache") == folder


def test_folders_called_by_numbers_are_not_taken_for_the_numbers_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}/x.png" for number in range(11)))
    source = open_source(f"folder:{tmp_path}", "train")
    assert source.class_names == ("0", "1", "10", *map(str, range(2, 10)))
    order = "classes are numbered in the order of their folders' names: 10 is class 2"
    assert source.notes == (f"--data folder:{tmp_path}: {order}",)


@pytest.mark.parametrize(("name", "scheme"), [("0.tar", "wds"), ("0.parquet", "parquet")])
def test_a_folder_of_something_else_is_told_its_scheme(tmp_path: Path, name: str, scheme: str) -> None:
    touch(tmp_path, name, "stats.json")
    with pytest.raises(BadInput, match=f"no image is found under .*: write --data {scheme}:{tmp_path}"):
        open_source(f"folder:{tmp_path}", "train")


def test_a_folder_of_img2dataset_is_a_webdataset(tmp_path: Path) -> None:
    touch(tmp_path, "00000.tar", "00000.parquet", "00000_stats.json")
    with pytest.raises(BadInput, match=f"write --data wds:{tmp_path}"):
        open_source(str(tmp_path), "train")


def test_notes_are_said_before_work_starts(tmp_path: Path) -> None:
    touch(tmp_path / "pets", "0.png", "notes.txt")
    flags = ("--teacher", "none", "--data", f"folder:{tmp_path}/pets", "--image_size", "8", "--out", tmp_path / "cache")
    note, announced, *_, done = extract(*flags).out.splitlines()
    left_out = "left out 1 file without an image's ending (.txt 1)"
    assert note == f"extract: note: --data folder:{tmp_path}/pets: {left_out}"
    assert "1 views to make" in announced and "done:" in done


def test_a_view_set_of_nothing_but_skipped_images_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for name in "abc":
        (tmp_path / "pets" / f"{name}.png").write_bytes(b"no image")
    flags = ("--teacher", "none", "--data", f"folder:{tmp_path}/pets", "--image_size", "8", "--out", tmp_path / "cache")
    for _ in range(2):
        refused = command("extract", *flags, "--on_error", "skip")
        refused.refuses("every one of 3 samples was skipped", f"--data folder:{tmp_path}/pets", "shards remove")
    assert not list((tmp_path / "cache").rglob("viewset.json"))
