"""Logits bias: what `topk` and `sample` do to the gradient of KL on a vocabulary, byte for byte, on given logits.

The gradient with respect to a student's logits is q - p of the student's and the teacher's probabilities; here q is
uniform. Left: its error for one token over the bytes stored for it, of `topk` a bias, of `sample` a deviation that has
the mean 0, beside that of as many independent draws (Anshumann et al. 2025, arXiv:2503.16870). Right: the error of its
mean over many tokens (the gradient of the output layer's bias), at about 36 bytes a token: a deviation averages out, a
bias stays.

    python -m benchmarks.logits_bias --logits FILE.npy [--out docs]      # or .safetensors, or a float target set
    python -m benchmarks.logits_bias --model FOLDER --text FILE.txt [--masked]      # a masked LM of transformers
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.study import drawing, write_study
from shards.codecs import make_codec
from shards.codecs.distribution import Estimate, gradient_error
from shards.command.run import run_command
from shards.errors import BadInput

ENTRIES = {"topk": (1, 2, 4, 8, 16, 32, 64), "sample": (2, 4, 6, 12, 24, 48, 86)}
EQUAL = {"topk": 8, "sample": 12}
"""Entries in 34 and 36 bytes a token."""
BLOCK_TOKENS, MASK_EVERY = 128, 7


def main(arguments: list[str] | None = None) -> None:
    """logits_bias.json and logits_bias.svg are in --out, and the table is printed."""
    parser = argparse.ArgumentParser("benchmarks.logits_bias")
    parser.add_argument("--logits", type=Path, help="(..., vocabulary): .npy, .safetensors, or a target set")
    parser.add_argument("--model", type=Path, help="a masked language model's folder; seeded where it has no weights")
    parser.add_argument("--text", type=Path, help="what --model reads, a sentence a line")
    parser.add_argument("--masked", action="store_true", help="mask each seventh token, and take the logits there")
    parser.add_argument("--name", default="logits_bias", help="of the JSON and the plot")
    parser.add_argument("--tokens", type=int, default=1024, help="at most so many distributions")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="where the figures and the plot go")
    options = parser.parse_args(arguments)
    if (options.logits is None) == (options.model is None) or (options.model is None) != (options.text is None):
        raise BadInput("logits_bias: expected --logits, or --model and --text")
    read = _run_model(options) if options.logits is None else _read(options.logits, options.tokens)
    logits = read.reshape(-1, read.shape[-1])[: options.tokens].float()
    study = {
        "logits": (options.model or options.logits).name,
        "masked": options.masked,
        "tokens": len(logits),
        "vocabulary": logits.shape[-1],
        "likeliest": logits.softmax(-1).amax(-1).mean().item(),
        "codecs": [_row(logits, name, k) for name, entries in ENTRIES.items() for k in entries],
        "means": {name: _of_means(logits, estimate) for name, estimate in _equal(logits.shape[-1]).items()},
    }
    write_study(options.out, options.name, study)
    plot(study, options.out / f"{options.name}.svg")
    print(table(study))


def _read(path: Path, num_tokens: int) -> Tensor:
    """The logits in `path`; of a target set those of its first samples."""
    if path.suffix == ".npy":
        return torch.from_numpy(np.array(np.load(path, mmap_mode="r", allow_pickle=False)[:num_tokens]))
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return next(iter(load_file(path).values()))
    from shards.decode import codec_of, read_decoded
    from shards.reader import TargetSet

    targets = TargetSet(path)
    if targets.manifest.codec not in ("float32", "float16"):
        raise BadInput(f"--logits {path}: stored as {targets.manifest.codec}; give a target set in float32 or float16")
    count = -(-num_tokens // int(np.prod(targets.row_shape[:-1])))
    rows: Tensor = read_decoded(targets, codec_of(targets), 0, np.arange(min(count, targets.manifest.num_samples)))
    return rows


@torch.inference_mode()
def _run_model(options: argparse.Namespace) -> Tensor:
    """The model's logits at every position of blocks of 128 tokens, or where they are masked, one after the other."""
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model, local_files_only=True)
    if any(options.model.glob("*.safetensors")):
        model = AutoModelForMaskedLM.from_pretrained(options.model, local_files_only=True)
    else:
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(options.model, local_files_only=True))
    every = MASK_EVERY if options.masked else 1
    ids: list[int] = []
    with options.text.open(encoding="utf-8") as lines:
        while len(ids) < options.tokens * every and (line := next(lines, "")):
            ids += tokenizer(line.strip(), add_special_tokens=False)["input_ids"]
    blocks = torch.tensor(ids[: options.tokens * every]).split(BLOCK_TOKENS)
    if options.masked:
        for block in blocks:
            block[::every] = tokenizer.mask_token_id
    return torch.cat([model.eval()(input_ids=block[None]).logits[0, ::every] for block in blocks])


def _row(logits: Tensor, name: str, k: int) -> dict[str, Any]:
    """Bytes a token, and the error of one token's gradient."""
    codec: Any = make_codec(f"{name}:{k}", (logits.shape[-1],))
    size = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in codec.arrays().values())
    row = {"codec": codec.name, "bytes_a_token": size, **gradient_error(logits, codec.estimate)}
    if name == "sample":
        row["independent_variance"] = gradient_error(logits, lambda part: independent(part, k))["gradient_variance"]
    return row


def independent(rows: Tensor, num_draws: int) -> Estimate:
    """Mean and variance of `num_draws` independent draws' weights."""
    p = rows.double().softmax(-1)
    return p, (p * (1 - p)).sum(-1) / num_draws


def _equal(vocabulary: int) -> dict[str, Callable[[Tensor], Estimate]]:
    codecs: list[Any] = [make_codec(f"{name}:{k}", (vocabulary,)) for name, k in EQUAL.items()]
    return {codec.name: codec.estimate for codec in codecs}


def _of_means(logits: Tensor, estimate: Callable[[Tensor], Estimate]) -> list[tuple[int, float]]:
    """(m, relative error of the mean gradient of m tokens) for m = 1, 2, 4 ... neighbours, a root mean square."""
    p = logits.double().softmax(-1)
    expected, variance = estimate(logits)
    bias, gradient, errors = expected - p, 1 / p.shape[-1] - p, []
    for size in (2**power for power in range(len(logits).bit_length())):
        if size > 1:  # the means of twice as many
            pairs = len(bias) // 2
            bias, gradient = ((x[: 2 * pairs : 2] + x[1 : 2 * pairs : 2]) / 2 for x in (bias, gradient))
            variance = (variance[: 2 * pairs : 2] + variance[1 : 2 * pairs : 2]) / 4
        square = (bias.square().sum(-1) + variance).mean() / gradient.square().sum(-1).mean()
        errors.append((size, square.sqrt().item()))
    return errors


def table(study: dict[str, Any]) -> str:
    """The study in Markdown: a line a codec."""
    lines = [
        f"{study['tokens']:,} distributions over {study['vocabulary']:,} words\n",
        "| codec | bytes a token | bias | deviation | deviation of as many independent draws |",
        "|---|---|---|---|---|",
    ]
    for row in study["codecs"]:
        other = f"{row['independent_variance'] ** 0.5:.4f}" if "independent_variance" in row else ""
        errors = f"{row['gradient_bias']:.4f} | {row['gradient_variance'] ** 0.5:.4f}"
        lines.append(f"| {row['codec']} | {row['bytes_a_token']} | {errors} | {other} |")
    for name, points in study["means"].items():
        lines.append(f"\n{name}, mean gradient of {points[-1][0]:,} tokens: {points[-1][1]:.4f}")
    return "\n".join(lines) + "\n"


SUMMARY = (
    "| logits | mean probability of the likeliest word | topk:8 (34 bytes): one token | mean of all | "
    "sample:12 (36 bytes): one token | mean of all | sample is nearer from so many tokens on |\n"
    "|---|---|---|---|---|---|---|\n"
)


def summary(study: dict[str, Any], name: str) -> str:
    """A line under SUMMARY: relative errors of a gradient at equal bytes."""
    top, drawn = (study["means"][f"{codec}:{k}"] for codec, k in EQUAL.items())
    shown = [f"{error:.4f}" for points in (top, drawn) for error in (points[0][1], points[-1][1])]
    nearer = [size for (size, bias), (_, deviation) in zip(top, drawn, strict=True) if deviation < bias]
    words = f"{nearer[0]:,}" if nearer else f"none of {top[-1][0]:,}"
    return f"| {name} | {study['likeliest']:.3f} | {' | '.join(shown)} | {words} |\n"


def plot(study: dict[str, Any], path: Path) -> None:
    """One token's error over its bytes, and the error of the mean over tokens at equal bytes."""
    top, drawn = ([row for row in study["codecs"] if row["codec"].startswith(name)] for name in ("topk", "sample"))
    sizes = [[row["bytes_a_token"] for row in rows] for rows in (top, drawn)]
    with drawing(path) as (left, right):
        left.plot(sizes[0], [row["gradient_bias"] for row in top], "o-", label="topk: bias")
        deviations = [row["gradient_variance"] ** 0.5 for row in drawn]
        left.plot(sizes[1], deviations, "s-", label="sample: deviation, no bias")
        others = [row["independent_variance"] ** 0.5 for row in drawn]
        left.plot(sizes[1], others, "s:", color="grey", label="as many independent draws")
        left.set(xscale="log", yscale="log", xlabel="bytes a token", ylabel="error of one token's gradient, relative")
        left.set_xticks([8, 18, 36, 72, 144, 258], ["8", "18", "36", "72", "144", "258"], minor=False)
        left.minorticks_off()
        for (name, points), mark in zip(study["means"].items(), "os", strict=True):
            right.plot(*zip(*points, strict=True), f"{mark}-", label=name)
        right.set(xscale="log", yscale="log", xlabel="tokens", ylabel="error of their mean gradient, relative")
        left.legend(fontsize=8)
        right.legend(fontsize=8)


if __name__ == "__main__":
    run_command(main, "benchmarks.logits_bias")
