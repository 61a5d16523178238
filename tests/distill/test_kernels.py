"""Which kernels a training is computed with: AdamW's one kernel, and what torch.compile needs."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from training import distill, make_recipe, weights, write_recipe

from distill.optimiser import make_optimiser

ONE = ("--targets", "one-logits-float32")
RECIPE = make_recipe(lr=5e-4, betas=(0.9, 0.98), eps=1e-6)
SIZES = ((100, 511), (7,), (64, 3, 7, 7), (1000,))


def network() -> nn.ParameterList:
    generator = torch.Generator().manual_seed(0)
    return nn.ParameterList(torch.randn(size, generator=generator) for size in SIZES)


def update(parameters: nn.ParameterList, optimiser: torch.optim.Optimizer, steps: range) -> list[torch.Tensor]:
    """The parameters after steps on gradients that are drawn by the step's number."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()
    return [parameter.detach().clone() for parameter in parameters]


def plain(parameters: nn.ParameterList) -> torch.optim.AdamW:
    """As an earlier version had it on a CPU: a loop over the parameters."""
    made = make_optimiser(parameters, RECIPE)
    return torch.optim.AdamW([{**group, "fused": False} for group in made.param_groups])


def test_the_one_kernel_updates_as_a_loop_over_the_parameters() -> None:
    one, loop = network(), network()
    fused = make_optimiser(one, RECIPE)
    assert fused.defaults["fused"]
    for updated, expected in zip(update(one, fused, range(20)), update(loop, plain(loop), range(20)), strict=True):
        torch.testing.assert_close(updated, expected, rtol=1e-5, atol=1e-6)


def test_the_bits_of_an_update_hang_on_no_number_of_threads() -> None:
    before, states = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            states.append(update(each := network(), make_optimiser(each, RECIPE), range(5)))
    finally:
        torch.set_num_threads(before)
    for other in states[1:]:
        assert all(map(torch.equal, states[0], other))


def test_a_run_that_began_without_the_one_kernel_goes_on_without_it() -> None:
    whole = network()
    begun = plain(whole)
    update(whole, begun, range(3))
    resumed, saved = copy.deepcopy(whole), copy.deepcopy(begun.state_dict())
    optimiser = make_optimiser(resumed, RECIPE)
    optimiser.load_state_dict(saved)
    assert all(map(torch.equal, update(whole, begun, range(3, 6)), update(resumed, optimiser, range(3, 6))))


def test_gradients_are_clipped_in_bfloat16_too(shards: Path, tmp_path: Path) -> None:
    """Lightning refuses to clip what a fused AdamW may have scaled."""
    for name, most in (("clipped", 1e-3), ("whole", 1e9)):
        recipe = write_recipe(tmp_path / f"{name}.yaml", precision="bfloat16", clip_norm=most, max_steps=1, eps=1.0)
        distill(shards, tmp_path / name, *ONE, "--recipe", recipe).succeeds()
    clipped, whole = weights(tmp_path / "clipped"), weights(tmp_path / "whole")
    assert any(not torch.equal(clipped[name], whole[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--plan", "seconds=1")])
def test_a_machine_without_a_compiler_says_so_before_a_run_begins(
    flags: tuple[str, ...], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    torch.compiler.reset()  # this process may have compiled the same before, and would not ask for a compiler again
    recipe = write_recipe(tmp_path / "test.yaml", compile=True)
    with config.patch({"cpp.cxx": (None, str(tmp_path / "no-compiler"))}):  # what the variable CXX names
        done = distill(shards, tmp_path / "run", *ONE, "--recipe", recipe, *flags)
    done.refuses("compile: true: torch cannot compile here", "no-compiler", "install a C++ compiler (g++)")
    assert not (tmp_path / "run/run.json").exists()
