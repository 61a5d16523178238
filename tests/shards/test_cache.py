"""The chooser: what a path and a name mean in a cache of several sources, splits and target sets."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from shards import views
from shards.cache import (
    ListedTargetSet,
    ListedViewSet,
    choose_viewset,
    fitting_targetsets,
    list_viewsets,
    names,
    only,
    open_cache,
    prefer,
)
from shards.commit import write_sealed
from shards.documents import Plan
from shards.errors import BadInput, Damaged, Incomplete
from shards.identity import same_but_for
from shards.layout import PLAN, TARGETSET_MANIFEST, VIEWSET_MANIFEST, viewset_name

TARGETSETS = ("a-logits-float32-00000001", "a-logits-topk3-00000002", "b-pooled-int8-00000003")


def write_viewset(cache: Path, source: str, split: str, whole: bool = True, **changes: Any) -> Path:
    """A view set as far as a chooser looks: its plan and, where it is `whole`, a manifest."""
    identity = {"source": source, "split": split, "keys": "", "num_samples": 1}
    identity |= {"augment": {}, "image_size": 8, "image_format": {"format": "png"}} | changes
    folder = cache / viewset_name(source, split, identity)
    request = {"data": source, "data_dir": None, "limit": None, "split": split}
    write_sealed(folder / PLAN, Plan(["0"], 1, identity, None, request).document())
    if whole:
        (folder / VIEWSET_MANIFEST).touch()
    return folder


def write_targetset(viewset: Path, name: str, whole: bool = True, **identity: Any) -> Path:
    """A target set as far as a chooser looks: a folder and, where it is `whole`, a manifest."""
    folder = viewset / "targets" / name
    folder.mkdir(parents=True)
    teacher, target, codec, _ = name.split("-")
    fields: dict[str, Any] = {"kind": "targetset", "format": 1, "teacher": teacher, "target": target, "codec": codec}
    named = {"teacher": {"architecture": teacher}, "target": target, "codec": {"name": codec}, "precision": "float32"}
    fields |= {"identity": {"viewset": ""} | named | identity, "codec_error": {}}
    fields |= {"row_shape": [3], "arrays": {"values": ["float32", [3]]}, "files": {}}
    if whole:
        write_sealed(folder / TARGETSET_MANIFEST, fields | {"num_samples": 1, "num_views": 1, "shard_size": 1})
    return folder


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Two sources: digits in two splits, with three target sets; photos in `Val`, half written, and `test`."""
    cache = tmp_path / "cache"
    for name in TARGETSETS:
        write_targetset(write_viewset(cache, "digits", "train"), name, whole="topk3" not in name)
    write_viewset(cache, "digits", "validation")
    write_viewset(cache, "photos", "Val", whole=False)
    write_viewset(cache, "photos", "test")
    (cache / "runs").mkdir()
    return cache


def digits(cache: Path) -> ListedViewSet:
    return choose_viewset(open_cache(cache), "train")


def test_a_path_to_each_level_is_known(several: Path) -> None:
    cache = open_cache(several, "--shards")
    assert (cache.name, cache.place, cache.root) == (f"--shards {several}", several, several)
    assert [f"{each.source} {each.split}" for each in cache.viewsets] == [
        "digits train",
        "digits validation",
        "photos Val",
        "photos test",
    ]
    folder = cache.viewsets[0].folder
    of_viewset = open_cache(folder)
    assert (of_viewset.place, of_viewset.root, of_viewset.viewsets) == (folder, several, [ListedViewSet(folder)])
    assert [str(targetset) for targetset in of_viewset.viewsets[0].targetsets] == list(TARGETSETS)
    place = folder / "targets" / TARGETSETS[2]
    of_targetset = open_cache(place)
    assert (of_targetset.place, of_targetset.root) == (place, several)
    (viewset,) = of_targetset.viewsets
    assert viewset.folder == folder and viewset.targetsets == [ListedTargetSet(place)]


@pytest.mark.parametrize("levels", range(3))
def test_a_path_from_within_means_the_same(several: Path, monkeypatch: pytest.MonkeyPatch, levels: int) -> None:
    """`.`, `..` and a name alone have no words for the folders around them, where the cache's other view sets lie."""
    targetset = several / digits(several).folder / "targets" / TARGETSETS[0]
    places = (targetset, targetset.parent.parent, several)
    for here in (places[levels], targetset.parent, several.parent):
        monkeypatch.chdir(here)
        cache = open_cache(os.path.relpath(places[levels]))
        assert cache.root.resolve() == several.resolve()
        assert cache.viewsets[0].targetsets[0].folder.resolve() == targetset.resolve()


def test_a_relative_path_stays_relative(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's summary has it, and goes on fitting where runs and cache move together."""
    viewset = digits(several).folder
    monkeypatch.chdir(several.parent)
    assert open_cache("cache").root == Path("cache")
    assert open_cache(f"cache/{viewset.name}").root == Path("cache")
    assert open_cache(f"cache/{viewset.name}/targets/{TARGETSETS[0]}").root == Path("cache")


def test_paths_to_nothing(several: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        says = f"--shards {tmp_path / name}: no such folder; python -m extract --teacher NAME --out {tmp_path / name} "
        with pytest.raises(BadInput, match=re.escape(says)):
            open_cache(tmp_path / name, "--shards")
    with pytest.raises(BadInput, match=r"^/.*runs: holds no view set; python -m extract --teacher NAME --out /.*runs "):
        open_cache(several / "runs")
    targets = digits(several).folder / "targets"
    with pytest.raises(BadInput, match=rf"no such target set; .*digits-train-.* holds {', '.join(TARGETSETS)}"):
        open_cache(targets / "c-logits")
    (targets / TARGETSETS[0]).rename(tmp_path / "stray")
    with pytest.raises(BadInput, match="is a target set without its view set; give CACHE/VIEWSET/targets/TARGETSET"):
        open_cache(tmp_path / "stray")
    assert list_viewsets(tmp_path / "nowhere") == []


def test_links_are_left_out_or_refused(several: Path, tmp_path: Path) -> None:
    viewset = digits(several)
    (several / "link").symlink_to(viewset.folder)
    assert len(open_cache(several).viewsets) == 4
    (viewset.folder / "targets").rename(tmp_path / "elsewhere")
    (viewset.folder / "targets").symlink_to(tmp_path / "elsewhere")
    moved = open_cache(viewset.folder / "targets" / TARGETSETS[0]).viewsets[0]
    for listed in (open_cache(viewset.folder).viewsets[0], moved):
        with pytest.raises(Damaged, match="is a link"):
            print(listed.targetsets)
    assert open_cache(viewset.folder).viewsets[0].listed_folders == []  # verify finds the link itself
    assert moved.listed_folders == [viewset.folder / "targets" / TARGETSETS[0]]


def test_half_written_and_damaged_ones_are_listed(several: Path) -> None:
    cache = open_cache(several)
    assert [viewset.whole for viewset in cache.viewsets] == [True, True, False, True]
    assert cache.viewsets[2].split == "Val"  # of the plan, which is written first
    targetsets = cache.viewsets[0].targetsets
    assert [targetset.whole for targetset in targetsets] == [True, False, True]
    assert targetsets[2].identity["target"] == "pooled"
    with pytest.raises(Incomplete, match=f"{TARGETSETS[1]}: half written .*the same extract command"):
        print(targetsets[1].identity)
    (cache.viewsets[0].folder / PLAN).unlink()
    lost = open_cache(several).viewsets[0]
    assert lost.whole and not lost.planned
    with pytest.raises(Damaged, match=r"plan.json: missing; run the extract command again"):
        print(lost.split)


def test_a_view_set_is_chosen_by_split_source_and_modality(several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*wanted: str | None) -> str:
        return choose_viewset(open_cache(several, "--shards"), *wanted).folder.name.rpartition("-")[0]  # type: ignore[arg-type]

    assert chosen("Training") == "digits-train"
    assert chosen("validation", "digits") == chosen("VAL", "digits") == "digits-validation"
    assert chosen("validation", "photos") == "photos-Val"
    assert chosen("train", "elsewhere") == "digits-train"  # a source that is not here decides nothing
    with pytest.raises(BadInput, match=r"--shards .*: no split 'train', only Val, test: give .* --split train --out"):
        chosen("train", "photos")
    write_viewset(several, "photos", "test", seed=1)
    with pytest.raises(
        BadInput, match=r"--shards .*: several view sets fit; name one: .*photos-test-.*, .*photos-test-"
    ):
        chosen("test")
    monkeypatch.setitem(views.REGISTRY, "text", views.REGISTRY["image"])
    other = write_viewset(several, "digits", "train", modality="text")
    assert choose_viewset(open_cache(several), "train", "digits", "text").folder == other
    assert choose_viewset(open_cache(several), "train", "digits", "image").folder != other
    with pytest.raises(BadInput, match="several view sets fit"):
        chosen("train", "digits")


def test_a_split_is_added_to_the_cache_and_not_to_a_view_set(several: Path) -> None:
    with pytest.raises(BadInput, match=rf"or python -m extract with --split test --out {several} to add it"):
        choose_viewset(open_cache(digits(several).folder, "--shards"), "test")


@pytest.mark.parametrize(
    ("wanted", "fitting"),
    [
        (None, TARGETSETS),
        ("logits", TARGETSETS[:2]),
        (TARGETSETS[1], TARGETSETS[1:2]),
        ("topk3", TARGETSETS[1:2]),
        ("pool", TARGETSETS[2:]),
        ("b", TARGETSETS[2:]),
    ],
)
def test_target_sets_that_a_part_of_a_name_means(several: Path, wanted: str | None, fitting: tuple[str, ...]) -> None:
    targetsets = fitting_targetsets("--targets", digits(several), wanted)
    assert [str(targetset) for targetset in targetsets] == list(fitting)


def test_target_sets_that_do_not_fit(several: Path) -> None:
    viewset = digits(several)
    for wanted in ("resnet", ""):
        with pytest.raises(
            BadInput, match=rf"^--targets {wanted}: no target set fits; /.* holds {', '.join(TARGETSETS)}$"
        ):
            fitting_targetsets("--targets", viewset, wanted)
    named = open_cache(viewset.folder / "targets" / TARGETSETS[0]).viewsets[0]
    assert str(only("--targets", "target sets", fitting_targetsets("--targets", named, "logits"))) == TARGETSETS[0]
    with pytest.raises(
        BadInput, match=rf"--targets topk3: the path names another target set, /.*{TARGETSETS[0]}; give"
    ):
        fitting_targetsets("--targets", named, "topk3")
    without = choose_viewset(open_cache(several), "validation", "digits")
    with pytest.raises(BadInput, match=rf"holds no target set; python -m extract --teacher NAME --out {several} adds"):
        fitting_targetsets("--targets", without, None)


def test_several_are_listed_and_a_preference_never_leaves_nothing() -> None:
    assert only("--flag", "things", ["a"]) == "a"
    with pytest.raises(BadInput, match=r"^--flag: several things fit; give a part of one: a, b$"):
        only("--flag", "things", ["a", "b"], "give a part of one")
    assert prefer(["a", "b"], lambda choice: choice == "b") == ["b"]
    assert prefer(["a", "b"], lambda choice: choice == "c") == ["a", "b"]
    assert names([]) == "none"


def test_identities_are_compared_without_some_fields() -> None:
    identity = {"viewset": "1", "codec": {"name": "int8"}, "target": "logits"}
    assert same_but_for(identity, identity | {"viewset": "2"}, "viewset")
    assert not same_but_for(identity, identity | {"viewset": "2", "codec": None}, "viewset")
    assert not same_but_for(identity, {name: identity[name] for name in ("viewset", "codec")}, "viewset")
    assert not same_but_for({}, {"target": None})


def test_many_plans_are_parsed_once(tmp_path: Path) -> None:
    """Every step that chooses a view set reads the plans of all."""
    for number in range(7):
        os.utime(write_viewset(tmp_path, "digits", f"part{number}") / PLAN, (1, 1))
    folders = [viewset.folder for viewset in list_viewsets(tmp_path)]
    first = [Plan.read(folder) for folder in folders]
    assert all(Plan.read(folder) is plan for folder, plan in zip(folders, first, strict=True))
