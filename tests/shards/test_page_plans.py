"""Plans on the page: what was planned beside what happened, of finished runs and whole sets; damage costs no page."""

import json
from pathlib import Path
from typing import Any

import caches
import pytest
from trained_runs import Parsed, again, write_page

from shards.identity import identity_hash

PLAN = {"seconds": 7200.0, "opening": 0.0, "bytes": 4_000_000, "peak_device_bytes": 5e9}
NOTED = {"seconds": 9000.0, "num_bytes": 3_000_000, "peak_device_bytes": None}


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return caches.copied(trained, tmp_path / "runs")


def write_plan(run: Path, **values: Any) -> None:
    document = json.loads((run / "run.json").read_text())
    identity = identity_hash({"recipe": document["recipe"], "cache": document["cache"]})
    plan = {"command": "distill", "run": run.name, "identity": identity, **PLAN, "happened": NOTED, **values}
    run.with_name(f"{run.name}.plan.json").write_text(json.dumps(plan))


def plans_of(cache: Path, runs: Path) -> str:
    page = write_page(cache, "--runs", runs, "--num", "1")
    return " ".join(Parsed(page.partition('<section id="plans">')[2].partition("</section>")[0]).text.split())


def test_a_finished_run_beside_its_plan(full: Path, runs: Path) -> None:
    write_plan(runs / "first")
    told = plans_of(full, runs)
    assert told.endswith("firsttime2 h2.5 h1.25 bytes4.0 MB3.0 MB0.75 device memory5.0 GB--")
    write_plan(runs / "first", identity="another")
    assert plans_of(full, runs) == ""
    write_plan(runs / "first")
    (runs / "first/summary.json").unlink()  # it trains still
    assert plans_of(full, runs) == ""


@pytest.mark.parametrize(
    "spoilt",
    [
        {"seconds": "long"},
        {"bytes": 10**400},
        {"happened": {"seconds": 1}},
        {"opening": None},
        {"peak_device_bytes": -1},
    ],
)
def test_a_damaged_plan_says_so(full: Path, runs: Path, spoilt: dict[str, Any]) -> None:
    again(runs / "first", "fine")
    write_plan(runs / "fine")
    write_plan(runs / "first", **spoilt)
    told = plans_of(full, runs)
    assert "damaged" in told and "first.plan.json: " in told and "cannot be" in told and "1.25" in told


@pytest.mark.slow
def test_an_extraction_beside_its_plan(full: Path, runs: Path) -> None:
    """Only where all that was planned is whole; names that lead elsewhere are none of its sets."""
    viewset = caches.viewset_of(full)
    sets = [viewset.name, f"{viewset.name}/targets/{caches.targetset_of(full, 'topk').name}"]
    saved = full.with_name(f"{full.name}.plan.json")
    plan = {"command": "extract", "sets": sets, **PLAN, "happened": NOTED}
    saved.write_text(json.dumps(plan))
    assert f"{viewset.name}" in plans_of(full, runs) and "1.25" in plans_of(full, runs)
    for wrong in ([*sets, "../runs"], [*sets, f"{viewset.name}/targets/none"], "all", [3], []):
        saved.write_text(json.dumps(plan | {"sets": wrong}))
        assert plans_of(full, runs) == ""
