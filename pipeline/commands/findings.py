"""`findings`: open or closed ones, a key or a cause a line, as text, JSON lines or CSV.

Reads: the store. Writes: standard output. Never: AWS, the store's writers. JSON lines and CSV of any length
are written as they are read, in constant memory.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from pipeline.commands.inspect import exit_code
from pipeline.config import ProcessConfig
from pipeline.core.causes import Selection
from pipeline.core.ledger import ClosedFinding, Finding
from pipeline.core.model import VerdictKind
from pipeline.gathering import causes_of, key_shower, prefix_shower, text_of
from pipeline.report import findings_text as text
from pipeline.store import StoreView


def run(process: ProcessConfig, store: StoreView) -> int:
    """Print what was asked for; the exit code."""
    selection = selection_of(process, store.now_ms())
    if process.by == "cause" or process.summary:
        _print_causes(process, store, selection)
    elif process.json or process.csv:
        _print_lines(process, store, selection)
    else:
        _print_table(process, store, selection)
    sys.stdout.flush()
    return exit_code(store.figures())


def selection_of(process: ProcessConfig, now_ms: int) -> Selection:
    """What the options ask for. --longer-than is asked of open findings here, of closed ones in `_closed`."""
    return Selection(
        kind=VerdictKind(process.kind) if process.kind else None,
        cause=process.cause,
        from_ms=process.since.ms(now_ms) if process.since else 0,
        until_ms=now_ms - process.longer_than_ms if process.longer_than_ms and not process.closed else None,
        limit=process.limit,
    )


def _open(store: StoreView, selection: Selection) -> Iterator[Finding]:
    return selection.of(store.findings(selection.from_ms, selection.until_ms))


def _closed(process: ProcessConfig, store: StoreView, selection: Selection) -> Iterator[ClosedFinding]:
    least_ms = process.longer_than_ms or 0
    found = (
        one
        for one in store.closed_findings()
        if selection.asks_for(one.finding) and one.closed_ms - one.finding.first_seen_ms >= least_ms
    )
    return islice(found, selection.limit)


def _print_table(process: ProcessConfig, store: StoreView, selection: Selection) -> None:
    show = key_shower(store, show_keys=process.show_keys)
    if process.closed:
        shown = ((one, text_of(show(one.finding.key))) for one in _closed(process, store, selection))
        _print(text.closed_table(shown))
    else:
        _print(text.findings_table((one, text_of(show(one.key))) for one in _open(store, selection)))


def _print_lines(process: ProcessConfig, store: StoreView, selection: Selection) -> None:
    show = key_shower(store, show_keys=process.show_keys)
    objects: Iterable[dict[str, object]]
    if process.closed:
        closed = _closed(process, store, selection)
        objects = (text.finding_object(one.finding, show(one.finding.key), one) for one in closed)
    else:
        objects = (text.finding_object(one, show(one.key)) for one in _open(store, selection))
    _print_objects(objects, text.KEY_COLUMNS, csv=process.csv)


def _print_causes(process: ProcessConfig, store: StoreView, selection: Selection) -> None:
    every = msgspec.structs.replace(selection, limit=None)
    found = (one.finding for one in _closed(process, store, every)) if process.closed else _open(store, every)
    causes, show = causes_of(store, found), prefix_shower(store, show_keys=process.show_keys)
    if process.json or process.csv:
        shown = (text.cause_object(cause, show) for cause in causes.ranked()[: process.limit])
        _print_objects(shown, text.CAUSE_COLUMNS, csv=process.csv)
    elif process.summary:
        _print(text.causes_summary(causes, process.limit, show))
    else:
        _print(text.causes_table(causes, process.limit, show))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_objects(objects: Iterable[dict[str, object]], columns: tuple[str, ...], *, csv: bool) -> None:
    if csv:
        print(text.csv_line(columns))
    for one in objects:
        print(text.csv_line(one.get(name) for name in columns) if csv else text.json_line(one))
