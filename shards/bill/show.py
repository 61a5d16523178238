"""Show: a bill as lines and tables, and as JSON."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.bill.arithmetic import Bill, human_seconds
from shards.bill.disk import DiskRates
from shards.bill.options import PlanOptions
from shards.bill.trial import nearest
from shards.command.devices import total_memory
from shards.command.progress import human_bytes
from shards.command.tables import print_table
from shards.commit import write_atomically
from shards.errors import BadInput

if TYPE_CHECKING:
    import torch


def print_stages(bill: Bill, units: Mapping[str, int | float]) -> None:
    """A line a stage: `units` of work by its name (samples, bytes), their rate, and how long all of them take."""
    columns = ("stage", "on", "how much", "a second", "takes")
    rows = [("the start", "", "", "", human_seconds(bill.once))] if bill.once else []
    for stage in bill.stages:
        amount, rate = units[stage.name], units[stage.name] / max(stage.seconds, 1e-9)
        shown = human_bytes if stage.lane in ("disk", "bucket") else lambda number: f"{number:,.0f}"
        rows.append((stage.name, stage.lane, shown(amount), shown(rate), human_seconds(stage.seconds)))
    print_table(columns, rows, columns[2:])


def said_bill(bill: Bill, options: PlanOptions) -> str:
    """Bytes, files, hours, dollars, and what holds the run."""
    cost = f"${bill.hours * options.dollars_per_hour:,.4g} at ${options.dollars_per_hour:g} an hour"
    size = f"{human_bytes(bill.num_bytes)} in {bill.num_files:,.0f} files, "
    return f"{size if bill.num_files else ''}{bill.hours:,.4g} hours, {cost}; held by {bill.bottleneck}"


def said_memory(peak_bytes: float, options: PlanOptions, device: "torch.device", cap: int | None = None) -> str:
    """The peak, and whether it fits the card, the GPU that is here, or this machine; and the `cap` of --max_memory."""
    if options.card is not None:
        room, whose = options.card.memory_bytes, f"the {options.card.name} has"
    else:
        room, whose = float(total_memory(device)), "this GPU has" if device.type == "cuda" else "this machine has"
    most = 0.95 * room
    if cap is not None and cap < most:
        room, most, whose = cap, cap, "--max_memory gives"
    verdict = "fits" if peak_bytes <= most else "does not fit"
    return f"{human_bytes(peak_bytes)} of device memory at most; {verdict}: {whose} {human_bytes(room)}"


def said_disk(rates: DiskRates, what: str = "disk") -> str:
    """What the disk, or the bucket, does."""
    free = f", has {human_bytes(rates.free)} free" if math.isfinite(rates.free) else ""
    files = f"{1000 * rates.seconds_a_file:,.2g} ms a small file{free}"
    return f"the {what} writes {human_bytes(rates.write)}/s, reads {human_bytes(rates.read)}/s, takes {files}"


def save_plan(options: PlanOptions, bill: Bill, peak_bytes: float, beside: Mapping[str, Any]) -> None:
    """The plan as JSON where --plan save= says; nothing without. BadInput where it cannot be written."""
    if options.save is None:
        return
    stages = [{"name": stage.name, "on": stage.lane, "seconds": stage.seconds} for stage in bill.stages]
    plan: dict[str, Any] = {"bytes": round(bill.num_bytes), "files": round(bill.num_files), "seconds": bill.seconds}
    plan |= {"dollars": bill.hours * options.dollars_per_hour, "dollars_per_hour": options.dollars_per_hour}
    plan |= {"bottleneck": bill.bottleneck, "once": bill.once, "stages": stages, "peak_device_bytes": peak_bytes}
    plan |= {"device_profile": options.card.name if options.card else None, **beside}
    write_atomically(options.save, (json.dumps(plan, indent=1) + "\n").encode())


def check_save(path: Path | None, *folders: Path) -> None:
    """BadInput where no file can be saved, or in a cache's or a run's folder, into which --plan writes nothing."""
    for folder in folders:
        if path is not None and path.absolute().is_relative_to(folder.absolute()):
            raise BadInput(f"--plan save={path}: lies in {folder}, in which a plan writes nothing; give another place")
    if path is not None and not _takes_files(path):
        raise BadInput(f"--plan save={path}: no file can be written there; give one in a folder that you may write to")


def _takes_files(path: Path) -> bool:
    """Whether a file of that name can be written; what is made for the trial is gone again.

    The mode of a folder does not tell: /proc and a disk that is mounted to be read have modes as any other.
    """
    there = nearest(path.absolute().parent)
    if path.is_dir() or not there.is_dir():
        return False
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def views_to_show(asked: int) -> Sequence[int]:
    """Numbers of views that a table offers beside the asked one."""
    return [number for number in (1, 2, 4, 10) if number != asked]
