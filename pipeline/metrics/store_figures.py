"""The metrics that the store knows of each migration, read at each scrape by the monitor alone.

Reads: the store's figures, and the causes of findings, through callables. Writes: nothing. Never: redis. A
figure is held for a second at most, so a reader that died cannot leave "lag 0.2 s" standing; causes are those
of the last half minute.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.core.causes import Cause
from pipeline.core.figures import Figures
from pipeline.core.gate import DEFAULT_LIMITS, Limits
from pipeline.core.model import MISMATCHES, ChangeType
from pipeline.errors import MonitorError
from pipeline.metrics.causes import FINDINGS_BY_CAUSE, cause_samples
from pipeline.metrics.comparison import COMPARISON_METRICS
from pipeline.metrics.cost import COST_METRICS
from pipeline.metrics.cutover import cutover_metrics
from pipeline.metrics.declared import Declared, Sample, StoreMetric, store_metric
from pipeline.metrics.strata import STRATA_METRICS

log = structlog.get_logger(__name__)

#: The ledger's counters, each exported as ddbmm_ledger_<name>_total.
LEDGER_COUNTERS = {
    "records_read": "Change records read and published, each once.",
    "records_repeated": "Change records that were read again and dropped as repeats.",
    "not_sampled": "Change records whose key the sampler left out.",
    "versions_published": "Change records whose key the sampler kept: versions to be proven.",
    "matches": "Looks that proved a key to be right.",
    "looks_without_progress": "Looks that reached nothing new and only led to another look.",
    "recovered": "Findings that a later look found right.",
    "findings_excused": "Findings closed because TTL itself will remove what they are about.",
    "reads": "Keys read on the verified side.",
    "reads_strong": "Strongly consistent reads among ledger_reads.",
}
#: What becomes of a version, each exported as ddbmm_versions_<name>: gauges, because a finding that
#: recovers turns alarmed versions into reached ones. Their sum is versions_published.
VERSION_STATES = {
    "reached": "Versions that the verified side was seen to have reached.",
    "alarmed": "Versions that an open finding covers.",
    "expired": "Versions of keys that are excused: what differs TTL itself will remove.",
    "indeterminate": "Versions that could not be decided.",
    "dead": "Versions given up with their queue entry.",
    "outstanding": "Versions not yet proven.",
}
DEAD_REASONS = ("poison", "redelivered")
#: The roles without which nothing is proven.
ROLES = ("reader", "validator", "monitor")
#: So many partitions are told apart, those furthest behind, by their rank: a shard's name is in no label.
FURTHEST_BEHIND = 10


def _one(kind: str, name: str, text: str, number: Callable[[Figures], float | None]) -> StoreMetric:
    """A metric with one sample a migration; none while the number was not measured."""

    def samples(figures: Figures) -> Iterable[Sample]:
        value = number(figures)
        return () if value is None else (((), value),)

    return store_metric(kind, name, text, samples)


def _per(
    label: str,
    known: Iterable[str],
    kind: str,
    name: str,
    text: str,
    counts: Callable[[Figures], Mapping[Any, int]],
) -> StoreMetric:
    """A metric with one more label; the known values are there from the start, at 0."""
    values = tuple(known)

    def samples(figures: Figures) -> Iterable[Sample]:
        found = {**dict.fromkeys(values, 0), **counts(figures)}
        return (((value,), number) for value, number in found.items())

    return store_metric(kind, name, text, samples, {label: values})


def _closed(counts: Mapping[str, int], known: Iterable[str]) -> dict[str, int]:
    """Names that are not known together count as "other", so that the label set stays closed."""
    named = {str(name): counts.get(name, 0) for name in known}
    return {**named, "other": sum(counts.values()) - sum(named.values())}


def _counter(name: str, text: str) -> StoreMetric:
    return _one("counter", f"ledger_{name}_total", text, lambda f: getattr(f.ledger, name))


def _state(name: str, text: str) -> StoreMetric:
    return _one("gauge", f"versions_{name}", text, lambda f: getattr(f.ledger, name))


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _partition_lags(figures: Figures) -> Iterable[Sample]:
    behind = figures.reader.furthest_behind_ms[:FURTHEST_BEHIND]
    return [
        ((str(rank),), max(figures.now_ms - at_ms, 0) / 1000) for rank, at_ms in enumerate(behind, start=1)
    ]


# fmt: off
STORE_METRICS = (
    _one("gauge", "queue_backlog_entries", "Keys in the work stream.", lambda f: f.queue.backlog),
    _one("gauge", "queue_pending_entries", "Keys held by a validator.", lambda f: f.queue.pending),
    _one("gauge", "queue_consumers", "Validators that hold entries.", lambda f: f.queue.consumers),
    _one("gauge", "queue_due_entries", "Keys waiting for their next look.", lambda f: f.queue.due),
    _one("counter", "queue_redelivered_entries_total", "Keys whose validator went silent.",
         lambda f: f.ledger.entries_redelivered),
    _per("reason", DEAD_REASONS, "counter", "queue_dead_entries_total",
         "Entries given up, kept for a person.", lambda f: f.ledger.dead_entries),
    _one("counter", "keys_coalesced_total", "Versions whose key was waiting for a look already.",
         lambda f: f.ledger.keys_coalesced),
    _one("gauge", "keys_outstanding", "Keys whose history is open.", lambda f: f.queue.outstanding),
    _one(
        "gauge", "converge_within_seconds",
        "Deadline in use where it follows the lag (--converge-within auto); none where it is fixed.",
        lambda f: None if f.adaptive is None else f.adaptive.converge_within_ms / 1000,
    ),
    _one("gauge", "keys_judged", "Distinct keys found right or wrong (estimate, within 1 %).",
         lambda f: f.ledger.keys_judged),
    _one("gauge", "keys_excused", "Keys that differ in what TTL itself will remove: neither right nor wrong.",
         lambda f: f.ledger.excused),
    _one("gauge", "keys_right_low_ratio", "Lower end of the 95 % interval of the share of right keys.",
         lambda f: f.success.low),
    _one("gauge", "keys_right_high_ratio", "Upper end of the 95 % interval of the share of right keys.",
         lambda f: f.success.high),
    _one("gauge", "keys_seen", "Distinct keys with a version (estimate, within 1 %).",
         lambda f: f.ledger.keys_sampled),
    _one("gauge", "oldest_unconverged_timestamp_seconds",
         "When the oldest version that a look missed was written.", lambda f: _seconds(f.oldest_waiting_ms)),
    _one("gauge", "replication_delay_seconds",
         "The larger of the last minutes' p99 replication lag and the age of the oldest change not found.",
         lambda f: f.replication_delay_seconds),
    _one("gauge", "looks_overdue_seconds",
         "How long the key that has waited longest for a look has been due.", lambda f: f.overdue_seconds),
    _one("gauge", "last_verdict_timestamp_seconds", "When a verdict was last committed.",
         lambda f: _seconds(f.verdict_ms)),
    _one("gauge", "validator_processes", "Validators with a heartbeat.", lambda f: f.validators),
    _per("expected_role", ROLES, "gauge", "roles_expected",
         "1 while a process of the role must run: until T4 is marked.",
         lambda f: dict.fromkeys(ROLES, int("T4" not in f.marks))),
    store_metric("gauge", "partition_lag_seconds",
                 "Age of the oldest change that may be unread, of the partitions furthest behind.",
                 _partition_lags, {"rank": tuple(map(str, range(1, FURTHEST_BEHIND + 1)))}),
    _one("gauge", "oldest_finding_timestamp_seconds", "When the oldest open finding was opened.",
         lambda f: _seconds(f.oldest_finding_ms)),
    _per("kind", MISMATCHES, "gauge", "mismatches_open", "Open findings.", lambda f: f.ledger.open),
    _per("kind", MISMATCHES, "counter", "ledger_mismatches_total", "Findings ever opened.",
         lambda f: f.ledger.mismatches),
    _one("gauge", "stream_reader_lag_seconds", "Age of the oldest change that may be unread.",
         lambda f: f.reader_lag_seconds),
    _one("gauge", "stream_retention_headroom_seconds", "Until DynamoDB drops the oldest unread change.",
         lambda f: f.retention_headroom_seconds),
    _per("state", ("open", "finished"), "gauge", "partitions",
         "Partitions (of a stream: shards) by whether they are read to their end.",
         lambda f: {"open": f.reader.partitions_open, "finished": f.reader.partitions_finished}),
    _per("change", (*ChangeType, "other"), "counter", "ledger_records_total",
         "Records published, by what they did.", lambda f: _closed(f.ledger.records, ChangeType)),
    _one("counter", "stream_gaps_total", "Losses of stream records.", lambda f: f.reader.gaps),
    _one("gauge", "stream_gaps_open", "Losses of stream records that no comparison has closed.",
         lambda f: f.reader.gaps_open),
    _one("gauge", "reader_processes", "Stream readers with a heartbeat.", lambda f: f.reader.readers),
    _one("counter", "store_clock_steps_total", "Steps of Redis' clock, on which nothing depends.",
         lambda f: f.clock.steps),
    _one("gauge", "store_clock_distance_seconds", "The state's clock, which is AWS's, minus Redis' own.",
         lambda f: _seconds(f.clock.distance_ms)),
    _one("gauge", "ledger_balanced", "1 while the accounting identity holds.",
         lambda f: float(f.ledger.balanced)),
    *(_counter(name, text) for name, text in LEDGER_COUNTERS.items()),
    *(_state(name, text) for name, text in VERSION_STATES.items()),
)
# fmt: on
STORE_UP = store_metric(
    "gauge",
    "store_up",
    "1 when Redis answered this scrape with the migration's figures, and takes writes.",
    lambda _f: (((), 1),),
)


class Watched(msgspec.Struct, frozen=True):
    """One migration whose figures are exported.

    figures: reads the store; may raise MonitorError. causes: those behind the open findings of such figures,
    biggest first; raises nothing.
    """

    migration: str
    figures: Callable[[], Figures]
    limits: Limits = DEFAULT_LIMITS
    causes: Callable[[Figures], Sequence[Cause]] = lambda _figures: ()


class StoreCollector(Collector):
    """What the store knows of migrations, read at scrape time; of one that cannot be read, only `store_up 0`.

    One reading serves all scrapes of `CACHE_SECONDS`, so that several scrapers cannot multiply the load on
    Redis. Where servers do not answer it takes no longer than `READ_SECONDS` and one call that hangs, since
    Prometheus waits for 8 s. Those whose turn did not come last time are read first, those that failed last,
    and whoever's turn does not come is not up.
    """

    CACHE_SECONDS, READ_SECONDS, HANGING_SECONDS = 1.0, 2.5, 1.0

    def __init__(self, watched: Sequence[Watched]) -> None:
        of_all = (STORE_UP, *STORE_METRICS, *COMPARISON_METRICS, *STRATA_METRICS, *COST_METRICS)
        self._watched = [(one, (*of_all, *cutover_metrics(one.limits))) for one in watched]
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[Metric] = []
        # Migration → since when it cannot be read; 0 = it was read, -1 = its turn did not come last time.
        self._turns: dict[str, float] = {}

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at >= self.CACHE_SECONDS:
                self._families = self._read()
                self._read_at = time.monotonic()
            return self._families

    def _read(self) -> list[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        until = time.monotonic() + self.READ_SECONDS
        for one, metrics in sorted(self._watched, key=lambda each: self._turns.get(each[0].migration, 0)):
            figures = None
            if (began := time.monotonic()) < until:
                figures = _figures(one)
                self._turns[one.migration] = 0 if figures else began
                if figures is None and time.monotonic() - began > self.HANGING_SECONDS:
                    until = began  # the next might hang as well
            elif self._turns.get(one.migration, 0) <= 0:
                self._turns[one.migration] = -1
            for declared, samples in _samples(one, metrics, figures):
                family = families.setdefault(declared.name, _family(declared))
                for labels, value in samples:
                    family.add_metric([one.migration, *labels], value)
        return list(families.values())


def _figures(watched: Watched) -> Figures | None:
    try:
        return watched.figures()
    except MonitorError as error:  # said by the monitor itself, once
        log.debug("store not readable", migration=watched.migration, error=str(error))
        return None


def _samples(
    watched: Watched, metrics: Sequence[StoreMetric], figures: Figures | None
) -> Iterator[tuple[Declared, Iterable[Sample]]]:
    if figures is None:
        yield STORE_UP.declared, (((), 0),)
        return
    for metric in metrics:
        yield metric.declared, metric.samples(figures)
    yield FINDINGS_BY_CAUSE, cause_samples(watched.causes(figures))


def _family(declared: Declared) -> CounterMetricFamily | GaugeMetricFamily:
    make = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    return make(declared.name, declared.help, labels=list(declared.labels))
