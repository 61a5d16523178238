"""Training: a classifier through the epochs of its fine-tuning, each kept on the disk as soon as it is whole."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from distill.optimiser import parameter_groups
from evaluate.preset import TrainingSettings
from evaluate.student import TrainedStudent
from evaluate.views import TrainingViews
from shards.archive import is_archive
from shards.command.progress import Progress
from shards.commit import remove_leftovers, write_atomically
from shards.errors import BadInput, Damaged

CHECKPOINT = "checkpoint.pt"
Labels = Num[Tensor, "batch *classes"]


def seed_of(*parts: object) -> int:
    """A seed fixed by `parts`, for torch's generators, which use 32 bits."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:4], "little")


def unchanged(inputs: dict[str, Tensor], labels: Labels) -> tuple[dict[str, Tensor], Labels]:
    """A batch as it is."""
    return inputs, labels


@dataclass(frozen=True)
class Method:
    """What differs between the tasks that train."""

    loss: Callable[[Float[Tensor, "batch outputs"], Labels], Float[Tensor, ""]]
    """Of float32 logits and the labels."""
    rate: Callable[[int, float, int], float]
    """The share of the peak learning rate at (step, warm-up share, number of steps)."""
    augment: Callable[[dict[str, Tensor], Labels], tuple[dict[str, Tensor], Labels]] = unchanged
    """A batch's prepared inputs and labels, changed at random."""


class Training:
    """Trains the network of `student`, which gives logits, on the views, on its device and in its precision."""

    def __init__(
        self, student: TrainedStudent, views: TrainingViews, settings: TrainingSettings, method: Method
    ) -> None:
        self.student, self.classifier, self.views = student, student.network, views
        self.settings, self.method = settings, method
        groups = decayed_groups(self.classifier, settings.lr, settings.weight_decay, settings.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps)
        self.scaler = torch.amp.GradScaler(student.device.type, enabled=student.dtype == torch.float16)
        self.total_steps = settings.epochs * views.num_batches
        self.epochs_done, self.loss = 0, 0.0

    def run(self, folder: Path) -> float:
        """All epochs are done, those after the checkpoint in `folder` if it has one; the last one's mean loss.

        Interrupted anywhere, it ends with the same weights (bit for bit where the device computes so).
        """
        self.resume(folder)
        epochs = self.settings.epochs
        if 0 < self.epochs_done < epochs:
            print(f"evaluate: fine-tuning resumes after epoch {self.epochs_done} of {epochs}: {folder}", flush=True)
        left = (epochs - self.epochs_done) * self.views.num_batches
        with Progress(folder.name, left, "steps") as progress:
            for epoch in range(self.epochs_done, epochs):
                self.classifier.train()
                first, losses = epoch * self.views.num_batches, []
                for step, (fields, labels) in enumerate(self.views.epoch(epoch), first):
                    losses.append(self.step(step, fields, labels))
                    progress.advance()
                self.epochs_done, self.loss = epoch + 1, torch.stack(losses).double().mean().item()
                if not self.loss < float("inf"):
                    remedy = "give a lower --lr, or --precision float32"
                    raise BadInput(f"{folder.name}: the loss of epoch {epoch + 1} is {self.loss}: {remedy}")
                self.save(folder)
        return self.loss

    def step(self, step: int, fields: Mapping[str, Tensor], labels: Num[Tensor, " batch"]) -> Float[Tensor, ""]:
        """One optimiser step, whose loss is returned.

        What it draws depends on seed and step alone, so that a resumed run draws what the uninterrupted one would have.
        """
        torch.manual_seed(seed_of(self.views.seed, "step", step))
        inputs_of, device, dtype = self.student.inputs, self.student.device, self.student.dtype
        moved = {name: rows.to(device) for name, rows in inputs_of.cut(fields).items()}
        inputs, targets = self.method.augment(inputs_of.prepare(moved), labels.to(device))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = self.classifier(*inputs.values())["logits"]
        loss = self.method.loss(logits.float(), targets)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * self.method.rate(step, self.settings.warmup, self.total_steps)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def save(self, folder: Path) -> None:
        """The checkpoint in `folder` is of now; of a finished training it holds the weights alone, a third of it."""
        state = {"epochs": self.epochs_done, "loss": self.loss, "classifier": self.classifier.state_dict()}
        if self.epochs_done < self.settings.epochs:
            state |= {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(folder / CHECKPOINT, buffer.getbuffer())

    def resume(self, folder: Path) -> None:
        """All is as the checkpoint in `folder` has it, if there is one; Damaged where it is cut short."""
        remove_leftovers(folder)
        path = folder / CHECKPOINT
        if not path.exists():
            return
        if not is_archive(path):
            raise Damaged(f"{path}: is no whole checkpoint; remove it to train from the beginning")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.epochs_done, self.loss = state["epochs"], state["loss"]
        self.classifier.load_state_dict(state["classifier"])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])


# a block or a stage: blocks.3, encoder.layer.3 or torchvision's layer3, with modules of its own inside
_BLOCK = re.compile(r"(?:^|.*?\.)(?:(?:blocks?|layers?)\.\d+|layer\d+)(?=\.\w+\.)")


def layer_ids(names: Iterable[str]) -> dict[str, int]:
    """The layer of each parameter, of names in the network's own order.

    0 for what comes before the first block (patch embedding, CLS, stem), 1, 2, ... for the blocks or stages, wherever
    they are (data2vec 2.0's prenet comes first), and one more for what comes after the last (norm, head). Where there
    are no blocks all is one layer.
    """
    ids: dict[str, int] = {}
    blocks: list[str] = []
    outside: list[str] = []
    for name in names:
        if block := _BLOCK.match(name):
            if block[0] not in blocks:
                blocks.append(block[0])
                outside.clear()
            ids[name] = blocks.index(block[0]) + 1
        else:
            ids[name] = len(blocks)
            outside.append(name)
    after = dict.fromkeys(outside, len(blocks) + 1) if blocks else {}
    return ids | after


def decayed_groups(network: nn.Module, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters by layer and weight decay, each group with its `peak_lr`; the last layer's is `lr`.

    Layer-wise decay as in BEiT (Bao et al. 2021, arXiv:2106.08254, appendix) and MAE (He et al. 2021, arXiv:2111.06377,
    appendix A.1), after Clark et al. 2020 (arXiv:2003.10555): lr * decay^(num_layers - id).
    """
    ids = layer_ids(name for name, _ in network.named_parameters())
    layers = {parameter: ids[name] for name, parameter in network.named_parameters()}
    num_layers = max(ids.values())
    return [
        {**group, "params": members, "peak_lr": lr * layer_decay ** (num_layers - layer)}
        for group in parameter_groups(network, weight_decay)
        for layer in range(num_layers + 1)
        if (members := [parameter for parameter in group["params"] if layers[parameter] == layer])
    ]
