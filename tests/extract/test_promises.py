"""What an extraction promises to the training beside it: manifests that come true, or nothing."""

from pathlib import Path

import caches
import pytest

from extract.calibrate import calibrated
from extract.config import ALIASES, DESCRIPTION, ExtractConfig
from extract.finishing import finish
from extract.phases import begin, planned
from extract.promises import promise
from shards.command.arguments import parse
from shards.layout import CALIBRATION
from shards.promised import FOLDER, READY, read_promises
from shards.reader import TargetSet, ViewSet


def test_nothing_is_promised_before_a_codec_has_its_statistics(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with --launch ray, where the first task finds them: what the manifest lists would not be what comes."""
    folder, flags = tmp_path / "promised", ("--target", "pooled", "--codec", "int8", "--out", str(tmp_path / "cache"))
    arguments = ["--teacher", f"run:{teacher}", *caches.SMALL, *flags]
    work = planned(parse(ExtractConfig, "extract", arguments, DESCRIPTION, aliases=ALIASES))
    begin(work.plan, False)
    monkeypatch.setenv(FOLDER, str(folder))
    promise(work.plan, work.extraction)
    assert not folder.exists()

    extraction = calibrated(work.extraction)
    monkeypatch.setenv(FOLDER, str(folder))
    promise(work.plan, extraction)
    assert (folder / READY).exists()
    promised = read_promises(folder)
    ((name, targets),), ((_, views),) = promised.targetsets.items(), promised.viewsets.items()
    assert CALIBRATION in targets.files and not [each for each in targets.files if each.startswith("commits/")]
    extraction.run()
    finish(work)
    made = TargetSet(caches.targetset_of(tmp_path / "cache", name)), ViewSet(caches.viewset_of(tmp_path / "cache"))
    for whole, before in zip(made, (targets, views), strict=True):
        assert before.files.items() <= whole.manifest.files.items()
        assert before.identity == whole.manifest.identity and before.num_views == whole.manifest.num_views
