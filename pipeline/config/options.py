"""Every option, declared once: command line, environment, YAML, help, docs and `config` come from here.

Reads: nothing. Writes: nothing. Never: values that were given (that is `config`).

An option is `--name` on the command line, `DDBMM_NAME` in the environment, `name:` in the YAML file. Defaults
are written as an operator would write them and go through the same parser as what the operator writes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config.parsers import (
    duration_ms,
    migration_name,
    not_negative,
    one_of,
    percentage,
    stream_arn,
    url,
    whole,
)

#: The word before the options, and what it does; `run` when there is none.
COMMANDS = {
    "run": "watch the migration on this host: reader, validators and monitor (the default)",
    "reader": "only read the stream (one process of several hosts)",
    "validator": "only validate what readers queued",
    "monitor": "only print statistics and export the ledger's metrics",
    "status": "show where the migration stands",
    "findings": "list the open findings",
    "gate": "may we switch over? Every check with its reason",
    "mark": "note that a milestone of the cutover, T0 … T4, is reached now",
    "doctor": "check access, tables, stream, Redis and clock before a run",
    "config": "show the effective value of every option, and where it came from",
    "demo": "watch a made-up migration with planted faults, on embedded servers",
    "datagen": "write test items into a table",
    "datadel": "delete the test items that datagen wrote",
}


@dataclass(frozen=True)
class Option:
    """One option. field: its name in Config, `side.name` for a side's. default: as it would be written.

    otherwise: what happens without a value, where no fixed default can say it. parse None: a switch.
    """

    name: str
    field: str
    help: str
    parse: Callable[[str], object] | None = str
    default: str | None = None
    otherwise: str = ""
    metavar: str = "NAME"
    repeats: bool = False
    secret: bool = False

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def is_duration(self) -> bool:
        return self.parse is duration_ms

    @property
    def variable(self) -> str:
        return "DDBMM_" + self.name.upper().replace("-", "_")


def _side_options(side: str) -> tuple[Option, ...]:
    def option(name: str, help: str, **more: object) -> Option:
        field = f"{side}.{name.replace('-', '_')}"
        return Option(f"{side}-{name}", field, help, **more)  # type: ignore[arg-type]

    return (
        option("profile", f"AWS profile for the {side}", otherwise="the standard AWS credential chain"),
        option("region", f"AWS region of the {side}", otherwise="`--region`", metavar="REGION"),
        option(
            "endpoint-url",
            f"URL of the {side}'s DynamoDB, for emulators and private endpoints",
            parse=url("http", "https"),
            otherwise="AWS's own",
            metavar="URL",
        ),
        option("role-arn", f"role to assume for the {side}", otherwise="none", metavar="ARN"),
        option("external-id", "external id for that role", otherwise="none", metavar="ID", secret=True),
    )


def _flag(name: str, help: str) -> Option:
    return Option(name, name.replace("-", "_"), help, parse=None)


_TABLES = (
    Option("target-table", "target_table", "table that is migrated to"),
    Option("source-table", "source_table", "table that is migrated from", otherwise="`--target-table`"),
    Option("region", "region", "AWS region of both sides", otherwise="the profile's", metavar="REGION"),
    *_side_options("source"),
    *_side_options("target"),
)
_STREAM = (
    Option(
        "verify-on",
        "verify_on",
        "side whose items are looked up; the stream is the other side's: `target` or `source`",
        parse=one_of("target", "source"),
        default="target",
        metavar="SIDE",
    ),
    Option(
        "stream-arn",
        "stream_arn",
        "stream to read",
        parse=stream_arn,
        otherwise="the table's latest stream",
        metavar="ARN",
    ),
    Option(
        "stream-profile",
        "stream.profile",
        "AWS profile for the stream",
        otherwise="that of the stream's table",
    ),
    Option(
        "stream-endpoint-url",
        "stream.endpoint_url",
        "URL of the stream's endpoint",
        parse=url("http", "https"),
        otherwise="that of the stream's table",
        metavar="URL",
    ),
    Option(
        "iterator-type",
        "iterator_type",
        "where reading begins: `LATEST` (now) or `TRIM_HORIZON` (24 h ago); a restart goes on where it was",
        parse=one_of("LATEST", "TRIM_HORIZON"),
        default="LATEST",
        metavar="TYPE",
    ),
)
_JUDGING = (
    Option(
        "sample-rate",
        "sample_rate",
        "percentage of keys to validate; all changes of a sampled key are followed",
        parse=percentage,
        default="100",
        metavar="PERCENT",
    ),
    Option(
        "partition-key",
        "partition_key",
        "name of the partition key, checked",
        otherwise="read from the table",
    ),
    Option("sort-key", "sort_key", "name of the sort key, checked", otherwise="read from the table"),
    Option(
        "converge-within",
        "converge_within_ms",
        "how long replication may take before a difference is a mismatch",
        parse=duration_ms,
        default="60s",
        metavar="DURATION",
    ),
    Option(
        "stable-for",
        "stable_for_ms",
        "how much later than --converge-within, or than a newer change, an older one may still be applied",
        parse=duration_ms,
        default="30s",
        metavar="DURATION",
    ),
    Option(
        "ignore-attribute",
        "ignore_attributes",
        "top-level attribute to leave out of the comparison; may be repeated (`aws:rep:*` always is)",
        otherwise="none",
        repeats=True,
    ),
)
_STATE = (
    Option(
        "migration",
        "migration",
        "name under which the state is kept",
        parse=migration_name,
        otherwise="`--target-table`",
    ),
    Option(
        "redis-url",
        "redis_url",
        "Redis (7.0.4 or newer) or Valkey (8 or newer): `redis://`, `rediss://` or `unix://`",
        parse=url("redis", "rediss", "unix"),
        otherwise="an embedded server that keeps its state in `--state-dir`",
        metavar="URL",
        secret=True,
    ),
    Option(
        "state-dir", "state_dir", "directory of the embedded server's state", default=".ddbmm", metavar="DIR"
    ),
)
_PACE = (
    Option("workers", "workers", "validator processes", parse=whole(1, 256), default="2", metavar="N"),
    Option(
        "in-flight",
        "in_flight",
        "BatchGetItem calls that each validator keeps under way",
        parse=whole(1, 64),
        default="8",
        metavar="N",
    ),
    Option(
        "reader-threads",
        "reader_threads",
        "GetRecords calls that a reader keeps under way",
        parse=whole(1, 64),
        default="8",
        metavar="N",
    ),
    Option(
        "max-rcu",
        "max_rcu",
        "read units a second to spend on each side, 0 = no limit",
        parse=not_negative,
        default="0",
        metavar="UNITS",
    ),
    Option(
        "max-backlog",
        "max_backlog",
        "queued keys above which the reader pauses",
        parse=whole(1, 100_000_000),
        default="100000",
        metavar="N",
    ),
    Option(
        "reclaim-after",
        "reclaim_after_ms",
        "how long a silent validator keeps its work before another takes it over",
        parse=duration_ms,
        default="30s",
        metavar="DURATION",
    ),
)
_GATE = (
    Option(
        "gate-objective",
        "gate_objective",
        "percentage of right keys that the lower end of the 95 % interval must reach",
        parse=percentage,
        default="99.9",
        metavar="PERCENT",
    ),
    Option(
        "gate-lag",
        "gate_lag_ms",
        "replication lag (p99) that is allowed, and age of the oldest change still waited for",
        parse=duration_ms,
        default="60s",
        metavar="DURATION",
    ),
    Option(
        "gate-reader-lag",
        "gate_reader_lag_ms",
        "age of the oldest unread change that is allowed",
        parse=duration_ms,
        default="60s",
        metavar="DURATION",
    ),
    Option(
        "gate-backlog",
        "gate_backlog",
        "keys that may be due for a look",
        parse=whole(0, 100_000_000),
        default="10000",
        metavar="N",
    ),
)
_OUTPUT = (
    Option(
        "statistics-every",
        "statistics_every_ms",
        "how often the monitor prints statistics",
        parse=duration_ms,
        default="30s",
        metavar="DURATION",
    ),
    Option(
        "metrics-port",
        "metrics_port",
        "port of `/metrics` and `/healthz`, 0 = any free one, which is logged",
        parse=whole(0, 65535),
        default="9464",
        metavar="PORT",
    ),
    Option(
        "bind-address",
        "bind_address",
        "address that port is bound to",
        default="127.0.0.1",
        metavar="ADDRESS",
    ),
    Option(
        "log-format",
        "log_format",
        "`console` or `json`",
        parse=one_of("console", "json"),
        default="console",
        metavar="FORMAT",
    ),
    Option(
        "log-level",
        "log_level",
        "`debug`, `info`, `warning` or `error`",
        parse=one_of("debug", "info", "warning", "error"),
        default="info",
        metavar="LEVEL",
    ),
    _flag("verbose", "log every match too"),
    _flag("show-keys", "show keys themselves; without it, keyed hashes stand for them"),
    _flag("json", "print JSON (`status`, `findings`, `gate`, `doctor`, `config`)"),
    _flag("dry-run", "print the plan and end (`run`)"),
)

#: Heading → its options, in the order of the help and of docs/configuration.md.
GROUPS: dict[str, Sequence[Option]] = {
    "Tables and access": _TABLES,
    "Stream": _STREAM,
    "Judging": _JUDGING,
    "State": _STATE,
    "Pace": _PACE,
    "Gate (`gate` and the monitor's metrics)": _GATE,
    "Output": _OUTPUT,
}
OPTIONS: tuple[Option, ...] = tuple(option for group in GROUPS.values() for option in group)
