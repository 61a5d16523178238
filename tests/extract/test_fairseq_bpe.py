"""fairseq's byte-level BPE: its own ids of the golden strings, a second formulation on random text, and bad files.

tests/extract/golden/text_bpe_tiny/: a tiny encoder.json, vocab.bpe and dict.txt, and the ids that fairseq's encoder and
dictionary gave.
"""

import json
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from extract.networks.data2vec2.bpe import fairseq_tokenizer
from shards.errors import BadInput

GOLDEN = Path(__file__).parent / "golden" / "text_bpe_tiny"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
FILES = ("encoder.json", "vocab.bpe", "dict.txt")
GPT2_SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def tokenizer_of(folder: Path) -> Tokenizer:
    return fairseq_tokenizer(*(folder / name for name in FILES))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizer_of(GOLDEN)


@pytest.mark.parametrize("case", EXPECTED["cases"], ids=lambda case: repr(case["text"]))
def test_ids_are_fairseqs(tokenizer: Tokenizer, case: dict) -> None:
    encoding = tokenizer.encode(case["text"])
    assert encoding.ids == case["fairseq_ids"]
    if EXPECTED["unk"] not in case["fairseq_ids"]:
        assert tokenizer.decode(encoding.ids) == case["text"]
    assert tokenizer.encode(case["text"], add_special_tokens=False).ids == case["fairseq_ids"][1:-1]


def test_special_tokens_have_their_ids(tokenizer: Tokenizer) -> None:
    names = {"<s>": "bos", "<pad>": "pad", "</s>": "eos", "<unk>": "unk", "<mask>": "mask"}
    assert {token: tokenizer.token_to_id(token) for token in names} == {t: EXPECTED[key] for t, key in names.items()}
    assert {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special} == set(names)
    assert tokenizer.get_vocab_size() == EXPECTED["len"]
    assert [tokenizer.id_to_token(number) for number in range(4)] == list(names)[:4]


def test_pairs_have_two_separators(tokenizer: Tokenizer) -> None:
    a, b = (tokenizer.encode(text, add_special_tokens=False).ids for text in ("the cat", " sat"))
    assert tokenizer.encode("the cat", " sat").ids == [0, *a, 2, 2, *b, 2]


def test_the_librarys_json_keeps_all_but_one_setting(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_str(tokenizer.to_str())
    assert again.get_vocab() == tokenizer.get_vocab()
    again.encode_special_tokens = True
    for case in EXPECTED["cases"]:
        assert again.encode(case["text"]).ids == case["fairseq_ids"]


def slow_ids(text: str) -> list[int]:
    """The algorithm of the paper (Sennrich et al. 2016, arXiv:1508.07909, section 3.2), merge by merge, on bytes."""
    numbers = json.loads((GOLDEN / "encoder.json").read_text())
    lines = (GOLDEN / "vocab.bpe").read_text().splitlines()[1:]
    ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines)}
    words = [line.rsplit(" ", 1)[0] for line in (GOLDEN / "dict.txt").read_text().splitlines()]
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    ids = []
    for word in GPT2_SPLIT.findall(text):
        parts = [letters[byte] for byte in word.encode()]
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            best = min(pairs, key=lambda pair: ranks[pair])
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        for part in parts:
            word_of_dict = str(numbers[part])
            ids.append(4 + words.index(word_of_dict) if word_of_dict in words else 3)
    return [0, *ids, 2]


PIECES = st.sampled_from(
    [" the", "the", " cat", "atching", "'ll", "'s", "<s>", "</s>", " ", "\n", "Z~", "é", "你好", "😀", "12"]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=12).map("".join)


@given(text=TEXTS)
def test_ids_equal_the_slow_formulation(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert ids == slow_ids(text)
    if 3 not in ids:
        assert tokenizer.decode(ids) == text


def rewrite(folder: Path, name: str, change: Callable[[str], str]) -> Path:
    for each in FILES:
        shutil.copyfile(GOLDEN / each, folder / each)
    (folder / name).write_text(change((GOLDEN / name).read_text()))
    return folder


BAD = [
    ("encoder.json", lambda text: text[:-9], "not JSON"),
    ("encoder.json", lambda text: "[1]", "expected an object"),
    ("encoder.json", lambda text: text.replace(": 5,", ": true,"), "a number by token"),
    ("encoder.json", lambda text: text.replace(": 5,", ": 6,"), "each another one"),
    ("vocab.bpe", lambda text: text + "a b c\n", "line 101 should be two tokens, found 'a b c'"),
    ("vocab.bpe", lambda text: text + "qq r\n", "line 101 merges qq r, but"),
    ("vocab.bpe", lambda text: text + "q r\n", "has no qr"),
    ("dict.txt", lambda text: text + "13\n", "line 358 should be a token's number and a count, found '13'"),
    ("dict.txt", lambda text: text + "13 many\n", "line 358 should be"),
    ("dict.txt", lambda text: text + "13 1\n", "line 358 names '13' again"),
    ("dict.txt", lambda text: text + "999 1\n", "names the token 999, which"),
    ("dict.txt", lambda text: text + "<s> 1\n", "the word '<s>' is a token already"),
    ("dict.txt", lambda text: re.sub(r"(?m)^257 .*\n", "", text), "lacks 257, the token the of"),
]


@pytest.mark.parametrize(("name", "change", "expected"), BAD, ids=[expected for _, _, expected in BAD])
def test_bad_files_are_named(tmp_path: Path, name: str, change: Callable[[str], str], expected: str) -> None:
    with pytest.raises(BadInput) as caught:
        tokenizer_of(rewrite(tmp_path, name, change))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ") and expected in message and "\n" not in message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_binary_file_is_named(tmp_path: Path, name: str) -> None:
    rewrite(tmp_path, name, str)
    (tmp_path / name).write_bytes(b"ab \xff\n")
    with pytest.raises(BadInput, match=f"^{re.escape(str(tmp_path / name))}: (byte 3 is not UTF-8|not JSON)"):
        tokenizer_of(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BadInput, match=f"^{re.escape(str(tmp_path / name))}: (no such file|missing)"):
        tokenizer_of(tmp_path)
