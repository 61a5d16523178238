"""What the tests of texts start from: a corpus, and a tiny encoder with a tokenizer of its own, as users save them."""

from pathlib import Path

import tokenizers
import torch
import transformers

WORDS = "the of a cat dog sat ran on under mat moon bright old river small green quickly never".split()  # noqa: SIM905
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WIDTH, DEPTH, POSITIONS = 16, 4, 32


def write_corpus(folder: Path, num_lines: int = 40, seed: int = 0) -> Path:
    """`train.txt` and `validation.txt`: lines of 1 to 12 words."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for split in ("train", "validation"):
        lengths = torch.randint(1, 13, (num_lines,), generator=generator).tolist()
        lines = [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (n,), generator=generator)) for n in lengths]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def write_encoder(folder: Path, seed: int = 0, words: list[str] = WORDS, depth: int = DEPTH) -> Path:
    """A BERT of random weights with the head of masked language modelling, and its WordPiece tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *words])}
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = tokenizers.normalizers.BertNormalizer()
    library.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    roles = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=library, **roles).save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    network = transformers.AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():  # some are zeros or ones, which would hide a mistake
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder
