"""Student: a run's network, fed stored views and run in inference mode on one device."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from extract.modalities.base import InputSpec, feed
from extract.networks import exported_input, load_exported
from shards.command.devices import one_device
from shards.errors import BadInput


@dataclass(frozen=True)
class TrainedStudent:
    """The trained network of one run, with what it needs to be fed."""

    network: nn.Module
    inputs: InputSpec
    num_classes: int | None
    """None where it gives features and no logits."""
    class_names: tuple[str, ...] | None
    device: torch.device
    dtype: torch.dtype

    @torch.inference_mode()
    def __call__(self, fields: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "batch ..."]]:
        """Every output for the fields of a batch of views, on any device: float32, on the student's device."""
        moved = {name: rows.to(self.device) for name, rows in fields.items()}
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = feed(self.network, self.inputs, moved)
        return {name: rows.float() for name, rows in outputs.items()}

    def only(self, name: str) -> "TrainedStudent":
        """The same student, computing the output `name` and, where its network can leave them out, no other."""
        only = getattr(self.network, "only", None)  # a dense network has it
        return self if only is None else replace(self, network=only([name]))


def load_student(run: Path, device: str, precision: str) -> TrainedStudent:
    """The student of `run`, in eval mode on `device`; `precision` is a torch dtype's name."""
    chosen = one_device("device", device)
    network, document = load_exported(run)
    names = document["class_names"]
    return TrainedStudent(
        network.eval().to(chosen),
        exported_input(document, str(run), run),
        document["num_classes"],
        tuple(names) if names is not None else None,
        chosen,
        getattr(torch, precision),
    )


def check_output(student: TrainedStudent, name: str, where: str) -> tuple[int, ...]:
    """The shape of one sample's output `name`; BadInput that begins with `where` when the student has none."""
    outputs = student(student.inputs.example())
    if name not in outputs:
        raise BadInput(f"{where}: the student gives {', '.join(sorted(outputs))}, this task needs {name}; give another")
    return tuple(outputs[name].shape[1:])


def check_finite(rows: Float[Tensor, "batch ..."], name: str, where: str) -> None:
    """A batch of the output `name` is finite; BadInput that begins with `where` otherwise.

    Comparisons with NaN are false, not errors: an overflow of float16 would be measured as a poor student.
    """
    if not torch.isfinite(rows).all():
        raise BadInput(f"{where}: the network's {name} holds NaN or infinity; give --precision float32 or bfloat16")
