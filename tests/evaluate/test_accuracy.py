import json
from dataclasses import replace

import pytest
import torch
from digits_bench import CLASSES, Bench, digits, write_student

from evaluate.__main__ import main
from evaluate.student import load_student
from evaluate.tasks.accuracy import check_classes
from evaluate.views import Views
from extract.networks import load_exported
from extract.sources import open_source
from shards.errors import BadInput


def result(run, task="accuracy"):
    return json.loads((run / "evaluation.json").read_text())[task]


def test_top1_and_top5_are_what_counting_by_hand_gives(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--batch_size", "100"])
    network, _ = load_exported(run)
    images, labels = digits("validation")
    with torch.no_grad():
        ranked = network(images)["logits"].argsort(dim=1, descending=True)
    for k in (1, 5):
        by_hand = sum(int(label) in row[:k].tolist() for row, label in zip(ranked, labels, strict=True)) / len(labels)
        assert result(run)[f"top{k}"] == pytest.approx(by_hand, abs=1e-6)
    assert 0.15 < result(run)["top1"] < result(run)["top5"]  # two epochs: above chance on any processor
    assert (result(run)["data"], result(run)["split"], result(run)["num_samples"]) == ("digits", "validation", 359)


def test_stored_png_views_give_what_the_source_gives(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run)])
    live = result(run)
    main(["--run", str(run), "--shards", str(bench.cache)])
    assert result(run)["top1"] == live["top1"] and result(run)["data"].startswith("digits-validation-")


def test_limit_takes_the_first_samples(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run), "--limit", "7", "--num_workers", "3", "--batch_size", "2"])
    images, labels = digits("validation")
    with torch.no_grad():
        first = load_exported(run)[0](images[:7])["logits"].argmax(1)
    assert result(run)["top1"] == pytest.approx((first == labels[:7]).double().mean().item(), abs=1e-6)
    assert result(run)["num_samples"] == 7


def test_bfloat16_is_near_float32_and_is_told(bench: Bench) -> None:
    run = bench.run()
    main(["--run", str(run)])
    exact = result(run)["top1"]
    main(["--run", str(run), "--precision", "bfloat16"])
    assert abs(result(run)["top1"] - exact) < 0.03 and result(run)["precision"] == "bfloat16"


def small_folder(root, num_classes: int, labelled: bool = True) -> str:
    source = open_source("digits", "validation")
    for index in range(40):
        sample = source.read(index)
        if sample.label is not None and sample.label < num_classes:
            folder = root / f"class{sample.label}" if labelled else root
            folder.mkdir(parents=True, exist_ok=True)
            sample.image.save(folder / f"{sample.key}.png")
    return f"folder:{root}"


def test_no_top5_where_there_are_three_classes(bench: Bench) -> None:
    write_student(bench.scratch / "three", width=2, epochs=0, num_classes=3, names=["class0", "class1", "class2"])
    run, data = bench.run(exported=bench.scratch / "three"), small_folder(bench.scratch / "photos", 3)
    main(["--run", str(run), "--data", data, "--split", "train"])
    assert "top1" in result(run) and "top5" not in result(run)


def test_other_class_count_and_no_labels_are_refused(bench: Bench) -> None:
    run = bench.run()
    with pytest.raises(BadInput, match=r"has 3 classes, the student 10; give .* --task knn or linear"):
        main(["--run", str(run), "--data", small_folder(bench.scratch / "three", 3), "--split", "train"])
    unlabelled = small_folder(bench.scratch / "unlabelled", 3, labelled=False)
    for task in ("accuracy", "knn", "linear"):
        with pytest.raises(BadInput, match="have no labels"):
            main(["--run", str(run), "--task", task, "--data", unlabelled, "--split", "train"])
    assert not (run / "evaluation.json").exists()


def test_class_names_decide(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    student = load_student(bench.student, "cpu", "float32")

    def views(*names: str) -> Views:
        return Views("data", "validation", names, 1, lambda: iter(()))

    assert check_classes(student, views(*CLASSES))
    assert check_classes(student, views(*CLASSES[:8]))  # a split without the last classes
    boots = ["Ankle boot", *CLASSES[1:]]
    assert check_classes(replace(student, class_names=tuple(boots)), views("ankle_boot", *CLASSES[1:]))
    assert capsys.readouterr().err == ""
    with pytest.raises(BadInput, match="class 0 is '1' there and '0' here"):
        check_classes(student, views("1", "0", *CLASSES[2:]))
    with pytest.raises(BadInput, match="has 8 classes, the student 10"):
        check_classes(student, views(*CLASSES[2:]))
    with pytest.raises(BadInput, match="has 11 classes"):
        check_classes(student, views(*CLASSES, "10"))
    with pytest.raises(BadInput, match="class 1 is '2' there and '1' here"):  # one name of ten says enough
        check_classes(student, views("a", "2", *"cdefghij"))
    cranes = replace(student, class_names=("crane", "crane", *CLASSES[2:]))
    assert not check_classes(cranes, views("crane", "crane", "other", *CLASSES[3:]))
    nameless = replace(student, class_names=None)
    assert not check_classes(replace(nameless, num_classes=3), views("1", "2", "3"))
    capsys.readouterr()
    for other in (student, nameless):
        assert not check_classes(other, views(*"abcdefghij"))
        assert "true only if the order of its classes is the same" in capsys.readouterr().err


@pytest.mark.parametrize("known", [None, tuple("abcdefghijkl")])
def test_folders_called_by_numbers_are_in_the_order_of_text(bench: Bench, known: tuple[str, ...] | None) -> None:
    """0, 1, 10, 11, 2 ...: the folder 10 is class 2, whatever the student calls its classes."""
    student = replace(load_student(bench.student, "cpu", "float32"), num_classes=12, class_names=known)
    folders = Views("folder:x", "test", tuple(sorted(map(str, range(12)))), 1, lambda: iter(()))
    with pytest.raises(BadInput, match="orders the classes otherwise than the student: class 2 is '10' there"):
        check_classes(student, folders)
    assert not check_classes(student, replace(folders, class_names=tuple(map(str, range(12)))))


def test_a_result_on_other_data_stands_beside_the_first(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run = bench.run()
    main(["--run", str(run)])
    first = result(run)
    capsys.readouterr()
    main(["--run", str(run), "--limit", "50", "--data", "digits"])
    kept = "accuracy on digits validation, 359 samples"
    assert f"the former result stays as {kept!r}" in capsys.readouterr().out
    records = json.loads((run / "evaluation.json").read_text())
    assert records[kept] == first and records["accuracy"]["num_samples"] == 50
    main(["--runs", str(run)])
    rows = capsys.readouterr().out.splitlines()[1:3]
    assert rows[0].startswith(run.name) and rows[1].startswith(f"{run.name} on digits validation, 359 samples ")
    assert f"{records['accuracy']['top1']:.4f}" in rows[0] and f"{first['top1']:.4f}" in rows[1]
    main(["--config", str(run / "evaluate-accuracy-on-digits-validation-359-samples.yaml")])
    records = json.loads((run / "evaluation.json").read_text())
    assert set(records) == {"accuracy", "accuracy on digits validation, 50 samples"}
    assert records["accuracy"]["top1"] == first["top1"]
