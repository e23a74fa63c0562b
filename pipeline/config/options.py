"""Every option, declared once, on the field that holds its value: command line, environment, YAML, help,
docs and `config` come from here.

Reads: nothing. Writes: nothing. Never: the environment, files. What was given is read by `load`.

What belongs to one migration is apart from what belongs to the process, which may serve several.
"""

from dataclasses import dataclass

from pipeline.config.declaration import (
    option,
    optional,
    repeated,
    side,
    stream_side,
    switch,
)
from pipeline.config.headings import (
    COMPARING,
    COST,
    FINDINGS,
    GATE,
    JUDGING,
    OUTPUT,
    PACE,
    PLAN,
    REPORT,
    STATE,
    STREAM,
    TABLES,
)
from pipeline.config.parsers import (
    AUTO,
    When,
    aws_name,
    cause,
    dollars,
    duration_ms,
    duration_or_auto,
    duration_text,
    export,
    instant,
    migration_name,
    not_negative,
    objective,
    one_of,
    percentage,
    price,
    redis_url,
    share,
    side_of,
    stream_arn,
    table,
    table_pattern,
    whole,
)
from pipeline.core.comparing.segments import MAX_SEGMENTS
from pipeline.core.comparing.state import CompareSettings
from pipeline.core.cost import LISTED, Prices, Terms, given_prices
from pipeline.core.gate import Limits, Scope
from pipeline.core.model import MISMATCHES, Side, SideConfig


@dataclass(frozen=True)
class MigrationConfig:
    """What belongs to one migration; picklable. Durations in ms, sample_rate in percent of keys.

    The last fields are known once the tables have been seen (`preflight.prepare`); until then they are empty.
    """

    # fmt: off
    target_table: str = optional(TABLES, "target-table", "table that is migrated to, or its ARN", table, "")
    source_table: str = optional(
        TABLES, "source-table", "table that is migrated from, or its ARN", table, "",
        otherwise="`--target-table`")
    region: str | None = optional(
        TABLES, "region", "AWS region of both sides", aws_name, None,
        otherwise="the profile's", metavar="REGION")
    source: SideConfig = side(TABLES, "source")
    target: SideConfig = side(TABLES, "target")
    verify_on: Side = option(
        STREAM, "verify-on",
        "side whose items are looked up; the stream is the other side's: `target` or `source`",
        side_of, "target", metavar="SIDE")
    stream_arn: str | None = optional(
        STREAM, "stream-arn", "stream to read", stream_arn, None,
        otherwise="the table's latest stream", metavar="ARN")
    stream: SideConfig = stream_side(STREAM)
    iterator_type: str = option(
        STREAM, "iterator-type",
        "where reading begins: `LATEST` (now) or `TRIM_HORIZON` (24 h ago); a restart goes on where it was",
        one_of("LATEST", "TRIM_HORIZON"), "LATEST", metavar="TYPE")
    sample_rate: float = option(
        JUDGING, "sample-rate",
        "percentage of keys to validate, all changes of a sampled key are followed; `compare`: of segments, "
        "or of keys with an export",
        percentage, "100", metavar="PERCENT")
    partition_key: str | None = optional(
        JUDGING, "partition-key", "name of the partition key, checked", aws_name, None,
        otherwise="read from the table")
    sort_key: str | None = optional(
        JUDGING, "sort-key", "name of the sort key, checked", aws_name, None, otherwise="read from the table")
    converge_within_ms: int = option(
        JUDGING, "converge-within",
        "how long replication may take before a difference is a mismatch; `auto`: it follows the lag",
        duration_or_auto, "60s", metavar="DURATION")
    converge_at_most_ms: int = option(
        JUDGING, "converge-at-most", "the longest that --converge-within auto waits",
        duration_ms, "10m", metavar="DURATION")
    stable_for_ms: int = option(
        JUDGING, "stable-for",
        "how much later than --converge-within, or than a newer change, an older one may still be applied",
        duration_ms, "30s", metavar="DURATION")
    ttl_grace_ms: int = option(
        JUDGING, "ttl-grace",
        "how long a difference that TTL itself will remove may last before it is a mismatch",
        duration_ms, "7d", metavar="DURATION")
    ignore_attributes: tuple[str, ...] = repeated(
        JUDGING, "ignore-attribute",
        "top-level attribute to leave out of the comparison; may be repeated (`aws:rep:*` always is)",
        otherwise="none")
    name: str = optional(
        STATE, "migration", "name the state is kept under; of several in the YAML file, the only one to take",
        migration_name, "", otherwise="`--target-table`")
    max_rcu: float = option(
        PACE, "max-rcu", "read units a second to spend on each side, 0 = no limit",
        not_negative, "0", metavar="UNITS")
    max_cost_per_hour: float = option(
        COST, "max-cost-per-hour",
        "dollars an hour to spend on reading, 0 = no limit: above it the sample is lowered, and raised again "
        "only by a start with a higher limit",
        dollars, "0", metavar="DOLLARS")
    price_read_units: float | None = optional(
        COST, "price-read-units", "dollars of a million read request units", price, None,
        otherwise=f"{LISTED.source_units:g}, {LISTED.said}", metavar="DOLLARS")
    price_stream_reads: float | None = optional(
        COST, "price-stream-reads", "dollars of a million GetRecords requests", price, None,
        otherwise=f"{LISTED.stream_reads:g}, likewise", metavar="DOLLARS")
    max_backlog: int = option(
        PACE, "max-backlog", "queued keys above which the reader pauses",
        whole(1, 100_000_000), "100000", metavar="N")
    gate_objective: float = option(  # percent of keys, as sample_rate
        GATE, "gate-objective",
        "percentage of right keys that the lower end of the 95 % interval must reach",
        objective, "99.9", metavar="PERCENT")
    gate_lag_ms: int = option(
        GATE, "gate-lag",
        "replication lag (p99) that is allowed, and age of the oldest change still waited for",
        duration_ms, "60s", metavar="DURATION")
    gate_reader_lag_ms: int = option(
        GATE, "gate-reader-lag", "age of the oldest unread change that is allowed",
        duration_ms, "60s", metavar="DURATION")
    gate_backlog: int = option(
        GATE, "gate-backlog", "keys that may be due for a look",
        whole(0, 100_000_000), "10000", metavar="N")
    gate_look_delay_ms: int = option(
        GATE, "gate-look-delay", "how long a key that is due may wait for a look",
        duration_ms, "30s", metavar="DURATION")
    gate_scope: str = option(
        GATE, "gate-scope",
        "what is vouched for: `whole-table` (a comparison must have been made) or `changes` alone",
        one_of(*Scope), "whole-table", metavar="SCOPE")
    gate_excused: float = option(  # percent of keys, as sample_rate
        GATE, "gate-excused", "percentage of the keys that may differ in what TTL itself will remove",
        not_negative, "5", metavar="PERCENT")
    segments: int | None = optional(
        COMPARING, "segments", "segments that each table is read in", whole(1, MAX_SEGMENTS), None,
        otherwise="by the larger table's size, about 24 MB each", metavar="N")
    stop_after_findings: int = option(
        COMPARING, "stop-after-findings",
        "open findings at which a comparison stops; so many suspects may wait for an answer at a time",
        whole(1, 100_000_000), "100000", metavar="N")
    source_export: str | None = optional(
        COMPARING, "source-export",
        "export that stands for the source: a folder, `s3://BUCKET/PREFIX` or its ARN; an incremental one "
        "says which keys changed",
        export, None, otherwise="the table is scanned", metavar="EXPORT")
    target_export: str | None = optional(
        COMPARING, "target-export", "export that stands for the target, likewise",
        export, None, otherwise="the table is scanned", metavar="EXPORT")
    partition_type: str = ""
    sort_type: str = ""
    source_arn: str = ""
    target_arn: str = ""
    comparison: CompareSettings | None = None  # what `compare` and `comparer` begin
    live: Prices | None = None  # what AWS answered (--live-prices)
    # fmt: on

    @property
    def is_adaptive(self) -> bool:
        """Whether the deadline follows the lag."""
        return self.converge_within_ms == AUTO

    @property
    def longest_deadline_ms(self) -> int:
        return self.converge_at_most_ms if self.is_adaptive else self.converge_within_ms

    @property
    def origin(self) -> Side:
        """The side whose stream is read."""
        return self.verify_on.other

    def access(self, side: str) -> SideConfig:
        """How "source", "target" or "stream" is reached."""
        return {"source": self.source, "target": self.target, "stream": self.stream}[side]

    def export(self, side: Side) -> str | None:
        """What was given for the side's export."""
        return self.source_export if side is Side.SOURCE else self.target_export

    def table(self, side: Side) -> str:
        return self.source_table if side is Side.SOURCE else self.target_table

    def gate_limits(self) -> Limits:
        """What the gate demands, in the gate's units."""
        return Limits(
            objective=round(self.gate_objective / 100, 12),  # 99.9 is 0.999
            lag_ms=self.gate_lag_ms,
            reader_lag_ms=self.gate_reader_lag_ms,
            backlog=self.gate_backlog,
            look_delay_ms=self.gate_look_delay_ms,
            excused=round(self.gate_excused / 100, 12),
            scope=Scope(self.gate_scope),
        )

    def terms(self) -> Terms:
        """What reading costs, and may cost an hour."""
        prices = given_prices(self.live or LISTED, self.price_read_units, self.price_stream_reads)
        return Terms(prices, self.max_cost_per_hour)

    def described(self) -> dict[str, str]:
        """What is migrated where, for people; "" where it is not known."""
        said = {"verify_on": str(self.verify_on), "sample_percent": f"{self.sample_rate:g}"}
        for which, arn in ((Side.SOURCE, self.source_arn), (Side.TARGET, self.target_arn)):
            # arn:aws:dynamodb:REGION:ACCOUNT:table/NAME
            _, _, _, region, account, table = arn.split(":", 5) if arn.count(":") >= 5 else [""] * 6
            name = table.removeprefix("table/") or self.table(which)
            said |= {f"{which}_table": name, f"{which}_account": account, f"{which}_region": region}
        return said

    def judged_by(self) -> dict[str, str]:
        """The times that a restart may change, by option: what is open is judged by the new ones."""
        return {
            "converge-within": duration_text(self.converge_within_ms),
            **({"converge-at-most": duration_text(self.converge_at_most_ms)} if self.is_adaptive else {}),
            "stable-for": duration_text(self.stable_for_ms),
            "ttl-grace": duration_text(self.ttl_grace_ms),
        }

    def settings(self) -> dict[str, str]:
        """The fingerprint: what the stored state would mean something else without."""
        return {
            "source_table": self.source_arn or self.source_table,
            "target_table": self.target_arn or self.target_table,
            "verify_on": str(self.verify_on),
            "iterator_type": self.iterator_type,
            "sample_rate": str(self.sample_rate),
            "ignore_attributes": ",".join(sorted(self.ignore_attributes)),
            "partition_key": self.partition_key or "",
            "partition_type": self.partition_type,
            "sort_key": self.sort_key or "",
            "sort_type": self.sort_type,
        }


#: How `compare` parts --max-rcu among its processes.
_COMPARE_SHARES = {"comparer": 0.9, "validator": 0.1}


@dataclass(frozen=True)
class ProcessConfig:
    """What belongs to the process, whatever it watches; picklable. Durations in ms."""

    # fmt: off
    command: str = "run"
    milestone: str = ""  # what `mark` marks
    of_file: bool = False  # it speaks of all migrations that a file names
    tables: str | None = optional(
        TABLES, "tables",
        "`doctor`, `config --write`: every table of both sides whose name matches, as `prod-*`",
        table_pattern, None, otherwise="those that are named", metavar="PATTERN")
    redis_url: str = optional(  # "": the embedded server
        STATE, "redis-url",
        "Redis (7.0.4 or newer) or Valkey (8 or newer): `redis://`, `rediss://` (TLS), `unix://`, "
        "`redis+sentinel://HOST:26379,…/SERVICE/DB` or `redis+cluster://HOST:6379,…` (with TLS `rediss+…`)",
        redis_url, "",
        otherwise="an embedded server that keeps its state in `--state-dir`", metavar="URL", secret=True)
    state_dir: str = option(
        STATE, "state-dir", "directory of the embedded server's state", str, ".ddbmm", metavar="DIR")
    workers: int = option(
        PACE, "workers", "validator processes, and as many comparers", whole(1, 256), "2", metavar="N")
    in_flight: int = option(
        PACE, "in-flight",
        "BatchGetItem calls that each validator, segments that each comparer keeps under way",
        whole(1, 64), "8", metavar="N")
    reader_threads: int = option(
        PACE, "reader-threads", "GetRecords calls that a reader keeps under way",
        whole(1, 64), "8", metavar="N")
    reclaim_after_ms: int = option(
        PACE, "reclaim-after", "how long a silent validator keeps its work before another takes it over",
        duration_ms, "30s", metavar="DURATION")
    max_unmatched_mb: int = option(
        COMPARING, "max-unmatched",
        "MB of items without a partner that each comparer holds; those beyond are looked up one by one",
        whole(1, 65_536), "48", metavar="MB")
    spill_dir: str = optional(
        COMPARING, "spill-dir",
        "directory for items on their way from an export; several hosts must share it",
        str, "", otherwise="`spill` below `--state-dir`", metavar="DIR")
    stop_after_ms: int | None = optional(
        COMPARING, "stop-after", "how long `compare` goes on at most; the next one goes on from there",
        duration_ms, None, otherwise="until it is finished", metavar="DURATION")
    restart: bool = switch(COMPARING, "restart", "begin a comparison anew where one is unfinished")
    live_prices: bool = switch(
        COST, "live-prices", "ask AWS for the prices of the tables' regions (`pricing:GetProducts`)")
    by: str = option(
        FINDINGS, "by", "what a line stands for: a `key`, or a `cause` that many may have in common",
        one_of("key", "cause"), "key", metavar="WHAT")
    kind: str | None = optional(
        FINDINGS, "kind", "only `missing`, `stale`, `different` or `extra`", one_of(*MISMATCHES), None,
        otherwise="all of them", metavar="KIND")
    cause: str | None = optional(
        FINDINGS, "cause", "only those of this cause, as `--by cause` names it", cause, None,
        otherwise="all of them", metavar="CAUSE")
    since: When | None = optional(
        FINDINGS, "since", "only those opened since: `2h` (before now) or `2026-11-23T22:09` (UTC)",
        instant, None, otherwise="all of them", metavar="WHEN")
    longer_than_ms: int | None = optional(
        FINDINGS, "longer-than", "only those open for longer than this", duration_ms, None,
        otherwise="all of them", metavar="DURATION")
    limit: int | None = optional(
        FINDINGS, "limit", "at most so many lines", whole(1, 1_000_000_000), None,
        otherwise="all of them", metavar="N")
    explain: str | None = optional(
        FINDINGS, "explain",
        "one key instead, as JSON or as the hash shown: read both items now, and say what is concluded",
        str, None, otherwise="findings are listed", metavar="KEY")
    show_values: bool = switch(FINDINGS, "show-values", "with --explain, show the values of attributes too")
    summary: bool = switch(FINDINGS, "summary", "a sentence for each cause, and nothing else")
    closed: bool = switch(
        FINDINGS, "closed", "closed findings instead, newest first: when and why (the last 10,000 are kept)")
    keys: int | None = optional(
        PLAN, "keys", "keys of the table", whole(1, 1_000_000_000_000_000), None, metavar="N")
    detect: float = option(  # percent of keys, as sample_rate
        PLAN, "detect", "share of wrong keys that is to be found", share, "0.1", metavar="PERCENT")
    item_bytes: int = option(
        PLAN, "item-bytes", "size of an item, on average", whole(1, 409_600), "400", metavar="BYTES")
    format: str = option(
        REPORT, "format", "`html`, `text` or `json`",
        one_of("html", "text", "json"), "html", metavar="FORMAT")
    output: str | None = optional(
        REPORT, "output", "file to write the report to", str, None, otherwise="standard output",
        metavar="FILE")
    facts: str | None = optional(
        REPORT, "facts", "make it of the facts that `report --format json` wrote to this file", str, None,
        otherwise="of the state", metavar="FILE")
    csv: bool = switch(FINDINGS, "csv", "print CSV")
    statistics_every_ms: int = option(
        OUTPUT, "statistics-every", "how often the monitor prints statistics",
        duration_ms, "30s", metavar="DURATION")
    metrics_port: int = option(
        OUTPUT, "metrics-port", "port of `/metrics` and `/healthz`, 0 = any free one, which is logged",
        whole(0, 65535), "9464", metavar="PORT")
    bind_address: str = option(
        OUTPUT, "bind-address", "address that port is bound to", str, "127.0.0.1", metavar="ADDRESS")
    alertmanager_config: str | None = optional(
        OUTPUT, "alertmanager-config",
        "Alertmanager's configuration: `doctor` and each start say when its receiver `page` reaches nobody",
        str, None, otherwise="not looked at", metavar="FILE")
    log_format: str = option(
        OUTPUT, "log-format", "`console` or `json`", one_of("console", "json"), "console", metavar="FORMAT")
    log_level: str = option(
        OUTPUT, "log-level", "`debug`, `info`, `warning` or `error`",
        one_of("debug", "info", "warning", "error"), "info", metavar="LEVEL")
    watch: bool = switch(
        OUTPUT, "watch", "`status`: go on showing it, renewed in place on a terminal, until `q`")
    verbose: bool = switch(OUTPUT, "verbose", "log every verdict, matches too")
    show_keys: bool = switch(
        OUTPUT, "show-keys", "show keys themselves; without it, keyed hashes stand for them")
    write: str | None = optional(
        OUTPUT, "write",
        "`config`: make this file (`-`: print it), with a migration of each table that both sides have",
        str, None, otherwise="values are shown", metavar="FILE")
    json: bool = switch(
        OUTPUT, "json", "print JSON (`status`, `findings`, `gate`, `compare`, `doctor`, `config`)")
    dry_run: bool = switch(OUTPUT, "dry-run", "print the plan and end (`run`, `compare`)")
    # fmt: on

    def spill(self, comparison: str) -> str:
        """The directory in which a comparison's items lie."""
        return f"{self.spill_dir or f'{self.state_dir}/spill'}/{comparison}"

    def units_share(self, role: str) -> float:
        """Which share of --max-rcu one process of the role may spend. Beside comparers, validators only look
        suspects up.
        """
        shares = _COMPARE_SHARES if self.command == "compare" else {}
        return shares.get(role, 1.0) / self.workers
