"""Networks of `timm` as students: trained from a small cache of digits, exported, loaded again, evaluated."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import caches
import pytest
import timm
import torch
from training import distill, open_data, write_recipe

from distill.peak_rate import peak_rate
from distill.run import build_module
from distill.students import Student, StudentRequest, build_student
from extract.modalities.image import ImageInput
from extract.networks import build_network, load_exported
from extract.teachers import load_teacher
from shards.command.specs import parse_spec
from shards.errors import BadInput, UnknownName

ONE = ("--targets", "one-logits-float32")
INPUTS = ImageInput(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

LOAD = """
import json, sys, torch
from extract.networks import load_exported
torch.set_num_threads(1)
network, config = load_exported(sys.argv[1])
torch.manual_seed(0)
print(json.dumps(network(torch.randn(5, 3, 16, 16))["logits"].tolist()))
"""


def student(spec: str, init: str = "random", inputs: ImageInput = INPUTS) -> Student:
    return build_student(StudentRequest(spec, init, [], 7, inputs))


@pytest.mark.parametrize(
    "spec",
    [
        "timm:test_resnet",
        pytest.param("timm:test_vit3:drop_path_rate=0.1", marks=pytest.mark.slow),
        pytest.param("timm:test_vit_relpos", marks=pytest.mark.slow),
    ],
)
def test_a_student_is_trained_exported_loaded_and_evaluated(shards: Path, tmp_path: Path, spec: str) -> None:
    recipe = write_recipe(tmp_path / "test.yaml", student=spec, max_steps=2, validation_fraction=0.0)
    distill(shards, tmp_path / "run", *ONE, "--recipe", recipe).succeeds()
    document = json.loads((tmp_path / "run/student.json").read_text())
    name, arguments = parse_spec("student", spec)
    size = {} if name == "timm:test_resnet" else {"img_size": 16}
    assert (document["architecture"], document["arguments"]) == (name, size | arguments)
    network, _ = load_exported(tmp_path / "run")
    data = open_data(shards, student=spec)
    begun = build_module(data, data.recipe).student.state_dict()
    trained = network.state_dict()
    assert begun.keys() == trained.keys()
    assert any(not torch.equal(begun[key], tensor) for key, tensor in trained.items())
    torch.manual_seed(0)
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        logits = network(images)["logits"]
        if spec == "timm:test_vit_relpos":  # whose tables timm makes anew: a fresh process has nothing else of them
            done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path / "run")], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert torch.equal(torch.tensor(json.loads(done.stdout)), logits)
        # the export's tensors are timm's own behind a prefix, and tables that timm makes anew
        plain = timm.create_model(name.partition(":")[2], num_classes=10, **size).eval()
        found = plain.load_state_dict({key.removeprefix("network."): x for key, x in trained.items()}, strict=False)
        assert not found.missing_keys and torch.equal(plain(images), logits)
        taught = load_teacher(f"run:{tmp_path / 'run'}")
        assert torch.equal(taught.network(images)["logits"], logits) and taught.architecture == name
    outcome = caches.command("evaluate", "--run", tmp_path / "run", "--task", "accuracy,fidelity", "--device", "cpu")
    assert "top1" in outcome.succeeds().out and "agreement" in outcome.out


def test_specs_name_a_network_of_timm_and_its_arguments() -> None:
    assert parse_spec("student", "timm:resnet18") == ("timm:resnet18", {})
    assert parse_spec("student", "timm:resnet18:drop_rate=0.1,drop_path_rate=0.2") == (
        "timm:resnet18",
        {"drop_rate": 0.1, "drop_path_rate": 0.2},
    )
    assert 0 < peak_rate("timm:resnet18:drop_rate=0.1", 64) == peak_rate("timm:resnet18", 256) / 2
    built = student("timm:test_vit:drop_path_rate=0.1", "teacher")
    assert built.arguments == {"img_size": 16, "drop_path_rate": 0.1} and built.network.network.training
    assert student("timm:test_vit", inputs=replace(INPUTS, image_size=32)).arguments == {"img_size": 32}


def test_students_of_timm_that_cannot_be() -> None:
    with pytest.raises(UnknownName, match=r"unknown network of timm 'resnet5': did you mean .*resnet50") as error:
        student("timm:resnet5")
    assert len(str(error.value)) < 200
    with pytest.raises(BadInput, match=r"network timm:resnet18\.a1_in1k: names weights, .*give timm:resnet18$"):
        student("timm:resnet18.a1_in1k")
    with pytest.raises(BadInput, match=r"unknown argument 'pretrained'; it takes img_size, drop_rate, drop_path_rate"):
        student("timm:resnet18:pretrained=true")
    with pytest.raises(BadInput, match=r"drop_rate 1.5: expected a number of at least 0, below 1"):
        student("timm:resnet18:drop_rate=1.5")
    with pytest.raises(BadInput, match=r"timm cannot build it with .*img_size=16"):
        student("timm:test_resnet:img_size=16")
    with pytest.raises(
        BadInput, match=r"--student timm:vit_tiny_patch16_224:img_size=32: takes no images of 16 pixels"
    ):
        student("timm:vit_tiny_patch16_224:img_size=32")
    with pytest.raises(BadInput, match=r"--init weights\.pt: timm:test_resnet takes nothing over"):
        student("timm:test_resnet", "weights.pt")
    with pytest.raises(BadInput, match=r"num_classes None: expected a whole number"):
        build_network("timm:test_resnet", None)
