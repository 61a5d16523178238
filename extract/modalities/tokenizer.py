"""Tokenizer: texts to token ids and back, by the `tokenizers` library; only the special tokens' roles are kept here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Integer

from extract.sources.hub import hub_errors, local_folder
from shards.errors import BadInput, Damaged, one_line
from shards.identity import canonical_json, sha256_of
from shards.layout import TOKENIZER

TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model")
"""In a model's folder of `transformers`: one of these at least."""

VOCABULARIES = ("vocab.*", "merges.txt", "special_tokens_map.json", "*.model")

Ids = Integer[np.ndarray, " tokens"]


@dataclass(frozen=True)
class Vocabulary:
    """What token ids mean: two tokenizers of one vocabulary may feed one network."""

    size: int
    sha256: str
    """Of the JSON of all tokens with their ids, added ones included."""
    cls: int
    sep: int
    pad: int
    mask: int | None

    @property
    def dtype(self) -> str:
        """The smallest type that stores its ids and that every framework reads."""
        return "uint16" if self.size <= 1 << 16 else "int32"

    def describe(self) -> dict[str, Any]:
        """The fields, as JSON; part of identities."""
        return asdict(self)

    @classmethod
    def of_description(cls, where: str, described: Any) -> "Vocabulary":
        """What `describe` described; BadInput, which begins with `where`, for what is none."""
        try:
            vocabulary = cls(**described)
            special = (vocabulary.cls, vocabulary.sep, vocabulary.pad, vocabulary.mask or 0)
            fits = all(type(each) is int and 0 <= each < vocabulary.size for each in special)
        except TypeError:
            fits = False
        if not fits:
            raise BadInput(f"{where}: vocabulary is missing or cannot be {str(described)[:80]}")
        return vocabulary


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer of the library, without truncation and padding, and the roles of its special tokens."""

    library: tokenizers.Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int | None = None

    def __post_init__(self) -> None:
        self.library.no_truncation()
        self.library.no_padding()
        # <s> in a document is text, and the library's JSON does not keep that
        self.library.encode_special_tokens = True

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the ids mean."""
        ids = self.library.get_vocab(with_added_tokens=True)
        special = (self.cls_id, self.sep_id, self.pad_id, self.mask_id)
        return Vocabulary(max(ids.values()) + 1, sha256_of(canonical_json(ids)), *special)

    @property
    def dtype(self) -> str:
        """The type that its ids are stored in."""
        return self.vocabulary.dtype

    def ids(self, texts: Sequence[str]) -> list[Ids]:
        """Each text's token ids, without special tokens, whole; computed by the library's own threads."""
        encoded = self.library.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(each.ids, self.dtype) for each in encoded]

    def row(
        self, ids: Ids, size: int, pair: Integer[np.ndarray, " others"] | None = None
    ) -> tuple[Integer[np.ndarray, " size"], int]:
        """`[CLS] ids [SEP]`, or `[CLS] ids [SEP] pair [SEP]`, padded to `size`, and its length without padding.

        What does not fit is cut off at the end, of a pair from the longer text.
        """
        room = size - 2 - (pair is not None)
        if pair is not None:
            first = max(room - len(pair), min(len(ids), (room + 1) // 2))
            ids, pair = ids[:first], pair[: room - min(len(ids), first)]
        parts = [np.array([self.cls_id]), ids[:room], np.array([self.sep_id])]
        parts += [] if pair is None else [pair, np.array([self.sep_id])]
        content = np.concatenate(parts)
        row = np.full(size, self.pad_id, self.dtype)
        row[: len(content)] = content
        return row, len(content)

    def text(self, ids: Ids) -> str:
        """The text of token ids, its special tokens written as the tokenizer names them ([CLS], <s>)."""
        return str(self.library.decode(np.asarray(ids).tolist(), skip_special_tokens=False))

    def content(self) -> bytes:
        """The library's JSON document."""
        return self.library.to_str().encode()

    @classmethod
    def read(cls, path: Path, vocabulary: Vocabulary) -> "TextTokenizer":
        """What `content` was written to `path`; Damaged where its ids are not those of `vocabulary`."""
        remedy = f"restore it, or copy the {TOKENIZER} that lies beside the cache's tokens"
        try:
            library = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
        except FileNotFoundError:
            raise Damaged(f"{path}: missing; {remedy}") from None
        except Exception as error:  # the library raises nothing finer
            raise Damaged(f"{path}: is no tokenizer ({one_line(error)}); {remedy}") from None
        tokenizer = cls(library, vocabulary.cls, vocabulary.sep, vocabulary.pad, vocabulary.mask)
        if tokenizer.vocabulary != vocabulary:
            raise Damaged(f"{path}: is the tokenizer of another vocabulary; {remedy}")
        return tokenizer

    @classmethod
    def of_folder(cls, where: str, folder: Path) -> "TextTokenizer":
        """The tokenizer of a model's folder in the layout of `transformers`; BadInput, from `where`, without one."""
        import transformers

        # without any of these `transformers` makes a tokenizer that knows no word, and says nothing
        if not any(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
            raise BadInput(f"{where}: {folder} holds no tokenizer: put the model's tokenizer.json beside its weights")
        try:
            found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            library = tokenizers.Tokenizer.from_str(found.backend_tokenizer.to_str())
        except Exception as error:  # nearly any type, for a folder that it does not understand
            raise BadInput(
                f"{where}: {folder} holds no tokenizer that `transformers` reads ({one_line(error):.200}); put "
                "the model's tokenizer.json, or its vocab.txt, beside its weights"
            ) from None
        cls_id = found.cls_token_id if found.cls_token_id is not None else found.bos_token_id
        sep_id = found.sep_token_id if found.sep_token_id is not None else found.eos_token_id
        if cls_id is None or sep_id is None or found.pad_token_id is None:
            raise BadInput(f"{where}: its tokenizer lacks [CLS], [SEP] or [PAD]; give an encoder as BERT or RoBERTa")
        return cls(library, cls_id, sep_id, found.pad_token_id, found.mask_token_id)


def tokenizer_of(where: str, name: str) -> TextTokenizer:
    """The tokenizer in a folder here, or of a model of the hub; BadInput, which begins with `where`, without one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    folder = local_folder(name)
    if folder is None:
        remedy = "download its tokenizer.json and tokenizer_config.json elsewhere and give tokenizer=DIR"
        try:
            with hub_errors(where, name, remedy):
                folder = Path(snapshot_download(name, allow_patterns=["config.json", "tokenizer*.json", *VOCABULARIES]))
        except HFValidationError as error:
            raise BadInput(f"{where}: tokenizer={name} is no folder here and no name on the hub; {remedy}") from error
    return TextTokenizer.of_folder(where, folder)
