"""CLIP-KD: each term is the paper's formula, and several processes have the loss and gradients of one."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_two_ranks
from torch import Tensor, nn

from distill.named_targets import named_targets
from distill.objectives import make_objective
from distill.recipe import load_recipe
from distill.terms import BoundTerm
from shards.codecs.features import Features

SAMPLES, WIDTH, IN = 8, 6, 5
TARGETS = ["image_embeds", "text_embeds"]
TEMPERATURE = 0.07


def rows(seed: int, width: int = WIDTH) -> Tensor:
    return torch.randn(SAMPLES, width, generator=torch.Generator().manual_seed(seed))


def terms() -> list[BoundTerm]:
    """The recipe's, to the targets in the order of TARGETS."""
    bound = []
    for term in load_recipe("clip-kd").losses:
        to = None if term.to is None else TARGETS.index(term.to)
        bound.append(BoundTerm(make_objective(term.loss), term.of, to, term.weight))
    return bound


def unit(row: Tensor) -> list[float]:
    length = math.sqrt(sum(float(value) ** 2 for value in row))
    return [float(value) / length for value in row]


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def entropy(queries: Tensor, candidates: Tensor) -> float:
    """The mean of -log softmax at the own candidate, of cosines over the temperature."""
    total = 0.0
    for i, query in enumerate(queries):
        scores = [dot(unit(query), unit(candidate)) / TEMPERATURE for candidate in candidates]
        total += math.log(sum(map(math.exp, scores))) - scores[i]
    return total / len(queries)


def distance(student: Tensor, teacher: Tensor) -> float:
    """Of normalised rows, the mean squared difference."""
    pairs = [zip(unit(s), unit(t), strict=True) for s, t in zip(student, teacher, strict=True)]
    return sum((a - b) ** 2 for pair in pairs for a, b in pair) / student.numel()


def test_each_term_is_its_formula() -> None:
    image, text, teacher_image, teacher_text = (rows(seed) for seed in range(4))
    outputs = {"image/head": image, "text/head": text}
    found = [float(term(outputs, [Features(teacher_image), Features(teacher_text)], None)) for term in terms()]
    expected = [
        (entropy(image, text) + entropy(text, image)) / 2,  # the task loss
        2000 * distance(image, teacher_image),  # feature distillation
        2000 * distance(text, teacher_text),
        entropy(image, teacher_text) / 2,  # interactive contrastive learning
        entropy(text, teacher_image) / 2,
    ]
    # float32 sums of at most 8 x 6 terms, against float64
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_distillation_temperatures_are_learned() -> None:
    outputs, targets = {"image/head": rows(0), "text/head": rows(1)}, [Features(rows(2)), Features(rows(3))]
    learned = []
    for term in terms():
        if isinstance(term.objective, nn.Module):
            term(outputs, targets, None).backward()
            learned += term.objective.parameters()
    assert len(learned) == 3  # of the student's own contrast, and of each direction of the interactive one
    assert all(parameter.grad is not None and parameter.grad.abs() > 0 for parameter in learned)


def test_it_learns_two_targets_by_their_names() -> None:
    assert named_targets(load_recipe("clip-kd")) == TARGETS
    assert named_targets(load_recipe("s-smke")) == []


class Loss(nn.Module):
    """The recipe's loss over two linear towers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.image, self.text = nn.Linear(IN, WIDTH), nn.Linear(IN, WIDTH)
        self.terms = terms()
        self.objectives = nn.ModuleList(each.objective for each in self.terms if isinstance(each.objective, nn.Module))

    def forward(self, image: Tensor, text: Tensor, teacher_image: Tensor, teacher_text: Tensor) -> Tensor:
        outputs = {"image/head": self.image(image), "text/head": self.text(text)}
        targets: list[Any] = [Features(teacher_image), Features(teacher_text)]
        return torch.stack([term(outputs, targets, None) for term in self.terms]).sum()


def batch() -> list[Tensor]:
    return [rows(10, IN), rows(11, IN), rows(12), rows(13)]


def on_one_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    network = Loss()
    parallel = nn.parallel.DistributedDataParallel(network)
    share = slice(rank * SAMPLES // 2, (rank + 1) * SAMPLES // 2)
    loss = parallel(*(each[share] for each in batch()))
    loss.backward()
    mean = loss.detach() / 2
    torch.distributed.all_reduce(mean)
    if rank == 0:
        torch.save({"loss": mean, **{name: p.grad for name, p in network.named_parameters()}}, f"{folder}/gradients.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads may abort a process whose interpreter takes its parts down while the other still runs


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradients_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    network = Loss()
    loss = network(*batch())
    loss.backward()
    on_two_ranks(on_one_rank, str(tmp_path))
    of_ranks = torch.load(tmp_path / "gradients.pt", weights_only=True)
    # sums of 8 float32 terms in another order; of gradients the largest tells the scale
    torch.testing.assert_close(of_ranks["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
        scale = float(parameter.grad.abs().max())
        torch.testing.assert_close(of_ranks[name], parameter.grad, rtol=1e-4, atol=1e-5 * scale, msg=name)
