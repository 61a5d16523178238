"""Recompute: a teacher's outputs for the stored views, computed again and compared with the stored rows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from extract.config import split_key
from extract.modalities import adapted, size_of
from extract.named_teachers import NamedTeacher, named_teacher, note_teacher, unnamed_teacher
from extract.pipeline import forward
from extract.targets import with_numbers, without_padding
from extract.teachers import load_teacher
from shards.codecs.distribution import SMALLEST_LOG, Distribution
from shards.codecs.features import Features
from shards.command.devices import one_device
from shards.command.progress import Progress
from shards.decode import codec_of, read_decoded, spread
from shards.documents import read_viewset_manifest
from shards.errors import BadInput, IdentityMismatch
from shards.identity import differences
from shards.listing import SAVED_FLAGS, saved_flags
from shards.reader import TargetSet, ViewSet, check_pair
from shards.views import view_codec

if TYPE_CHECKING:
    from extract.teachers.base import Teacher

BATCH_SIZE = 32
TOLERANCE = 0.01
"""How far a stored row's cosine to the live one may lie below what the codec leaves: devices differ by less."""


@dataclass(frozen=True)
class Recomputed:
    """How the stored rows compare with the live teacher's."""

    num_samples: int
    measures: dict[str, float]
    wrong: list[str]
    """A line for each stored row that is further from the teacher's than its codec explains."""


def recompute(
    viewset_folder: Path, targetset_folder: Path, num: int, spec: str | None, weights: str | None
) -> Recomputed:
    """Rerun the teacher on `num` stored views, evenly spread over views and shards, and compare.

    `spec` and `weights` say where the teacher is now, if not where extract found it. Raises IdentityMismatch when what
    is there is not the teacher of the target set.
    """
    viewset, targetset = ViewSet(viewset_folder), TargetSet(targetset_folder)
    check_pair(viewset, targetset)
    where = "--recompute: say where the teacher is now with --teacher (and --weights)"
    target = targetset.manifest.target
    teacher = load_teacher_of(targetset, spec, weights, where).only([target])
    viewset, device = viewset.read_by(teacher.inputs.reads(viewset.codec)), one_device("recompute")
    teacher.network.to(device)
    codec, usable = codec_of(targetset), viewset.usable
    chosen = spread(min(viewset.num_views, targetset.num_views) * len(usable), num)
    compared: list[dict[str, Tensor]] = []
    wrong: list[str] = []
    with Progress("recompute", len(chosen)) as progress:
        for view, samples in _batches(chosen, usable):
            fields = {name: torch.from_numpy(rows) for name, rows in viewset.rows(view, samples.tolist()).items()}
            output = forward(teacher, fields, device, targetset.identity["precision"])[target].float().cpu()
            whole = without_padding(output, teacher.inputs.valid(fields))
            decoded = read_decoded(targetset, codec, view, samples)
            live = whole
            if isinstance(decoded, Features) and decoded.positions is not None:
                live = Features.of(whole.vectors, decoded.positions).within(whole.valid)
            seed, keys = viewset.identity["seed"] or 0, [viewset.plan.keys[sample] for sample in samples]
            again = with_numbers(codec, seed, keys, view, output.device)
            encoded = again.encode(live.vectors if live.positions is None else live)
            stored, best = _compare(decoded, live), _compare(again.decode(encoded), live)
            least = (measures.pop("least").tolist() for measures in (stored, best))
            for sample, cosine, bound in zip(samples, *least, strict=True):
                if not cosine >= bound - TOLERANCE:  # a NaN is wrong too
                    name = f"{targetset.folder}: view {view} of {viewset.plan.keys[sample]}"
                    wrong.append(f"{name}: cosine {cosine:.4f} to the live teacher, its codec gives {bound:.4f}")
            compared.append(stored)
            progress.advance(len(samples))
    joined = {name: torch.cat([measures[name].flatten() for measures in compared]) for name in compared[0]}
    measures = {"mean cosine": joined["cosine"].mean().item(), "least cosine": joined["cosine"].min().item()}
    measures["largest difference"] = joined["difference"].max().item()
    if "agreement" in joined:
        measures["agreement of the first class"] = joined["agreement"].float().mean().item()
    return Recomputed(len(chosen), measures, wrong)


def _batches(chosen: Int[np.ndarray, " count"], usable: Int[np.ndarray, " usable"]) -> Any:
    """(view, samples) in batches of one view each; `chosen` counts through the samples of view 0, then of view 1 ..."""
    for view in np.unique(chosen // len(usable)).tolist():
        samples = usable[chosen[chosen // len(usable) == view] % len(usable)]
        for start in range(0, len(samples), BATCH_SIZE):
            yield view, samples[start : start + BATCH_SIZE]


def _compare(decoded: Any, output: Features) -> dict[str, Tensor]:
    """Cosine and largest difference of each vector (last axis) that is no padding, of probabilities on the stored
    outcomes; and the least cosine of each row.

    The last outcome is any other class, to which `sample` gives nothing.
    """
    measures = {}
    decoded, live = decoded.rows if isinstance(decoded, Features) else decoded, output.vectors
    if isinstance(decoded, Distribution):
        measures["agreement"] = decoded.classes[..., 0] == live.argmax(-1)
        entries = decoded.log_probabilities > SMALLEST_LOG
        kept = (live.gather(-1, decoded.classes) - live.logsumexp(-1, keepdim=True)).double().exp() * entries
        decoded, live = (
            torch.cat([rows, 1 - rows.sum(-1, keepdim=True)], -1)
            for rows in (decoded.log_probabilities.double().exp(), kept)
        )
    stored, exact = (rows.double().reshape(len(live), -1, live.shape[-1]) for rows in (decoded, live))
    cosines = torch.nn.functional.cosine_similarity(stored, exact, dim=-1)
    content = torch.ones_like(cosines, dtype=torch.bool) if output.valid is None else output.valid
    measures["least"] = cosines.masked_fill(~content, 1).amin(1)
    measures["cosine"], measures["difference"] = cosines[content], (stored - exact).abs().amax(-1)[content]
    return measures


def load_teacher_of(targetset: TargetSet, spec: str | None, weights: str | None, where: str) -> "Teacher":
    """The teacher of `targetset`, by its identity; IdentityMismatch where another one is there.

    `spec` and `weights` are where the user says that it is now. Without them it is loaded where a command on this
    machine named it before; BadInput where only the cache names it. `where` says which flags give them.
    """
    meant, identity = _meant(targetset, spec, weights, where), targetset.identity["teacher"]
    size = size_of(identity["preprocessing"])
    try:
        teacher = load_teacher(meant.teacher, meant.weights, size, meant.weights_key)
        viewset = read_viewset_manifest(targetset.folder.parents[1])
        teacher = teacher.taking(adapted(teacher.inputs, view_codec(viewset.identity)))
    except BadInput as error:
        source = "--teacher" if spec is not None else str(targetset.folder / SAVED_FLAGS)
        raise BadInput(f"the teacher {meant.teacher!r} of {source} cannot be loaded: {error}; {where}") from None
    loaded = {"architecture": teacher.architecture, "weights_sha256": teacher.weights_sha256}
    loaded |= {"preprocessing": json.loads(json.dumps(teacher.inputs.describe()))}
    if diff := "; ".join(differences(identity, loaded, "teacher")):
        raise IdentityMismatch(f"{meant.teacher} is not the teacher of {targetset.folder}: {diff}; {where}")
    note_teacher(targetset.identity, meant)
    return teacher


def _meant(targetset: TargetSet, spec: str | None, weights: str | None, where: str) -> NamedTeacher:
    """What is typed, and for the rest what was named before; BadInput where that is nothing but the cache's word."""
    saved = NamedTeacher.of(saved_flags(targetset.folder))
    named = named_teacher(targetset.identity, saved)
    file, key = split_key(weights or "")
    if spec not in (None, saved.teacher, named and named.teacher):
        return NamedTeacher(str(spec), file, key)  # another place has weights of its own
    if named is None and ((spec is None and ":" in saved.teacher) or (file is None and saved.weights is not None)):
        raise unnamed_teacher(saved, where)
    rest = named or saved
    return NamedTeacher(spec or rest.teacher, file or rest.weights, key or rest.weights_key)
