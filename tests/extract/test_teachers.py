"""Teachers: the contract of every registered one, weights from files and runs, and each error's message."""

import pytest
import texts
import torch
from safetensors.torch import save_file

from extract.networks import architecture_names, build_network, export_network
from extract.teachers import load_teacher, teacher_names
from extract.teachers.base import sha256_of_state
from shards.errors import BadInput, UnknownName
from tests.extract import (
    test_beitv2,
    test_data2vec2_text_teacher,
    test_data2vec2_writer,
    test_hugging_face_teachers,
    test_timm_teachers,
)


def resnet(architecture="resnet18", num_classes=5, seed=1):
    torch.manual_seed(seed)
    network = build_network(architecture, num_classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training, so that no residual branch dominates
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network.eval()


def exported_run(folder):
    config = {"architecture": "resnet8", "arguments": {"width": 4}, "num_classes": 2, "image_size": 20}
    config |= {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 1], "class_names": ["zero", "one"]}
    torch.manual_seed(2)
    network = build_network("resnet8", 2, width=4).eval()
    export_network(folder, network, config)
    return network


def loaded(name, folder):
    """The teacher `name` with weights that need no network."""
    if name == "run:DIR":
        exported_run(folder / "My Run")
        return load_teacher(f"run:{folder / 'My Run'}")
    if name in architecture_names():
        path = folder / "weights.pth"
        torch.save(resnet(name).state_dict(), path)
        return load_teacher(name, str(path), image_size=48)
    if name == "bert":
        return load_teacher(name, str(texts.write_encoder(folder / "bert")), 7)
    if name == "data2vec2-text":
        return load_teacher(name, str(test_data2vec2_text_teacher.write_folder(folder)), 7)
    if name.startswith("data2vec2"):
        return load_teacher(name, str(test_data2vec2_writer.write_checkpoint(folder / "tiny.pt")))
    if name == "beitv2":
        return load_teacher(name, str(test_beitv2.write(folder / "tiny.pth", test_beitv2.official_tensors())))
    if name == "hf:ID|DIR":
        test_hugging_face_teachers.write_model(folder / "My Model")
        return load_teacher(f"hf:{folder / 'My Model'}")
    if name == "timm:NAME|DIR":
        weights = test_timm_teachers.write(folder / "weights.safetensors", test_timm_teachers.network())
        return load_teacher("timm:test_vit", str(weights), 48)
    return load_teacher(name)


def arguments_for(teacher):
    """What the network takes of three random samples."""
    if teacher.inputs.modality == "image":
        return [torch.randn(3, 3, teacher.inputs.image_size, teacher.inputs.image_size)]
    ids = torch.randint(5, teacher.inputs.vocabulary.size, (3, teacher.inputs.size))
    return list(teacher.inputs.prepare({"tokens": ids, "length": torch.tensor([teacher.inputs.size, 2, 4])}).values())


DEEP = ("resnet101", "resnet152")
"""What a ResNet-50 shows too, in a fraction of the time."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in teacher_names()]
)
def test_contract(tmp_path, name):
    teacher = loaded(name, tmp_path)
    assert not any(module.training for module in teacher.network.modules())
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert set(teacher.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
    assert len(teacher.weights_sha256) == 64
    arguments = arguments_for(teacher)
    together, alone = teacher.network(*arguments), teacher.network(*(rows[2:] for rows in arguments))
    assert {output: tuple(rows.shape[1:]) for output, rows in together.items()} == teacher.outputs
    for output, rows in together.items():
        assert len(rows) == 3
        assert torch.isfinite(rows).all()
        torch.testing.assert_close(rows[2:], alone[output], rtol=1e-3, atol=1e-3 * float(rows.abs().max()))
        assert not rows.requires_grad
    if teacher.class_names is not None:
        assert len(teacher.class_names) == teacher.outputs["logits"][0]
    with_tokens = {output for output, shape in teacher.outputs.items() if len(shape) == 2}
    assert teacher.extra_tokens.keys() == with_tokens
    assert all(0 <= extra < teacher.outputs[output][0] for output, extra in teacher.extra_tokens.items())
    for output in teacher.outputs:
        assert torch.equal(teacher.only([output]).network(*arguments)[output], together[output])


def test_file_formats_and_wrappings_have_one_identity(tmp_path):
    state = resnet().state_dict()
    torch.save(state, tmp_path / "plain.pth")
    save_file(state, tmp_path / "plain.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "wrapped.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "model.pth")
    torch.save(dict(reversed(state.items())), tmp_path / "reversed.pth")
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 5
    images = torch.randn(1, 3, 32, 32)
    teachers = [load_teacher("resnet18", str(path), image_size=32) for path in paths]
    assert {teacher.weights_sha256 for teacher in teachers} == {sha256_of_state(state)}
    expected = resnet()(images)
    for teacher in teachers:
        assert torch.equal(teacher.network(images)["logits"], expected["logits"])
        assert torch.equal(teacher.network(images)["pooled"], expected["pooled"])


def test_identity_covers_names_dtypes_shapes_and_values():
    state = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor(5), "c": torch.zeros(0)}
    same = {"c": torch.zeros(0), "b": torch.tensor(5), "a": torch.tensor([1.0, 0, 2, 0, 3, 0, 4, 0])[::2]}
    assert sha256_of_state(state) == sha256_of_state(same)
    values = state["a"]
    changed = [values.reshape(2, 2), values.view(torch.int32), values.nextafter(torch.tensor(9.0)), values.bfloat16()]
    others = [{**state, "a": tensor} for tensor in changed]
    others += [{"d": values, "b": state["b"], "c": state["c"]}, {**state, "c": torch.zeros(0, 1)}]
    assert len({sha256_of_state(other) for other in [state, *others]}) == len(others) + 1


def test_head_follows_the_file(tmp_path):
    for num_classes, named in ((5, False), (1000, True)):
        path = tmp_path / f"{num_classes}.pth"
        torch.save(resnet(num_classes=num_classes).state_dict(), path)
        teacher = load_teacher("resnet18", str(path))
        assert teacher.outputs == {"logits": (num_classes,), "pooled": (512,)}
        assert (teacher.class_names is not None) == named
        assert teacher.inputs.image_size == 224
        assert teacher.inputs.mean == (0.485, 0.456, 0.406)
        assert teacher.inputs.std == (0.229, 0.224, 0.225)
    assert teacher.class_names[:2] == ("tench", "goldfish")
    assert load_teacher("resnet18", str(path), image_size=32).inputs.image_size == 32


class Foreign:
    """What a careless torch.save(model) leaves in a file."""


def without_layer4(state):
    return {name: tensor for name, tensor in state.items() if "layer4" not in name}


# what torch.save writes, made of a ResNet-18's state dict, or the bytes themselves; and the message
BAD_FILES = {
    "text": (b"<!DOCTYPE html><p>404\n", r"found 22 bytes that begin b'<!DOCTYPE html><'.*only plain state dicts load"),
    "empty": (b"", r"found 0 bytes.*only plain state dicts load"),
    "foreign class": (lambda state: {"model": state, "extra": Foreign()}, r"a pickle with \S+\.Foreign, which may run"),
    "whole model": (lambda _: resnet(), r"found a pickle with torchvision.models.resnet.ResNet"),
    "a list": (lambda _: [1, 2], r"expected a state dict, found a list"),
    "not tensors": (lambda state: {"epoch": 3, "w": {"a": 1}}, r"expected tensors by name, found 'epoch' of type int"),
    "deeper": (
        lambda _: resnet("resnet34").state_dict(),
        r"\d+ unexpected \(layer1.2.conv1.weight.*; it fits resnet34$",
    ),
    "some keys": (
        without_layer4,
        r"25 missing \(layer4.0.conv1.weight, .*, \.\.\.\); give the weights of that architect",
    ),
    "more keys": (lambda state: {**state, "extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
    "shapes": (
        lambda state: {**state, "conv1.weight": torch.zeros(64, 3, 3, 3)},
        r"1 mis-shaped \(conv1.weight expected \(64, 3, 7, 7\), found \(64, 3, 3, 3\)\)",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_weights_files_are_explained(tmp_path, kind):
    content, message = BAD_FILES[kind]
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content(resnet().state_dict()), path)
    with pytest.raises(BadInput, match=message) as error:
        load_teacher("resnet18", str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_truncated_and_missing_weights_files(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(
        BadInput, match=r"no such file; give a .pth or .safetensors file, a URL, or one of IMAGENET1K_V1"
    ):
        load_teacher("resnet18", str(path))
    torch.save(resnet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:10000])
    with pytest.raises(BadInput, match=r"weights.pth: found 10000 bytes.*a truncated file"):
        load_teacher("resnet18", str(path))


def test_unknown_teachers_and_bad_flags():
    with pytest.raises(UnknownName, match="did you mean resnet101"):
        load_teacher("resnet110")
    with pytest.raises(UnknownName, match="unknown teacher 'ruin:x'"):
        load_teacher("ruin:x")
    with pytest.raises(BadInput, match="--view size=0: expected 1 to 4096"):
        load_teacher("resnet18", image_size=0)
    with pytest.raises(BadInput, match="expected an http or https URL"):
        load_teacher("resnet18", "ftp://example.org/resnet18.pth")


def test_run_teacher(tmp_path):
    network = exported_run(tmp_path / "My Run!")
    teacher = load_teacher(f"run:{tmp_path / 'My Run!'}/")
    assert (teacher.name, teacher.architecture, teacher.class_names) == ("run-my-run", "resnet8", ("zero", "one"))
    assert teacher.outputs == {"logits": (2,), "pooled": (16,)}
    assert teacher.inputs.image_size == 20
    assert (teacher.inputs.mean, teacher.inputs.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 1.0))
    assert teacher.weights_sha256 == sha256_of_state(network.state_dict())
    images = torch.randn(2, 3, 20, 20)
    expected, outputs = network(images), teacher.network(images)
    assert all(torch.equal(expected[name], outputs[name]) for name in ("logits", "pooled"))
    assert load_teacher(f"run:{tmp_path / 'My Run!'}", image_size=24).inputs.image_size == 24


def test_run_teacher_errors(tmp_path):
    spec = f"run:{tmp_path / 'a'}"
    with pytest.raises(BadInput, match=r"a/student.json: no such file; give the folder of a run"):
        load_teacher(spec)
    with pytest.raises(BadInput, match="run: names no folder"):
        load_teacher("run:")
    exported_run(tmp_path / "a")
    with pytest.raises(BadInput, match="drop --weights"):
        load_teacher(spec, weights="x.pth")
    (tmp_path / "a" / "student.safetensors").unlink()
    with pytest.raises(BadInput, match=r"student.safetensors: expected the weights"):
        load_teacher(spec)
