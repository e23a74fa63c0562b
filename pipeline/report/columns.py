"""Lines for a terminal: of 80 columns a name, its text, and where that is too long the rest below it; tables.

Reads: nothing. Writes: nothing. Never: I/O.
"""

import textwrap
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from pipeline.core.quoting import printable

COLUMNS = 80
#: Rows of a table by which its columns are measured.
ROWS_MEASURED = 1_000


def paragraph(text: str, indent: int = 2) -> str:
    """`text` in lines of 80 columns, all but the first indented. Only a word that is longer is broken."""
    lines = textwrap.wrap(printable(text), COLUMNS, subsequent_indent=" " * indent, break_on_hyphens=False)
    return "\n".join(lines)


def row(name: str, text: str, width: int, margin: int = 0) -> str:
    """`name` in `width` columns and its text beside it; margin: blanks before both."""
    head = " " * margin + f"{name:<{width}} "
    rest = " " * len(head)
    lines = textwrap.wrap(printable(text), COLUMNS - len(head), break_on_hyphens=False) or [""]
    return head + f"\n{rest}".join(lines)


def rows(pairs: Iterable[tuple[str, str]], width: int, margin: int = 0) -> str:
    """One row below the other."""
    return "\n".join(row(name, text, width, margin) for name, text in pairs)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], none: str) -> Iterator[str]:
    """Aligned lines. The columns are as wide as the first rows need, so that no more than those are held."""
    shown = (tuple(map(printable, row)) for row in rows)
    first = list(islice(shown, ROWS_MEASURED))
    if not first:
        yield none
        return
    widths = [max(map(len, column)) for column in zip(head, *first, strict=True)]
    for row in chain((head,), first, shown):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
