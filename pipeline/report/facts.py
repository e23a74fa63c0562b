"""The facts that a report, `gate --json` and the live page are made of: one implementation, one form.

Reads: what the store said. Writes: nothing. Never: the store. No item value is among them, and keys only in
the form that the caller hands in. Instants are Unix milliseconds (`*_ms`), shares lie in 0..1, None = not
measured.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pipeline.core.budget import InUse
from pipeline.core.causes import Causes
from pipeline.core.comparing.definitions import Difference
from pipeline.core.comparing.state import Comparison
from pipeline.core.cost import Cost
from pipeline.core.figures import Figures, Lag
from pipeline.core.gate import Check, Limits, Result, evaluate
from pipeline.core.ledger import ClosedFinding, Finding, Gap, PartitionCounts, Queue
from pipeline.core.outlook import Outlook
from pipeline.core.samples import HourOfCost, Sample, cost_by_hour
from pipeline.core.strata import Stratum, in_words, strata
from pipeline.core.unknowns import keys_in_words, unknowns
from pipeline.report.comparison_text import comparison_object
from pipeline.report.findings_text import ShowPrefix, cause_sentence, keys_text, place_text

#: The form of the facts: one more whenever a kept file would be read wrongly.
FORM = 1
_ARN = re.compile(r"arn:[^:]*:dynamodb:([^:]*):([^:]*):table/([^/]+)")


class Maker(msgspec.Struct, frozen=True):
    """Who made the facts: version of the program, user and host, and where the state lies (no password)."""

    version: str
    by: str
    state: str


class Table(msgspec.Struct, frozen=True):
    """One side. account, region: "" where only the name is known."""

    name: str
    account: str
    region: str


class StratumShown(msgspec.Struct, frozen=True):
    """What is known of a stratum, and in words.

    unseen: the largest share of wrong ones that could have gone unseen.
    """

    numbers: Stratum
    unseen: float | None
    words: str


class CauseShown(msgspec.Struct, frozen=True):
    """One cause of findings, as it may be shown."""

    id: str
    count: int
    kind: str
    operation: str | None
    place: str
    keys: str
    first_ms: int
    last_ms: int
    oldest_change_ms: int | None
    sentence: str


class FindingShown(msgspec.Struct, frozen=True):
    """One finding, as it may be shown. closed_ms, why: of one that is over."""

    key: str
    kind: str
    versions_behind: int
    attributes: list[str]
    operation: str | None
    first_ms: int
    oldest_change_ms: int | None
    closed_ms: int | None = None
    why: str = ""


class Findings(msgspec.Struct, frozen=True):
    """causes: the biggest ones. listed: the oldest open findings. closed: the latest closed ones."""

    total: int
    by_kind: dict[str, int]
    causes: list[CauseShown]
    in_other_causes: int
    listed: list[FindingShown]
    closed: list[FindingShown]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a migration at one instant (docs/deciding.md explains each).

    sample, cost: None in facts that an earlier version kept.
    """

    form: int = FORM
    migration: str
    at_ms: int
    begun_ms: int
    maker: Maker
    source: Table
    target: Table
    settings: dict[str, str]
    result: Result
    checks: list[Check]
    limits: Limits
    unknowns: list[str]
    strata: list[StratumShown]
    keys: str
    keys_seen: int
    keys_compared: int
    keys_excused: int
    outlook: Outlook
    marks_ms: dict[str, int]
    samples: list[Sample]
    lag: Lag
    lag_counts: list[int]
    reader_lag_seconds: float | None
    retention_headroom_seconds: float | None
    readers: int
    validators: int
    partitions: dict[str, PartitionCounts]
    queue: Queue
    ledger: dict[str, Any]
    imbalance: str
    findings: Findings
    gaps: list[Gap]
    definitions: list[Difference] | None
    comparison: dict[str, Any] | None
    sample: InUse | None = None
    cost: Cost | None = None
    cost_by_hour: list[HourOfCost] = []
    replication_delay_seconds: float | None = None


class Sources(msgspec.Struct, frozen=True):
    """What the facts are made of."""

    migration: str
    settings: dict[str, str]
    figures: Figures
    limits: Limits
    samples: list[Sample]
    outlook: Outlook
    gaps: list[Gap]
    maker: Maker


def make(sources: Sources, findings: Findings) -> Facts:
    """The facts. What they say in words is made here, so that every form of the report says the same."""
    figures, limits = sources.figures, sources.limits
    verdict = evaluate(figures, limits)
    comparison, success = figures.of_table, figures.success
    return Facts(
        migration=sources.migration,
        at_ms=figures.now_ms,
        begun_ms=figures.started_ms,
        maker=sources.maker,
        source=_table(sources.settings.get("source_table", "")),
        target=_table(sources.settings.get("target_table", "")),
        settings=sources.settings,
        result=verdict.result,
        checks=verdict.checks,
        limits=limits,
        unknowns=unknowns(figures, sources.settings, limits),
        strata=[StratumShown(one, one.unseen, in_words(one)) for one in strata(figures)],
        keys=keys_in_words(figures),
        keys_seen=figures.ledger.keys_sampled,
        keys_compared=success.keys,
        keys_excused=success.excused,
        outlook=sources.outlook,
        marks_ms=figures.marks,
        samples=sources.samples,
        lag=figures.lag,
        lag_counts=figures.lag_counts,
        reader_lag_seconds=figures.reader_lag_seconds,
        retention_headroom_seconds=figures.retention_headroom_seconds,
        readers=figures.reader.readers,
        validators=figures.validators,
        partitions=figures.reader.partitions,
        queue=figures.queue,
        ledger=msgspec.to_builtins(figures.ledger),
        imbalance=figures.ledger.imbalance,
        findings=findings,
        gaps=sources.gaps,
        definitions=list(comparison.settings.definitions) if comparison else None,
        comparison=_comparison(comparison, figures) if comparison else None,
        sample=figures.sample,
        cost=figures.cost,
        cost_by_hour=cost_by_hour(sources.samples, figures.terms.prices),
        replication_delay_seconds=figures.replication_delay_seconds,
    )


def _comparison(comparison: Comparison, figures: Figures) -> dict[str, Any]:
    times = {"started_ms": comparison.started_ms, "finished_ms": comparison.finished_ms}
    share = {"sample_percent": comparison.settings.sample_percent, "coverage": comparison.coverage}
    counted = comparison_object(comparison, figures.terms.prices)
    return {**counted, **times, **share}


def shown_findings(
    causes: Causes,
    listed: list[FindingShown],
    closed: list[FindingShown],
    show: ShowPrefix,
    causes_shown: int,
) -> Findings:
    """show: what stands for a prefix of keys."""
    biggest = causes.ranked()[:causes_shown]
    return Findings(
        total=causes.total,
        by_kind={str(kind): count for kind, count in sorted(causes.by_kind.items())},
        causes=[
            CauseShown(
                id=one.id,
                count=one.count,
                kind=one.kind,
                operation=one.operation,
                place=place_text(one),
                keys=keys_text(one, show),
                first_ms=one.first_ms,
                last_ms=one.last_ms,
                oldest_change_ms=one.oldest_change_ms,
                sentence=cause_sentence(one, show),
            )
            for one in biggest
        ],
        in_other_causes=causes.total - sum(one.count for one in biggest),
        listed=listed,
        closed=closed,
    )


def shown_finding(finding: Finding, key: str) -> FindingShown:
    """key: the text that stands for its key."""
    return FindingShown(
        key=key,
        kind=finding.kind,
        versions_behind=finding.versions_behind,
        attributes=finding.attributes,
        operation=finding.operation,
        first_ms=finding.first_seen_ms,
        oldest_change_ms=finding.oldest_change_ms,
    )


def shown_closed(closed: ClosedFinding, key: str) -> FindingShown:
    """As `shown_finding`, with its end."""
    open_ = shown_finding(closed.finding, key)
    return msgspec.structs.replace(open_, closed_ms=closed.closed_ms, why=str(closed.why))


def _table(said: str) -> Table:
    """Of an ARN or a plain name."""
    found = _ARN.match(said)
    return Table(found[3], found[2], found[1]) if found else Table(said, "", "")


# --- kept and held against each other -----------------------------------------------------------------------


def facts_object(facts: Facts) -> dict[str, Any]:
    """The facts as plain JSON values."""
    return msgspec.to_builtins(facts)  # type: ignore[no-any-return]


def fingerprint(plain: Mapping[str, Any]) -> str:
    """SHA-256 of the facts: of their JSON with sorted names, no blanks, and only ASCII."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def failing(checks: Sequence[Check]) -> list[Check]:
    """Those that did not pass, failed ones first."""
    rank = {Result.FAILED: 0, Result.INCONCLUSIVE: 1}
    return sorted((one for one in checks if one.result in rank), key=lambda one: rank[one.result])
