"""What the tests of text tasks start from: a tiny seeded BERT, its tokenizer, and its evaluation without a command."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.modalities.text import TextInput
from extract.modalities.tokenizer import TextTokenizer
from extract.networks import build_network, export_network, input_document
from extract.networks.text_encoder import TextEncoder
from tests.evaluate.glue_files import COLOURS, THINGS

SIZE = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer() -> TextTokenizer:
    words = [*SPECIAL, *COLOURS, *THINGS]
    library = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    library.pre_tokenizer = WhitespaceSplit()
    return TextTokenizer(library, cls_id=2, sep_id=3, pad_id=0, mask_id=4)


class TinyBert(TextEncoder):
    """BERT with 2 blocks of width 32, seeded."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = transformers.BertConfig(vocab_size=32, max_position_embeddings=SIZE, initializer_range=0.2, **sizes)
        super().__init__(transformers.BertModel(config, add_pooling_layer=False))


def write_run(folder: Path, network: TextEncoder | None = None) -> Path:
    """A run as `distill` leaves it."""
    network, inputs = network or TinyBert(), TextInput.of(SIZE, tokenizer())
    arguments = {"settings": asdict(network.settings), "teacher_depth": network.settings.depth, "projectors": {}}
    described = {"architecture": "encoder", "arguments": arguments, "num_classes": None, "class_names": None}
    rebuilt = build_network("encoder", None, **arguments)  # as distill's students are made
    rebuilt.load_state_dict(network.state_dict(), strict=False)
    export_network(folder, rebuilt, described | input_document(inputs))
    for name, content in inputs.files().items():
        (folder / name).write_bytes(content)
    return folder


def write_teacher(folder: Path, seed: int = 1) -> Path:
    """A BERT with its pooler and its tokenizer, in a folder of `transformers`."""
    torch.manual_seed(seed)
    transformers.BertModel(TinyBert(seed).network.config).save_pretrained(folder)
    roles = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer().library, **roles).save_pretrained(folder)
    return folder


def evaluation(folder: Path, network: nn.Module | None = None, **flags: Any) -> Evaluation:
    """A student's evaluation, its results in `folder`."""
    network = network or TinyBert()
    inputs = TextInput.of(SIZE, tokenizer())
    student = TrainedStudent(network.eval(), inputs, None, None, torch.device("cpu"), torch.float32)
    return Evaluation(EvaluateConfig(device="cpu,threads=2", **flags), folder, student, "ab" * 32, folder)
