"""Facts of migrations in five states, made without a store: what a report has to show."""

import math
from collections.abc import Callable

import msgspec

from pipeline.core.causes import Causes, key_prefix
from pipeline.core.comparing.definitions import Difference
from pipeline.core.comparing.state import CompareSettings, Comparison, Tally
from pipeline.core.figures import Figures
from pipeline.core.gate import Limits
from pipeline.core.ledger import (
    ClosedFinding,
    Closing,
    Finding,
    Gap,
    Ledger,
    PartitionCounts,
    Queue,
    ReaderState,
)
from pipeline.core.model import ChangeType, VerdictKind
from pipeline.core.outlook import Unsettled, outlook
from pipeline.core.samples import Sample
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.report import cover
from pipeline.report import facts as made
from pipeline.report.cover import Cover
from pipeline.report.facts import Facts, Maker, Sources
from pipeline.report.standing import Problem

#: 2026-11-23T12:00:00Z
NOON_MS = 1_795_435_200_000
HOUR_MS = 3_600_000
SETTINGS = {
    "source_table": "arn:aws:dynamodb:eu-central-1:111111111111:table/orders",
    "target_table": "arn:aws:dynamodb:eu-west-1:222222222222:table/orders",
    "verify_on": "target",
    "iterator_type": "LATEST",
    "sample_rate": "10.0",
    "ignore_attributes": "updatedBy",
    "partition_key": "pk",
    "partition_type": "S",
    "sort_key": "",
    "sort_type": "",
}
MAKER = Maker("1.0", "ann@bastion", "redis://redis:6379/0")


def lags(**seconds: int) -> list[int]:
    """lags(s2=10): ten lags in the bucket that ends at 2 s."""
    counts = [0] * (len(LAG_BUCKETS_SECONDS) + 1)
    for bound, count in seconds.items():
        counts[LAG_BUCKETS_SECONDS.index(float(bound[1:]))] = count
    return counts


def samples(lag: float = 2.0, open_findings: int = 0) -> list[Sample]:
    """Six hours, a sample every two minutes, with an outage of twenty minutes."""
    return [
        Sample(
            at_ms=NOON_MS - 6 * HOUR_MS + minute * 60_000,
            wrong=open_findings / 300_000,
            unseen=0.001 + 0.02 * math.exp(-minute / 60),
            lag_p50=lag * (1 + 0.3 * math.sin(minute / 9)) / 2,
            lag_p99=lag * (1 + 0.3 * math.sin(minute / 9)),
            reader=1.0 + (minute % 7) / 5,
            open=open_findings if minute > 200 else 0,
            keys=minute * 800,
            compared=min(1.0, minute / 240),
            records=minute * 9_000,
        )
        for minute in range(0, 360, 2)
        if not 100 < minute < 120
    ]


def healthy() -> Figures:
    ledger = Ledger(
        records_read=3_000_000,
        records={"INSERT": 1_000_000, "MODIFY": 1_900_000, "REMOVE": 100_000},
        not_sampled=2_700_000,
        versions_published=300_000,
        reached=299_900,
        outstanding=100,
        matches=290_000,
        open={"missing": 0, "stale": 0, "different": 0, "extra": 0},
        recovered=2,
        reads=350_000,
        reads_strong=1_000,
        keys_judged=288_000,
        keys_sampled=288_050,
    )
    settings = CompareSettings(
        table_bytes=0,
        segments=1_000,
        definitions=(Difference("billing mode", "PROVISIONED", "PAY_PER_REQUEST"),),
    )
    tally = Tally(
        equal=29_999_000,
        different=1_000,
        source_items=30_000_000,
        target_items=30_000_000,
        half_units_source=900_000,
        half_units_target=900_000,
    )
    return Figures(
        now_ms=NOON_MS,
        started_ms=NOON_MS - 6 * HOUR_MS,
        ledger=ledger,
        queue=Queue(backlog=12, pending=5, outstanding=90, due=78, dead=0),
        reader=ReaderState(NOON_MS - 1_200, {"stream": PartitionCounts(4, 2)}, gaps=0, readers=1),
        lag_counts=lags(s1=400, s2=900, s3=300, s5=80, s10=4),
        oldest_waiting_ms=NOON_MS - 4_000,
        verdict_ms=NOON_MS - 500,
        validators=2,
        marks={
            "T0": NOON_MS - 6 * HOUR_MS + 60_000,
            "T1": NOON_MS - 5 * HOUR_MS,
            "T2": NOON_MS - 2 * HOUR_MS,
        },
        comparison=Comparison("c", settings, 1_000, 1_000, NOON_MS - 5 * HOUR_MS, NOON_MS - HOUR_MS, tally),
        watched_since_ms=NOON_MS - 6 * HOUR_MS,
    )


def with_ledger(figures: Figures, **changes: object) -> Figures:
    return msgspec.structs.replace(figures, ledger=msgspec.structs.replace(figures.ledger, **changes))


def finding(key: str, **changes: object) -> Finding:
    plain = Finding(
        key=msgspec.json.encode(key),
        kind=VerdictKind.DIFFERENT,
        versions_behind=1,
        attributes=["contact.name"],
        first_seen_ms=NOON_MS - 2 * HOUR_MS,
        last_looked_ms=NOON_MS,
        operation=ChangeType.MODIFY,
        oldest_change_ms=NOON_MS - 2 * HOUR_MS - 62_000,
    )
    return msgspec.structs.replace(plain, **changes)


CLOSED = [
    ClosedFinding(
        finding("c#9", first_seen_ms=NOON_MS - 3 * HOUR_MS), NOON_MS - 2 * HOUR_MS, Closing.RECOVERED
    ),
    ClosedFinding(finding("s#4", kind=VerdictKind.EXTRA), NOON_MS - HOUR_MS, Closing.EXCUSED),
]


def facts_of(
    figures: Figures,
    findings: list[Finding] = [],  # noqa: B006 - nobody changes it
    *,
    history: list[Sample] | None = None,
    gaps: list[Gap] = [],  # noqa: B006
    limits: Limits | None = None,
    settings: dict[str, str] = SETTINGS,
    migration: str = "orders",
) -> Facts:
    """The facts that `gathering` would make of it; keys are shown as they are."""
    causes, history, limits = Causes(), samples() if history is None else history, limits or Limits()
    for one in findings:
        causes.add(one, key_prefix(one.key))
    sources = Sources(
        migration=migration,
        settings=settings,
        figures=figures,
        limits=limits,
        samples=history,
        outlook=outlook(figures, history, limits, Unsettled(None, complete=True)),
        gaps=gaps,
        maker=MAKER,
    )
    listed = [made.shown_finding(one, one.key.decode()) for one in findings[:500]]
    closed = [made.shown_closed(one, one.finding.key.decode()) for one in CLOSED] if history else []
    return made.make(sources, made.shown_findings(causes, listed, closed, str, 20))


def lagging() -> Facts:
    late = msgspec.structs.replace(
        healthy(),
        lag_counts=lags(s60=100, s120=900, s300=700),
        oldest_waiting_ms=NOON_MS - 280_000,
        queue=Queue(backlog=40_000, pending=400, outstanding=90_000, due=50_000, dead=0),
    )
    return facts_of(late, history=samples(lag=140))


def one_bad_item() -> Facts:
    kinds = {"missing": 0, "stale": 0, "different": 1, "extra": 0}
    bad = with_ledger(healthy(), reached=299_899, alarmed=1, open=kinds)
    return facts_of(bad, [finding("c#4711")], history=samples(open_findings=1))


def gap() -> Facts:
    lost = msgspec.structs.replace(
        healthy(),
        reader=ReaderState(NOON_MS - 1_200, {"stream": PartitionCounts(4, 2)}, gaps=1, readers=1),
        gap_ms=NOON_MS - HOUR_MS,
    )
    return facts_of(lost, gaps=[Gap("stream:shardId-00000001", "trimmed", "after 4711", NOON_MS - HOUR_MS)])


def nothing() -> Figures:
    """Of a migration that has just begun."""
    return Figures(
        now_ms=NOON_MS,
        started_ms=NOON_MS - 1_000,
        ledger=Ledger.from_fields({}, 0, 0),
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(0, {}, gaps=0, readers=1),
        lag_counts=lags(),
        oldest_waiting_ms=None,
        validators=2,
    )


def nothing_compared() -> Facts:
    return facts_of(nothing(), history=[])


HOSTILE = (
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "\u202e gnp.exe \u2066",
    "\x1b[2J\x07 \x00",
    "💥👩‍👩‍👧 שלום",
    "x" * 65_535,
    "\ud800 lone",
)


def hostile() -> Facts:
    """Names from outside that would like to be more than names."""
    found = [
        finding(
            f"{name[:100]}#1".encode("utf-8", "replace").decode(),
            attributes=[name.encode("utf-8", "replace").decode()[:190]],
            types={name.encode("utf-8", "replace").decode()[:60]: "N → S"},
            kind=VerdictKind.STALE,
        )
        for name in HOSTILE
    ]
    count = len(found)
    bad = with_ledger(healthy(), reached=299_900 - count, alarmed=count, open={"stale": count})
    named = SETTINGS | {"ignore_attributes": HOSTILE[0] + "," + HOSTILE[3]}
    return facts_of(bad, found, settings=named)


STATES: dict[str, Callable[[], Facts]] = {
    "healthy": lambda: facts_of(healthy()),
    "lagging": lagging,
    "one-bad-item": one_bad_item,
    "gap": gap,
    "nothing-compared": nothing_compared,
}


#: Why migrations could not be read; the last one's words are from outside.
PROBLEMS = {
    "gone": Problem("there is no migration gone in this Redis", "begin it with `run`"),
    "damaged": Problem(f"ddbmm:{{damaged}}:ledger holds {HOSTILE[0]}{HOSTILE[3]}{HOSTILE[1]}"),
}


def thirty() -> dict[str, Facts | Problem]:
    """Thirty migrations: GO, NO-GO for many reasons, nothing compared, names from outside, not to be read."""
    found: dict[str, Facts | Problem] = {
        name: msgspec.structs.replace(made(), migration=name)
        for name, made in {**STATES, "hostile": hostile, "x" * 255: STATES["healthy"]}.items()
        if name != "healthy"
    }
    found |= PROBLEMS
    for number in range(30 - len(found)):
        found[f"table-{number:02}"] = facts_of(healthy(), migration=f"table-{number:02}")
    return found


def covers() -> dict[str, Cover]:
    """Reports of many."""
    good = {f"table-{number}": facts_of(healthy(), migration=f"table-{number}") for number in range(2)}
    return {
        "thirty": cover.make(thirty(), MAKER),
        "all-go": cover.make(good, MAKER),
        "none-read": cover.make(PROBLEMS, MAKER),
    }
