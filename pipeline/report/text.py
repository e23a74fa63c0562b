"""Figures in words and in JSON, for a person at a console and for a script.

Reads: structs of the core. Writes: nothing; callers print. Never: the store. No item value and no key
is shown.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.core.budget import hole_in_words, no_help
from pipeline.core.budget import in_words as in_words_of_sample
from pipeline.core.figures import Figures
from pipeline.core.gate import Result
from pipeline.core.ledger import Gap
from pipeline.core.model import MILESTONES, Side
from pipeline.core.outlook import Instant
from pipeline.core.statistics import margin_in_words
from pipeline.core.strata import in_words, strata
from pipeline.report.columns import paragraph, rows
from pipeline.report.comparison_text import comparison_object, status_row
from pipeline.report.cost_text import cost_rows, cost_sentence
from pipeline.report.facts import Facts, facts_object
from pipeline.report.words import HOUR, instant, many, percent, span

#: Below this much time until unread records are lost, every report says so.
HEADROOM_WARNING_SECONDS = 6 * HOUR
#: And when a key that is due has waited longer than this for a look.
OVERDUE_WARNING_SECONDS = 30

#: The gate's answer in words.
ANSWERS = {Result.PASSED: "GO", Result.FAILED: "NO-GO", Result.INCONCLUSIVE: "TOO EARLY TO SAY"}
#: What the strata are called, in their order.
STRATA_SAID = ("keys that changed", "whole table")

NOTHING_COMPARED = "nothing compared yet: this says neither that the tables are equal nor that they differ"
LIMIT_OF_SOURCE = (
    "--verify-on source follows the target's stream: a change that never reached the target leaves no record "
    "there and cannot be found this way; follow the source's stream (--verify-on target) to find those"
)


class Heading(msgspec.Struct, frozen=True):
    """What a report is about: the migration's name, and which side's items are looked up."""

    migration: str
    verify_on: Side


# --- the monitor's lines, every 30 s -----------------------------------------------------------------------


def statistics_text(figures: Figures, before: Figures | None) -> str:
    """The block that the monitor prints; rates are since `before`, or since the start without it."""
    running = span((figures.now_ms - figures.started_ms) / 1000)
    head = f"statistics after {running}, at {instant(figures.now_ms)}"
    return "\n".join([head, rows(_rows(figures, before), 8, margin=2)])


def statistics_fields(figures: Figures, before: Figures | None) -> dict[str, Any]:
    """The same as fields of one structured log line."""
    ledger, success = figures.ledger, figures.success
    return {
        "records_total": ledger.records_read + ledger.records_repeated,
        "records_unique": ledger.records_read,
        "records": dict(ledger.records),
        "records_per_second": round(records_per_second(figures, before), 1),
        "keys_judged": success.keys,
        "keys_excused": success.excused,
        "success_ratio": success.ratio,
        "success_low": success.low,
        "success_high": success.high,
        "open": dict(ledger.open),
        "lag_p50_seconds": figures.lag.p50,
        "lag_p99_seconds": figures.lag.p99,
        "backlog": figures.queue.backlog,
        "reader_lag_seconds": figures.reader_lag_seconds,
        "balanced": ledger.balanced,
    }


def records_per_second(figures: Figures, before: Figures | None) -> float:
    """Change records read per second since `before` (None: since the migration was begun)."""
    since_ms = before.now_ms if before else figures.started_ms
    read_before = _records(before) if before else 0
    seconds = max(figures.now_ms - since_ms, 1) / 1000
    return (_records(figures) - read_before) / seconds


def _records(figures: Figures) -> int:
    return figures.ledger.records_read + figures.ledger.records_repeated


def _rows(figures: Figures, before: Figures | None) -> list[tuple[str, str]]:
    ledger = figures.ledger
    rate = records_per_second(figures, before)
    shown = {
        "changes": f"{_records(figures):,} total, {ledger.records_read:,} unique "
        f"({', '.join(f'{name} {number:,}' for name, number in ledger.records.items())}), "
        f"{rate:,.1f} per second",
        "success": _success(figures),
        "open": _open(ledger.open),
        "lag": _lag(figures),
        "queue": f"backlog {figures.queue.backlog:,}, waiting for a recheck {figures.queue.due:,}, "
        f"keys outstanding {figures.queue.outstanding:,}, dead {figures.queue.dead:,}",
        "reader": _reader(figures),
    }
    if figures.comparison is not None:
        shown["compare"] = status_row(figures.comparison, figures)
    if (kept := figures.of_table) is not None and kept is not figures.comparison:
        shown["table"] = status_row(kept, figures)
    return list(shown.items())


def _success(figures: Figures) -> str:
    success = figures.success
    if success.ratio is None or success.low is None or success.high is None:
        return "nothing compared yet" + _but_excused(figures)
    return (
        f"{percent(success.ratio)} of {success.keys:,} keys, between {percent(success.low)} and "
        f"{percent(success.high)} at {success.confidence * 100:.0f} % confidence: "
        f"{margin_in_words(success.low, success.ratio, success.high, success.keys)}{_but_excused(figures)}"
    )


def _but_excused(figures: Figures) -> str:
    """Said beside the success rate, which knows nothing of these keys."""
    excused = figures.success.excused
    return f"; {many(excused, 'key')} more excused: TTL itself will remove what differs" if excused else ""


def _open(by_kind: Mapping[str, int]) -> str:
    total = sum(by_kind.values())
    if total == 0:
        return "no findings"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in by_kind.items() if count)
    return f"{many(total, 'finding')}: {kinds}"


def _lag(figures: Figures) -> str:
    lag = figures.lag
    if lag.p50 is None or lag.p95 is None or lag.p99 is None:
        return f"no lag measured yet{_not_found(figures)}"
    quantiles = (
        f"p50 {span(lag.p50)}, p95 {span(lag.p95)}, p99 {span(lag.p99)} (write to first matching look)"
    )
    return quantiles + _not_found(figures)


def _not_found(figures: Figures) -> str:
    """Said beside the quantiles, which know only what arrived."""
    if figures.oldest_waiting_ms is None:
        return ""
    age = max(figures.now_ms - figures.oldest_waiting_ms, 0) / 1000
    return f"; a change of {span(age)} ago was not found by the latest look"


def _reader(figures: Figures) -> str:
    lag, headroom = figures.reader_lag_seconds, figures.retention_headroom_seconds
    finished = figures.reader.partitions_finished
    partitions = figures.reader.partitions_open + finished
    closed = f" ({len(figures.reader.closed):,} closed)" if figures.reader.closed else ""
    counted = f"partitions {partitions:,} ({finished:,} finished), gaps {figures.reader.gaps:,}{closed}"
    if lag is None or headroom is None:
        return f"position not known yet, {counted}"
    return f"{span(lag)} behind, {span(max(headroom, 0))} until records are lost, {counted}"


# --- status ------------------------------------------------------------------------------------------------


def status_text(heading: Heading, figures: Figures) -> str:
    """`status`: the monitor's rows, the accounting, and what must be known besides."""
    known = [(name, in_words(one)) for name, one in zip(("changed", "whole"), strata(figures), strict=True)]
    lines = [
        paragraph(
            f"migration {heading.migration}, verifying the {heading.verify_on} table, "
            f"begun {instant(figures.started_ms)}, now {instant(figures.now_ms)}"
        ),
        rows([*_rows(figures, None), *known, *_accounting(figures), _cost(figures)], 8, margin=2),
        *(paragraph(f"note: {note}") for note in notes(heading, figures)),
    ]
    return "\n".join(lines)


def _cost(figures: Figures) -> tuple[str, str]:
    return "cost", cost_sentence(figures.cost)


def status_object(heading: Heading, figures: Figures) -> dict[str, Any]:
    """`status --json`. Ratios lie in 0..1, durations are seconds; null: not measured yet."""
    ledger = msgspec.to_builtins(figures.ledger)
    reader, prices = figures.reader, figures.terms.prices
    return {
        "migration": heading.migration,
        "verify_on": heading.verify_on.value,
        "at": instant(figures.now_ms),
        "started": instant(figures.started_ms),
        "ledger": {name: value for name, value in ledger.items() if name != "open"},
        "balanced": figures.ledger.balanced,
        "success": msgspec.to_builtins(figures.success),
        "open": ledger["open"],
        "lag_seconds": msgspec.to_builtins(figures.lag),
        "replication_delay_seconds": figures.replication_delay_seconds,
        "converge_within_seconds": figures.adaptive and figures.adaptive.converge_within_ms / 1000,
        "reader": {
            "lag_seconds": figures.reader_lag_seconds,
            "retention_headroom_seconds": figures.retention_headroom_seconds,
            "partitions": msgspec.to_builtins(reader.partitions),
            "gaps": reader.gaps,
            "gaps_open": reader.gaps_open,
            "gaps_closed": [_closed_object(gap) for gap in reader.closed],
        },
        "sample": msgspec.to_builtins(figures.sample),
        "cost": msgspec.to_builtins(figures.cost),
        "strata": [{**msgspec.to_builtins(one), "unseen": one.unseen} for one in strata(figures)],
        "comparison": comparison_object(figures.comparison, prices) if figures.comparison else None,
        "comparison_of_table": comparison_object(figures.of_table, prices) if figures.of_table else None,
        "queue": {
            "backlog": figures.queue.backlog,
            "outstanding": figures.queue.outstanding,
            "due": figures.queue.due,
            "dead": figures.queue.dead,
            "overdue_seconds": figures.overdue_seconds,
            "validators": figures.validators,
        },
        "notes": notes(heading, figures),
    }


def notes(heading: Heading, figures: Figures) -> list[str]:
    """What keeps the figures from meaning what they seem to mean, one sentence each."""
    said = []
    if figures.success.keys == 0:
        said.append(NOTHING_COMPARED)
    if wrong := figures.ledger.imbalance:
        said.append(f"the accounting identity does not hold: {wrong}")
    if lost := figures.reader.gaps_open:
        said.append(f"{many(lost, 'gap')}: stream records were lost before they were read")
    said += [f"a gap {_window(gap)} was closed {_closing(gap)}" for gap in figures.reader.closed]
    if figures.reader.readers == 0:
        said.append("no stream reader is alive: what is written now is not seen until one runs")
    if figures.validators == 0:
        said.append("no validator is alive: what is written now is not judged until one runs")
    if (overdue := figures.overdue_seconds) > OVERDUE_WARNING_SECONDS:
        said.append(f"keys that are due have waited {span(overdue)} for a look: what they hold is not known")
    headroom = figures.retention_headroom_seconds
    if headroom is not None and headroom < HEADROOM_WARNING_SECONDS:
        when = f"will be lost in {span(headroom)}" if headroom > 0 else "are being lost"
        said.append(f"unread records {when}: DynamoDB keeps them for 24 h")
    if figures.queue.dead:
        said.append(f"dead letters: {figures.queue.dead:,}; these keys were given up and not judged")
    if heading.verify_on is Side.SOURCE:
        said.append(LIMIT_OF_SOURCE)
    said += [figures.adaptive.in_words] if figures.adaptive else []
    cannot = no_help(figures.spending, figures.terms, figures.now_ms, figures.sample)
    said += filter(None, (in_words_of_sample(figures.sample), hole_in_words(figures.sample), cannot))
    return said


def _window(gap: Gap) -> str:
    since = f"from {instant(gap.from_ms)} " if gap.from_ms else ""
    return f"{since}to {instant(gap.to_ms)} ({gap.reason})"


def _closing(gap: Gap) -> str:
    return f"at {instant(gap.closed_ms or 0)} by {gap.closed_by}"


def _closed_object(gap: Gap) -> dict[str, Any]:
    """from: null where nobody knows since when changes were lost."""
    return {
        "reason": gap.reason,
        "from": instant(gap.from_ms) if gap.from_ms else None,
        "to": instant(gap.to_ms),
        "closed": instant(gap.closed_ms or 0),
        "by": gap.closed_by,
    }


def _accounting(figures: Figures) -> list[tuple[str, str]]:
    """The accounting identity with its numbers."""
    ledger = figures.ledger
    states = ("reached", "alarmed", "expired", "indeterminate", "dead", "outstanding")
    counts = [getattr(ledger, state) for state in states]
    read_parts = ledger.not_sampled + ledger.versions_published
    arrived = ledger.records_read + ledger.suspects_published
    suspects = f"+ suspects {ledger.suspects_published:,} " if ledger.suspects_published else ""
    return [
        (
            "records",
            f"read {ledger.records_read:,} {suspects}{_equal(arrived, read_parts)} "
            f"not sampled {ledger.not_sampled:,} + versions published {ledger.versions_published:,}",
        ),
        (
            "versions",
            f"published {ledger.versions_published:,} {_equal(ledger.versions_published, sum(counts))} "
            + " + ".join(f"{state} {count:,}" for state, count in zip(states, counts, strict=True)),
        ),
    ]


def _equal(one: int, other: int) -> str:
    return "=" if one == other else "≠"


# --- gate --------------------------------------------------------------------------------------------------


def gate_text(facts: Facts) -> str:
    """`gate`: the answer, every check with its reason, and what the answer does not cover."""
    known = [(name, one.words) for name, one in zip(STRATA_SAID, facts.strata, strict=True)]
    return "\n".join(
        [
            paragraph(f"migration {facts.migration}: {ANSWERS[facts.result]}"),
            rows(((f"{one.result:<13} {one.name:<11}", one.reason) for one in facts.checks), 25, margin=2),
            "how much was looked at:",
            rows([*known, ("keys", facts.keys), *outlook_lines(facts)], width=24, margin=2),
            *_cost_part(facts),
            "what this does not cover:",
            *(paragraph(f"  - {one}", indent=4) for one in facts.unknowns),
        ]
    )


def _cost_part(facts: Facts) -> list[str]:
    if facts.cost is None:
        return []
    return [
        "what it costs:",
        rows([("in all", cost_sentence(facts.cost)), *cost_rows(facts.cost)], width=24, margin=2),
    ]


def outlook_lines(facts: Facts) -> list[tuple[str, str]]:
    """Up to when everything is settled; and, while that is not so already, when it will be enough."""
    ahead = facts.outlook
    lines = [("verified up to", _said(ahead.verified_up_to, facts.at_ms))]
    for name, when in (
        ("enough keys compared", ahead.enough_keys),
        ("nothing waits for a look", ahead.backlog_empty),
    ):
        if when.at_ms is None or when.at_ms > facts.at_ms:
            lines.append((name, _said(when, facts.at_ms)))
    return lines


def _said(when: Instant, now_ms: int) -> str:
    if when.at_ms is None:
        return f"not known: {when.why}"
    if when.at_ms <= now_ms:
        return f"{instant(when.at_ms)}, {span((now_ms - when.at_ms) / 1000)} ago"
    return f"in about {span((when.at_ms - now_ms) / 1000)}, at the rate of the last minutes"


def gate_object(facts: Facts) -> dict[str, Any]:
    """`gate --json`: `result` is passed, failed or inconclusive. All facts but the timeline and the keys."""
    plain = facts_object(facts)
    findings = {name: one for name, one in plain["findings"].items() if name not in {"listed", "closed"}}
    rest = {name: one for name, one in plain.items() if name not in {"samples", "findings"}}
    return {"at": instant(facts.at_ms), **rest, "findings": findings}


def marked(milestone: str, at_ms: int) -> str:
    """What `mark` prints."""
    return f"{milestone} marked at {instant(at_ms)}: {MILESTONES[milestone]}"


def moved(milestone: str, before_ms: int) -> str:
    """The warning that a milestone had been marked before."""
    return f"warning: {milestone} had been marked at {instant(before_ms)}, which is forgotten now"
