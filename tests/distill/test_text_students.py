"""Students of text teachers: they start as the teacher's first blocks, and the cache alone picks their recipe."""

from pathlib import Path

import caches
import pytest
import tokenizers
import torch
import transformers
from training import distill

from extract.networks import load_exported
from extract.networks.text_encoder import TextEncoder
from extract.teachers import load_teacher
from tests.extract.text_models import DEPTH, VOCABULARY, WIDTH, write_model

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
WORDS = [f"w{number}" for number in range(VOCABULARY - len(SPECIAL))]
FLAGS = ("--precision", "float32", "--batch_size", "8", "--max_steps", "4", "--student", "encoder:depth=2")


@pytest.fixture(scope="module")
def text_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layer means and masked-LM logits of a tiny BERT over blocks of 12 tokens."""
    folder = tmp_path_factory.mktemp("text")
    write_model(folder / "bert")
    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    names = {"pad": 0, "cls": 1, "sep": 2, "mask": 3, "unk": 4}
    special = {f"{name}_token": SPECIAL[number] for name, number in names.items()}
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, **special).save_pretrained(folder / "bert")
    drawn = torch.randint(0, len(WORDS), (60, 20), generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "lines.txt").write_text("\n".join(" ".join(WORDS[i] for i in line) for line in drawn))
    flags = ("--teacher", f"hf:{folder / 'bert'}", "--data", f"text:{folder / 'lines.txt'}", "--devices", "cpu")
    targets = ("--target", "layer_mean_no_norm,mlm_logits", "--codec", "float32,topk:8")
    caches.extract(*flags, *targets, "--out", folder / "cache", "--view", "blocks:size=12")
    return folder / "cache"


@pytest.mark.parametrize(("target", "recipe"), [("layer_mean_no_norm", "f-distilbert"), ("mlm_logits", "mlm-distil")])
def test_the_cache_alone_says_how(target: str, recipe: str, text_cache: Path, tmp_path: Path) -> None:
    outcome = distill(text_cache, tmp_path / "run", "--targets", target, *FLAGS, "--lr", "1e-9").succeeds()
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
