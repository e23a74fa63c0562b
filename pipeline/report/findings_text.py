"""Findings and their causes: a line each, as JSON, CSV or text.

Reads: structs of the core. Writes: nothing; callers print. Never: the store. No item value is shown, and
keys and their prefixes only in the form that the caller hands in.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from pipeline.core.causes import Cause, Causes, cause_id
from pipeline.core.ledger import ClosedFinding, Finding
from pipeline.core.quoting import printable, printable_json
from pipeline.report import columns
from pipeline.report.words import instant, many, minute, span

#: Columns of the CSV, of a key and of a cause; those of `closed` are empty while a finding is open.
KEY_COLUMNS = (
    *("key", "kind", "versions_behind", "attributes", "attributes_cut", "types", "operation", "cause"),
    *("first_seen", "oldest_change", "last_looked", "closed", "why"),
)
CAUSE_COLUMNS = (
    *("cause", "kind", "findings", "attributes", "attribute_count", "types", "operation", "prefixes"),
    *("first_seen", "last_opened", "oldest_change"),
)
#: What a spreadsheet takes for a formula when a cell begins with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: How a prefix of keys is shown.
ShowPrefix = Callable[[str], str]


class Listed(NamedTuple):
    """An open finding, the text that stands for its key, and whose it is."""

    finding: Finding
    key: str
    migration: str = ""


class ListedClosed(NamedTuple):
    """The same of one that is closed."""

    closed: ClosedFinding
    key: str
    migration: str = ""


class CausesOf(NamedTuple):
    """The causes of one migration's findings."""

    migration: str
    causes: Causes
    show: ShowPrefix


def finding_object(finding: Finding, key: object, closed: ClosedFinding | None = None) -> dict[str, Any]:
    """key: the wire JSON object, or the keyed hash that stands for it."""
    fields = {
        "key": key,
        "kind": finding.kind,
        "versions_behind": finding.versions_behind,
        "attributes": finding.attributes_named,
        "attributes_cut": finding.attributes_cut,
        "types": finding.types,
        "operation": finding.operation,
        "cause": cause_id(finding),
        "first_seen": instant(finding.first_seen_ms),
        "oldest_change": _instant(finding.oldest_change_ms),
        "last_looked": instant(finding.last_looked_ms),
    }
    if closed is not None:
        fields |= {"closed": instant(closed.closed_ms), "why": closed.why}
    return fields


def cause_object(cause: Cause, show: ShowPrefix) -> dict[str, Any]:
    """show: what stands for a prefix of keys."""
    prefixes = None if cause.prefixes is None else {show(name): n for name, n in cause.prefixes.items()}
    return {
        "cause": cause.id,
        "kind": cause.kind,
        "findings": cause.count,
        "attributes": cause.paths,
        "attribute_count": cause.path_count,
        "types": cause.types,
        "operation": cause.operation,
        "prefixes": prefixes,
        "first_seen": instant(cause.first_ms),
        "last_opened": instant(cause.last_ms),
        "oldest_change": _instant(cause.oldest_change_ms),
    }


def json_line(fields: dict[str, Any]) -> str:
    """One line, which a control character in a name does not break."""
    return printable_json(msgspec.json.encode(fields).decode())


def csv_line(values: Iterable[object]) -> str:
    """One row, without its line's end. Lists and maps are JSON in their cell."""
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow([_cell(value) for value in values])
    return row.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    is_text = isinstance(value, str | int)
    plain = str(value) if is_text else printable_json(msgspec.json.encode(value).decode())
    return f"'{plain}" if plain.startswith(_FORMULA) else plain


def findings_table(listed: Iterable[Listed], *, named: bool = False) -> Iterator[str]:
    """`findings`: the lines of a table, nothing cut off. named: with the migration's name."""
    head = ("KEY", "KIND", "BEHIND", "OLDEST CHANGE", "FIRST SEEN", "LAST LOOKED", "ATTRIBUTES")
    rows = ((one.migration, _finding_row(one)) for one in listed)
    return _table(head, rows, "no open findings", named=named)


def _finding_row(listed: Listed) -> tuple[str, ...]:
    finding = listed.finding
    oldest = _instant(finding.oldest_change_ms) or "-"
    seen, looked = instant(finding.first_seen_ms), instant(finding.last_looked_ms)
    names = ", ".join(finding.attributes) or "-"
    return listed.key, finding.kind.value, str(finding.versions_behind), oldest, seen, looked, names


def closed_table(listed: Iterable[ListedClosed], *, named: bool = False) -> Iterator[str]:
    """`findings --closed`."""
    head = ("KEY", "KIND", "OPENED", "CLOSED", "OPEN FOR", "WHY", "ATTRIBUTES")
    rows = ((one.migration, _closed_row(one)) for one in listed)
    return _table(head, rows, "no closed findings", named=named)


def _closed_row(listed: ListedClosed) -> tuple[str, ...]:
    closed = listed.closed
    finding = closed.finding
    opened, ended = instant(finding.first_seen_ms), instant(closed.closed_ms)
    lasted = span(max(0, closed.closed_ms - finding.first_seen_ms) / 1000)
    names = ", ".join(finding.attributes) or "-"
    return listed.key, finding.kind.value, opened, ended, lasted, closed.why.value, names


def _table(
    head: tuple[str, ...], rows: Iterable[tuple[str, tuple[str, ...]]], none: str, *, named: bool
) -> Iterator[str]:
    """rows: whose, and the cells."""
    if named:
        return columns.table(("MIGRATION", *head), ((whose, *cells) for whose, cells in rows), none)
    return columns.table(head, (cells for _, cells in rows), none)


def causes_table(found: Sequence[CausesOf], limit: int | None, *, named: bool = False) -> Iterator[str]:
    """`findings --by cause`: biggest first, of all migrations together."""
    head = ("CAUSE", "FINDINGS", "KIND", "OPERATION", "FIRST SEEN", "LAST OPENED", "KEYS", "ATTRIBUTES")
    rows = ((of.migration, _cause_row(cause, of.show)) for of, cause in ranked(found)[:limit])
    yield from _table(head, rows, "no findings", named=named)
    yield from _rest(found, limit)


def _cause_row(cause: Cause, show: ShowPrefix) -> tuple[str, ...]:
    return (
        *(cause.id, f"{cause.count:,}", cause.kind.value, cause.operation or "-"),
        *(minute(cause.first_ms), minute(cause.last_ms)),
        *(keys_text(cause, show), place_text(cause) or "-"),
    )


def causes_summary(found: Sequence[CausesOf], limit: int | None, *, named: bool = False) -> Iterator[str]:
    """`findings --summary`: a sentence for each cause."""
    for of, cause in ranked(found)[:limit]:
        sentence = cause_sentence(cause, of.show)
        yield printable(f"{of.migration}: {sentence}" if named else sentence)
    yield from _rest(found, limit) if any(of.causes.total for of in found) else ("no findings",)


def ranked(found: Sequence[CausesOf]) -> list[tuple[CausesOf, Cause]]:
    """The causes of all migrations, biggest first."""
    every = [(of, cause) for of in found for cause in of.causes.ranked()]
    return sorted(every, key=lambda one: (-one[1].count, one[1].first_ms, one[1].id))


def cause_sentence(cause: Cause, show: ShowPrefix) -> str:
    """`29 × different at contact.name, keys c#…, since 2026-11-23 22:09 UTC`."""
    parts = [f"{cause.count:,} × {cause.kind}"]
    if place := place_text(cause):
        parts[0] += f" at {place}"
    if cause.operation:
        parts.append(f"newest change {cause.operation}")
    parts.append(keys_text(cause, show))
    parts.append(f"since {minute(cause.first_ms)}")
    return ", ".join(parts)


def place_text(cause: Cause) -> str:
    """Where the items differ; "" where one of them is missing."""
    more = cause.path_count - len(cause.paths)
    text = ", ".join(cause.paths) + (f" and {many(more, 'more path')}" if more else "")
    return text + (f" (type changed: {', '.join(cause.types)})" if cause.types else "")


def keys_text(cause: Cause, show: ShowPrefix) -> str:
    """What the keys have in common."""
    if cause.prefixes is None:
        return "keys of many prefixes"
    if set(cause.prefixes) == {""}:
        return "keys without a prefix"
    return "keys " + ", ".join(
        f"{show(name)}…" if name else "without a prefix" for name in sorted(cause.prefixes)
    )


def _rest(found: Sequence[CausesOf], limit: int | None) -> list[str]:
    """What is not shown."""
    shown = sum(cause.count for _, cause in ranked(found)[:limit])
    left = sum(of.causes.total for of in found) - shown
    return [f"and {many(left, 'finding')} of other causes"] if left else []


def _instant(ms: int | None) -> str | None:
    return None if ms is None else instant(ms)
