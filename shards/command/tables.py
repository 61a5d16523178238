"""Tables: aligned columns; on a terminal in rich's style, elsewhere as plain text that grep and awk take."""

import sys
from collections.abc import Iterable, Sequence

from shards.errors import printable


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """Print `rows` under `columns` (none of them: no header), those named in `right` flush right, never cut off."""
    rows = [tuple(map(printable, row)) for row in rows]
    if sys.stdout.isatty():
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, show_header=any(columns), pad_edge=False)
        for column in columns:
            table.add_column(column, justify="right" if column in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # as Text: a name may hold what rich takes for markup
        Console().print(table)
        return
    lines = [tuple(columns), *rows] if any(columns) else rows
    widths = [max(len(line[position]) for line in lines) for position in range(len(columns))]
    for line in lines:
        cells = zip(line, widths, columns, strict=True)
        aligned = [cell.rjust(width) if column in right else cell.ljust(width) for cell, width, column in cells]
        print("  ".join(aligned).rstrip())
