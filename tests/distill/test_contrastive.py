"""Losses between the samples of a batch: their values, on several ranks, and in parts (GradCache)."""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ranks import on_two_ranks
from torch import Tensor, nn

from distill.objectives import make_objective
from shards.codecs.features import Features

CONTRASTIVE, DISTILLATION, RANKING = "contrastive", "contrastive_distillation", "ranking:margin=0.2"
SAMPLES, WIDTH = 8, 6


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SAMPLES, WIDTH, generator=generator), torch.randn(SAMPLES, WIDTH, generator=generator)


def test_contrastive_is_the_cross_entropy_of_the_own_partner_both_ways() -> None:
    first, second = inputs()
    expected = 0.0
    for rows, partners in ((first, second), (second, first)):
        for i in range(SAMPLES):
            scores = [F.cosine_similarity(rows[i], partners[j], dim=0).item() / 0.1 for j in range(SAMPLES)]
            expected -= (scores[i] - math.log(sum(map(math.exp, scores)))) / (2 * SAMPLES)
    assert make_objective("contrastive:temperature=0.1")(first, second).item() == pytest.approx(expected, rel=1e-5)


def test_the_inverse_temperature_is_learned_and_at_most_100() -> None:
    objective = make_objective("contrastive:temperature=0.001")
    assert isinstance(objective, nn.Module)
    first, second = inputs()
    hundred = make_objective("contrastive:temperature=0.01")
    assert objective(first, second).item() == pytest.approx(hundred(first, second).item())
    hundred = make_objective("contrastive:temperature=0.07")
    hundred(first, second).backward()
    (temperature,) = hundred.parameters()
    assert temperature.grad is not None and temperature.grad.abs() > 0


def test_distillation_finds_the_own_teacher_row_among_batch_and_bank() -> None:
    student, teacher = inputs()
    bank = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(3))
    candidates = torch.cat([teacher, bank])
    expected = 0.0
    for i in range(SAMPLES):
        scores = [F.cosine_similarity(student[i], row, dim=0).item() / 0.5 for row in candidates]
        expected -= (scores[i] - math.log(sum(map(math.exp, scores)))) / SAMPLES
    objective = make_objective("contrastive_distillation:temperature=0.5")
    assert objective(student, Features(teacher), bank=Features(bank)).item() == pytest.approx(expected, rel=1e-5)


def test_ranking_asks_for_a_margin_between_own_and_other_partners() -> None:
    first, second = inputs()
    cosine = lambda i, j: F.cosine_similarity(first[i], second[j], dim=0).item()  # noqa: E731
    pairs = [(i, j) for i in range(SAMPLES) for j in range(SAMPLES) if i != j]
    expected = sum(
        max(0, 0.2 - cosine(i, i) + cosine(i, j)) + max(0, 0.2 - cosine(i, i) + cosine(j, i)) for i, j in pairs
    ) / (2 * len(pairs))
    assert make_objective(RANKING)(first, second).item() == pytest.approx(expected, rel=1e-5)


def towers() -> nn.ModuleList:
    torch.manual_seed(1)
    return nn.ModuleList([nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)])


def loss_of(spec: str, network: nn.ModuleList, first: Tensor, second: Tensor) -> Tensor:
    rows = network[0](first)
    other = Features(second[:, :4]) if spec == DISTILLATION else network[1](second)
    return make_objective(spec)(rows, other)


def on_one_rank(rank: int, spec: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    network, share = towers(), slice(rank * SAMPLES // 2, (rank + 1) * SAMPLES // 2)
    parallel = nn.parallel.DistributedDataParallel(Loss(spec, network), find_unused_parameters=True)
    first, second = inputs()
    loss = parallel(first[share], second[share])
    loss.backward()
    mean = loss.detach() / 2
    torch.distributed.all_reduce(mean)
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    if rank == 0:
        torch.save({"loss": mean, **gradients}, f"{folder}/gradients.pt")
    # validation batches are whole on one rank, and may have other sizes on others
    own = slice(0, SAMPLES // 2 + rank)
    with torch.no_grad():
        measured = loss_of(spec, network, first[own], second[own])
    torch.save(measured, f"{folder}/measured{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # gloo's threads may abort a process whose interpreter takes its parts down while the other still runs


class Loss(nn.Module):
    def __init__(self, spec: str, network: nn.ModuleList) -> None:
        super().__init__()
        self.spec, self.network = spec, network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return loss_of(self.spec, self.network, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [CONTRASTIVE, DISTILLATION, RANKING])
def test_two_processes_have_the_loss_and_gradients_of_one_with_the_whole_batch(spec: str, tmp_path: Path) -> None:
    network = towers()
    loss = loss_of(spec, network, *inputs())
    loss.backward()
    on_two_ranks(on_one_rank, spec, str(tmp_path))
    of_ranks = torch.load(tmp_path / "gradients.pt", weights_only=True)
    # sums of 8 float32 terms in another order
    torch.testing.assert_close(of_ranks["loss"], loss.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(of_ranks[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    for rank in range(2):
        first, second = (rows[: SAMPLES // 2 + rank] for rows in inputs())
        measured = torch.load(tmp_path / f"measured{rank}.pt", weights_only=True)
        torch.testing.assert_close(measured, loss_of(spec, network, first, second).detach(), rtol=1e-5, atol=1e-6)
