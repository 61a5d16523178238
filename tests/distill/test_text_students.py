"""Students of text teachers: they start as the teacher's first blocks, and the cache alone picks their recipe."""

from pathlib import Path

import caches
import pytest
import torch
from texts import DEPTH, WIDTH, write_corpus, write_encoder
from training import distill

from extract.networks import load_exported
from extract.networks.text_encoder import TextEncoder
from extract.teachers import load_teacher

FLAGS = ("--precision", "float32", "--batch_size", "8", "--max_steps", "4", "--student", "encoder:depth=2")


@pytest.fixture(scope="module")
def text_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layer means and masked-LM logits of a tiny BERT over blocks of 12 tokens."""
    folder = tmp_path_factory.mktemp("text")
    write_encoder(folder / "bert")
    write_corpus(folder / "lines", 60)
    flags = ("--teacher", f"hf:{folder / 'bert'}", "--data", f"text:{folder / 'lines'}", "--devices", "cpu")
    targets = ("--target", "layer_mean_no_norm,mlm_logits", "--codec", "float32,topk:8")
    caches.extract(*flags, *targets, "--out", folder / "cache", "--view", "blocks:size=12")
    return folder / "cache"


@pytest.mark.parametrize(("target", "recipe"), [("layer_mean_no_norm", "f-distilbert"), ("mlm_logits", "mlm-distil")])
def test_the_cache_alone_says_how(target: str, recipe: str, text_cache: Path, tmp_path: Path) -> None:
    flags = ("--targets", target, *FLAGS, "--lr", "1e-9", "--max_memory", "24GB")
    outcome = distill(text_cache, tmp_path / "run", *flags).succeeds()
    assert "in one part: " in outcome.out  # a step of texts is counted too
    assert f"distill: {recipe}: encoder:depth=2 from hf-bert-{target}" in outcome.out
    student, _ = load_exported(tmp_path / "run")
    teacher = load_teacher(f"hf:{text_cache.parent / 'bert'}", None, 12).network
    assert isinstance(student, TextEncoder) and isinstance(teacher, TextEncoder) and teacher.depth == DEPTH
    held = teacher.encoder.state_dict()
    for name, rows in student.encoder.named_parameters():  # at that rate no weight moves by more than 4e-9
        torch.testing.assert_close(rows, held[name], rtol=0, atol=1e-7)
    assert student.settings.depth == 2 and student.settings.masked_lm == (target == "mlm_logits")


def test_a_narrow_student_meets_the_teacher_through_a_projector(text_cache: Path, tmp_path: Path) -> None:
    flags = ("--targets", "layer_mean_no_norm", *FLAGS[:-1], "encoder:depth=2,width=8", "--init", "random")
    distill(text_cache, tmp_path / "run", *flags).succeeds()
    student, _ = load_exported(tmp_path / "run")
    assert student.projectors["layer_mean_no_norm"].weight.shape == (WIDTH, 8)


def test_what_does_not_fit_is_refused_on_one_line(text_cache: Path, tmp_path: Path) -> None:
    for student, words in (("encoder:depth=5", "deeper than the teacher"), ("encoder:width=8", "--init random")):
        flags = ("--targets", "layer_mean_no_norm", *FLAGS[:-1], student)
        distill(text_cache, tmp_path / "run", *flags).refuses(words)


def test_a_recipe_of_another_modality_is_refused(text_cache: Path, tmp_path: Path) -> None:
    flags = ("--targets", "layer_mean_no_norm", "--max_steps", "2")
    refused = distill(text_cache, tmp_path / "run", "--recipe", "distil-data2vec2", *flags)
    refused.refuses("--recipe distil-data2vec2", "modality image", "holds text")
    images = tmp_path / "images"
    teacher = caches.write_teacher(tmp_path / "teacher")
    caches.extract("--teacher", f"run:{teacher}", *caches.SMALL, "--out", images)
    refused = distill(images, tmp_path / "run", "--recipe", "f-distilbert", "--max_steps", "2")
    refused.refuses("--recipe f-distilbert", "modality text", "holds image")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_student_starts_from_a_folder_of_the_teachers_weights(text_cache: Path, tmp_path: Path) -> None:
    flags = ("--targets", "layer_mean_no_norm", *FLAGS, "--lr", "1e-9")
    distill(text_cache, tmp_path / "run", *flags, "--init", str(text_cache.parent / "bert")).succeeds()
    distill(text_cache, tmp_path / "same", *flags).succeeds()
    assert (tmp_path / "run/student.safetensors").read_bytes() == (tmp_path / "same/student.safetensors").read_bytes()
    other = write_encoder(tmp_path / "other", seed=1)
    refused = distill(text_cache, tmp_path / "third", *flags, "--init", str(other))
    refused.refuses("weights_sha256", "--init")


@pytest.mark.slow
def test_a_student_teaches_again(text_cache: Path, tmp_path: Path) -> None:
    distill(text_cache, tmp_path / "run", "--targets", "layer_mean_no_norm", *FLAGS).succeeds()
    cache, lines = tmp_path / "cache", text_cache.parent / "lines"
    flags = ("--teacher", f"run:{tmp_path / 'run'}", "--data", f"text:{lines}", "--devices", "cpu", "--out", cache)
    caches.extract(*flags, "--target", "layer_mean_no_norm", "--codec", "float32")
    stored = caches.viewset_of(cache), caches.viewset_of(text_cache)
    assert stored[0].name == stored[1].name  # its size and its tokenizer are the teacher's
