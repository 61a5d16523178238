"""Of caches: small valid caches and runs, and what reads them whole, as the commands do."""

import contextlib
import io
from pathlib import Path

from caches import command, extract, reseal, reseal_records, targetset_of, viewset_of, write_teacher
from texts import write_encoder

from shards.errors import TeacherShardsError


def write_cache(folder: Path) -> None:
    """Four digits, two shards, one view; logits in float32 and top 3."""
    teacher = write_teacher(folder.parent / "a-teacher")
    size = ("--data", "digits", "--limit", "4", "--shard_size", "2", "--image_size", "16", "--devices", "cpu")
    extract("--teacher", f"run:{teacher}", "--out", folder, *size, "--codec", "topk:3")
    (folder / ".lock").unlink(missing_ok=True)


def write_unchecked_cache(folder: Path) -> None:
    """The same as an earlier version wrote it, without rows' checksums: what is spoilt comes as far as the decoders."""
    write_cache(folder)
    for record in sorted(folder.rglob("commits/*.json")):
        reseal(record, lambda document: document.pop("checksums"))
        of_set = record.parents[1]
        manifest = next(of_set.glob("*set.json")).name
        reseal_records(of_set, manifest, record.relative_to(of_set).as_posix())


def read_cache(folder: Path) -> None:
    """What distill reads of it, and what `shards list`, `info` and `verify` do."""
    from shards.cache import viewsets_at
    from shards.decode import codec_of, read_decoded
    from shards.listing import describe, list_rows, targetset_facts, viewset_facts
    from shards.reader import TargetSet, ViewSet, check_pair
    from shards.verify import verify

    def look() -> None:
        for listed in viewsets_at([str(folder)]):
            viewset = describe(listed.folder)
            list(viewset_facts(viewset))
            for each in listed.listed_folders:
                list(targetset_facts(describe(each, viewset)))
        list(list_rows(viewsets_at([str(folder)])))

    def train() -> None:
        views, targets = ViewSet(viewset_of(folder)), TargetSet(targetset_of(folder))
        check_pair(views, targets)
        for view in range(min(views.num_views, targets.num_views)):
            for sample in views.usable.tolist():
                views.row(view, sample)
                views.storage.facts(view, sample)
                if views.labelled:
                    views.labels(view, [sample])
            read_decoded(targets, codec_of(targets), view, views.usable)

    for part in (look, train, lambda: verify(viewsets_at([str(folder)]), 1)):
        with contextlib.suppress(TeacherShardsError, OSError):
            part()


def write_text_cache(folder: Path) -> None:
    encoder = write_encoder(folder.parent / "an-encoder")
    (folder.parent / "corpus").mkdir()
    (folder.parent / "corpus/train.txt").write_text("the cat sat on a mat\nthe dog ran\nbright moon\n" * 3)
    flags = ("--view", "blocks:size=8", "--shard_size", "4", "--devices", "cpu", "--batch_size", "4")
    data = ("--data", f"text:{folder.parent}/corpus/train.txt")
    extract("--teacher", f"hf:{encoder}", "--out", folder, *data, *flags, "--codec", "int8")
    (folder / ".lock").unlink(missing_ok=True)


def read_text_cache(folder: Path) -> None:
    from shards.contact_sheet import caption_of
    from shards.reader import ViewSet

    with contextlib.suppress(TeacherShardsError, OSError):
        viewset = ViewSet(viewset_of(folder))
        for sample in viewset.usable[:2].tolist():
            caption_of(viewset, 0, sample)
    read_cache(folder)


def write_run(folder: Path) -> None:
    """A cache, and a run of it."""
    write_cache(folder / "cache")
    flags = ("--student", "convnet:width=4,depth=1", "--batch_size", "2", "--max_steps", "2", "--devices", "cpu")
    command("distill", "--shards", folder / "cache", "--run_dir", folder / "run", *flags).succeeds()
    command("evaluate", "--run", folder / "run", "--task", "fidelity", "--split", "train").succeeds()


def read_run(folder: Path) -> None:
    from evaluate.report import print_runs
    from extract.networks import load_exported
    from shards.page.trained import runs_in, totals

    with contextlib.suppress(TeacherShardsError, OSError):
        load_exported(folder / "run")
    with contextlib.suppress(TeacherShardsError, OSError), contextlib.redirect_stdout(io.StringIO()):
        print_runs(folder)
    totals(runs_in(folder))
