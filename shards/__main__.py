"""`python -m shards`: list, describe, verify, view, show, count, export, remove, push and pull what a cache holds."""

import inspect
import io
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.command import flags
from shards.command.arguments import parse
from shards.command.devices import share_of_cores
from shards.command.progress import counted, human_bytes
from shards.command.run import run_command
from shards.errors import BadInput, Damaged, Incomplete, NewerVersion, UnknownName, printable
from shards.page.command import ledger_command, page_command

if TYPE_CHECKING:
    from shards.cache import ListedViewSet
    from shards.transfer import Moved


def list_command(config: flags.PathsConfig) -> None:
    """Print one line for each view set and target set: samples, views, size, and whether it is whole."""
    from shards.cache import viewsets_at
    from shards.command.tables import print_table
    from shards.listing import COLUMNS, list_rows

    print_table(COLUMNS, list_rows(viewsets_at(config.paths)), right=COLUMNS[1:4])


def info_command(config: flags.PathsConfig) -> None:
    """Print all that is known of view sets and target sets: identity, counts, codec and its error, what reads them."""
    from shards.cache import viewsets_at
    from shards.command.tables import print_table
    from shards.listing import describe, targetset_facts, viewset_facts

    for listed in viewsets_at(config.paths):
        viewset = describe(listed.folder)
        if listed.named is None:
            print_table(("", ""), viewset_facts(viewset))
        for folder in listed.listed_folders:
            print()
            print_table(("", ""), targetset_facts(describe(folder, viewset)))


def verify_command(config: flags.VerifyConfig) -> None:
    """Read every file and compare it with the manifests; list all damage, and exit with status 2 when there is any."""
    if (config.teacher or config.weights) and not config.recompute:
        raise BadInput("--teacher and --weights say where the teacher is for --recompute N; give that too")
    from shards.verify.rendering import name_originals, render

    name_originals(config)
    if urls := [path for path in config.paths if "://" in path]:
        for url in urls:
            _verify_there(url, config)
        config = replace(config, paths=tuple(path for path in config.paths if path not in urls))
        if not config.paths:
            return

    from shards.cache import viewsets_at
    from shards.verify import verify

    start = time.monotonic()
    viewsets = viewsets_at(config.paths)
    findings = verify(viewsets, config.num_workers or share_of_cores())
    for note in findings.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    for line in (*findings.damage.values(), *findings.newer, *findings.unfinished):
        print(printable(line), file=sys.stderr)
    seconds = time.monotonic() - start
    counts = f"{counted(findings.num_files, 'file')} of {counted(findings.num_sets, 'set')}"
    rate = f"{human_bytes(findings.num_bytes / seconds)}/s over {seconds:,.1f} s"
    read = f"{counts}, {human_bytes(findings.num_bytes)}, {rate}: {' '.join(config.paths)}"
    if findings.damage:
        raise Damaged(f"damaged: {len(findings.damage)} found, listed above; read {read}")
    rendered = render(viewsets, config.render, config.num_workers or share_of_cores())
    read += str(rendered)
    for line in rendered.wrong:
        print(printable(line), file=sys.stderr)
    if rendered.wrong:
        wrong = f"{counted(len(rendered.wrong), 'view')} rendered to other pixels, listed above"
        raise Damaged(f"damaged: {wrong}; the files are whole: {read}")
    if findings.newer:
        raise NewerVersion(f"written by a newer version (listed above); the rest is whole: {read}")
    if findings.unfinished:
        raise Incomplete(f"half written (listed above); what is committed is whole: {read}")
    if config.recompute:
        _recompute(config, [(viewset.folder, each.folder) for viewset in viewsets for each in viewset.targetsets])
    print(f"shards verify: whole: {read}")


def _verify_there(url: str, config: flags.VerifyConfig) -> None:
    from shards.verify.there import verify_there

    if config.recompute or config.render:
        flag = "--recompute" if config.recompute else "--render"
        raise BadInput(f"{flag}: needs a folder; python -m shards pull {url} CACHE, then verify CACHE")
    start = time.monotonic()
    found = verify_there(url, config.num_workers or share_of_cores())
    for line in [*found.damage, *found.unfinished]:
        print(printable(line), file=sys.stderr)
    rate = f"{human_bytes(found.num_bytes / (time.monotonic() - start))}/s"
    counts = f"{counted(found.num_files, 'file')} of {counted(found.num_sets, 'set')}"
    read = f"{counts}, {human_bytes(found.num_bytes)}, {rate}: {url}{found.rendered}"
    if found.damage:
        raise Damaged(f"damaged: {len(found.damage)} found, listed above; read {read}")
    if found.unfinished:
        raise Incomplete(f"half written (listed above); what has a manifest is whole: {read}")
    print(f"shards verify: whole: {read}")


def _recompute(config: flags.VerifyConfig, pairs: list[tuple[Path, Path]]) -> None:
    import importlib

    if not pairs:
        raise BadInput(f"--recompute: {' '.join(config.paths)} holds no target set to compare with a teacher")
    # shards imports no other package of this project; this one check needs what only extract knows, the teachers
    recompute = importlib.import_module("extract.recompute").recompute
    wrong: list[str] = []
    for viewset, targetset in pairs:
        result = recompute(viewset, targetset, config.recompute, config.teacher, config.weights)
        measures = ", ".join(f"{name} {value:.6f}" for name, value in result.measures.items())
        print(f"shards verify: {targetset.name}: {counted(result.num_samples, 'view')} recomputed: {measures}")
        wrong += result.wrong
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise Damaged(f"{len(wrong)} stored rows are not what the teacher says (above): remove the set, extract again")


def view_command(config: flags.ViewConfig) -> None:
    """Draw a contact sheet of stored views, or print texts, with what is known of each and what the teacher says."""
    from shards.cache import names
    from shards.commit import write_atomically
    from shards.contact_sheet import captions_of, contact_sheet, image_form
    from shards.reader import TargetSet, ViewSet

    form, listed = image_form(config.output), _viewset(config.path)
    targetsets = [each.folder for each in listed.targetsets]
    viewset, targetset = ViewSet(listed.folder), TargetSet(targetsets[0]) if len(targetsets) == 1 else None
    captions = captions_of(viewset, targetset, config.num)
    sheet = contact_sheet(viewset, captions)
    if len(targetsets) > 1:
        print(f"shards view: views alone; to see what a teacher says name one of {names(targetsets)}")
    if sheet is None:
        print("\n\n".join("\n".join(map(printable, lines)) for lines in captions.values()))
        return
    if config.output is None or form is None:
        raise BadInput("--output is missing: where is the contact sheet to go? give a file that ends in .png or .jpg")
    buffer = io.BytesIO()
    sheet.save(buffer, form)
    write_atomically(Path(config.output), buffer.getvalue())
    print(f"shards view: {sheet.width} x {sheet.height} pixels: {config.output}")


def export_command(config: flags.ExportConfig) -> None:
    """Write views and decoded targets as WebDataset tars, or features as parquet, that need nothing of this project."""
    from shards.cache import only
    from shards.export import export
    from shards.reader import TargetSet, ViewSet

    if "://" in config.output:
        raise BadInput(
            f"--output {config.output}: expected a folder, or a .parquet file; copy it from there to a bucket"
        )
    start, output = time.monotonic(), Path(config.output)
    viewset = _viewset(config.path)
    targetsets = [each.folder for each in viewset.targetsets]
    targetset = TargetSet(only(config.path, "target sets", targetsets)) if targetsets else None
    if output.suffix.lower() == ".parquet":
        from shards.features_table import export_features, looking

        count, size = export_features(ViewSet(viewset.folder), targetset, output)
        print(f"shards export: to look at them: {looking(output)}")
    else:
        count, size = export(ViewSet(viewset.folder), targetset, output)
    seconds = time.monotonic() - start
    rate = f"{count / seconds:,.0f} samples/s over {seconds:,.1f} s"
    print(f"shards export: done: {counted(count, 'sample')}, {human_bytes(size)}, {rate}: {config.output}")


def remove_command(config: flags.RemoveConfig) -> None:
    """Remove view sets or target sets; asks first on a terminal."""
    from shards.remove import remove

    size = remove(config.paths, config.yes)
    freed = "nothing was removed" if size is None else f"removed, {human_bytes(size)} freed: {' '.join(config.paths)}"
    print(f"shards remove: {freed}")


def push_command(config: flags.TransferConfig) -> None:
    """Bring whole sets of a cache into a bucket or a Hugging Face dataset: push CACHE URL."""
    from shards.transfer import push

    _transfer("push", config, push)


def pull_command(config: flags.TransferConfig) -> None:
    """Bring whole sets from a bucket or a Hugging Face dataset into a cache: pull URL CACHE."""
    from shards.transfer import pull

    _transfer("pull", config, pull)


def _transfer(name: str, config: flags.TransferConfig, transfer: "Callable[[str, str], Moved]") -> None:
    if len(config.paths) != 2:
        raise BadInput(f"{name}: expected two places, found {len(config.paths)}; push CACHE URL, or pull URL CACHE")
    start = time.monotonic()
    moved = transfer(*config.paths)
    seconds = time.monotonic() - start
    sent = f"{counted(moved.num_files, 'file')}, {human_bytes(moved.num_bytes)}, {moved.num_present:,} there already"
    rate = f"{human_bytes(moved.num_bytes / seconds)}/s over {seconds:,.1f} s"
    print(f"shards {name}: done: {counted(len(moved.manifests), 'set')}, {sent}, {rate}: {config.paths[1]}")


def _viewset(path: str) -> "ListedViewSet":
    from shards.cache import only, viewsets_at

    return only(path, "view sets", viewsets_at((path,)))


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "list": (flags.PathsConfig, list_command),
    "info": (flags.PathsConfig, info_command),
    "verify": (flags.VerifyConfig, verify_command),
    "view": (flags.ViewConfig, view_command),
    "page": (flags.PageConfig, page_command),
    "ledger": (flags.LedgerConfig, ledger_command),
    "export": (flags.ExportConfig, export_command),
    "remove": (flags.RemoveConfig, remove_command),
    "push": (flags.TransferConfig, push_command),
    "pull": (flags.TransferConfig, pull_command),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the first argument names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m shards COMMAND PATH ...\n\n" + (__doc__ or "") + "\n\ncommands:")
        for name, (_, command) in COMMANDS.items():
            print(f"  {name:8}{command.__doc__}")
        print("\npython -m shards COMMAND --help lists a command's flags.")
        if not arguments:
            raise BadInput("no command given; the commands are above")
        return
    if arguments[0] not in COMMANDS:
        raise UnknownName("command", arguments[0], COMMANDS)
    kind, command = COMMANDS[arguments[0]]
    positional = next(iter(inspect.get_annotations(kind)))
    command(parse(kind, f"shards {arguments[0]}", arguments[1:], command.__doc__ or "", positional))


if __name__ == "__main__":
    run_command(main, "shards")
