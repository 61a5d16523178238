"""Rows of texts and of pairs: the ids, types and lengths that `transformers` gives the same network."""

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers

from extract.modalities.tokenizer import TextTokenizer
from extract.networks.data2vec2.bpe import fairseq_tokenizer
from tests.extract.test_fairseq_bpe import GOLDEN
from tests.texts import SPECIAL, WORDS, write_encoder

ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
TEXTS = ["the cat sat", "", "a dog ran on the old bright river under the moon", "cat", "the the quickly small green"]


def write_bert(folder: Path) -> Path:
    """WordPiece from a vocab.txt, as BERT's: `a [SEP] b` with types 0 and 1."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def write_roberta(folder: Path) -> Path:
    """Byte-level BPE, as RoBERTa's: `a </s></s> b` without types."""
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE({token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<mask>", *ALPHABET])}, [])
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    roles = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=library, mask_token="<mask>", **roles)
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("write", [write_bert, write_roberta])
@pytest.mark.parametrize("size", [8, 9, 16, 64])
def test_texts_and_pairs_are_those_of_transformers(write, size: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = write(tmp_path / "model")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), TextTokenizer.of_folder("here", folder)
    how = {"truncation": True, "max_length": size, "padding": "max_length", "return_token_type_ids": True}
    pairs = list(product(TEXTS, TEXTS))
    for texts, columns in (
        ([(text,) for text in TEXTS], [TEXTS]),
        (pairs, [list(side) for side in zip(*pairs, strict=True)]),
    ):
        expected, rows = theirs(*columns, **how), ours.rows(texts, size)
        assert rows["tokens"].tolist() == expected["input_ids"]
        assert rows["length"].tolist() == [sum(mask) for mask in expected["attention_mask"]]
        assert len(columns) == 1 or rows["types"].tolist() == expected["token_type_ids"]
    is_bert = write is write_bert
    content = rows["tokens"][5 * 2 + 3, : rows["length"][5 * 2 + 3]].tolist()
    assert content.count(ours.sep_id) == (2 if is_bert else 3)
    assert bool(rows["types"].any()) == is_bert


def test_a_tokenizer_without_a_template_joins_as_bert(tmp_path: Path) -> None:
    plain = TextTokenizer.of_folder("here", write_encoder(tmp_path / "plain"))
    assert plain.library.num_special_tokens_to_add(False) == 0
    with_template = TextTokenizer.of_folder("here", write_bert(tmp_path / "bert"))
    found, expected = (each.rows(list(product(TEXTS, TEXTS)), 12) for each in (plain, with_template))
    assert all(np.array_equal(found[name], expected[name]) for name in ("tokens", "length", "types"))
    found, expected = (each.rows([(text,) for text in TEXTS], 12) for each in (plain, with_template))
    assert all(np.array_equal(found[name], expected[name]) for name in ("tokens", "length"))


def test_pairs_of_fairseq_have_two_separators(tmp_path: Path) -> None:
    for name in ("encoder.json", "vocab.bpe", "dict.txt"):
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    files = [tmp_path / name for name in ("encoder.json", "vocab.bpe", "dict.txt")]
    tokenizer = TextTokenizer(fairseq_tokenizer(*files), 0, 2, 1)
    a, b = (ids.tolist() for ids in tokenizer.ids(["the cat", "on the mat"]))
    rows = tokenizer.rows([("the cat", "on the mat")], 24)
    expected = [0, *a, 2, 2, *b, 2]
    assert rows["tokens"][0].tolist() == expected + [1] * (24 - len(expected))
    assert not rows["types"].any()


def test_what_looks_like_a_special_token_is_text(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.of_folder("here", write_roberta(tmp_path))
    (row,) = tokenizer.rows([("</s>",)], 8)["tokens"].tolist()
    assert row.count(2) == 1
