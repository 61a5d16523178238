"""`python -m evaluate`: measure a distilled student, print one table over several, or search images by a text."""

import sys
from dataclasses import replace

from shards.command.clash import evaluate_clash
from shards.command.run import run_command
from shards.errors import BadInput


def main(arguments: list[str] | None = None) -> None:
    """Evaluate as the command line says; see `python -m evaluate --help`."""
    if clash := evaluate_clash():
        raise BadInput(clash)
    # after the check: where the two packages are mixed, evaluate/config.py is the other's
    from evaluate.config import ALIASES, DESCRIPTION, EvaluateConfig, check_config
    from shards.command.arguments import parse

    config = parse(EvaluateConfig, "evaluate", arguments, DESCRIPTION, aliases=ALIASES)
    check_config(config)
    if config.runs is not None and config.ledger:
        from evaluate.ledger import print_ledger

        print_ledger(config.runs, config.shards)
        return
    if config.runs is not None:
        from pathlib import Path

        from evaluate.report import print_runs

        print_runs(Path(config.runs))
        return
    from shards.command.devices import device_memory

    with device_memory("give a smaller --batch_size; what was measured is kept"):
        if config.query is not None:
            from evaluate.query import show_nearest

            return show_nearest(config)
        from evaluate.measure import measure_run

        measure_run(replace(config, task=config.task or "accuracy"))


if __name__ == "__main__":
    run_command(main, "evaluate", sys.argv[1:])
