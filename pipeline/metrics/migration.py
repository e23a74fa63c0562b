"""What a process counts of a migration that it serves, declared once.

Reads: nothing. Writes: counters in memory or in this process's slot files (see `metrics.start`). Never:
redis. No key, shard name or free text is in a label.
"""

from collections.abc import Mapping
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

from pipeline.core.model import MISMATCHES, ChangeType, Side
from pipeline.core.statistics import LAG_BUCKETS_SECONDS
from pipeline.errors import THROTTLE_CODES
from pipeline.metrics.declared import BatchHistogram, Factory
from pipeline.metrics.spent import Spent

#: Keys in one BatchGetItem; DynamoDB's limit is 100.
BATCH_BUCKETS_KEYS = (1, 10, 50, 99)
#: Seconds of one AWS request: a quick one takes some 5 ms, the read timeout ends it after 5 s.
REQUEST_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

TABLE_SIDES = (Side.SOURCE.value, Side.TARGET.value)
_STREAM = "stream"
#: Who is asked: the two tables and the stream, each with credentials and an endpoint of its own.
AWS_SIDES = (*TABLE_SIDES, _STREAM)
_OTHER = "other"
#: The requests that carry the data, told apart, with the side that answers them. All others (descriptions,
#: shard iterators) are few: "other".
AWS_CALLS = (
    *product(("BatchGetItem", "Scan", _OTHER), TABLE_SIDES),
    *product(("GetRecords", _OTHER), (_STREAM,)),
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
#: The roles that take migrations up, and may fail to.
SERVING_ROLES = ("reader", "validator")


#: What `migration_info` says of a migration, label by label; "" where it is not known.
INFO_LABELS = (
    *("source_table", "source_account", "source_region", "target_table", "target_account", "target_region"),
    *("verify_on", "sample_percent"),
)


class MigrationFamilies:
    """The declarations, in one process. An attribute is the metric's name without prefix and `_total`."""

    def __init__(self, make: Factory) -> None:
        self.migration_info = make.of_migration_named(
            Gauge,
            "migration_info",
            "1 in every process that serves the migration; its labels say what is migrated where.",
            INFO_LABELS,
        )
        self.migration_served = make.of_migration(
            Gauge,
            "migration_served",
            "1 while every process of the role serves the migration, 0 while one cannot: its log says why.",
            ("expected_role",),
            ((role,) for role in SERVING_ROLES),
            multiprocess_mode="min",
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
        self.queue_limit_entries = make.of_migration(
            Gauge,
            "queue_limit_entries",
            "Keys in the work stream above which the reader pauses (--max-backlog).",
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

    def _declare_aws(self, make: Factory) -> None:
        sides, tables = [(side,) for side in AWS_SIDES], [(side,) for side in TABLE_SIDES]
        self.aws_request_duration_seconds = make.of_migration(
            Histogram,
            "aws_request_duration_seconds",
            "Time an AWS request took, answered or not; its count is that of the requests.",
            ("operation", "side"),
            AWS_CALLS,
            buckets=REQUEST_BUCKETS_SECONDS,
        )
        self.aws_throttled_requests = make.of_migration(
            Counter,
            "aws_throttled_requests",
            "AWS requests refused with the word to slow down.",
            ("side",),
            sides,
        )
        self.aws_request_failures = make.of_migration(
            Counter,
            "aws_request_failures",
            "AWS requests that failed for another reason than throttling.",
            ("side", "code"),
            product(AWS_SIDES, FAILURE_CODES),
        )
        self.consumed_read_capacity_units = make.of_migration(
            Counter,
            "consumed_read_capacity_units",
            "Read units the tables say were consumed.",
            ("side",),
            tables,
        )
        self.rate_limit_wait_seconds = make.of_migration(
            Counter,
            "rate_limit_wait_seconds",
            "Time spent waiting for the --max-rcu budget.",
            ("side",),
            tables,
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

    A metric without further labels is its one child; with one, its children by that label's values. A process
    exports what its role does, of the sides that it asks: an operation that it never calls would be a dozen
    series of zeros. This is what every role counts.
    """

    #: The requests to a table that this role makes, but for the few that are "other".
    table_calls: tuple[str, ...] = ("Scan",)

    def __init__(self, declared: MigrationFamilies, migration: str) -> None:
        self._declared, self._migration = declared, migration
        self.spent = Spent()
        self.credentials_expiry_timestamp_seconds: dict[str, Gauge] = {}
        self.clock_skew_seconds: dict[str, Gauge] = {}

    def describe(self, labels: Mapping[str, str]) -> None:
        """Say what is migrated where. labels: of INFO_LABELS, those that are known."""
        values = (labels.get(label, "") for label in INFO_LABELS)
        self._declared.migration_info.named(self._migration, *values).set(1)

    def aws_observer(self, side: str) -> "AwsObserver":
        """What an AWS client of `side` (source, target or stream) reports its requests to.

        Its label sets are made now: a process exports those of the sides that it asks, and no others.
        """
        declared, migration = self._declared, self._migration
        self.credentials_expiry_timestamp_seconds[side] = declared.credentials_expiry_timestamp_seconds.child(
            migration, side
        )
        self.clock_skew_seconds[side] = declared.clock_skew_seconds.child(migration, side)
        if side == _STREAM:
            return AwsObserver(declared, migration, side, ("GetRecords",), self.spent)
        return AwsObserver(declared, migration, side, self.table_calls, self.spent)


class ReaderMetrics(MigrationMetrics):
    """What a reader counts. table: whose stream it reads."""

    table_calls = ()

    def __init__(self, declared: MigrationFamilies, migration: str, table: str) -> None:
        super().__init__(declared, migration)
        self.records_read = {
            change: declared.stream_records_read.child(migration, table, change) for change in ChangeType
        }
        self.stream_last_poll_timestamp_seconds = declared.stream_last_poll_timestamp_seconds.of(migration)
        self.stream_malformed_images = declared.stream_malformed_images.of(migration)
        self.checkpoint_timestamp_seconds = declared.checkpoint_timestamp_seconds.of(migration)
        self.keys_sampled = declared.keys_sampled.of(migration)
        self.sample_ratio = declared.sample_ratio.of(migration)
        self.queue_limit_entries = declared.queue_limit_entries.of(migration)


class ValidatorMetrics(MigrationMetrics):
    """What a validator counts."""

    table_calls = ("BatchGetItem",)

    def __init__(self, declared: MigrationFamilies, migration: str) -> None:
        super().__init__(declared, migration)
        self.validations = declared.validations.of(migration)
        self.validations_undecided = declared.validations_undecided.of(migration)
        self.validation_matches = declared.validation_matches.of(migration)
        self.mismatches = declared.validation_mismatches.per(migration)
        self.batch_keys = declared.batch_keys.per(migration)
        self.rate_limit_wait_seconds = declared.rate_limit_wait_seconds.per(migration)
        self.replication_lag_seconds = declared.replication_lag_seconds.of(migration)


class AwsObserver:
    """Counts the requests of one side's client; unknown words become "other"."""

    def __init__(
        self,
        declared: MigrationFamilies,
        migration: str,
        side: str,
        operations: tuple[str, ...],
        spent: Spent,
    ) -> None:
        """operations: those told apart. spent: of the migration in this process."""
        self._side, self._spent = side, spent
        self._seconds = {
            operation: declared.aws_request_duration_seconds.child(migration, operation, side)
            for operation in (*operations, _OTHER)
        }
        self._throttled = declared.aws_throttled_requests.child(migration, side)
        self._failures = {
            code: declared.aws_request_failures.child(migration, side, code) for code in FAILURE_CODES
        }
        units = declared.consumed_read_capacity_units
        self._units = units.child(migration, side) if operations and side != _STREAM else None

    def request(self, operation: str, seconds: float, code: str | None) -> None:
        """One request ended after `seconds`; code: AWS's error code, None when it succeeded."""
        self._seconds.get(operation, self._seconds[_OTHER]).observe(seconds)
        if code in THROTTLE_CODES:
            self._throttled.inc()
        elif code is not None:
            self._failures.get(code, self._failures[_OTHER]).inc()
        else:
            self._spent.answered(self._side, operation)

    def consumed(self, operation: str, units: float) -> None:
        self._spent.consumed(self._side, operation, units)
        if self._units is not None:
            self._units.inc(units)
