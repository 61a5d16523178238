"""Ledger: `--runs DIR --ledger`, which is `python -m shards ledger` of the caches that the runs read."""

from collections.abc import Iterator
from pathlib import Path

from shards.cache import list_viewsets
from shards.command.flags import LedgerConfig
from shards.errors import BadInput, TeacherShardsError
from shards.page.command import ledger_command
from shards.runs import find_runs, read_summary


def print_ledger(runs: str, shards: str | None) -> None:
    """Print the ledger of `runs` over the cache `shards`, or over those that their summaries name and that are here.

    BadInput where there is none of these.
    """
    caches = [shards] if shards is not None else sorted(set(_caches(Path(runs))))
    if not caches:
        raise BadInput(f"--ledger: no run in {runs} names a cache that is here; give --shards CACHE")
    ledger_command(LedgerConfig(tuple(caches), runs))


def _caches(runs: Path) -> Iterator[str]:
    """The caches that summaries name; a run without a summary that can be read names none."""
    for run in find_runs(runs):
        try:
            named = read_summary(run).get("cache")
        except (TeacherShardsError, OSError):
            continue  # the ledger says of each run what is not known of it
        for cache in named if isinstance(named, list) else [named]:
            if isinstance(cache, str) and list_viewsets(Path(cache)):
                yield str(Path(cache).resolve())
