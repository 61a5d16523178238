"""The store against a plain dict (Hypothesis state machine): what is committed reads equal, and nothing else is listed.

The dict of a cache has the views of each whole set, by (split, name), the name of the view set itself being "". What a
killed command was asked for may be whole afterwards or not, and nothing else may have changed.
"""

import contextlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rows_modality
import yaml
from caches import command, contents
from dying import full, killed
from expected import SPLITS, TARGETS, expected
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pytest import MonkeyPatch
from small_caches import Name, check, extraction, forked, quick_folder, run, sets_in, wait

from shards.errors import IdentityMismatch, TeacherShardsError
from shards.loader import BatchLoader, Part
from shards.lock import writing
from shards.order import BatchOrder
from shards.reader import Component, TargetSet, ViewSet, check_pair
from shards.remove import remove

MAX_CACHES = 3
RECIPE = {"student": "linear_rows", "objective": "kl", "batch_size": 2, "max_steps": 2, "lr": 0.05, "epochs": 4}
which = st.integers(0, MAX_CACHES * 2 - 1)
splits_and_views = st.sampled_from([(split, views) for split, most in SPLITS.items() for views in range(1, most + 1)])
some_kinds = st.sets(st.sampled_from(sorted(TARGETS)), max_size=2).map(sorted)
moments = st.none() | st.integers(1, 150)
"""The write at which a command dies; None for a command that lives."""
OTHERS: dict[str, dict[str, Any]] = {
    "samples": {"limit": 4},
    "views": {"view": "row:noise=0.3"},
    "shards": {"shard_size": 2},
    "a writer": {},
}


@dataclass
class Model:
    """What a cache must be."""

    whole: dict[Name, int] = field(default_factory=dict)
    """Views of each set that has its manifest."""
    begun: set[Name] = field(default_factory=set)
    """Sets that a killed command may have left half written, or with files that no document names."""


class StoreMachine(RuleBasedStateMachine):
    """Up to three caches, each begun empty or a copy of another."""

    def __init__(self) -> None:
        super().__init__()
        self.root = quick_folder()
        self.models = [Model()]

    def folder(self, number: int) -> Path:
        return self.root / f"cache-{number}"

    def choose(self, number: int) -> tuple[Path, Model]:
        """One of the caches."""
        number %= len(self.models)
        return self.folder(number), self.models[number]

    @rule(number=which, split=splits_and_views, kinds=some_kinds, moment=moments, end=st.sampled_from([killed, full]))
    def extract(self, number: int, split: tuple[str, int], kinds: list[str], moment: int | None, end: Any) -> None:
        """Begin, grow or finish; the command may be killed, or find the disk full."""
        cache, _ = self.choose(number)
        self.extracted(number, split, kinds, run(lambda: extraction(cache, *split, kinds), moment, end))

    @rule(number=which, split=splits_and_views, kinds=some_kinds, moment=moments, luck=which)
    def two_share(self, number: int, split: tuple[str, int], kinds: list[str], moment: int | None, luck: int) -> None:
        """Two processes share the work; one of them may be killed. Seldom, as they wait for each other."""
        cache, model = self.choose(number)
        if luck:
            return
        children = [forked(lambda: extraction(cache, *split, kinds, launch="shared"), each) for each in (None, moment)]
        lived, other = [wait(child) for child in children]
        assert lived, "the process that was not killed did not end well"
        self.extracted(number, split, kinds, True)
        if not other:
            model.begun |= {(split[0], name) for name in ("", *kinds)}

    def extracted(self, number: int, split: tuple[str, int], kinds: list[str], ended: bool) -> None:
        """A set never shrinks, and one of all views there are has none that was left half written."""
        _, model = self.choose(number)
        asked = {(split[0], name): max(split[1], model.whole.get((split[0], name), 0)) for name in ("", *kinds)}
        self.settle(
            number, model.whole | asked, ended, {name for name in asked if asked[name] != model.whole.get(name)}
        )
        if ended and split[1] == SPLITS[split[0]]:
            model.begun -= asked.keys()

    @rule(number=which, name=which, moment=moments)
    def remove(self, number: int, name: int, moment: int | None) -> None:
        """A set that is listed, whole or not."""
        cache, model = self.choose(number)
        if listed := sorted(sets_in(cache).items()):
            (split, kind), (folder, _) = listed[name % len(listed)]
            gone = {each for each in {*model.whole, *model.begun} if each[0] == split and kind in ("", each[1])}
            after = {each: views for each, views in model.whole.items() if each not in gone}
            ended = run(lambda: remove((str(folder),), True), moment)
            self.settle(number, after, ended, gone)
            model.begun -= gone if ended else set()

    @rule(number=which, place=st.integers(0, MAX_CACHES - 1))
    def copy(self, number: int, place: int) -> None:
        """A copy of a cache's folder, whatever state it is in, is a cache in that state."""
        cache, model = self.choose(number)
        place = min(place, len(self.models))
        if self.folder(place) != cache:
            shutil.rmtree(self.folder(place), ignore_errors=True)
            if cache.exists():
                shutil.copytree(cache, self.folder(place))
            self.models[place : place + 1] = [Model(dict(model.whole), set(model.begun))]
            check(self.folder(place), model.whole, model.begun)

    @rule(number=which, split=st.sampled_from(sorted(SPLITS)), what=st.sampled_from(sorted(OTHERS)))
    def refuse(self, number: int, split: str, what: str) -> None:
        """Other samples, views or shards than the cache has, or while another writes there: nothing changes."""
        cache, model = self.choose(number)
        if (split, "") not in model.whole:
            return
        before = contents(cache)
        with writing(cache) if what == "a writer" else contextlib.nullcontext():
            try:
                run(lambda: extraction(cache, split, SPLITS[split], ["logits-float32"], **OTHERS[what]))
            except TeacherShardsError as error:
                assert "is writing" in str(error) if what == "a writer" else isinstance(error, IdentityMismatch), error
            else:
                raise AssertionError(f"other {what}: not refused")
        assert contents(cache) == before

    @rule(number=which, split=st.sampled_from(sorted(SPLITS)), name=st.sampled_from(sorted(TARGETS)), seed=which)
    def read(self, number: int, split: str, name: str, seed: int) -> None:
        """What the loader hands to a training step is what the dict has."""
        cache, model = self.choose(number)
        if not {(split, ""), (split, name)} <= model.whole.keys():
            return
        sets = sets_in(cache)
        component = Component(ViewSet(sets[split, ""][0]), [TargetSet(sets[split, name][0])])
        check_pair(component.viewset, component.targetsets[0])
        order = BatchOrder([component.viewset.usable], 2, [component.num_views], seed)
        parts = [Part(order.epoch(epoch).readings(batch)) for epoch in range(4) for batch in range(order.num_batches)]
        for batch in BatchLoader([component], lambda: iter(parts), 2, labels=True, num_threads=2):
            (reading,) = batch.readings
            held, (stored,) = expected(split), batch.targets.values()
            np.testing.assert_array_equal(batch.fields["row"], held.views[reading.view][reading.samples])
            assert batch.labels is not None
            assert batch.labels.tolist() == [held.labels[sample] for sample in reading.samples]
            for array, rows in held.targets[name][reading.view].items():
                np.testing.assert_array_equal(stored[array], rows[reading.samples])

    def settle(self, number: int, after: dict[Name, int], ended: bool, touched: set[Name]) -> None:
        """A command that was to make `after` is over: it has where it `ended`, else it may have, set by set."""
        cache, model = self.choose(number)
        if not ended:
            found = {name: views for name, (_, views) in sets_in(cache).items() if views}
            for name in found.keys() | model.whole.keys() | after.keys():
                assert found.get(name, 0) in (model.whole.get(name, 0), after.get(name, 0)), (name, found)
            after = found
        model.whole, model.begun = after, model.begun if ended else model.begun | touched
        check(cache, model.whole, model.begun)

    def teardown(self) -> None:
        try:
            for number, model in enumerate(self.models):
                check(self.folder(number), model.whole, model.begun)
        finally:
            shutil.rmtree(self.root, ignore_errors=True)


class TrainingMachine(StoreMachine):
    """As above, and once in a sequence of steps a student is trained for two steps."""

    has_trained = False

    @rule(number=which)
    def distil(self, number: int) -> None:
        cache, model = self.choose(number)
        if self.has_trained or not {("train", ""), ("train", "logits-float32")} <= model.whole.keys():
            return
        self.has_trained = True
        (self.root / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"fits": {"modality": "row"}}))
        before = contents(cache)
        flags = ("--shards", cache, "--targets", "logits-float32", "--recipe", self.root / "recipe.yaml")
        done = command("distill", *flags, "--run_dir", self.root / "run", "--devices", "cpu").succeeds()
        assert "done: 2 steps" in done.out and contents(cache) == before


def play(examples: int, steps: int, trains: bool = True, derandomize: bool = False, shrinks: bool = False) -> None:
    """So many sequences of so many steps; one that fails is printed, and if it `shrinks` the shortest that does."""
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=derandomize,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrinks else [])],
        suppress_health_check=list(HealthCheck),
    )
    with MonkeyPatch.context() as patch:
        rows_modality.register(patch)
        run_state_machine_as_test(TrainingMachine if trains else StoreMachine, settings=limits)
