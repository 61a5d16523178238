"""fairseq's tokens: GPT-2's byte-level BPE (Radford et al. 2019, section 2.2), each token under its id in a dict.txt.

`GPT2BPE` and `Dictionary` of fairseq 3d262bb, data/encoders/gpt2_bpe.py and data/dictionary.py. GPT-2's own number of a
token, as decimal text, is a word of dict.txt; fairseq's id of a word is 4 + its line.
"""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from shards.errors import BadInput
from shards.sealed import read_object

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""Ids 0 to 3."""
MASK = "<mask>"
"""The id after the last line of dict.txt."""
_MAX_BYTES = 1 << 26
_AGAIN = "download it from beside the model's checkpoint"


def fairseq_tokenizer(encoder_json: Path, vocab_bpe: Path, dict_txt: Path) -> Tokenizer:
    """A tokenizer whose ids are those of the embedding that was trained with `dict_txt`.

    It puts <s> and </s> around a text, and </s> </s> between two; what looks like a special token in a text is text.
    A byte that dict.txt has no id for is <unk>. `decode` leaves special tokens out. The setting
    `encode_special_tokens` is lost where the tokenizer is pickled or written as JSON: set it again there.

    Raises BadInput, which names the file, for one that is missing or that does not belong to the others.
    """
    numbers = _numbers(encoder_json)
    words = _words(dict_txt)
    vocabulary = {token: 4 + words[str(number)] for token, number in numbers.items() if str(number) in words}
    others = {word: 4 + line for word, line in words.items() if not word.isdecimal()}
    if unknown := sorted(words.keys() - others.keys() - set(map(str, numbers.values()))):
        raise BadInput(
            f"{dict_txt}: names the token {unknown[0]}, which {encoder_json} has not; give files of one model"
        )
    if clash := sorted(others.keys() & {*vocabulary, *SPECIAL, MASK}):
        raise BadInput(f"{dict_txt}: the word {clash[0]!r} is a token already; give the dict.txt of the model")
    merges = _merges(vocab_bpe)
    for line, (left, right) in enumerate(merges, start=2):
        for token in (left, right, left + right):
            if token not in numbers:
                raise BadInput(f"{vocab_bpe}: line {line} merges {left} {right}, but {encoder_json} has no {token}")
            if token not in vocabulary:
                raise BadInput(
                    f"{dict_txt}: lacks {numbers[token]}, the token {token} of {vocab_bpe}, line {line}; "
                    "give the dict.txt of the model"
                )
    special = {token: number for number, token in enumerate(SPECIAL)} | {MASK: 4 + len(words)}
    model = models.BPE(vocab=special | vocabulary | others, merges=merges, unk_token="<unk>", fuse_unk=False)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, special[token]) for token in ("<s>", "</s>")],
    )
    tokenizer.add_special_tokens(list(special))
    tokenizer.encode_special_tokens = True
    return tokenizer


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise BadInput(f"{file}: no such file; {_AGAIN}")
    if file.stat().st_size > _MAX_BYTES:
        raise BadInput(f"{file}: expected at most {_MAX_BYTES:,} bytes, found {file.stat().st_size:,}; {_AGAIN}")
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: byte {error.start} is not UTF-8; {_AGAIN}") from error


def _numbers(file: Path) -> dict[str, int]:
    """GPT-2's number of each token."""
    numbers = read_object(file, _AGAIN, limit=_MAX_BYTES)
    if not all(type(number) is int for number in numbers.values()) or len(set(numbers.values())) < len(numbers):
        raise BadInput(f"{file}: expected a number by token, each another one; {_AGAIN}")
    return numbers


def _merges(file: Path) -> list[tuple[str, str]]:
    """The pairs of tokens that become one, the first to be merged first."""
    merges = []
    for number, line in enumerate(_lines(file)[1:], start=2):  # the first is #version
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise BadInput(f"{file}: line {number} should be two tokens, found {line!r:.60}; {_AGAIN}")
        merges.append((left, right))
    return merges


def _words(file: Path) -> dict[str, int]:
    """The line, from 0, of each word."""
    words: dict[str, int] = {}
    for number, line in enumerate(_lines(file)):
        word, _, count = line.rstrip().rpartition(" ")
        if not word or not count.isdecimal():
            raise BadInput(
                f"{file}: line {number + 1} should be a token's number and a count, found {line!r:.60}; {_AGAIN}"
            )
        if word in words:
            raise BadInput(f"{file}: line {number + 1} names {word!r:.60} again; {_AGAIN}")
        words[word] = number
    return words
