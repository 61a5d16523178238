"""Pretraining: a small data2vec 2.0 image network, trained here from no label and no caption.

The self-supervised teacher of the pair study. A student that sees a fifth of the patches predicts what an average of
its own past weights says of all of them (Baevski et al. 2022, arXiv:2212.07525, section 3: layer means of the teacher,
several masks a picture, inverse block masking, a convolutional decoder, and a loss on CLS).

    python -m benchmarks.pretraining --shards CACHE --weights FILE [--max_steps 1500]
"""

import argparse
import copy
import dataclasses
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.dense import QUICK, write_checkpoint
from extract.modalities.image import IMAGENET_MEAN, IMAGENET_STD, normalise
from extract.networks.data2vec2 import Data2Vec2, ImageSettings, build_image_network
from extract.networks.data2vec2.alibi import AttentionBias
from shards.cache import choose_viewset, open_cache
from shards.command.run import run_command
from shards.reader import ViewSet

SMALL = dataclasses.replace(
    QUICK,
    depth=4,
    embed_dim=128,
    num_heads=4,
    num_alibi_heads=4,
    local_embed_dim=128,
    input_size=64,
    patch_size=8,
    average_top_k_layers=4,
)
MASKS, BLOCK, CLS_WEIGHT = 4, 3, 0.01
"""Masks a picture, patches a side of what stays visible together, and the weight of the loss on CLS."""
DECAY = (0.99, 0.999)
"""Of the teacher's average, from the first to the last step: the paper's end at 0.99999 after 375,000 steps."""


class Pretraining(nn.Module):
    """The student with its decoder, and the teacher, which no gradient reaches."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__()
        self.student = build_image_network(settings)
        nn.init.trunc_normal_(self.student.encoder.extra_tokens, std=0.02)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        width = settings.embed_dim
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=16) for _ in range(3))
        self.predict, self.predict_cls = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, images: Float[Tensor, "batch 3 side side"], generator: torch.Generator) -> Float[Tensor, ""]:
        """The squared error of what is predicted of hidden patches, and of the mean of all by CLS."""
        with torch.no_grad():
            target = self.teacher.layer_mean(self.teacher(images), keep_extra=False)
        patches = self.student.encoder.local_encoder(images) + self.student.encoder.positions
        batch, count, width = patches.shape
        kept = visible(batch * MASKS, round(count**0.5), generator)
        patches, target = patches.repeat_interleave(MASKS, 0), target.repeat_interleave(MASKS, 0)
        seen = encode(self.student, patches.gather(1, kept[:, :, None].expand(-1, -1, width)))
        grid = torch.randn(batch * MASKS, count, width, generator=generator) * 0.02
        grid = grid.scatter(1, kept[:, :, None].expand(-1, -1, width), seen[:, 1:])
        hidden = torch.ones(batch * MASKS, count, dtype=torch.bool).scatter(1, kept, False)
        error = F.mse_loss(self.predict(self.decode(grid))[hidden], target[hidden])
        return error + CLS_WEIGHT * F.mse_loss(self.predict_cls(seen[:, 0]), target.mean(1))

    def decode(self, grid: Float[Tensor, "batch patches width"]) -> Float[Tensor, "batch patches width"]:
        """Each layer adds what its neighbourhood says, normalised (section 3.2)."""
        side = round(grid.shape[1] ** 0.5)
        x = grid.transpose(1, 2).unflatten(2, (side, side))
        for convolution in self.convolutions:
            x = x + F.gelu(F.layer_norm(convolution(x).movedim(1, -1), (x.shape[1],))).movedim(-1, 1)
        return x.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """The teacher's weights move towards the student's by 1 - `decay`."""
        for average, value in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            average.lerp_(value, 1 - decay)


def encode(network: Data2Vec2, patches: Float[Tensor, "batch seen width"]) -> Float[Tensor, "batch tokens width"]:
    """The last block's tokens of some patches, CLS in front."""
    bias = AttentionBias(network.settings.num_heads, None, None, None)
    cls = network.encoder.extra_tokens.expand(len(patches), -1, -1)
    x = network.encoder.context_encoder(torch.cat([cls, patches], 1), bias)
    for layer, block in enumerate(network.blocks):
        x, _ = block(x, bias.for_layer(layer))
    return x


def visible(rows: int, side: int, generator: torch.Generator) -> Int[Tensor, "rows seen"]:
    """A fifth of the patches, in blocks of 3 x 3 drawn at random, all others hidden (inverse block masking)."""
    blocks = torch.rand(rows, side, side, generator=generator)
    near = F.max_pool2d(blocks[:, None], BLOCK, stride=1, padding=BLOCK // 2).flatten(1)
    return near.topk(max(1, side * side // 5), dim=1).indices.sort(dim=1).values


def main(arguments: list[str] | None = None) -> None:
    """The teacher's weights are in --weights, as `--teacher data2vec2 --weights FILE` loads them."""
    flags = argparse.ArgumentParser("benchmarks.pretraining", description=__doc__.partition("\n")[0])
    flags.add_argument("--shards", type=Path, required=True, help="a cache with one view set of images or pairs")
    flags.add_argument("--weights", type=Path, required=True, help="the file to write")
    flags.add_argument("--max_steps", type=int, default=1500, help="optimiser steps")
    flags.add_argument("--batch_size", type=int, default=64, help="pictures an optimiser step")
    options = flags.parse_args(arguments)
    viewset = choose_viewset(open_cache(options.shards, "--shards"), "train")
    pretrain(ViewSet(viewset.folder), options.weights, options.max_steps, options.batch_size)


def pretrain(viewset: ViewSet, weights: Path, max_steps: int, batch_size: int) -> list[float]:
    """The loss of each step."""
    stored = [viewset.rows(view, viewset.usable.tolist())["pixels"] for view in range(viewset.num_views)]
    pixels = torch.cat([torch.from_numpy(rows) for rows in stored])
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    training = Pretraining(dataclasses.replace(SMALL, input_size=pixels.shape[1]))
    optimiser = torch.optim.AdamW(training.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1e-3, total_steps=max_steps, pct_start=0.1)
    losses = []
    for step in range(max_steps):
        rows = torch.randint(len(pixels), (batch_size,), generator=generator)
        loss = training(normalise(pixels[rows], IMAGENET_MEAN, IMAGENET_STD), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        training.follow(DECAY[0] + (DECAY[1] - DECAY[0]) * step / max_steps)
        losses.append(loss.item())
        if step % 100 == 99:
            print(f"pretraining: step {step + 1}, loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    write_checkpoint(weights, training.teacher)
    return losses


if __name__ == "__main__":
    run_command(main, "benchmarks.pretraining")
