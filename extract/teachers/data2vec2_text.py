"""data2vec 2.0's text network as a teacher: fairseq's nlp_base.pt, and the byte-level BPE whose files lie beside it."""

from dataclasses import replace
from pathlib import Path

from extract.modalities.text import TextInput
from extract.modalities.tokenizer import TextTokenizer
from extract.networks.data2vec2 import TextSettings, load_data2vec2
from extract.networks.data2vec2.bpe import MASK, SPECIAL, fairseq_tokenizer
from extract.teachers.base import Teacher
from extract.teachers.data2vec2 import frozen
from extract.teachers.download import download
from shards.errors import BadInput, SourceUnavailable

# the pre-trained file that fairseq's examples/data2vec/README.md lists for text, and what its scripts take from there
OFFICIAL_FOLDER = "https://dl.fbaipublicfiles.com/fairseq/data2vec2"
CHECKPOINT = "nlp_base.pt"
BPE_FILES = ("encoder.json", "vocab.bpe", "dict.txt")


def load(spec: str, weights: str | None, size: int | None, weights_key: str = "student") -> Teacher:
    """The teacher `data2vec2-text`, of the official files or of `--weights` and the BPE_FILES in its folder.

    `size` is the number of tokens a row. `weights_key` is `student` (the default) or `ema`. `:statistics=valid` behind
    the name leaves padding out of the statistics of layer means.
    """
    name, _, option = spec.partition(":")
    if option not in ("", "statistics=valid"):
        raise BadInput(f"--teacher {spec}: {option}: expected statistics=valid")
    path, *bpe = _located(weights or f"{OFFICIAL_FOLDER}/{CHECKPOINT}")
    network = load_data2vec2(path, weights_key)
    settings = network.settings
    if not isinstance(settings, TextSettings):
        raise BadInput(f"{path}: expected a text checkpoint, found one for images; give for example {CHECKPOINT}")
    if settings.num_extra_tokens:
        raise BadInput(
            f"{path}: puts {settings.num_extra_tokens} tokens of its own before a text (num_extra_tokens), for which "
            f"stored targets have no row; give a checkpoint without them, such as {CHECKPOINT}"
        )
    if missing := [file.name for file in bpe if not file.is_file()]:
        raise BadInput(
            f"{path}: its tokenizer's {', '.join(missing)} must lie beside it, in {path.parent}; "
            f"download from {OFFICIAL_FOLDER}"
        )
    tokenizer = fairseq_tokenizer(*bpe)
    if (size_of_dict := tokenizer.get_vocab_size()) != settings.vocab_size:
        raise BadInput(
            f"{bpe[-1]}: has ids for {size_of_dict} tokens, those between <s> and <mask>, but {path} embeds "
            f"{settings.vocab_size}; give the dict.txt of that checkpoint"
        )
    cls, sep, pad = (SPECIAL.index(token) for token in ("<s>", "</s>", "<pad>"))
    texts = TextTokenizer(tokenizer, cls, sep, pad, tokenizer.token_to_id(MASK))
    network.settings = replace(settings, counts_padding=not option)
    return frozen(name, path, network, TextInput.up_to(settings.max_source_positions, size, texts, str(path)))


def _located(weights: str) -> list[Path]:
    """The checkpoint and its BPE_FILES: beside a file, or behind the same address."""
    folder, _, name = weights.rpartition("/")
    if "://" not in weights:
        path = Path(weights).expanduser()
        return [path, *(path.parent / each for each in BPE_FILES)]
    try:
        return [download(f"{folder}/{each}") for each in (name, *BPE_FILES)]
    except SourceUnavailable as error:
        raise SourceUnavailable(
            f"{folder}: cannot be downloaded here ({error.__cause__}); download {name}, {', '.join(BPE_FILES)} "
            f"elsewhere into one folder and give --weights FOLDER/{name}"
        ) from error
