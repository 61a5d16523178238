"""Build: the page's parts put together, and rendered into one file without a reference to any other."""

import base64
import hashlib
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from shards.cache import ListedViewSet
from shards.contact_sheet import Cell
from shards.page.curves import HEIGHT, LEFT, MOST_CURVES, MOST_POINTS, WIDTH, charts_of
from shards.page.ledger import ledger_of
from shards.page.planned import plans
from shards.page.sets import cards_of, short
from shards.page.sets import totals as total_sets
from shards.page.sheet import MOST_BYTES, Sheet, sheet_of
from shards.page.trained import runs_in
from shards.page.trained import totals as total_runs
from shards.page.wrong import MOST_ROWS, NUM_SAMPLES, look_at

MOST_RUNS = 500
"""Runs in the table; of more the first by name, which the page says."""


@dataclass(frozen=True)
class Options:
    """What the page is to show beside the cache."""

    runs: Path | None = None
    num: int = 24
    """Views of each view set on its sheet."""
    dollars_per_hour: float = 0.75
    teacher_rate: float | None = None
    """Teacher forwards a second; None: as the times of commits tell it."""


def page(name: str, viewsets: list[ListedViewSet], options: Options) -> str:
    """The HTML of a page over `viewsets`, which is headed `name`, and over the runs of `options`."""
    cards = [cards_of(viewset) for viewset in viewsets]
    found = [] if options.runs is None else runs_in(options.runs)
    runs = found[:MOST_RUNS]
    looked = [look_at(viewset) for viewset in viewsets]
    sheets, not_shown = _sheets(viewsets, options.num, [each.surest for each in looked])
    charts = charts_of([run.curves for run in runs])
    ledger = ledger_of(cards, found, options.dollars_per_hour, options.teacher_rate)
    return render(
        title=name,
        made=time.strftime("%Y-%m-%d %H:%M"),
        cards=cards,
        set_totals=total_sets(cards),
        runs=runs,
        runs_folder=options.runs,
        run_totals=total_runs(found),
        num_left_out=len(found) - len(runs),
        metrics=list(dict.fromkeys(name for run in runs for name in run.results)),
        charts=charts,
        drawn=sorted({run for chart in charts for run, _ in chart.paths}),
        drawing={"width": WIDTH, "height": HEIGHT, "left": LEFT, "most": MOST_CURVES, "points": MOST_POINTS},
        sheets=sheets,
        not_shown=not_shown,
        findings=[finding for each in looked for finding in each.findings],
        looked={"views": NUM_SAMPLES, "rows": MOST_ROWS},
        plans=list(plans(cards, runs)),
        ledger=ledger,
        unknown=[entry for entry in ledger.entries[: len(runs)] if entry.unknown],
        dollars_per_hour=options.dollars_per_hour,
        teacher_rate=options.teacher_rate,
    )


def _sheets(viewsets: list[ListedViewSet], num: int, mistakes: list[list[Cell]]) -> tuple[list[Sheet], list[str]]:
    """The sheets of the view sets that are whole, and the names of those for which the page has no room."""
    sheets, not_shown = list[Sheet](), list[str]()
    for viewset, mistaken in zip(viewsets, mistakes, strict=True):
        if sum(sheet.num_bytes for sheet in sheets) >= MOST_BYTES:
            not_shown.append(viewset.folder.name)
        elif (sheet := sheet_of(viewset, num, mistaken)) is not None:
            sheets.append(sheet)
    return sheets, not_shown


def render(**parts: object) -> str:
    """The template with `parts`; every text in them is escaped, and only this page's own script may run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("shards.page")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = (files("shards.page").joinpath("templates", name).read_text() for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; img-src data:; style-src '{_allowed(style)}'; script-src '{_allowed(script)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    environment.filters["short"] = short
    template = environment.get_template("page.html")
    text = template.render(style=style, script=script, policy=policy, **parts)
    # the page is UTF-8, which has no bytes for half a surrogate pair; as `shards.errors.printable` writes these
    return text.encode(errors="backslashreplace").decode()


def _allowed(content: str) -> str:
    """How a Content-Security-Policy names inline content: nothing else may be inline, whatever a key holds."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
