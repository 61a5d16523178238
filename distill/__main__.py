"""`python -m distill`: train a student from a cache."""

import sys
from typing import TYPE_CHECKING

from distill.config import ALIASES, DESCRIPTION, HIDDEN, DistillConfig, unfolded
from distill.loggers import logger_names
from distill.ranks import num_ranks, reporting, run_ranks
from shards.command.arguments import parse
from shards.command.run import run_command
from shards.command.sizes import parse_bytes

if TYPE_CHECKING:
    from distill.missing import Extraction


def main(arguments: list[str] | None = None) -> None:
    """Parse, and train, while what the cache lacks is extracted."""
    with reporting():
        config = unfolded(parse(DistillConfig, "distill", arguments, DESCRIPTION, aliases=ALIASES, hidden=HIDDEN))
        _run(config, sys.argv[1:] if arguments is None else arguments)


def _run(config: DistillConfig, arguments: list[str]) -> None:
    """Train here, or in a process for each of --devices."""
    logger_names(config.logger)  # both refuse before anything is read or extracted
    if config.max_memory is not None:
        parse_bytes(f"--max_memory {config.max_memory}", config.max_memory, "--max_memory 24GB")

    if config.plan is None and (count := num_ranks(config.devices)) > 1:
        return run_ranks(arguments, count)

    from distill.missing import extracting

    with extracting(None if config.plan else config.on_missing, config.shards) as extraction:
        _distill(config, extraction)


def _distill(config: DistillConfig, extraction: "Extraction") -> None:
    """Find the target sets and the recipe that fits them, train, export, and say where."""
    from distill.arrivals import Finish, take_arrivals
    from distill.bill.happened import tell_planned, work_of
    from distill.data import CacheData
    from distill.fitting import check_modality, pick_recipe
    from distill.folder import as_begun, run_folder
    from distill.holding import open_training
    from distill.memory import what_to_lower
    from distill.recipe import load_recipe, resolve
    from distill.run import train
    from distill.students import check_captions
    from distill.trainer import choose_devices, is_first_process, rank
    from shards.bill.options import parse_plan
    from shards.command.devices import device_memory
    from shards.command.progress import human_bytes
    from shards.read_flag import apply_read, parse_read

    reading = parse_read(config.read)
    if config.plan is not None:
        parse_plan(config.plan)  # refuses what is no option before anything is opened
    recipe = load_recipe(config.recipe) if config.recipe else None
    labels_only = config.objective == "supervised" or (
        config.objective is None and recipe is not None and not recipe.learns_targets
    )
    holding = open_training(config.shards, config.targets, labels_only, recipe, extraction.promises)
    if recipe is not None:
        check_captions(recipe.name, config.student or recipe.student, holding.viewset)
    if recipe is not None and config.student is None:
        check_modality(recipe, holding.viewset.codec.modality, holding.viewset.folder.name)
    recipe = resolve(recipe or pick_recipe(holding.facts()), config)
    run_dir = run_folder(config, recipe)
    recipe = as_begun(run_dir, recipe)
    devices = choose_devices(config.devices, recipe.precision)
    num_devices = len(devices.indices)
    data = CacheData(holding.limited(recipe.views), recipe, num_devices=num_devices)
    components = (*holding.components, *data.validation.components)
    files = [each.checked for component in components for each in (component.viewset, *component.targetsets)]
    apply_read(reading, files, config.shards, rank(), num_devices)
    recipe = data.recipe  # with as many epochs as the cache asks for
    if config.plan is not None:
        from distill.bill.command import print_plan

        with device_memory(what_to_lower(config, recipe)):
            return print_plan(config, recipe, data, run_dir)
    take_arrivals(data, extraction, run_dir, num_devices)
    with device_memory(what_to_lower(config, recipe)):
        summary = train(config, recipe, data, run_dir, callbacks=[Finish(extraction)])
    if not is_first_process():
        return
    if summary.pop("already_finished", False):
        print(f"distill: finished before: {run_dir}; give another --run_dir to train again")
        return
    loss = "" if summary["best_val_loss"] is None else f", best validation loss {summary['best_val_loss']:.4f}"
    rate = summary["steps"] * recipe.batch_size / max(summary["seconds"], 1e-9)
    print(
        f"distill: done: {summary['steps']:,} steps, {rate:,.0f} samples/s over {summary['seconds']:,.1f} s{loss}, "
        f"{summary['teacher_forwards']} teacher forwards, {human_bytes(summary['bytes_a_step'])} to the device a step, "
        f"{human_bytes(summary['cache_bytes'])} of cache: {run_dir}"
    )
    tell_planned(run_dir, work_of(run_dir, recipe, data), summary, devices.of(0))


if __name__ == "__main__":
    run_command(main, "distill")
