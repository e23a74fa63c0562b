"""A comparison in words and in JSON: plan, progress, result.

Reads: structs of the core. Writes: nothing; callers print. Never: the store. No key and no value is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pipeline.core.comparing.definitions import DefinitionsCompared
from pipeline.core.comparing.result import Answer, Estimate, Share
from pipeline.core.comparing.state import Comparison
from pipeline.core.figures import Figures
from pipeline.core.model import MISMATCHES, Side
from pipeline.core.statistics import share_text

_SAID = {
    Answer.EQUAL: "EQUAL",
    Answer.FINDINGS: "DIFFERENT",
    Answer.INCONCLUSIVE: "INCONCLUSIVE",
}


def plan(facts: Mapping[str, str], estimate: Estimate, notes: Sequence[str]) -> str:
    """What `compare --dry-run` prints."""
    minutes = (
        "as fast as the tables allow" if estimate.seconds is None else f"{estimate.seconds / 60:,.1f} min"
    )
    rows = {
        **facts,
        "segments": f"{estimate.segments:,} of {estimate.of:,}",
        "items": f"about {estimate.items:,} a side, {estimate.bytes_ / 1e9:,.3f} GB (AWS counts every 6 h)",
        "read units": f"about {estimate.units:,.0f} on both sides together",
        "dollars": f"about {estimate.dollars:,.4f} (on demand, us-east-1)",
        "time": minutes,
    }
    lines = [f"{name:<13} {text}" for name, text in rows.items()]
    return "\n".join([*lines, *notes])


def definition_lines(definitions: DefinitionsCompared) -> list[str]:
    """What differs between the tables' definitions, a line each, and what could not be asked."""
    lines = [
        f"definition: {one.what} differs: source {one.source}, target {one.target}"
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
    return (
        f"segments {comparison.done:,} of {comparison.planned:,}, keys {tally.keys:,} "
        f"({keys_per_second:,.0f} a second), suspects waiting {figures.ledger.suspects_waiting:,}, "
        f"open findings {figures.open_total:,}, read units {units:,.0f} "
        f"({tally.dollars:,.4f} dollars, about {tally.dollars / share if share else 0:,.4f} in all)"
    )


def status_row(comparison: Comparison, figures: Figures) -> str:
    """The line that `status` shows."""
    tally = comparison.tally
    done = "finished" if comparison.finished_ms is not None else "under way"
    what = "whole table" if comparison.whole else f"{comparison.settings.sample_percent:g} % of the segments"
    return (
        f"{what}, {done}: segments {comparison.done:,} of {comparison.planned:,}, keys {tally.keys:,}, "
        f"suspects {tally.suspects:,} ({figures.ledger.suspects_waiting:,} waiting), "
        f"covered {tally.covered:,}"
    )


def result_text(
    comparison: Comparison, figures: Figures, answer: Answer, success: Share | None, seconds: float
) -> str:
    """What `compare` prints last."""
    tally = comparison.tally
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in figures.ledger.open.items() if count)
    rows = {
        **{
            str(side): f"{tally.items(side):,} items, {tally.item_bytes(side):,} bytes, "
            f"{tally.units(side):,.1f} read units"
            for side in Side
        },
        "segments": f"{comparison.done:,} of {comparison.planned:,} read",
        "keys": f"{tally.keys:,} compared: {tally.equal:,} equal, {tally.suspects:,} suspects, "
        f"{tally.covered:,} covered by the stream",
        "findings": (kinds or "none") + _excused(figures),
        "right": _right(success),
        "cost": f"{seconds:,.1f} s, {tally.dollars:,.4f} dollars (on demand, us-east-1)",
    }
    return "\n".join([_SAID[answer], *(f"  {name:<9} {text}" for name, text in rows.items())])


def _excused(figures: Figures) -> str:
    excused = figures.ledger.excused
    return f"; {excused:,} more differ in what TTL itself will remove" if excused else ""


def _right(success: Share | None) -> str:
    if success is None:
        return "nothing was compared"
    if success.low == success.high:
        return f"{share_text(success.low)} of the keys"
    return (
        f"between {share_text(success.low)} and {share_text(success.high)} of the {success.unit}s "
        f"({success.confidence * 100:.0f} % confidence)"
    )


def result_object(
    comparison: Comparison, figures: Figures, answer: Answer, success: Share | None, seconds: float
) -> dict[str, Any]:
    """`compare --json`."""
    return {
        "answer": answer.value,
        **comparison_object(comparison),
        "findings": {str(kind): figures.ledger.open.get(kind, 0) for kind in MISMATCHES},
        "excused": figures.ledger.excused,
        "success": msgspec.to_builtins(success),
        "seconds": round(seconds, 1),
    }


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """What a comparison has counted. read_units: of the Scans; the lookups of suspects are not among them."""
    tally = comparison.tally
    return {
        **{
            str(side): {
                "items": tally.items(side),
                "bytes": tally.item_bytes(side),
                "read_units": tally.units(side),
            }
            for side in Side
        },
        "equal": tally.equal,
        "suspects": tally.suspects,
        "covered": tally.covered,
        "partitions": {"planned": comparison.planned, "read": comparison.done},
        "whole": comparison.whole,
        "finished": comparison.finished_ms is not None,
        "dollars": round(tally.dollars, 6),
    }
