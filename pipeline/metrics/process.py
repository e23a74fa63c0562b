"""The metrics that each process counts about itself, declared once.

Reads: nothing. Writes: counters in memory or in this process's slot files (see `metrics.start`).
Never: Redis, a key, a shard name or free text in a label: label sets are closed and made at start, so
that the first mismatch is a step from 0 and `rate()` sees it.
"""

import platform
from bisect import bisect_left
from collections import Counter as Counted
from collections.abc import Iterable, Sequence
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipeline import __version__
from pipeline.core.model import MISMATCHES, ChangeType, Side, VerdictKind
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.metrics.declared import PREFIX, Declared

Known = Iterable[Sequence[str]]

#: Keys in one BatchGetItem; DynamoDB's limit is 100.
BATCH_BUCKETS_KEYS = (1, 2, 5, 10, 25, 50, 75, 100)
#: Seconds of one AWS request: a quick one takes some 5 ms, the read timeout ends it after 5 s.
REQUEST_BUCKETS_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

TABLE_SIDES = (Side.SOURCE.value, Side.TARGET.value)
#: Who is asked: the two tables and the stream, each with credentials and an endpoint of its own.
AWS_SIDES = (*TABLE_SIDES, "stream")
_OTHER = "other"
_TABLE_CALLS = ("BatchGetItem", "DescribeTable", "DescribeTimeToLive", "GetCallerIdentity", _OTHER)
_STREAM_CALLS = (
    "ListStreams",
    "DescribeStream",
    "GetShardIterator",
    "GetRecords",
    "GetCallerIdentity",
    _OTHER,
)
#: The requests that are made, with the side that answers them.
AWS_CALLS = (*product(_TABLE_CALLS, TABLE_SIDES), *product(_STREAM_CALLS, ("stream",)))
#: "Slow down", in DynamoDB's words (API reference, "Error handling with DynamoDB").
THROTTLE_CODES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "TooManyRequestsException",
    }
)
#: Failures told apart: AWS's codes, "Unavailable" for network and 5xx, "Malformed" for a body that makes no
#: sense. Any other code is counted as "other", so that the label set stays closed.
FAILURE_CODES = (
    "AccessDeniedException",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ValidationException",
    "ResourceNotFoundException",
    "ExpiredIteratorException",
    "TrimmedDataAccessException",
    "InternalServerError",
    "Unavailable",
    "Malformed",
    _OTHER,
)


class BatchHistogram(Histogram):
    """A histogram that takes a batch of amounts at the price of one or two.

    prometheus_client has no such call; what it keeps in `_sum` and `_buckets` is tested to be as after
    `observe` of each (tests/test_metrics.py).
    """

    def observe_all(self, amounts: Sequence[float]) -> None:
        self._sum.inc(sum(amounts))
        for index, number in Counted(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[index].inc(number)


class _Factory:
    """Makes metrics with the prefix and all known label sets, and remembers what it declared.

    known: the label sets to make at once, each in the order of `labels`.
    """

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registry = registry
        self.declared: list[Declared] = []

    def counter(self, name: str, text: str, labels: Sequence[str] = (), known: Known = ()) -> Counter:
        metric = Counter(PREFIX + name, text, labels, registry=self._registry)
        self._declare(metric, labels, list(known))
        return metric

    def gauge(self, name: str, text: str, labels: Sequence[str] = (), known: Known = ()) -> Gauge:
        metric = Gauge(PREFIX + name, text, labels, registry=self._registry, multiprocess_mode="mostrecent")
        self._declare(metric, labels, list(known))
        return metric

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), known: Known = (), *, buckets: Sequence[float]
    ) -> BatchHistogram:
        metric = BatchHistogram(PREFIX + name, text, labels, registry=self._registry, buckets=buckets)
        self._declare(metric, labels, list(known))
        return metric

    def _declare(
        self, metric: Counter | Gauge | Histogram, labels: Sequence[str], known: list[Sequence[str]]
    ) -> None:
        for each in known:
            metric.labels(*each)
        family = next(iter(metric.describe()))
        name = family.name + ("_total" if family.type == "counter" else "")
        seen = {label: tuple(dict.fromkeys(each[i] for each in known)) for i, label in enumerate(labels)}
        self.declared.append(Declared(name, family.type, family.documentation, seen, "each process"))


class Metrics:
    """What one process counts about itself. An attribute is the metric's name without prefix and `_total`.

    Attributes that are dicts hold a metric's pre-bound children, for hot paths. `registry` is what a port
    of this process (or, with a shared directory, of this process group) serves.
    """

    def __init__(self, own: CollectorRegistry | None, registry: CollectorRegistry) -> None:
        self.registry = registry
        make = _Factory(own)
        self._declare_reader(make)
        self._declare_validator(make)
        self._declare_aws(make)
        self._declare_process(make)
        self.declared = tuple(make.declared)

    def _declare_reader(self, make: _Factory) -> None:
        self.stream_records_read = make.counter(
            "stream_records_read",
            "Change records read and published, by the table whose stream they came from.",
            ("table", "event"),
            product(TABLE_SIDES, ChangeType),
        )
        self.records_read = {
            side: {event: self.stream_records_read.labels(side, event) for event in ChangeType}
            for side in Side
        }
        self.stream_last_poll_timestamp_seconds = make.gauge(
            "stream_last_poll_timestamp_seconds", "When GetRecords last answered."
        )
        self.stream_malformed_images = make.counter(
            "stream_malformed_images", "Images of change records that are not valid items: versions unknown."
        )
        self.checkpoint_timestamp_seconds = make.gauge(
            "checkpoint_timestamp_seconds", "When a checkpoint was last committed."
        )
        self.keys_sampled = make.counter("keys_sampled", "Change records whose key the sampler kept.")
        self.sample_ratio = make.gauge(
            "sample_ratio", "Configured share of the keys that is sampled, 0 to 1."
        )

    def _declare_validator(self, make: _Factory) -> None:
        self.validations = make.counter("validations", "Looks at a key that were judged and committed.")
        self.validation_mismatches = make.counter(
            "validation_mismatches",
            "Verdicts that opened a finding.",
            ("kind",),
            ((kind,) for kind in MISMATCHES),
        )
        self.mismatches: dict[VerdictKind, Counter] = {
            kind: self.validation_mismatches.labels(kind) for kind in MISMATCHES
        }
        self.validation_rechecks = make.counter("validation_rechecks", "Looks that were scheduled again.")
        self.batch_keys = make.histogram(
            "batch_keys",
            "Keys in one BatchGetItem.",
            ("side",),
            ((side,) for side in TABLE_SIDES),
            buckets=BATCH_BUCKETS_KEYS,
        )
        self.replication_lag_seconds = make.histogram(
            "replication_lag_seconds",
            "From the write at the origin to the first look that matched.",
            buckets=LAG_BUCKETS_SECONDS,
        )
        self.last_validation_timestamp_seconds = make.gauge(
            "last_validation_timestamp_seconds", "When a verdict was last committed."
        )

    def _declare_aws(self, make: _Factory) -> None:
        call, sides = ("operation", "side"), [(side,) for side in AWS_SIDES]
        self.aws_requests = make.counter(
            "aws_requests", "AWS requests sent, answered or not.", call, AWS_CALLS
        )
        self.aws_throttled_requests = make.counter(
            "aws_throttled_requests", "AWS requests refused with the word to slow down.", call, AWS_CALLS
        )
        self.aws_request_failures = make.counter(
            "aws_request_failures",
            "AWS requests that failed for another reason than throttling.",
            (*call, "code"),
            ((*each, code) for each, code in product(AWS_CALLS, FAILURE_CODES)),
        )
        self.aws_request_duration_seconds = make.histogram(
            "aws_request_duration_seconds",
            "Time an AWS request took.",
            call,
            AWS_CALLS,
            buckets=REQUEST_BUCKETS_SECONDS,
        )
        self.consumed_read_capacity_units = make.counter(
            "consumed_read_capacity_units", "Read units the tables say were consumed.", ("side",), sides
        )
        self.rate_limit_wait_seconds = make.counter(
            "rate_limit_wait_seconds", "Time spent waiting for the --max-rcu budget.", ("side",), sides
        )
        self.credentials_expiry_timestamp_seconds = make.gauge(
            "credentials_expiry_timestamp_seconds", "When the credentials in use expire.", ("side",), sides
        )
        self.clock_skew_seconds = make.gauge(
            "clock_skew_seconds", "AWS's clock minus ours, from the Date header.", ("side",), sides
        )

    def _declare_process(self, make: _Factory) -> None:
        self.worker_processes = make.gauge("worker_processes", "Processes that the supervisor keeps alive.")
        self.worker_restarts = make.counter(
            "worker_restarts", "Processes that ended by themselves and were restarted."
        )
        self.log_messages = make.counter(
            "log_messages", "Log lines written.", ("level",), ((v,) for v in LOG_LEVELS)
        )
        self.logged = {level: self.log_messages.labels(level) for level in LOG_LEVELS}
        build = make.gauge(
            "build_info",
            "1; its labels say which build runs.",
            ("version", "python_version"),
            ((__version__, platform.python_version()),),
        )
        build.labels(__version__, platform.python_version()).set(1)

    def aws_observer(self, side: str) -> "AwsObserver":
        """What an AWS client of `side` (source, target or stream) reports its requests to."""
        return AwsObserver(self, side)


class AwsObserver:
    """Counts the requests of one side's client; children are bound once, unknown words become "other"."""

    def __init__(self, metrics: Metrics, side: str) -> None:
        operations = [operation for operation, at in AWS_CALLS if at == side]
        self._requests = {o: metrics.aws_requests.labels(o, side) for o in operations}
        self._throttled = {o: metrics.aws_throttled_requests.labels(o, side) for o in operations}
        self._seconds = {o: metrics.aws_request_duration_seconds.labels(o, side) for o in operations}
        self._failures = {
            (o, code): metrics.aws_request_failures.labels(o, side, code)
            for o, code in product(operations, FAILURE_CODES)
        }
        self._units = metrics.consumed_read_capacity_units.labels(side)
        self._wait = metrics.rate_limit_wait_seconds.labels(side)

    def request(self, operation: str, seconds: float, code: str | None) -> None:
        """One request ended after `seconds`; code: AWS's error code, None when it succeeded."""
        known = operation if operation in self._requests else _OTHER
        self._requests[known].inc()
        self._seconds[known].observe(seconds)
        if code in THROTTLE_CODES:
            self._throttled[known].inc()
        elif code is not None:
            self._failures[known, code if code in FAILURE_CODES else _OTHER].inc()

    def consumed(self, units: float) -> None:
        self._units.inc(units)

    def waited(self, seconds: float) -> None:
        self._wait.inc(seconds)
