"""`findings`: open or closed ones, a key or a cause a line, as text, JSON lines or CSV.

Reads: the store. Writes: standard output. Never: AWS, the store's writers. JSON lines and CSV of any length
are written as they are read, in constant memory. Of many migrations each finding says whose it is.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec

from pipeline.commands.inspect import exit_code
from pipeline.config import ProcessConfig
from pipeline.core.causes import Selection
from pipeline.core.ledger import ClosedFinding, Finding
from pipeline.core.model import VerdictKind
from pipeline.errors import MonitorError
from pipeline.gathering import causes_of, key_shower, prefix_shower, text_of
from pipeline.report import findings_text as text
from pipeline.report.findings_text import CausesOf, Listed, ListedClosed
from pipeline.store import StoreView

Told = TypeVar("Told")
#: Takes the name of a migration, and why its findings cannot be read.
Failed = Callable[[str, MonitorError], None]


class _Each:
    """The stores, one after the other."""

    def __init__(self, stores: Iterable[StoreView], failed: Failed | None) -> None:
        self._stores, self._failed = stores, failed

    def rows(self, of_one: Callable[[StoreView], Iterator[Told]]) -> Iterator[Told]:
        """What `of_one` finds in each."""
        for store in self._stores:
            try:
                yield from of_one(store)
            except MonitorError as error:
                if self._failed is None:
                    raise
                self._failed(store.migration, error)


def run(process: ProcessConfig, store: StoreView) -> int:
    """Print what was asked for; the exit code."""
    show(process, [store])
    return exit_code(store.figures())


def show(
    process: ProcessConfig,
    stores: Iterable[StoreView],
    *,
    named: bool = False,
    failed: Failed | None = None,
) -> None:
    """Print what was asked for, of one store after the other. named: with the migration's name. failed: is
    told of one that cannot be read, or not to its end, and the next one follows; None = that is raised.
    """
    each = _Each(stores, failed)
    if process.by == "cause" or process.summary:
        _print_causes(process, each, named=named)
    elif process.json or process.csv:
        _print_lines(process, each, named=named)
    else:
        _print_table(process, each, named=named)
    sys.stdout.flush()


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


def _print_table(process: ProcessConfig, each: _Each, *, named: bool) -> None:
    def listed(store: StoreView) -> Iterator[Listed]:
        show = key_shower(store, show_keys=process.show_keys)
        for one in _open(store, selection_of(process, store.now_ms())):
            yield Listed(one, text_of(show(one.key)), store.migration)

    def listed_closed(store: StoreView) -> Iterator[ListedClosed]:
        show = key_shower(store, show_keys=process.show_keys)
        for one in _closed(process, store, selection_of(process, store.now_ms())):
            yield ListedClosed(one, text_of(show(one.finding.key)), store.migration)

    # --limit is of all migrations together.
    if process.closed:
        closed = islice(each.rows(listed_closed), process.limit)
        _print(text.closed_table(closed, named=named))
    else:
        opened = islice(each.rows(listed), process.limit)
        _print(text.findings_table(opened, named=named))


def _print_lines(process: ProcessConfig, each: _Each, *, named: bool) -> None:
    objects = each.rows(lambda store: _objects(process, store, named=named))
    columns = ("migration", *text.KEY_COLUMNS) if named else text.KEY_COLUMNS
    _print_objects(islice(objects, process.limit), columns, csv=process.csv)


def _objects(process: ProcessConfig, store: StoreView, *, named: bool) -> Iterator[dict[str, Any]]:
    show, selection = key_shower(store, show_keys=process.show_keys), selection_of(process, store.now_ms())
    whose = {"migration": store.migration} if named else {}
    if process.closed:
        for closed in _closed(process, store, selection):
            yield whose | text.finding_object(closed.finding, show(closed.finding.key), closed)
    else:
        for one in _open(store, selection):
            yield whose | text.finding_object(one, show(one.key))


def _print_causes(process: ProcessConfig, each: _Each, *, named: bool) -> None:
    found = list(each.rows(lambda store: iter([_causes(process, store)])))
    if process.json or process.csv:
        shown = (
            ({"migration": of.migration} if named else {}) | text.cause_object(cause, of.show)
            for of, cause in text.ranked(found)[: process.limit]
        )
        columns = ("migration", *text.CAUSE_COLUMNS) if named else text.CAUSE_COLUMNS
        _print_objects(shown, columns, csv=process.csv)
    elif process.summary:
        _print(text.causes_summary(found, process.limit, named=named))
    else:
        _print(text.causes_table(found, process.limit, named=named))


def _causes(process: ProcessConfig, store: StoreView) -> CausesOf:
    every = msgspec.structs.replace(selection_of(process, store.now_ms()), limit=None)
    found = (one.finding for one in _closed(process, store, every)) if process.closed else _open(store, every)
    shown = prefix_shower(store, show_keys=process.show_keys)
    return CausesOf(store.migration, causes_of(store, found), shown)


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_objects(objects: Iterable[dict[str, Any]], columns: tuple[str, ...], *, csv: bool) -> None:
    if csv:
        print(text.csv_line(columns))
    for one in objects:
        print(text.csv_line(one.get(name) for name in columns) if csv else text.json_line(one))
