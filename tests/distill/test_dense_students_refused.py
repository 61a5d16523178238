"""Students of features that do not fit their target sets, and the names by which these are chosen."""

from pathlib import Path

import pytest
from msgspec import structs
from test_dense_students import RECIPE, data_of, student_of, whole_int8
from training import distill, write_recipe

from distill.holding import open_training
from distill.recipe import load_recipe
from distill.run import build_module
from extract.networks.data2vec2 import NamedOutputs
from shards.cache import named
from shards.errors import BadInput
from tests.extract.test_data2vec2_writer import write_checkpoint


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--student", "data2vec2:depth=5"), ("data2vec2:depth=5", "deeper than the teacher", "4 blocks")),
        (("--student", "data2vec2:width=8,heads=2"), ("--init teacher", "width 8", "--init random")),
        (("--student", "data2vec2:size=8"), ("unknown size", "depth, width and heads")),
        (("--student", "data2vec2:depth=half"), ("depth half: expected a whole number",)),
        (("--student", "data2vec2:depth=2,width=9", "--init", "random"), ("width 9",)),
        (("--student", "resnet8", "--init", "random"), ("resnet8", "layer_mean (10, 16)", "another student")),
        (("--init", "nothere.pt"), ("nothere.pt", "no such file", "--init")),
        (("--objective", "kl"), ("objective kl needs logits", "layer_mean")),
        (("--label_weight", "0.5"), ("--objective label_weight=0.5", "no logits")),
    ],
)
def test_what_does_not_fit_is_refused_on_one_line(
    flags: tuple[str, ...], words: tuple[str, ...], dense: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "dense.yaml", **RECIPE)
    flags = ("--recipe", str(recipe), "--targets", "layer_mean-float32", *flags)
    outcome = distill(dense, tmp_path / "run", *flags)
    outcome.refuses(*words)
    assert outcome.out == "" and not (tmp_path / "run").exists()


def test_other_weights_than_those_of_the_targets_are_refused(dense: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other.pt", seed=1, depth=4, average_top_k_layers=4)
    recipe = write_recipe(tmp_path / "dense.yaml", **RECIPE)
    flags = ("--recipe", recipe, "--targets", "layer_mean-float32", "--init", other)
    distill(dense, tmp_path / "run", *flags).refuses("is not the teacher of", "weights_sha256", "--init")


def test_a_layer_that_the_student_has_no_block_for(dense: Path) -> None:
    with pytest.raises(BadInput, match=r"gives .*layer_4.* and no layer_2"):
        student_of(dense, "layer_2-float32", student="data2vec2:depth=1")


def test_of_another_kind_of_teacher_a_transformer_with_tokens_like_its(dense: Path) -> None:
    data = data_of(dense, "layer_mean-float32", init="random", student="data2vec2:depth=2")
    (targetset,) = data.training.targetsets
    assert targetset.manifest.teacher_settings["depth"] == 4
    targetset.manifest = structs.replace(targetset.manifest, teacher_settings=None)
    module = build_module(data, data.recipe)
    assert isinstance(module.student, NamedOutputs)
    assert (module.student.settings.patch_size, module.student.settings.num_extra_tokens) == (4, 1)
    assert load_recipe("features").objective == "smooth_l1:beta=1"


def test_a_target_is_named_by_its_own_words(dense: Path) -> None:
    """layer_mean is in layer_mean_no_cls's name, and the whole set's in that of the one with kept tokens."""
    names = ["d-layer_mean-int8-1a2b", "d-layer_mean-int8-4tokens-3c4d", "d-layer_mean_no_cls-int8-5e6f"]
    names += ["d-layer_1-int8-aaaa", "d-layer_12-int8-bbbb"]
    assert named(names, "layer_mean-int8") == names[:1] and named(names, "4tokens") == names[1:2]
    assert named(names, "layer_1") == names[3:4] and named(names, "no_cls") == names[2:3]
    assert named(names, "layer_mean") == names[:2] and named(names, "other") == []
    assert open_training(str(dense), "layer_mean-int8", False).targetsets[0].folder.name == whole_int8(dense)
