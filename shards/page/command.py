"""Command: `python -m shards page` and `python -m shards ledger`."""

import time
from pathlib import Path

from shards.command import flags
from shards.command.progress import human_bytes
from shards.errors import BadInput, printable


def page_command(config: flags.PageConfig) -> None:
    """Show a cache and the runs from it on one HTML page: sets, a sheet of views, curves, what looks wrong, savings."""
    from shards.cache import viewsets_at
    from shards.commit import write_atomically
    from shards.page.build import Options, page

    start = time.monotonic()
    if Path(config.output).suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"--output {config.output}: expected a file ending in .html")
    runs = Path(config.runs) if config.runs else None
    options = Options(runs, config.num, config.dollars_per_hour, config.teacher_rate)
    content = page(" ".join(config.paths), viewsets_at(config.paths), options).encode()
    write_atomically(Path(config.output), content)
    print(f"shards page: {human_bytes(len(content))} in {time.monotonic() - start:,.1f} s: {config.output}")


def ledger_command(config: flags.LedgerConfig) -> None:
    """Print what each run saved against the teacher in the loop, what may be deleted, and how much that frees."""
    from shards.cache import viewsets_at
    from shards.command.tables import print_table
    from shards.page.ledger import HEADINGS, ledger_of
    from shards.page.sets import cards_of
    from shards.page.trained import runs_in

    cards, runs = [cards_of(viewset) for viewset in viewsets_at(config.paths)], runs_in(Path(config.runs))
    ledger = ledger_of(cards, runs, config.dollars_per_hour, config.teacher_rate)
    print_table(HEADINGS, [entry.row() for entry in ledger.entries], right=HEADINGS[1:5])
    for thing in ledger.removable:
        print(printable(thing.line()))
    for card in ledger.partial:
        print(printable(f"{card.tone}: {card.name}: {card.state}"))
    if ledger.are_unsure:
        do = "does" if ledger.num_unknown == 1 else "do"
        print(
            f"shards ledger: {ledger.num_unknown} of these runs {do} not say all that they read, and may have read them"
        )
    if config.teacher_rate is None and any(entry.hours for entry in ledger.entries):
        told = "hours are estimates by the times of the cache's commits, on the machine that extracted it"
        print(f"shards ledger: {told}; python -m shards ledger --teacher_rate says better")
    print(f"shards ledger: {ledger.summary()}")
