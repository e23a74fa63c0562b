"""The one exception tree.

    MonitorError                    exit code
    ├── UsageError                  2    the command line or a value in it is wrong
    ├── ConfigurationError          4    configuration, credentials, permissions, wrong table
    │   ├── SettingsChanged         4    the state in Redis was made with other settings
    │   ├── PortTaken               4    another process has the port of the metrics
    │   ├── SpillUnusable           4    no place to sort items into
    │   │   └── SpillIncomplete     4    items that were sorted are not in this host's --spill-dir
    │   └── ExportRefused           4    an export that cannot stand for the table it is named for
    │       └── ExportDamaged       4    an export whose checksums or counts are wrong
    ├── StoreError                  5    Redis answered something the store cannot accept
    │   ├── StoreUnavailable        5    Redis does not serve us now: a role tries again
    │   │   ├── StoreNotReady       5    it answers, and serves nobody for a while (loading, failing over)
    │   │   ├── StoreFull           5    it is at maxmemory: what needs no room goes on
    │   │   ├── StoreUnusable       4    it answers, but not to us: credentials, permissions, cluster mode
    │   │   └── StateDamaged        5    it holds what this program never wrote
    │   └── StateLost               5    the migration's state is gone from Redis: begin again
    └── AwsError                    5    AWS answered, but not with what was asked for
        ├── AwsUnavailable          5    network, timeout, 5xx, an answer nobody can read: try again
        ├── Throttled               5    asked to slow down: try again later
        ├── CredentialsExpired      5    rebuild the session, then try again
        ├── AccessDenied            4    a permission is missing
        ├── MalformedResponse       5    a body that breaks the contract: never a verdict
        ├── IteratorExpired         5    derive a new iterator from the checkpoint
        ├── Trimmed                 5    the records asked for are older than 24 h: a gap
        ├── NotFound                4    the table, stream or shard does not exist
        └── NotServed               4    the endpoint does not know the operation: another service's

Reads: nothing. Writes: nothing. An error says what happened and what to do about it as two fields.
"""

from pipeline import exit_codes

#: "Slow down", in AWS's words (DynamoDB API reference, "Error handling with DynamoDB"): what is Throttled.
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


#: In remedies: how a migration gets a name of its own. In a file of many --migration only takes one of them.
ANOTHER_NAME = "under another name (--migration; in a file of many, that of its entry)"


class MonitorError(Exception):
    """Root of everything this program raises on purpose; `exit_code` is what the process ends with.

    remedy: what to do about it; "" where an operator can do nothing. is_final: starting again changes
    nothing, whatever has worked before.
    """

    exit_code = exit_codes.COULD_NOT_ASK
    is_final = False

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


class UsageError(MonitorError):
    exit_code = exit_codes.USAGE


class ConfigurationError(MonitorError):
    exit_code = exit_codes.CONFIGURATION


class SettingsChanged(ConfigurationError):
    """A restart with settings that would make the stored state mean something else."""


class PortTaken(ConfigurationError):
    """Somebody else listens there."""


class SpillUnusable(ConfigurationError):
    is_final = True


class SpillIncomplete(SpillUnusable):
    pass


class ExportRefused(ConfigurationError):
    is_final = True


class ExportDamaged(ExportRefused):
    pass


class StoreError(MonitorError):
    pass


class StoreUnavailable(StoreError):
    pass


class StoreNotReady(StoreUnavailable):
    pass


class StoreFull(StoreUnavailable):
    pass


class StoreUnusable(StoreUnavailable):
    """A start ends with it; a running role waits, for what was right before may be right again."""

    exit_code = exit_codes.CONFIGURATION


class StateDamaged(StoreUnavailable):
    """Only somebody can put it right; who plays a role waits for that."""


class StateLost(StoreError):
    """Somebody flushed Redis, or it came back without what it held."""


class AwsError(MonitorError):
    pass


class AwsUnavailable(AwsError):
    pass


class Throttled(AwsError):
    pass


class CredentialsExpired(AwsError):
    pass


class AccessDenied(AwsError):
    exit_code = exit_codes.CONFIGURATION


class MalformedResponse(AwsError):
    pass


class IteratorExpired(AwsError):
    pass


class Trimmed(AwsError):
    pass


class NotFound(AwsError):
    exit_code = exit_codes.CONFIGURATION


class NotServed(AwsError):
    exit_code = exit_codes.CONFIGURATION
