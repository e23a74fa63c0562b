"""The one exception tree.

    MonitorError                    exit code
    ├── UsageError                  2    the command line or a value in it is wrong
    ├── ConfigurationError          4    configuration, credentials, permissions, wrong table
    │   ├── SettingsChanged         4    the state in Redis was made with other settings
    │   └── ExportRefused           4    an export that cannot stand for the table it is named for
    │       └── ExportDamaged       4    an export whose checksums or counts are wrong
    ├── StoreError                  1    Redis answered something the store cannot accept
    │   ├── StoreUnavailable        1    Redis cannot be reached now: try again
    │   └── StateLost               1    the migration's state is gone from Redis: begin again
    └── AwsError                    1    AWS answered, but not with what was asked for
        ├── AwsUnavailable          1    network, timeout or 5xx: try again
        ├── Throttled               1    told to slow down: try again later
        ├── CredentialsExpired      1    rebuild the session, then try again
        ├── AccessDenied            4    a permission is missing
        ├── MalformedResponse       1    a body that breaks the contract: never a verdict
        ├── IteratorExpired         1    derive a new iterator from the checkpoint
        ├── Trimmed                 1    the records asked for are older than 24 h: a gap
        └── NotFound                4    the table, stream or shard does not exist

Reads: nothing. Writes: nothing. Every message says what to do next where an operator can do something.
"""


class MonitorError(Exception):
    """Root of everything this program raises on purpose; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(MonitorError):
    exit_code = 2


class ConfigurationError(MonitorError):
    exit_code = 4


class SettingsChanged(ConfigurationError):
    """A restart with settings that would make the stored state mean something else."""


class ExportRefused(ConfigurationError):
    pass


class ExportDamaged(ExportRefused):
    pass


class StoreError(MonitorError):
    pass


class StoreUnavailable(StoreError):
    pass


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
    exit_code = 4


class MalformedResponse(AwsError):
    pass


class IteratorExpired(AwsError):
    pass


class Trimmed(AwsError):
    pass


class NotFound(AwsError):
    exit_code = 4
