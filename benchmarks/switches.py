"""Switches: what each choice of kernels gains a student's training step and a teacher's forward: with it over without.

Compared: the program as it is by default on this device, and the same with one switch turned over: torch.compile (once
all is compiled), AdamW in one kernel (in the whole step, and its update of the weights alone), attention in its own
kernel or in plain operations, pixels with channels last in memory or first, weights with channels last too. One batch
stays in memory, so that no data is waited for.
Limit: 1, for a switch that does nothing. To compile takes seconds first, which so many batches pay.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config as inductor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.materials import as_flags
from benchmarks.materials import material as material_of
from benchmarks.measure import (
    CLOCK,
    Figure,
    Report,
    Sizes,
    alternate,
    per_unit,
    run,
    settings_here,
    share,
    synchronise,
    the_device,
)
from benchmarks.steps import held_batch, open_cache
from benchmarks.synthetic import extract
from distill.compiling import require_compiler
from distill.data import CacheData
from distill.memory import stepper
from distill.module import Distillation
from distill.recipe import Recipe
from distill.run import build_module
from extract.modalities.image import ImageInput
from extract.pipeline import forward
from extract.teachers.base import Teacher
from shards.command.devices import share_of_cores
from shards.errors import BadInput
from shards.loader import Batch

COMPILED, FUSED, KERNEL = "torch.compile", "fused AdamW", "attention's own kernel"
PIXELS_LAST, WEIGHTS_LAST = "pixels' channels last", "weights' channels last"
STEP, UPDATE, FORWARD = "a step", "an update", "a forward"
CONVOLUTIONS: dict[str, Any] = {"teacher": "resnet50", "student": "resnet18", "recipe": "resnet50-from-resnet101"}
CONVOLUTIONS |= {"codec": "float16", "switches": (COMPILED, FUSED, PIXELS_LAST, WEIGHTS_LAST)}
TRANSFORMER: dict[str, Any] = {"teacher": "data2vec2", "student": "data2vec2:depth=6", "recipe": "distil-data2vec2"}
TRANSFORMER |= {"codec": "int8", "switches": (COMPILED, FUSED, KERNEL)}
ON_CPU = {"image_size": 224, "precision": "float32"}
ON_GPU = {"image_size": 224, "batch_size": 256, "batches": 30, "precision": "bfloat16"}
QUICK = {"image_size": 32, "batch_size": 2, "batches": 1, "precision": "float32"}
CASES: dict[str, Sizes] = {
    "convolutions": {
        "cpu": CONVOLUTIONS | ON_CPU | {"batch_size": 8, "batches": 2},
        "cuda": CONVOLUTIONS | ON_GPU | {"teacher": "resnet101", "student": "resnet50"},
        "quick": CONVOLUTIONS | QUICK | {"teacher": "resnet18", "student": "convnet:width=4,depth=2"},
    },
    "transformer": {
        "cpu": TRANSFORMER | ON_CPU | {"batch_size": 4, "batches": 1},
        "cuda": TRANSFORMER | ON_GPU,
        "quick": TRANSFORMER | QUICK | {"student": "data2vec2:depth=1"},
    },
}
FIRST = 2
"""Batches in which a compiled network is compiled: none of the further ones is another to the compiler."""
Switches = frozenset[str]
"""Those that are on."""
Work = Callable[[], Any]
"""One batch, or one update of the weights."""


def measure(options: argparse.Namespace, folder: Path) -> Report:
    """At 224 pixels, in float32 on a CPU and in bfloat16 on a GPU."""
    settings, device = settings_here(CASES[options.case], options), the_device()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")  # else an earlier run has compiled it already
    if CLOCK.cpu:
        inductor.compile_threads = 1  # so that compilers are children of this process, whose time is known
    bench, number = _bench(settings, folder, device), settings["batches"]
    on, switches = bench.by_default(), _turned(settings["switches"], bench.recipe, device)
    of_forwards = [switch for switch in switches if switch != FUSED]
    works = ((STEP, bench.step, switches), (UPDATE, bench.update, [FUSED]), (FORWARD, bench.forward, of_forwards))
    contenders: dict[str, Callable[[], float]] = {}
    first_s: dict[str, float] = {}
    for name, make, turned in works:
        contenders[name] = per_unit(partial(_repeat, make(on), number), number, device)
        for switch in turned:
            work, other = make(on ^ {switch}), _other(name, switch, on)
            first_s[other] = _seconds(partial(_repeat, work, FIRST), device)
            contenders[other] = per_unit(partial(_repeat, work, number), number, device)
    seconds = alternate(contenders, options.rounds)
    report = Report("what does a choice of kernels gain, the rate with it over that without?", "batches", settings)
    report.add_rates(seconds)
    for name, _, turned in works:
        for switch in turned:
            other = _other(name, switch, on)
            limit = "the default" if switch in on else "not the default"
            if switch == COMPILED:
                taken = first_s[other] - FIRST * statistics.median(seconds[other])
                limit = f"{limit}; {_paid(taken, seconds[name], seconds[other])}"
            pair, goal = ((other, name), 1.0) if switch in on else ((name, other), None)
            ratio = share(*(seconds[each] for each in pair))
            report.figures.append(Figure(f"{name} with {switch}", limit, ratio, goal))
    return report


def _other(work: str, switch: str, on: Switches) -> str:
    """The contender that is as `work`, but for one switch."""
    return f"{work} {'without' if switch in on else 'with'} {switch}"


def _repeat(work: Work, number: int) -> None:
    for _ in range(number):
        work()


def _seconds(work: Work, device: torch.device) -> float:
    """As the clock counts them, those of the compilers that are called too."""
    start = _now()
    work()
    synchronise(device)
    return _now() - start


def _now() -> float:
    return sum(os.times()[:4]) if CLOCK.cpu else time.perf_counter()


def _paid(taken_s: float, plain: list[float], compiled: list[float]) -> str:
    """What compiling takes, and after how many batches it has paid."""
    saved_s = [one - other for one, other in zip(plain, compiled, strict=True)]
    if min(saved_s) <= 0:
        return f"compiled in {taken_s:,.0f} s, no gain above the noise"
    return f"compiled in {taken_s:,.0f} s, paid after {taken_s / statistics.median(saved_s):,.0f} batches"


def _turned(switches: tuple[str, ...], recipe: Recipe, device: torch.device) -> list[str]:
    """The switches of a case, without compiling where there is no compiler."""
    try:
        require_compiler(replace(recipe, compile=True), device)
    except BadInput as error:
        print(f"switches: without {COMPILED}: {error}")
        return [switch for switch in switches if switch != COMPILED]
    return list(switches)


@dataclass(frozen=True)
class Bench:
    """A student and a teacher, and the batch that they compute again and again."""

    cache: CacheData
    recipe: Recipe
    batch: Batch
    teacher: Teacher
    device: torch.device

    def by_default(self) -> Switches:
        """The switches that are on without being asked for."""
        module = build_module(self.cache, self.recipe).to(self.device)
        fused = module.configure_optimizers()["optimizer"].defaults["fused"]
        return frozenset({KERNEL, PIXELS_LAST} | ({FUSED} if fused else set()))

    def step(self, on: Switches) -> Work:
        """A training step."""
        return partial(_computed, on, partial(stepper(self._module(on), self.device), [self.batch]))

    def update(self, on: Switches) -> Work:
        """What AdamW does of it."""
        module = self._module(on)
        stepper(module, self.device)([self.batch])  # leaves gradients
        made = module.configure_optimizers()  # whole, for its schedule refers to its optimiser weakly, and back
        return lambda: made["optimizer"].step()

    def forward(self, on: Switches) -> Work:
        """The teacher's outputs, as `extract` computes them."""
        teacher, network = self.teacher, copy.deepcopy(self.teacher.network)
        if COMPILED in on:
            network.compile()
        if WEIGHTS_LAST in on:
            network.to(memory_format=torch.channels_last)
        fed = replace(teacher, network=network, inputs=_input(teacher.inputs, on))
        return partial(_computed, on, partial(forward, fed, self.batch.fields, self.device, self.recipe.precision))

    def _module(self, on: Switches) -> Distillation:
        module = build_module(self.cache, replace(self.recipe, compile=COMPILED in on)).to(self.device)
        module.inputs = _input(module.inputs, on)
        if WEIGHTS_LAST in on:
            module.student.to(memory_format=torch.channels_last)
        module.configure_optimizers = partial(_optimiser, module.configure_optimizers, on)  # type: ignore[method-assign]
        return module


def _bench(settings: Mapping[str, Any], folder: Path, device: torch.device) -> Bench:
    """A batch of photos with their teacher's targets."""
    material = material_of(settings, folder, settings["batch_size"])
    kept = {name: settings[name] for name in ("batch_size", "codec")}
    extract(*as_flags(material.flags | kept | {"out": folder / "cache"}))
    changes = {name: settings[name] for name in ("recipe", "student", "batch_size", "precision")}
    recipe, cache = open_cache(folder / "cache", max_steps=1000, **changes)
    torch.set_num_threads(share_of_cores())  # extract gives each batch one
    teacher = material.load_teacher().only([each.manifest.target for each in cache.training.targetsets])
    teacher.network.to(device)
    return Bench(cache, recipe, held_batch(cache, device), teacher, device)


def _computed(on: Switches, work: Work) -> None:
    with nullcontext() if KERNEL in on else sdpa_kernel(SDPBackend.MATH):
        work()


def _optimiser(configure: Callable[[], Any], on: Switches) -> Any:
    made = configure()
    for group in made["optimizer"].param_groups:
        group["fused"] = True if FUSED in on else None  # None: as torch does without
    return made


class ChannelsFirst(ImageInput):
    """Pixels in memory as in shape, (batch, channels, height, width), and not with the channels last."""

    def prepare(self, fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`images`, copied."""
        return {name: images.contiguous() for name, images in super().prepare(fields).items()}


def _input(inputs: Any, on: Switches) -> Any:
    return inputs if PIXELS_LAST in on else ChannelsFirst(**vars(inputs))


if __name__ == "__main__":
    run(measure, "switches", with_images=True, cases=list(CASES))
