"""A comparison in words and in JSON: plan, progress, result.

Reads: structs of the core. Writes: nothing; callers print. Never: the store. No key and no value is shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.core.comparing.definitions import DefinitionsCompared
from pipeline.core.comparing.partitions import Mode
from pipeline.core.comparing.result import Answer, Estimate, Share
from pipeline.core.comparing.state import Comparison, ExportSeen
from pipeline.core.cost import Prices
from pipeline.core.figures import Figures
from pipeline.core.model import MISMATCHES, Side
from pipeline.core.quoting import printable
from pipeline.core.statistics import share_text
from pipeline.report import columns
from pipeline.report.words import many

_SAID = {
    Answer.EQUAL: "EQUAL",
    Answer.FINDINGS: "DIFFERENT",
    Answer.INCONCLUSIVE: "INCONCLUSIVE",
}


def plan(
    facts: Mapping[str, str],
    estimate: Estimate,
    notes: Sequence[str],
    exports: Mapping[Side, ExportSeen],
    prices: str,
) -> str:
    """What `compare --dry-run` prints. prices: where they are from."""
    minutes = (
        "as fast as the tables allow" if estimate.seconds is None else f"{estimate.seconds / 60:,.1f} min"
    )
    rows = {
        **facts,
        **{f"{side} export": export_words(one) for side, one in exports.items()},
        "segments": f"{estimate.segments:,} of {estimate.of:,}" if estimate.segments else "none is scanned",
        "items": f"about {estimate.items:,} a side, {estimate.bytes_ / 1e9:,.3f} GB (AWS counts every 6 h)",
        "read units": f"about {estimate.units:,.0f} on both sides together",
        "dollars": f"about {estimate.dollars:,.4f} ({prices})",
        "time": minutes,
        **({"spill": f"about {estimate.spill_bytes / 1e9:,.3f} GB on disk"} if estimate.spill_bytes else {}),
    }
    return "\n".join([columns.rows(rows.items(), 13), *map(columns.paragraph, notes)])


def plan_object(
    facts: Mapping[str, str],
    estimate: Estimate,
    notes: Sequence[str],
    exports: Mapping[Side, ExportSeen],
    prices: str,
) -> dict[str, Any]:
    """`compare --dry-run --json`. segments: None where no side is scanned; seconds: None without a limit."""
    return {
        **facts,
        "exports": {str(side): _export_object(exports.get(side)) for side in Side},
        "segments": {"planned": estimate.segments, "of": estimate.of} if estimate.segments else None,
        "items": estimate.items,
        "bytes": estimate.bytes_,
        "read_units": round(estimate.units, 1),
        "dollars": round(estimate.dollars, 6),
        "prices": prices,
        "seconds": None if estimate.seconds is None else round(estimate.seconds, 1),
        "spill_bytes": estimate.spill_bytes,
        "notes": list(notes),
    }


def export_words(export: ExportSeen) -> str:
    """What an export is, and how much."""
    return (
        f"{_shown(export)}: {many(export.files, 'file')}, {export.size / 1e9:,.3f} GB compressed, "
        f"{export.items:,} items, 0 read units"
    )


def _shown(export: ExportSeen) -> str:
    """What an export is of."""
    if export.from_ms is None:
        return f"the table at {_second(export.to_ms)}"
    return f"changes from {_second(export.from_ms)} to {_second(export.to_ms)}"


def _second(ms: int) -> str:
    """AWS dates exports to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def definition_lines(definitions: DefinitionsCompared) -> list[str]:
    """What differs between the tables' definitions, a line each, and what could not be asked."""
    lines = [
        printable(f"definition: {one.what} differs: source {one.source}, target {one.target}")
        for one in definitions.differences
    ]
    if definitions.unknown:
        lines.append(f"definition: could not be asked: {', '.join(definitions.unknown)}")
    return lines


def progress_text(comparison: Comparison, figures: Figures, keys_per_second: float) -> str:
    """How far it is, in one line. keys_per_second: of this run."""
    tally = comparison.tally
    units = sum(tally.units(side) for side in Side)
    share = comparison.done / max(1, comparison.planned)
    dollars = tally.dollars(figures.terms.prices)
    return (
        f"{_phases(comparison)}, keys {tally.keys:,} ({keys_per_second:,.0f} a second), "
        f"suspects waiting {figures.ledger.suspects_waiting:,}, "
        f"open findings {figures.open_total:,}, read units {units:,.0f} "
        f"({dollars:,.4f} dollars, about {dollars / share if share else 0:,.4f} in all)"
    )


#: A phase of a comparison → what it is made of.
_PARTS = {
    Mode.SCAN: "segments",
    Mode.CHANGES: "files of changes",
    "sort": "files and segments sorted",
    "bucket": "buckets",
}


def _phases(comparison: Comparison) -> str:
    phases = comparison.settings.partitions().phases(comparison.done)
    return ", ".join(f"{_PARTS[name]} {done:,} of {planned:,}" for name, (done, planned) in phases.items())


def status_row(comparison: Comparison, figures: Figures) -> str:
    """The line that `status` shows."""
    tally = comparison.tally
    done = "finished" if comparison.finished_ms is not None else "under way"
    return (
        f"{_what(comparison)}, {done}: {_phases(comparison)}, keys {tally.keys:,}, "
        f"suspects {tally.suspects:,} ({figures.ledger.suspects_waiting:,} waiting), "
        f"covered {tally.covered:,}"
    )


def _what(comparison: Comparison) -> str:
    settings = comparison.settings
    sample = "" if settings.sample_percent == 100 else f"{settings.sample_percent:g} % of the "
    if settings.mode is Mode.CHANGES:
        return f"{sample}keys that changed in a window"
    if comparison.whole:
        return "whole table"
    return f"{sample}{'keys' if settings.exports else 'segments'}"


def result_text(
    comparison: Comparison, figures: Figures, answer: Answer, success: Share | None, seconds: float
) -> str:
    """What `compare` prints last."""
    tally, prices = comparison.tally, figures.terms.prices
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in figures.ledger.open.items() if count)
    rows = {
        **{
            str(side): f"{tally.items(side):,} items, {tally.item_bytes(side):,} bytes, "
            f"{tally.units(side):,.1f} read units{_read_from(comparison, side)}"
            for side in Side
        },
        **_read(comparison),
        "keys": f"{tally.keys:,} compared: {tally.equal:,} equal, {tally.suspects:,} suspects, "
        f"{tally.covered:,} covered by the stream",
        "findings": (kinds or "none") + _excused(figures),
        "right": _right(comparison, success),
        "cost": f"{seconds:,.1f} s, {tally.dollars(prices):,.4f} dollars ({prices.said})",
    }
    return "\n".join([_SAID[answer], columns.rows(rows.items(), 9, margin=2)])


def _read_from(comparison: Comparison, side: Side) -> str:
    export = comparison.settings.export(side)
    if export is not None:
        return f", read from an export: {_shown(export)}"
    return ", looked up" if comparison.settings.mode is Mode.CHANGES else ""


def _read(comparison: Comparison) -> dict[str, str]:
    """Which parts were read; what was sorted and joined, a row each."""
    phases = comparison.settings.partitions().phases(comparison.done)
    names = {"scan": "segments", "changes": "files", "sort": "sorted", "bucket": "buckets"}
    return {names[name]: f"{done:,} of {planned:,} read" for name, (done, planned) in phases.items()}


def _excused(figures: Figures) -> str:
    excused = figures.ledger.excused
    return f"; {excused:,} more differ in what TTL itself will remove" if excused else ""


def _right(comparison: Comparison, success: Share | None) -> str:
    if success is None:
        return "nothing can be said yet" if comparison.tally.keys else "nothing was compared"
    if success.low == success.high:
        return f"{share_text(success.low)} of the {success.unit}s"
    said = f"{_between(success.low, success.high)} of the {success.unit}s"
    if success.confidence < 1:
        said += f" ({success.confidence * 100:.0f} % confidence"
        alone = success.by_partition_key
        said += f"; {_between(*alone)} if differences are spread evenly)" if alone else ")"
    return said


def _between(low: float, high: float) -> str:
    return f"between {share_text(low)} and {share_text(high)}"


def results_table(ended: Sequence[tuple[str, Mapping[str, Any] | None, str]]) -> Iterator[str]:
    """What `compare` of many prints last. ended: name, its `result_object`, and why there is none."""
    head = ("MIGRATION", "ANSWER", "EQUAL", "SUSPECTS", "FINDINGS", "UNITS", "DOLLARS")
    yield from columns.table(head, (_result_row(name, found) for name, found, _ in ended), "no migration")
    for name, found, problem in ended:
        if found is None:
            yield columns.paragraph(f"{name}: {problem}")
    made = [found for _, found, _ in ended if found is not None]
    dollars = sum(found["dollars"] for found in made)
    yield columns.paragraph(
        f"{len(made):,} of {many(len(ended), 'migration')} compared, {dollars:,.4f} dollars in all"
    )


def _result_row(name: str, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    if found is None:
        return (name, "NOT COMPARED", *["-"] * 5)
    units = sum(found[str(side)]["read_units"] for side in Side)
    counts = (found["equal"], found["suspects"], sum(found["findings"].values()))
    said = (f"{count:,}" for count in counts)
    return (name, _SAID[Answer(found["answer"])], *said, f"{units:,.1f}", f"{found['dollars']:,.4f}")


def result_object(
    comparison: Comparison, figures: Figures, answer: Answer, success: Share | None, seconds: float
) -> dict[str, Any]:
    """`compare --json`."""
    return {
        "answer": answer.value,
        **comparison_object(comparison, figures.terms.prices),
        "findings": {str(kind): figures.ledger.open.get(kind, 0) for kind in MISMATCHES},
        "excused": figures.ledger.excused,
        "success": msgspec.to_builtins(success),
        "seconds": round(seconds, 1),
    }


def comparison_object(comparison: Comparison, prices: Prices) -> dict[str, Any]:
    """What a comparison has counted. read_units: of the Scans; the lookups of suspects are not among them."""
    tally = comparison.tally
    return {
        **{
            str(side): {
                "items": tally.items(side),
                "bytes": tally.item_bytes(side),
                "read_units": tally.units(side),
                "not_sampled": tally.not_sampled(side),
                "export": _export_object(comparison.settings.export(side)),
            }
            for side in Side
        },
        "mode": comparison.settings.mode.value,
        "equal": tally.equal,
        "suspects": tally.suspects,
        "covered": tally.covered,
        "partitions": {"planned": comparison.planned, "read": comparison.done},
        "phases": {
            name: {"planned": planned, "read": done}
            for name, (done, planned) in comparison.settings.partitions().phases(comparison.done).items()
        },
        "whole": comparison.whole,
        "finished": comparison.finished_ms is not None,
        "dollars": round(tally.dollars(prices), 6),
        "prices": prices.said,
    }


def _export_object(export: ExportSeen | None) -> dict[str, Any] | None:
    """None: the side was scanned, or looked up. time: of a full export; from, to: of an incremental one."""
    if export is None:
        return None
    named = {"arn": export.arn, "location": export.location}
    if export.from_ms is None:
        return {**named, "time": _second(export.to_ms)}
    return {**named, "from": _second(export.from_ms), "to": _second(export.to_ms)}
