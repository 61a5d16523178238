"""Presets: the thesis's values, flags in their place, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from digits_bench import Bench

from evaluate.__main__ import main
from evaluate.config import EvaluateConfig
from evaluate.preset import FOLDER, FinetuneSettings, preset_names, read_preset, resolve
from evaluate.tasks import load_task
from shards.errors import BadInput, UnknownName


def resolved(task: str, data: str = "digits", **flags: Any) -> Any:
    return resolve(task, load_task(task).Settings, EvaluateConfig(**flags), lambda: data)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_whole_and_says_no_more_than_its_task_knows(name: str) -> None:
    task = read_preset(name)["task"]
    assert resolved(task, preset=name).preset == name


def test_the_thesis_values() -> None:
    for data, decay in {"imagenet": 0.81, "cifar10": 0.75, "cifar100": 0.75, "folder:photos": 0.81}.items():
        found = resolved("finetune", data)
        assert (found.epochs, found.lr, found.batch_size, found.layer_decay) == (15, 1e-3, 256, decay)
        assert (found.mixup, found.cutmix, found.switch, found.label_smoothing) == (0.8, 1.0, 0.5, 0.1)
        assert (found.randaugment_ops, found.randaugment_magnitude, found.random_erasing) == (2, 9, 0.25)
        assert (found.betas, found.eps, found.weight_decay, found.warmup) == ((0.9, 0.98), 1e-6, 0.01, 0.1)
        assert found.crop_scale == (0.08, 1.0) and found.flip == 0.5
    linear = resolved("linear")
    assert {name: getattr(linear, name) for name in ("epochs", "lr", "betas", "eps", "weight_decay", "warmup")} == {
        name: getattr(found, name) for name in ("epochs", "lr", "betas", "eps", "weight_decay", "warmup")
    }
    assert resolved("knn").k == 20


def test_flags_take_the_place_of_the_presets_values() -> None:
    found = resolved("finetune", "cifar10", epochs=3, lr=0.5, batch_size=7, preset="finetune-imagenet")
    assert (found.epochs, found.lr, found.batch_size, found.layer_decay) == (3, 0.5, 7, 0.81)
    changed = resolved("finetune", "cifar10", lr=0.5, preset="finetune-imagenet:mixup=0,lr=0.1")
    assert (changed.preset, changed.mixup, changed.lr, changed.layer_decay) == ("finetune-imagenet", 0, 0.5, 0.81)
    assert resolved("knn", preset="knn:k=2").k == 2
    # a preset is for one task: the others keep their own
    assert resolved("linear", preset="finetune-cifar").preset == "linear"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_decay": 2}, r"--preset mine: layer_decay 2.0: expected a number above 0, at most 1"),
        ({"epochs": 0}, "--preset mine: epochs 0: expected a whole number of at least 1"),
        ({"epochs": "many"}, r"(?s)--preset mine: .*epochs.*many"),
        ({"epoch": 3}, r"(?s)--preset mine: .*epoch"),
        ({"lr": None}, r"(?s)--preset mine: .*lr"),
        ({"betas": [0.9]}, r"(?s)--preset mine: .*betas"),
        ({"crop_scale": [0.5, 0.1]}, "two shares above 0"),
        ({"switch": 1.5}, "switch 1.5: expected a number from 0 to 1"),
        ({"task": 3}, "expected fields such as task and epochs"),
        ({"task": "linear"}, "mine.yaml: is for --task linear; give that task, or leave --preset out"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_a_preset_cannot_hold(bench: Bench, change: dict[str, Any], message: str) -> None:
    values = yaml.safe_load((FOLDER / "finetune-cifar.yaml").read_text()) | change
    values = {name: value for name, value in values.items() if value is not None}
    path = bench.scratch / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(BadInput, match=message) as raised:
        main(["--run", str(bench.run()), "--task", "finetune", "--preset", str(path)])
    assert "--preset" in str(raised.value)


def test_presets_that_are_none(bench: Bench) -> None:
    run = str(bench.run())
    with pytest.raises(UnknownName, match="unknown preset 'finetune-cifra': did you mean finetune-cifar"):
        main(["--run", run, "--task", "finetune", "--preset", "finetune-cifra"])
    with pytest.raises(BadInput, match=r"--preset no.yaml: no such file; known presets are finetune-cifar, "):
        main(["--run", run, "--task", "finetune", "--preset", "no.yaml"])
    for text in ("[", "- 3", "epochs: 3", "\0"):
        (bench.scratch / "odd.yaml").write_text(text)
        with pytest.raises(BadInput, match=r"odd.yaml: (not YAML|expected fields )"):
            main(["--run", run, "--task", "finetune", "--preset", str(bench.scratch / "odd.yaml")])
    with pytest.raises(BadInput, match="--preset knn: is for --task knn"):
        main(["--run", run, "--task", "linear", "--preset", "knn"])


def test_saved_flags_hold_every_hyperparameter_and_give_the_same_again(bench: Bench) -> None:
    run, path = bench.run(), bench.scratch / "few.yaml"
    path.write_text((FOLDER / "knn.yaml").read_text().replace("k: 20", "k: 4"))
    main(["--run", str(run), "--task", "knn", "--preset", str(path)])
    held = json.loads((run / "evaluation.json").read_text())["knn"]
    assert (held["preset"], held["k"], held["temperature"]) == ("few", 4, 0.07)
    path.unlink()  # the saved flags need no other file
    saved = yaml.safe_load((run / "evaluate-knn.yaml").read_text())
    assert saved["preset"] == {"preset": "few", "task": "knn", "fits": "*", "k": 4, "temperature": 0.07}
    main(["--config", str(run / "evaluate-knn.yaml")])
    again = json.loads((run / "evaluation.json").read_text())["knn"]
    assert {**again, "seconds": 0} == {**held, "seconds": 0}


def test_every_hyperparameter_of_a_finetuning_is_in_its_preset() -> None:
    names = {"preset", "task", "fits"} ^ set(FinetuneSettings.__dataclass_fields__)
    for name in ("finetune-cifar", "finetune-imagenet"):
        assert names <= set(yaml.safe_load(Path(FOLDER / f"{name}.yaml").read_text()))
