"""The training of a masked language model for `benchmarks.logits_bias`, on a corpus that is easily learnt."""

import json
import math
from pathlib import Path

import pytest
import torch
from texts import SPECIAL, WORDS, write_encoder
from transformers import AutoModelForMaskedLM, AutoTokenizer

from benchmarks.logits_bias import main as logits_bias
from benchmarks.masked_lm import NOT_PREDICTED, main, masked, train
from benchmarks.synthetic_texts import write_text_encoder
from shards.errors import BadInput


def test_masks_are_berts(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(write_encoder(tmp_path))
    torch.manual_seed(0)
    blocks = torch.full((100, 64), len(SPECIAL))
    inputs, labels = masked(blocks, tokenizer)
    picked, count = labels != NOT_PREDICTED, blocks.numel()
    assert torch.equal(labels[picked], blocks[picked]) and torch.equal(inputs[~picked], blocks[~picked])
    for share, found in (
        (0.15, picked),
        (0.12, inputs == tokenizer.mask_token_id),
        (0.015 * (1 - 2 / len(tokenizer)), (inputs != blocks) & (inputs != tokenizer.mask_token_id)),
    ):
        deviation = (share * (1 - share) / count) ** 0.5
        assert found.double().mean().item() == pytest.approx(share, abs=5 * deviation)


def test_it_learns_which_words_there_are(tmp_path: Path) -> None:
    """Two words of 23 take turns: who knows that needs log(2) at most, who knows nothing log(23)."""
    start = write_text_encoder(tmp_path, WORDS, 16, 1, 64)
    tokenizer, network = AutoTokenizer.from_pretrained(start), AutoModelForMaskedLM.from_pretrained(start)
    blocks = torch.tensor([len(SPECIAL), len(SPECIAL) + 1]).repeat(40, 32)
    torch.manual_seed(0)
    losses = train(network, tokenizer, blocks, 60, peak=0.02)
    assert losses[0] > math.log(2) + 1 and sum(losses[-10:]) / 10 < math.log(2) + 0.1


def test_what_it_saves_is_what_logits_bias_reads(tmp_path: Path) -> None:
    """A head that the start lacks is seeded, and a text that is too short is refused."""
    start, text = write_text_encoder(tmp_path / "start", WORDS, 16, 1, 128), tmp_path / "text.txt"
    text.write_text(f"{WORDS[0]} {WORDS[1]}\n" * 400)
    main(["--start", str(start), "--text", str(text), "--out", str(tmp_path / "out"), "--steps", "2"])
    logits_bias(["--model", str(tmp_path / "out"), "--text", str(text), "--tokens", "200", "--out", str(tmp_path)])
    study = json.loads((tmp_path / "logits_bias.json").read_text())
    assert (study["tokens"], study["vocabulary"]) == (200, len(SPECIAL) + len(WORDS))
    text.write_text("cat\n")
    with pytest.raises(BadInput, match=r"text.txt: has 1 tokens, a block takes 64: give more text"):
        main(["--start", str(start), "--text", str(text), "--out", str(tmp_path / "out")])
