"""What a process counts of a migration that it serves, declared once.

Reads: nothing. Writes: counters in memory or in this process's slot files (see `metrics.start`). Never:
redis. No key, shard name or free text is in a label.
"""

from itertools import product

from prometheus_client import Counter, Gauge, Histogram

from pipeline.core.model import MISMATCHES, ChangeType, Side
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.errors import THROTTLE_CODES
from pipeline.metrics.declared import BatchHistogram, Factory

#: Keys in one BatchGetItem; DynamoDB's limit is 100.
BATCH_BUCKETS_KEYS = (1, 2, 5, 10, 25, 50, 75, 100)
#: Seconds of one AWS request: a quick one takes some 5 ms, the read timeout ends it after 5 s.
REQUEST_BUCKETS_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

TABLE_SIDES = (Side.SOURCE.value, Side.TARGET.value)
#: Who is asked: the two tables and the stream, each with credentials and an endpoint of its own.
AWS_SIDES = (*TABLE_SIDES, "stream")
_OTHER = "other"
_TABLE_CALLS = ("BatchGetItem", "Scan", "DescribeTable", "DescribeTimeToLive", "GetCallerIdentity", _OTHER)
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


class MigrationFamilies:
    """The declarations, in one process. An attribute is the metric's name without prefix and `_total`."""

    def __init__(self, make: Factory) -> None:
        self.migration_info = make.of_migration(
            Gauge, "migration_info", "1 in every reader and validator that serves the migration."
        )
        self._declare_reader(make)
        self._declare_validator(make)
        self._declare_aws(make)

    def _declare_reader(self, make: Factory) -> None:
        self.stream_records_read = make.of_migration(
            Counter,
            "stream_records_read",
            "Change records read and published, by the table whose stream they came from.",
            ("table", "change"),
            product(TABLE_SIDES, ChangeType),
        )
        self.stream_last_poll_timestamp_seconds = make.of_migration(
            Gauge, "stream_last_poll_timestamp_seconds", "When GetRecords last answered."
        )
        self.stream_malformed_images = make.of_migration(
            Counter,
            "stream_malformed_images",
            "Images of change records that are not valid items: versions unknown.",
        )
        self.checkpoint_timestamp_seconds = make.of_migration(
            Gauge, "checkpoint_timestamp_seconds", "When a checkpoint was last committed."
        )
        self.keys_sampled = make.of_migration(
            Counter, "keys_sampled", "Change records whose key the sampler kept."
        )
        self.sample_ratio = make.of_migration(
            Gauge, "sample_ratio", "Configured share of the keys that is sampled, 0 to 1."
        )

    def _declare_validator(self, make: Factory) -> None:
        self.validations = make.of_migration(
            Counter, "validations", "Looks at a key that were judged and committed."
        )
        self.validations_undecided = make.of_migration(
            Counter, "validations_undecided", "Validations without a verdict: the key is looked at again."
        )
        self.validation_matches = make.of_migration(
            Counter, "validation_matches", "Validations that proved a key to be right."
        )
        self.validation_mismatches = make.of_migration(
            Counter,
            "validation_mismatches",
            "Findings that this process opened: over all processes, ddbmm_ledger_mismatches_total.",
            ("kind",),
            ((kind,) for kind in MISMATCHES),
        )
        self.batch_keys = make.of_migration(
            BatchHistogram,
            "batch_keys",
            "Keys in one BatchGetItem.",
            ("side",),
            ((side,) for side in TABLE_SIDES),
            buckets=BATCH_BUCKETS_KEYS,
        )
        self.replication_lag_seconds = make.of_migration(
            BatchHistogram,
            "replication_lag_seconds",
            "From the write at the origin to the first look that matched.",
            buckets=LAG_BUCKETS_SECONDS,
        )
        self.last_validation_timestamp_seconds = make.of_migration(
            Gauge, "last_validation_timestamp_seconds", "When a verdict was last committed."
        )

    def _declare_aws(self, make: Factory) -> None:
        call, sides = ("operation", "side"), [(side,) for side in AWS_SIDES]
        self.aws_requests = make.of_migration(
            Counter, "aws_requests", "AWS requests sent, answered or not.", call, AWS_CALLS
        )
        self.aws_throttled_requests = make.of_migration(
            Counter,
            "aws_throttled_requests",
            "AWS requests refused with the word to slow down.",
            call,
            AWS_CALLS,
        )
        self.aws_request_failures = make.of_migration(
            Counter,
            "aws_request_failures",
            "AWS requests that failed for another reason than throttling.",
            (*call, "code"),
            ((*each, code) for each, code in product(AWS_CALLS, FAILURE_CODES)),
        )
        self.aws_request_duration_seconds = make.of_migration(
            Histogram,
            "aws_request_duration_seconds",
            "Time an AWS request took.",
            call,
            AWS_CALLS,
            buckets=REQUEST_BUCKETS_SECONDS,
        )
        self.consumed_read_capacity_units = make.of_migration(
            Counter,
            "consumed_read_capacity_units",
            "Read units the tables say were consumed.",
            ("side",),
            sides,
        )
        self.rate_limit_wait_seconds = make.of_migration(
            Counter,
            "rate_limit_wait_seconds",
            "Time spent waiting for the --max-rcu budget.",
            ("side",),
            sides,
        )
        self.credentials_expiry_timestamp_seconds = make.of_migration(
            Gauge,
            "credentials_expiry_timestamp_seconds",
            "When the credentials in use expire.",
            ("side",),
            sides,
        )
        self.clock_skew_seconds = make.of_migration(
            Gauge, "clock_skew_seconds", "AWS's clock minus ours, from the Date header.", ("side",), sides
        )


class MigrationMetrics:
    """What one process counts of one migration: the children of each metric, bound once, for hot paths.

    A metric without further labels is its one child; with one, its children by that label's values.
    """

    def __init__(self, declared: MigrationFamilies, migration: str) -> None:
        self._declared, self._migration = declared, migration
        declared.migration_info.of(migration).set(1)
        self.records_read = {
            side: {
                change: declared.stream_records_read.child(migration, side, change) for change in ChangeType
            }
            for side in Side
        }
        self.stream_last_poll_timestamp_seconds = declared.stream_last_poll_timestamp_seconds.of(migration)
        self.stream_malformed_images = declared.stream_malformed_images.of(migration)
        self.checkpoint_timestamp_seconds = declared.checkpoint_timestamp_seconds.of(migration)
        self.keys_sampled = declared.keys_sampled.of(migration)
        self.sample_ratio = declared.sample_ratio.of(migration)
        self.validations = declared.validations.of(migration)
        self.validations_undecided = declared.validations_undecided.of(migration)
        self.validation_matches = declared.validation_matches.of(migration)
        self.mismatches = declared.validation_mismatches.per(migration)
        self.batch_keys = declared.batch_keys.per(migration)
        self.replication_lag_seconds = declared.replication_lag_seconds.of(migration)
        self.last_validation_timestamp_seconds = declared.last_validation_timestamp_seconds.of(migration)
        self.rate_limit_wait_seconds = declared.rate_limit_wait_seconds.per(migration)
        self.credentials_expiry_timestamp_seconds = declared.credentials_expiry_timestamp_seconds.per(
            migration
        )
        self.clock_skew_seconds = declared.clock_skew_seconds.per(migration)

    def aws_observer(self, side: str) -> "AwsObserver":
        """What an AWS client of `side` (source, target or stream) reports its requests to.

        Its label sets are made now: a process exports those of the sides that it asks, and no others.
        """
        return AwsObserver(self._declared, self._migration, side)


class AwsObserver:
    """Counts the requests of one side's client; unknown words become "other"."""

    def __init__(self, declared: MigrationFamilies, migration: str, side: str) -> None:
        operations = [operation for operation, at in AWS_CALLS if at == side]
        self._requests = {o: declared.aws_requests.child(migration, o, side) for o in operations}
        self._throttled = {o: declared.aws_throttled_requests.child(migration, o, side) for o in operations}
        self._seconds = {
            o: declared.aws_request_duration_seconds.child(migration, o, side) for o in operations
        }
        self._failures = {
            (o, code): declared.aws_request_failures.child(migration, o, side, code)
            for o, code in product(operations, FAILURE_CODES)
        }
        self._units = declared.consumed_read_capacity_units.child(migration, side)

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
