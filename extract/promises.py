"""Promises: to the command that started this one, what the sets will be, so that it reads them while they are made."""

import os
from pathlib import Path

from extract.manifests import targets_manifest, views_manifest
from extract.pipeline import Extraction
from extract.plan import ExtractionPlan
from shards.commit import write_atomically, write_sealed
from shards.layout import CALIBRATION, TARGETSET_MANIFEST, VIEWSET_MANIFEST
from shards.promised import FOLDER, READY


def promise(plan: ExtractionPlan, extraction: Extraction) -> None:
    """The manifests that the sets of `plan` will have lie in the folder FOLDER, if another command asks for them.

    Each lists the files of the shards that are committed already, and of the others none. Nothing is promised where
    nothing is missing, and where samples may still be skipped: then only the end tells which samples there are.
    """
    folder = os.environ.pop(FOLDER, None)
    work, views = extraction.work() if folder else [], plan.views
    if not folder or not work or (extraction.skip_errors and any(views.lacks(*place) for place, _ in work)):
        return
    if any(job.codec.has_statistics and not (job.folder / CALIBRATION).exists() for job in plan.targets):
        return  # another machine finds them (--launch ray): only the end tells which
    place = Path(folder, views.folder.name)
    committed = [each for each in views.places() if not views.lacks(*each)]
    write_sealed(place / VIEWSET_MANIFEST, views_manifest(views, committed).document())
    for part in plan.parts:
        for job in part.targets:
            assert part.teacher is not None
            done = [each for each in views.places(job.num_views) if not job.lacks(*each)]
            teacher = part.teacher
            manifest = targets_manifest(job, views, done, teacher.name, teacher.settings, teacher.class_names)
            write_sealed(place / "targets" / job.folder.name / TARGETSET_MANIFEST, manifest.document())
    write_atomically(Path(folder, READY), b"")
