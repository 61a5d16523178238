"""What the tests of text tasks start from: a tiny seeded BERT, its tokenizer, and its evaluation without a command."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor, nn

from evaluate.config import EvaluateConfig
from evaluate.evaluation import Evaluation
from evaluate.student import TrainedStudent
from extract.modalities.text import TextInput
from extract.modalities.tokenizer import TextTokenizer
from tests.evaluate.glue_files import COLOURS, THINGS

SIZE = 16
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer() -> TextTokenizer:
    words = [*SPECIAL, *COLOURS, *THINGS]
    library = tokenizers.Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    library.pre_tokenizer = WhitespaceSplit()
    return TextTokenizer(library, cls_id=2, sep_id=3, pad_id=0, mask_id=4)


class TinyBert(nn.Module):
    """`transformers`' BERT, 2 blocks of width 32, giving [CLS] and the masked mean of all tokens."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = transformers.BertConfig(vocab_size=32, max_position_embeddings=SIZE, initializer_range=0.2, **sizes)
        self.bert = transformers.BertModel(config, add_pooling_layer=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        mask = attention_mask.to(torch.int64)
        tokens = self.bert(input_ids, mask, token_type_ids).last_hidden_state
        return {"cls": tokens[:, 0], "pooled": (tokens * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)}


def evaluation(folder: Path, network: nn.Module | None = None, **flags: Any) -> Evaluation:
    """A student's evaluation, its results in `folder`."""
    network = network or TinyBert()
    inputs = TextInput.of(SIZE, tokenizer())
    student = TrainedStudent(network.eval(), inputs, None, None, torch.device("cpu"), torch.float32)
    return Evaluation(EvaluateConfig(num_workers=2, **flags), folder, student, "ab" * 32, folder)
