"""The losses, against torch's own, against float64 formulas written out, and at the edges of what floats hold."""

import math

import pytest
import rounding
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from distill.objectives import REGISTRY, make_objective
from distill.objectives.base import Objective
from shards.codecs import make_codec
from shards.codecs.distribution import Distribution
from shards.codecs.features import Features
from shards.errors import UnknownName


def draw(seed: int, batch: int = 6, classes: int = 11, spread: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits of a student and a teacher."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, classes, generator=generator) * spread for _ in range(2))  # type: ignore[return-value]


def formula(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T^2 sum_c p_c (log p_c - log q_c), the mean over the batch, in float64 and from the definition."""
    p = (teacher.double() / temperature).softmax(-1)
    q = (student.double() / temperature).softmax(-1)
    return float((p * (p.log() - q.log())).sum(-1).mean()) * temperature**2


def kl(student: Tensor, target: Tensor | Distribution, temperature: float = 1.0) -> Tensor:
    return make_objective(f"kl:temperature={temperature}")(student, Features(target))


def top(teacher: Tensor, k: int) -> Distribution:
    """The target that a cache gives, without the rounding to float16."""
    log_p = teacher.log_softmax(-1)
    largest, classes = log_p.topk(k, -1)
    rest = log_p.scatter(-1, classes, -torch.inf).logsumexp(-1)
    return Distribution(classes, largest, rest, teacher.shape[-1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_kl_is_the_formula_and_torchs_own(temperature: float) -> None:
    student, teacher = draw(0)
    loss, error = kl(student, teacher, temperature), rounding.of_divergence(student, teacher, temperature=temperature)
    assert float(loss) == pytest.approx(formula(student, teacher, temperature), abs=error)
    assert loss > 100 * error
    log_p, log_q = ((x.double() / temperature).log_softmax(-1) for x in (teacher, student))
    own = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
    assert float(loss) == pytest.approx(float(own), abs=error)
    assert float(kl(teacher, teacher, temperature)) == pytest.approx(0, abs=error)


def test_t_squared_keeps_the_gradients_size() -> None:
    """Hinton et al. 2015, equations 2 to 4: as T grows the gradient goes to (z - v) / N for logits of zero mean."""
    student, teacher = (x - x.mean(-1, keepdim=True) for x in draw(1))
    student.requires_grad_()
    kl(student, teacher, 500.0).backward()
    assert student.grad is not None
    expected = (student.detach() - teacher) / student.shape[1] / len(student)
    assert torch.allclose(student.grad, expected, atol=1e-2 * float(expected.abs().max()))


@given(st.integers(0, 10**6), st.integers(1, 10), st.floats(0.1, 8.0))
def test_topk_is_the_coarse_partitions_kl_and_never_more_than_the_whole(seed: int, k: int, spread: float) -> None:
    student, teacher = draw(seed, spread=spread)
    target = top(teacher, k)
    loss = float(kl(student, target))
    p, q = teacher.double().softmax(-1), student.double().softmax(-1)
    kept = torch.zeros_like(p).scatter(-1, target.classes, 1.0)
    outcomes_p = torch.cat([p.gather(-1, target.classes), (p * (1 - kept)).sum(-1, keepdim=True)], -1)
    outcomes_q = torch.cat([q.gather(-1, target.classes), (q * (1 - kept)).sum(-1, keepdim=True)], -1)
    coarse = float((outcomes_p * (outcomes_p / outcomes_q).log()).sum(-1).mean())
    error = rounding.of_divergence(student, teacher)
    assert loss == pytest.approx(coarse, abs=error)
    assert -error <= loss <= formula(student, teacher, 1.0) + error


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_all_but_one_class_is_the_whole(temperature: float) -> None:
    student, teacher = draw(2)
    whole = formula(student, teacher, temperature)
    error = rounding.of_divergence(student, teacher, temperature=temperature)
    assert float(kl(student, top(teacher, 10), temperature)) == pytest.approx(whole, abs=error)
    codec = make_codec("topk:10", (11,))  # stored as float16, which rounds probabilities by up to 2^-11 of their log
    stored = codec.decode(codec.encode(teacher))
    assert float(kl(student, stored, temperature)) == pytest.approx(whole, rel=0.02)


@given(st.integers(0, 10**6), st.integers(1, 10), st.floats(1.0, 10.0))
def test_topk_at_any_temperature_is_a_divergence(seed: int, k: int, temperature: float) -> None:
    student, teacher = draw(seed)
    error = rounding.of_divergence(student, teacher, temperature=temperature)
    assert float(kl(student, top(teacher, k), temperature)) >= -error
    even = top(teacher, k)
    # a teacher whose other classes do share their mass evenly is met exactly by a student that is that teacher
    others = (even.log_remaining - math.log(11 - k)).unsqueeze(-1).expand(-1, 11)
    flat = others.scatter(-1, even.classes, even.log_probabilities)
    assert float(kl(flat, even, temperature)) == pytest.approx(0, abs=error)


def edges() -> dict[str, tuple[Tensor, Tensor]]:
    sure = torch.full((2, 11), -200.0).scatter(1, torch.tensor([[3], [4]]), 200.0)
    return {
        "the teacher leaves no mass": (torch.zeros(2, 11), sure),
        "the student leaves no mass": (sure, torch.randn(2, 11)),
        "both": (sure, sure),
        "sure of different classes": (sure, sure.roll(1, -1)),
        "far out": (torch.randn(2, 11) * 1e4, torch.randn(2, 11) * 1e4),
        "all alike": (torch.zeros(2, 11), torch.zeros(2, 11)),
    }


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("codec", ["float32", "float16", "topk:1", "topk:3", "topk:10"])
@pytest.mark.parametrize("edge", edges())
def test_losses_and_gradients_are_finite_at_the_edges(edge: str, codec: str, temperature: float) -> None:
    student, teacher = edges()[edge]
    student.requires_grad_()
    stored = make_codec(codec, (11,))
    loss = kl(student, stored.decode(stored.encode(teacher)), temperature)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()
    assert loss >= -1e-4 * temperature**2
    if edge == "sure of different classes":
        assert loss > 10 and student.grad.abs().max() > 0.01


@pytest.mark.parametrize("k", [1, 3, 10])
def test_topk_gradients_are_those_of_finite_differences(k: int) -> None:
    student, teacher = draw(3, batch=2, classes=11)
    target, step = top(teacher, k), 1e-2
    student.requires_grad_()
    kl(student, target, 2.0).backward()
    assert student.grad is not None
    for row, column in ((0, 0), (1, 5), (0, 10), (1, int(target.classes[1, 0]))):
        moved = [student.detach().clone() for _ in range(2)]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        slope = (float(kl(moved[0], target, 2.0)) - float(kl(moved[1], target, 2.0))) / (2 * step)
        assert float(student.grad[row, column]) == pytest.approx(slope, abs=2e-3)


def test_supervised_is_cross_entropy() -> None:
    student, _ = draw(4)
    labels = torch.tensor([0, 10, 3, 3, 7, 1])
    loss = make_objective("supervised")(student, labels)
    log_q = student.double().log_softmax(-1)
    assert float(loss) == pytest.approx(
        float(-log_q[torch.arange(6), labels].mean()), abs=rounding.of_divergence(student)
    )
    assert torch.equal(loss, F.cross_entropy(student, labels))


def test_half_precision_logits_are_widened_first() -> None:
    student, teacher = draw(5)
    for target in (teacher, top(teacher, 3)):
        loss = kl(student.bfloat16(), target, 2.0)
        assert loss.dtype == torch.float32 and torch.equal(loss, kl(student.bfloat16().float(), target, 2.0))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_objective_is_one(name: str) -> None:
    assert isinstance(make_objective(name), Objective)


def test_an_unknown_objective() -> None:
    with pytest.raises(UnknownName, match="did you mean supervised"):
        make_objective("supervise")


def test_padding_is_no_part_of_the_loss() -> None:
    student, teacher = torch.randn(4, 5, 6), torch.randn(4, 5, 6)
    valid = torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None]
    for spec in ("mse", "smooth_l1:beta=1", "cosine"):
        loss = make_objective(spec)
        expected = loss(student[valid], Features(teacher[valid]))
        assert torch.equal(loss(student, Features(teacher).within(valid)), expected)
    numbers = torch.randint(2**63 - 1, (4, 5), generator=torch.Generator().manual_seed(0))
    for codec in (make_codec(spec, (5, 6)).with_numbers(numbers) for spec in ("float32", "topk:2", "sample:2")):
        taught = Features(codec.decode(codec.encode(teacher)))
        assert torch.equal(
            make_objective("kl")(student, taught.within(valid)),
            make_objective("kl")(student[valid], Features(taught.rows[valid])),
        )
    positions = torch.tensor([[0, 2], [0, 4], [0, 3], [0, 1]])
    kept = Features.of(teacher, positions).within(valid)
    assert kept.valid is not None
    assert kept.valid.tolist() == [[True, True], [True, False], [True, False], [True, True]]
