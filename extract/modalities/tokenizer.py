"""Tokenizer: texts to token ids and back, by the `tokenizers` library; only the special tokens' roles are kept here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Integer, Shaped

from extract.sources.hub import hub_errors, local_folder
from shards.errors import BadInput, Damaged, one_line
from shards.identity import canonical_json, sha256_of
from shards.layout import TOKENIZER

TOKENIZER_FILES = ("tokenizer.json", "vocab.*", "*.model")
"""In a model's folder of `transformers`: one of these at least."""
_GAPS = 1_000_000
"""Ids without a token that any tokenizer may have."""

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

    def rows(self, texts: Sequence[tuple[str, ...]], size: int) -> dict[str, Shaped[np.ndarray, "texts ..."]]:
        """`tokens` (texts, size), padded, `length` (texts,) without padding, and of pairs `types` (texts, size).

        A text is `[CLS] text [SEP]`; how a pair is joined, and its types, is the tokenizer's own (BERT has one [SEP]
        between the two, RoBERTa two). What does not fit is cut off at the end, of a pair from the longer text.
        """
        library, is_pair = self._for_rows(size), len(texts[0]) > 1
        encoded = library.encode_batch_fast(texts if is_pair else [text for (text,) in texts])
        rows = {
            "tokens": np.array([each.ids for each in encoded], self.dtype),
            "length": np.array([sum(each.attention_mask) for each in encoded], np.uint16),
        }
        return rows | {"types": np.array([each.type_ids for each in encoded], np.uint8)} if is_pair else rows

    def _for_rows(self, size: int) -> tokenizers.Tokenizer:
        """The library's tokenizer that cuts and pads to `size`, with special tokens."""
        if size not in self._of_size:
            library = tokenizers.Tokenizer.from_str(self.library.to_str())
            library.encode_special_tokens = True
            if not _frames(library, self.cls_id, self.sep_id):
                cls, sep = library.id_to_token(self.cls_id), library.id_to_token(self.sep_id)
                library.post_processor = tokenizers.processors.TemplateProcessing(
                    f"{cls} $A {sep}", f"{cls} $A {sep} $B:1 {sep}:1", [(cls, self.cls_id), (sep, self.sep_id)]
                )
            library.enable_truncation(size)
            library.enable_padding(pad_id=self.pad_id, pad_token=library.id_to_token(self.pad_id), length=size)
            self._of_size[size] = library
        return self._of_size[size]

    @cached_property
    def _of_size(self) -> dict[int, tokenizers.Tokenizer]:
        return {}

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
        if not path.is_file():
            raise Damaged(f"{path}: missing; {remedy}")
        try:
            library = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
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
            _check_ids(folder)
            found = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            library = tokenizers.Tokenizer.from_str(found.backend_tokenizer.to_str())
            # of a token outside the vocabulary it asks for the unknown one, which may lack too: RecursionError
            cls_id = found.cls_token_id if found.cls_token_id is not None else found.bos_token_id
            sep_id = found.sep_token_id if found.sep_token_id is not None else found.eos_token_id
            pad_id, mask_id = found.pad_token_id, found.mask_token_id
        except Exception as error:  # nearly any type, for a folder that it does not understand
            raise BadInput(
                f"{where}: {folder} holds no tokenizer that `transformers` reads ({one_line(error):.200}); put "
                "the model's tokenizer.json, or its vocab.txt, beside its weights"
            ) from None
        if cls_id is None or sep_id is None or pad_id is None:
            raise BadInput(f"{where}: its tokenizer lacks [CLS], [SEP] or [PAD]; give an encoder as BERT or RoBERTa")
        return cls(library, cls_id, sep_id, pad_id, mask_id)


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


def _frames(library: tokenizers.Tokenizer, cls_id: int, sep_id: int) -> bool:
    """Whether the tokenizer itself puts [CLS] and [SEP] around a text; a file without its template does not."""
    ids = library.encode("").ids  # some put a space in front of any text
    return library.num_special_tokens_to_add(False) == 2 and (ids[0], ids[-1]) == (cls_id, sep_id)


def _check_ids(folder: Path) -> None:
    """Raises ValueError for a tokenizer.json whose ids lie far beyond their number: the library counts up to the last.

    Gaps are usual, of added and of removed tokens, and small.
    """
    if (path := folder / "tokenizer.json").is_file():
        ids = tokenizers.Tokenizer.from_buffer(path.read_bytes()).get_vocab(with_added_tokens=True).values()
        if ids and max(ids) > 16 * len(ids) + _GAPS:
            raise ValueError(f"{path.name} has the id {max(ids)} among {len(ids)} tokens")
