"""Codec arms: the ways to store targets that `benchmarks.codec_study_texts` compares, and the cache that holds them.

Codebooks and channel statistics are trained on other texts than students learn from, so that what a codec loses in the
study is what it loses of a corpus of which it has seen next to nothing.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load, save

from benchmarks.study import command, once
from benchmarks.text_probes import full_blocks
from extract.config import ExtractConfig
from extract.plan_targets import plan_targets
from extract.plan_views import plan_views, stored_views
from extract.recompute import load_teacher_of
from shards.codec_error import cosine_error, variance_lost
from shards.codecs import make_codec
from shards.codecs.base import Codec
from shards.codecs.channels import CALIBRATION_SAMPLES
from shards.commit import write_atomically
from shards.decode import codec_of, read_decoded
from shards.layout import CALIBRATION, inside
from shards.reader import TargetSet, ViewSet

TARGET = "tokens"
SHARES = {1: "", 4: ", a quarter of the tokens"}
Rows = Float[torch.Tensor, "blocks tokens dim"]


@dataclass(frozen=True)
class Arm:
    """How the targets of a student are stored, and what it learns of them."""

    codec: str
    share: int = 1
    """Of a block's tokens, one in so many is stored."""
    objective: str = "mse"

    def file(self, seed: int) -> str:
        """What a file of one of its students is called."""
        return f"{self.name}-seed{seed}".replace(" ", "_")

    @property
    def name(self) -> str:
        """As the table has it."""
        return self.codec + SHARES[self.share] + (", its codes predicted" if self.objective == "codes" else "")


FLOAT32, INT8 = Arm("float32"), Arm("int8")
ARMS = (
    FLOAT32,
    Arm("float16"),
    INT8,
    Arm("int4"),
    Arm("pq:192"),
    Arm("pq:192,rotation=pca"),
    Arm("pq:128,rotation=pca"),
    Arm("int8", 4),
    Arm("pq:96"),
    Arm("pq:96,rotation=pca"),
    Arm("pq:64,rotation=pca"),
    Arm("pq:128,rotation=pca", 4),
    Arm("pq:32"),
    Arm("pq:32,rotation=pca"),
    Arm("pq:32", objective="codes"),
    Arm("rq:32"),
    Arm("pq:16,rotation=pca"),
)
TRAINED_ON_FEW = ("pq:192,rotation=pca", "pq:96", "pq:96,rotation=pca", "pq:32,rotation=pca", "rq:32")
"""Whose codebooks are trained a second time, on fewer blocks, to see what these codecs learn by heart."""


def extract_arms(options: argparse.Namespace) -> None:
    """Three caches: `calibration` and `held_out` with float32 targets; `blocks` with a target set for each way."""
    work, float32 = options.work, ("--target", TARGET, "--codec", FLOAT32.codec)
    blocks = ("--teacher", f"hf:{options.teacher}", "--data", options.data, "--view", f"blocks:size={options.block}")
    limits = {"calibration": options.calibration, "held_out": max(1, options.lines // 10)}
    for cache, split in {"calibration": "test", "held_out": "validation"}.items():
        command("extract", *blocks, "--out", work / cache, "--split", split, "--limit", limits[cache], *float32)
    stored = (*blocks, "--out", work / "blocks", "--limit", options.lines)
    command("extract", *stored, *float32)
    for share in SHARES:
        codecs = list(dict.fromkeys(arm.codec for arm in ARMS if arm.share == share))
        kept = options.block // share if share > 1 else None
        _place_statistics(options, codecs, kept)
        targets = ("--target", ",".join([TARGET] * len(codecs)), "--codec", ",".join(codecs))
        command("extract", *stored, *targets, *(("--keep_tokens", kept) if kept else ()))


def _place_statistics(options: argparse.Namespace, codecs: list[str], kept: int | None) -> None:
    """Statistics of the calibration's blocks lie where `extract` looks for them before it takes its own."""
    float32 = only_targetset(options.work / "blocks", FLOAT32.codec)
    teacher = load_teacher_of(float32, None, None, "--teacher")
    flags = {"teacher": f"hf:{options.teacher}", "data": options.data, "limit": options.lines, "keep_tokens": kept}
    flags |= {"target": ",".join([TARGET] * len(codecs)), "codec": ",".join(codecs)}
    stored = stored_views(ExtractConfig(out=str(options.work / "blocks"), **flags))
    for job in plan_targets(stored.config, plan_views(stored, teacher.inputs), teacher):
        path = inside(job.folder, CALIBRATION)
        if job.codec.has_statistics and not path.exists():
            write_atomically(path, save(calibrated_codec(options, job.codec.name).state()))


def calibrated_codec(options: argparse.Namespace, spec: str, blocks: int | None = None) -> Codec:
    """The codec with statistics of all blocks of the calibration, or of its first `blocks`; computed once."""
    path = options.work / f"statistics/{spec}{'' if blocks is None else f'-{blocks}'}.safetensors"
    rows = rows_of(only_targetset(options.work / "calibration"))[:blocks]
    codec = make_codec(spec, tuple(rows.shape[1:]))
    if not codec.has_statistics:
        return codec
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(codec.calibrate(rows).state()))
    return codec.with_state(load(path.read_bytes()))


def rows_of(targetset: TargetSet) -> Rows:
    """All full blocks, decoded."""
    blocks = full_blocks(ViewSet(targetset.folder.parents[1]))
    rows: Rows = read_decoded(targetset, codec_of(targetset), 0, blocks)
    return rows


def folder_of(cache: Path) -> Path:
    """The only view set of `cache`."""
    (path,) = cache.glob("*/viewset.json")
    return path.parent


def only_targetset(cache: Path, codec: str = FLOAT32.codec, kept: int | None = None) -> TargetSet:
    """The target set of `cache` in a codec, of all tokens or of so many kept ones."""
    targetsets = [TargetSet(path.parent) for path in folder_of(cache).glob("targets/*/targetset.json")]
    found = {(each.manifest.codec, each.manifest.keep_tokens): each for each in targetsets}
    return found[codec, kept]


def codec_errors(options: argparse.Namespace, spec: str) -> dict[str, Any]:
    """What the codec loses of the students' blocks, which trained nothing, and of those that trained its codebooks.

    Under `few`, of some, the same where CALIBRATION_SAMPLES blocks train codebooks, as `extract` has it.
    """
    sizes = {"all": None} | ({"few": CALIBRATION_SAMPLES} if spec in TRAINED_ON_FEW else {})
    found = {
        name: once(options.work / f"rows/{spec}-{name}.json", partial(_errors, options, spec, blocks))
        for name, blocks in sizes.items()
    }
    return found.pop("all") | found


def _errors(options: argparse.Namespace, spec: str, blocks: int | None) -> dict[str, float]:
    codec = calibrated_codec(options, spec, blocks)
    seen, unseen = (rows_of(only_targetset(options.work / cache)) for cache in ("calibration", "blocks"))
    errors: dict[str, float] = {}
    for suffix, rows in {"": unseen, "_seen": seen[:blocks]}.items():
        decoded = torch.cat([codec.decode(codec.encode(some)) for some in rows.split(64)])
        errors |= {"cosine" + suffix: cosine_error(rows, decoded)["cosine_mean"]}
        errors |= {"variance_lost" + suffix: variance_lost(rows, decoded)}
    return errors
