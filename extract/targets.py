"""Target: what is kept of a teacher's outputs, checked before anything of it is stored."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from extract.modalities.draws import draw_numbers, draw_tokens
from shards.codecs.features import Features
from shards.errors import BadInput

if TYPE_CHECKING:
    from extract.teachers.base import Teacher
    from shards.codecs.base import Codec


def default_target(outputs: Mapping[str, tuple[int, ...]]) -> str:
    """What is kept of a teacher that gives `outputs` when --target does not say."""
    return next((name for name in ("logits", "layer_mean", "tokens", "pooled") if name in outputs), next(iter(outputs)))


def default_codec(target: str, row_shape: tuple[int, ...]) -> str:
    """How rows are stored when --codec does not say: tokens in 8 bits a number, for they are many, vectors in 16.

    Of a vocabulary for each token 12 entries: 256 tokens x 30,522 words are 7.8 MB in 8 bits a number, 9.2 kB so.
    """
    if target == "mlm_logits":
        return "sample:12"
    return "int8" if has_tokens(row_shape) else "float16"


def has_tokens(row_shape: tuple[int, ...]) -> bool:
    """Whether a sample's row is (tokens, dim)."""
    return len(row_shape) == 2


def keep_drawn(
    rows: Features,
    keep: int,
    num_extra: int,
    seed: int,
    keys: Sequence[str],
    view: int,
    worth: Bool[Tensor, "batch tokens"] | None,
) -> Features:
    """The tokens that --keep_tokens draws of each sample's view, of those that are `worth` it; see `draw_tokens`.

    Where these are too few padding is kept, which counts nowhere.
    """
    tokens, later = rows.vectors, None
    if worth is not None and rows.valid is not None:
        later = (torch.where(rows.valid, 2, 1) * ~worth).cpu().numpy()
    drawn = [
        draw_tokens(seed, key, view, keep, tokens.shape[1], num_extra, None if later is None else later[row])
        for row, key in enumerate(keys)
    ]
    return Features.of(tokens, torch.from_numpy(np.stack(drawn)).to(tokens.device)).within(rows.valid)


def without_padding(rows: Float[Tensor, "batch ..."], valid: Bool[Tensor, "batch tokens"] | None) -> Features:
    """`rows`, zero where a token is padding: whatever a network says of it, equal texts give equal bytes."""
    if valid is None or not has_tokens(tuple(rows.shape[1:])):
        return Features(rows)
    return Features(rows.masked_fill(~valid[..., None], 0)).within(valid)


def with_numbers(codec: "Codec", seed: int, keys: Sequence[str], view: int, device: torch.device) -> "Codec":
    """`codec` with the random numbers that it takes for one view of the samples `keys`, the same on every device."""
    if not codec.numbers_a_row:
        return codec
    return codec.with_numbers(torch.from_numpy(draw_numbers(seed, keys, view, codec.numbers_a_row)).to(device))


def check_finite(
    rows: Shaped[Tensor, "batch ..."], keys: Sequence[str], target: str, layer: Callable[[int], str]
) -> None:
    """Every row is finite; else BadInput names the first sample that is not, and `layer` of it says where it began."""
    finite = torch.isfinite(rows).flatten(1).all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0, 0])
        raise BadInput(
            f"the teacher's {target} of {keys[row]} holds NaN or infinity, first in {layer(row)}; nothing of this "
            "shard was committed: try --precision float32 or bfloat16, or check the weights"
        )


def first_layer_not_finite(teacher: "Teacher", say: Callable[["Teacher"], Any]) -> str:
    """The dotted name of the first module that gives NaN or infinity when `say` runs the teacher again.

    What is run is a copy that shares every tensor: the batches that other threads compute pass through no hook.
    """
    tensors = [*teacher.network.parameters(), *teacher.network.buffers()]
    network = copy.deepcopy(teacher.network, {id(tensor): tensor for tensor in tensors})
    found: list[str] = []

    def note(name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if not all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(output)):
            found.append(name or type(module).__name__)

    for name, module in network.named_modules():
        module.register_forward_hook(partial(note, name))
    say(dataclasses.replace(teacher, network=network))
    return found[0] if found else "no layer where the sample is alone in its batch"


def _tensors(output: Any) -> Iterator[Tensor]:
    """Every tensor in what a module returned."""
    if isinstance(output, Tensor):
        yield output
        return
    if dataclasses.is_dataclass(output):
        output = vars(output)
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (list, tuple)) else ()
    for part in parts:
        yield from _tensors(part)
