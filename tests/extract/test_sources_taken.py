"""What `datasets` takes of a local folder, compared with what is there: leftovers, splits by guess, and thumbnails."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from extract.sources import open_source
from extract.sources.taken_files import check_taken
from shards.errors import BadInput


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write_images(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)


def animals(labels: list[int], split: str | None = None) -> datasets.Dataset:
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    images = [Image.new("RGB", (2, 2), (row, 0, 0)) for row in range(len(labels))]
    named = None if split is None else datasets.Split(split)
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features, split=named)


def test_a_saved_folder_is_what_its_state_names(tmp_path: Path) -> None:
    animals([0, 1, 1]).save_to_disk(str(tmp_path / "saved"))
    before = open_source(f"hf:{tmp_path / 'saved'}", "train")
    datasets.load_from_disk(str(tmp_path / "saved")).map(lambda row: {"label": 1 - row["label"]})
    leftovers = list((tmp_path / "saved").glob("cache-*.arrow"))
    assert len(leftovers) == 1
    source = open_source(f"hf:{tmp_path / 'saved'}", "train")
    assert [source.read(index).label for index in range(len(source.keys))] == [0, 1, 1]
    assert [source.read(index).image.getpixel((0, 0)) for index in range(3)] == [(row, 0, 0) for row in range(3)]
    assert (source.keys, source.revision, before.notes) == (before.keys, before.revision, ())
    assert source.notes == (
        f"--data hf:{tmp_path / 'saved'}: left aside 1 Arrow file that state.json does not name ({leftovers[0].name})",
    )


def test_splits_that_were_saved_keep_their_names(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"Training": animals([0, 1, 1]), "Testing": animals([1, 0])})
    both.save_to_disk(str(tmp_path / "both"))
    train, test = (open_source(f"hf:{tmp_path / 'both'}", split) for split in ("train", "validation"))
    assert (train.split, test.split, len(train.keys), len(test.keys)) == ("train", "test", 3, 2)
    animals([0], "test").save_to_disk(str(tmp_path / "alone"))
    assert open_source(f"hf:{tmp_path / 'alone'}", "test").split == "test"
    with pytest.raises(BadInput, match="no split 'train', only test"):
        open_source(f"hf:{tmp_path / 'alone'}", "train")
    animals([0], "train+test").save_to_disk(str(tmp_path / "merged"))
    with pytest.raises(BadInput, match="says split 'train\\+test', which is two"):
        open_source(f"hf:{tmp_path / 'merged'}", "train")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"_data_files": [{"filename": "../data-00000-of-00001.arrow"}]}, "names no files of its folder"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "names gone.arrow, which is not in"),
        ({"_data_files": []}, "names no files of its folder"),
        ({"_data_files": 3}, "names no files of its folder"),
        ([], "names no files of its folder"),
    ],
)
def test_a_state_that_is_not_true_is_refused(document: object, message: str, tmp_path: Path) -> None:
    animals([0, 1]).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "state.json").write_text(json.dumps(document))
    with pytest.raises(BadInput, match=f"{message}.*: save the dataset again"):
        open_source(f"hf:{tmp_path / 'saved'}", "train")


@pytest.mark.parametrize(
    "info", ["[]", "3", '{"features": {"image": 3}}', '{"features": {"a": {"_type": "Nope"}}}', "{"]
)
def test_a_description_that_is_damaged_is_one_line(info: str, tmp_path: Path) -> None:
    animals([0, 1]).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "dataset_info.json").write_text(info)
    with pytest.raises(BadInput, match=r"is damaged \(.*save the dataset again|`datasets` cannot open it"):
        open_source(f"hf:{tmp_path / 'saved'}", "train")


def test_a_saved_file_that_is_cut_is_one_line(tmp_path: Path) -> None:
    animals([0, 1]).save_to_disk(str(tmp_path / "saved"))
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(BadInput, match="`datasets` cannot open it"):
        open_source(f"hf:{tmp_path / 'saved'}", "train")


def test_a_test_split_is_never_read_as_train(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", *(f"{split}/{name}/0.png" for split in ("Training", "Testing") for name in "ab"))
    with pytest.raises(BadInput, match=r"takes Testing/a/0.png for split train, its name says test: .*folder:\S+pets"):
        open_source(f"hf:{tmp_path / 'pets'}", "train")
    for part in ("Train", "Test"):
        path = tmp_path / "table" / f"{part}Images.parquet"
        path.parent.mkdir(exist_ok=True)
        animals([0, 1]).to_parquet(str(path))
    with pytest.raises(BadInput, match=r"takes TestImages.parquet for split train, .*--data parquet:\S+table"):
        open_source(f"hf:{tmp_path / 'table'}", "train")
    assert len(open_source(f"parquet:{tmp_path / 'table'}", "train").keys) == 2


def test_images_that_no_split_takes_are_counted_or_refused(tmp_path: Path) -> None:
    names = [f"a/{row}.png" for row in range(5)]
    write_images(tmp_path / "pets", *names, "a/test_9.png")
    with pytest.raises(BadInput, match=r"takes 1 file and leaves out 5 files alike \(a/0.png\), since it finds splits"):
        open_source(f"hf:{tmp_path / 'pets'}", "test")
    write_images(tmp_path / "split", "train/a/0.png", "train/b/0.png", "masks/0.png", "masks/1.png")
    source = open_source(f"hf:{tmp_path / 'split'}", "train")
    assert len(source.keys) == 2
    assert source.notes == (
        f"--data hf:{tmp_path / 'split'}: `datasets` takes 2 files and leaves out 2 files alike (masks/0.png)",
    )


def test_a_card_decides_and_words_in_class_names_do_not(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", "Cat/0.png", "Test Tube/0.png", "Val Gardena/0.png")
    source = open_source(f"hf:{tmp_path / 'pets'}", "train")
    assert (source.class_names, source.notes) == (("Cat", "Test Tube", "Val Gardena"), ())
    write_images(tmp_path / "card", "Testing/a/0.png", "other/a/0.png", "other/b/0.png")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: Testing/**\n---\n"
    (tmp_path / "card" / "README.md").write_text(card)
    source = open_source(f"hf:{tmp_path / 'card'}", "train")
    assert (len(source.keys), source.notes) == (1, ())


def test_images_that_a_metadata_file_does_not_list_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", *(f"train/{row}.png" for row in range(6)))
    (tmp_path / "pets/train/metadata.csv").write_text("file_name,label\n0.png,dog\n3.png,cat\n")
    source = open_source(f"hf:{tmp_path / 'pets'}", "train")
    assert ([source.read(index).label for index in range(2)], source.class_names) == ([1, 0], ("cat", "dog"))
    assert f"--data hf:{tmp_path / 'pets'}: `datasets` makes 2 samples of 6 image files" in source.notes


def test_folders_of_which_no_classes_are_made_are_said(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", "train/cat/0.png", "train/dog/1.png", "train/2.png")
    source = open_source(f"hf:{tmp_path / 'pets'}", "train")
    assert source.class_names is None
    assert source.notes == (
        f"--data hf:{tmp_path / 'pets'}: no labels: `datasets` makes no classes of the 3 folders; "
        "--data folder:PATH does",
    )


def test_a_card_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", "train/a/0.png")
    (tmp_path / "pets" / "README.md").write_text("---\nconfigs: [a: : b\n---\n")
    with pytest.raises(BadInput, match="`datasets` cannot open it"):
        open_source(f"hf:{tmp_path / 'pets'}", "train")


def test_thumbnails_are_no_samples(tmp_path: Path) -> None:
    write_images(tmp_path / "pets", "a/0.png", "a/@eaDir/0.png/SYNOPHOTO_THUMB_M.png", "b/0.png")
    with pytest.raises(BadInput, match=r"takes a system's own files, such as thumbnails \(a/@eaDir/.*folder:"):
        open_source(f"hf:{tmp_path / 'pets'}", "train")


def test_files_of_a_repository_are_counted_but_cannot_be_renamed() -> None:
    taken = {"train": ["data/train-00000.parquet"], "test_a": ["data/test_a-00000.parquet"]}
    there = ["README.md", "data/train-00000.parquet", "data/test_a-00000.parquet", "more/x.parquet", ".git/y.parquet"]
    for split in taken:
        notes = check_taken("--data hf:a/b", taken, split, there, "download it", may_be_renamed=False)
        assert notes == ("--data hf:a/b: `datasets` takes 2 files and leaves out 1 file alike (more/x.parquet)",)
    with pytest.raises(BadInput, match="leaves out 1 file alike"):
        check_taken("--data hf:a/b", taken, "train", there, "rename it", may_be_renamed=True)
    with pytest.raises(BadInput, match=r"takes Test-0.parquet for split train, its name says test: download it"):
        check_taken("--data hf:a/b", {"train": ["Test-0.parquet"]}, "train", [], "download it", may_be_renamed=False)
