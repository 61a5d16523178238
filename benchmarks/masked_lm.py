"""Masked LM: an encoder taught for a few minutes to predict masked words, for `benchmarks.logits_bias`.

Random weights give logits that are nearly uniform, which no teacher's are. Masks are BERT's (Devlin et al. 2018,
arXiv:1810.04805, section 3.1): of 15% of the tokens 8 in 10 become [MASK], 1 a random token, and 1 stays.

    python -m benchmarks.masked_lm --start FOLDER --text FILE --out FOLDER [--steps 300]
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Int64
from torch import Tensor

from shards.command.run import run_command
from shards.errors import BadInput

BLOCK_TOKENS, BATCH_BLOCKS, PEAK_RATE = 64, 16, 5e-4
NOT_PREDICTED = -100
"""As `transformers` marks tokens that count in no loss."""


def main(arguments: list[str] | None = None) -> None:
    """The trained network and its tokenizer are in --out, as `transformers` saves them."""
    parser = argparse.ArgumentParser("benchmarks.masked_lm")
    parser.add_argument("--start", type=Path, required=True, help="an encoder's folder; a head that it lacks is seeded")
    parser.add_argument("--text", type=Path, required=True, help="what it learns, a sentence a line")
    parser.add_argument("--out", type=Path, required=True, help="the folder of what was trained")
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps, of 1,024 tokens each")
    options = parser.parse_args(arguments)
    transformers.logging.set_verbosity_error()  # it reports a missing head as damage
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.start, local_files_only=True)
    network = transformers.AutoModelForMaskedLM.from_pretrained(options.start, local_files_only=True)
    losses = train(network, tokenizer, _blocks(tokenizer, options.text), options.steps)
    for trained in (network, tokenizer):
        trained.save_pretrained(options.out)
    last = losses[-max(1, len(losses) // 10) :]
    shown = f"{losses[0]:.2f} nats a masked token at first, {sum(last) / len(last):.2f} in the last tenth"
    print(f"masked_lm: done: {options.steps} steps, {shown}: {options.out}")


def _blocks(tokenizer: Any, path: Path) -> Int64[Tensor, "blocks tokens"]:
    """All tokens of the text, line after line."""
    lines = path.read_text("utf-8").splitlines()
    ids = [token for line in tokenizer(lines, add_special_tokens=False)["input_ids"] for token in line]
    if len(ids) < BLOCK_TOKENS:
        raise BadInput(f"--text {path}: has {len(ids)} tokens, a block takes {BLOCK_TOKENS}: give more text")
    return torch.tensor(ids[: len(ids) // BLOCK_TOKENS * BLOCK_TOKENS]).reshape(-1, BLOCK_TOKENS)


def train(
    network: Any, tokenizer: Any, blocks: Int64[Tensor, "blocks tokens"], steps: int, peak: float = PEAK_RATE
) -> list[float]:
    """The network is trained on blocks drawn at random; the loss of each step."""
    optimiser = torch.optim.AdamW(network.parameters(), peak)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps)
    network.train()
    losses = []
    for _ in range(steps):
        inputs, labels = masked(blocks[torch.randint(len(blocks), (BATCH_BLOCKS,))], tokenizer)
        loss = network(input_ids=inputs, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        losses.append(loss.item())
    return losses


def masked(blocks: Int64[Tensor, "blocks tokens"], tokenizer: Any) -> tuple[Tensor, Tensor]:
    """The blocks with some tokens masked, and those tokens as they were, NOT_PREDICTED elsewhere."""
    picked, how = torch.rand(blocks.shape) < 0.15, torch.rand(blocks.shape)
    others = torch.randint(len(tokenizer), blocks.shape)
    inputs = torch.where(picked & (how < 0.8), torch.full_like(blocks, tokenizer.mask_token_id), blocks)
    inputs = torch.where(picked & (how >= 0.9), others, inputs)
    return inputs, blocks.masked_fill(~picked, NOT_PREDICTED)


if __name__ == "__main__":
    run_command(main, "benchmarks.masked_lm")
