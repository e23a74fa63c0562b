"""What the dashboard shows, row by row, from the question "may we switch?" down to the processes.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from panels import BAD, GOOD, NEUTRAL, WARN, band, dashed, heat, lines, number, rows_of, states

MINUTE, HOUR = 60, 3600
RATE = "[$__rate_interval]"
GATE = {"1": ("GO", GOOD), "0": ("TOO EARLY TO SAY", WARN), "-1": ("NO-GO", BAD)}
CHECK = {"1": ("passed", GOOD), "0": ("cannot be told yet", WARN), "-1": ("failed", BAD)}
#: On-demand reads, US East (AWS, "Pricing for on-demand capacity"); the variable read_price overrides it.
PRICE_PER_MILLION = "0.125"


def _rate(metric: str, by: str = "") -> str:
    """The rate of a counter, summed over processes."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{{s}}{RATE}))"


def _age(metric: str) -> str:
    """Seconds since the newest instant that a timestamp gauge holds; 0 means that it was never set."""
    return f"time() - max({metric}{{s}} > 0)"


def go_or_no_go() -> list:
    reds = [(None, GOOD), (1, BAD)]
    return [
        number(
            "Switch over?",
            "GO: every check of the gate passes. NO-GO: at least one fails. TOO EARLY TO SAY: none fails, "
            "but one cannot be told yet. `dynamodb-migration-monitor gate` gives the reasons.",
            "min(ddbmm_cutover_check_passed{s}) - max(ddbmm_cutover_check_failed{s})",
            steps=[(None, BAD), (0, WARN), (1, GOOD)],
            width=6,
            mappings=GATE,
            no_value="MONITOR IS SILENT",
        ),
        number(
            "Right keys",
            "Share of the distinct keys judged that have no open finding.",
            "job:ddbmm_keys_right:ratio{j}",
            "percentunit",
            [(None, BAD), (0.99, WARN), (0.999, GOOD)],
            decimals=3,
            no_value="none compared",
        ),
        number(
            "At least (95 %)",
            "Lower end of the 95 % interval of the share of right keys: what the sample proves.",
            "job:ddbmm_keys_right_low_ratio:max{j}",
            "percentunit",
            [(None, BAD), (0.99, WARN), (0.999, GOOD)],
            decimals=3,
            no_value="none compared",
        ),
        number(
            "Open findings",
            "Keys that are wrong on the verified side now. `dynamodb-migration-monitor findings` lists them.",
            "sum(ddbmm_mismatches_open{s})",
            steps=reds,
        ),
        number(
            "Replication lag p99",
            "99 % of the changes of the last minutes were seen on the verified side within this time.",
            "max(job:ddbmm_replication_lag_seconds:p99_rate5m{j})",
            "s",
            [(None, GOOD), (30, WARN), (MINUTE, BAD)],
            decimals=1,
            no_value="no writes",
        ),
        number(
            "Reader behind",
            "Age of the oldest change of the stream that may be unread.",
            "max(ddbmm_stream_reader_lag_seconds{s})",
            "s",
            [(None, GOOD), (MINUTE, WARN), (5 * MINUTE, BAD)],
            decimals=1,
        ),
        number(
            "Keys compared",
            "Distinct keys with a verdict. Few keys prove little, even when all of them are right.",
            "max(job:ddbmm_keys_compared:max{j})",
            steps=[(None, BAD), (1, WARN), (1000, GOOD)],
        ),
        states(
            "Gate checks",
            "Every check of the gate over time. The gate is open while all of them pass.",
            (
                "max by (check) (ddbmm_cutover_check_passed{s}) "
                "- max by (check) (ddbmm_cutover_check_failed{s})",
                "{{check}}",
            ),
            CHECK,
            14,
            9,
        ),
        rows_of(
            "Alerts",
            "Alerts that fire or are about to. docs/runbook.md has a section for each.",
            'ALERTS{alertname=~"DynamoDBMigration.+",alertname!="DynamoDBMigrationWatchdog"}',
            ["alertname", "alertstate", "severity"],
            10,
            9,
            "no alerts",
        ),
    ]


def correctness() -> list:
    share = lines(
        "Share of right keys",
        "Share of right keys, its 95 % interval, and what the gate demands of its lower end.",
        [
            ("job:ddbmm_keys_right:ratio{j}", "right"),
            ("job:ddbmm_keys_right_low_ratio:max{j}", "at least"),
            ("job:ddbmm_keys_right_high_ratio:max{j}", "at most"),
            ("max(ddbmm_cutover_objective_ratio{s})", "demanded"),
        ],
        "percentunit",
        low=None,
        high=1,
    )
    return [
        dashed(band(share, "at least", "at most"), "demanded", BAD),
        lines(
            "Open findings by kind",
            "missing: the target lacks the item. stale: an older version. different: no known version. "
            "extra: the target holds an item that the source lacks.",
            [("sum by (kind) (ddbmm_mismatches_open{s})", "{{kind}}")],
            stacked=True,
        ),
        lines(
            "Findings opened and recovered",
            "Verdicts that opened a finding, by kind, and findings that a later look found right.",
            [
                (_rate("ddbmm_ledger_mismatches_total", "kind"), "{{kind}}"),
                (_rate("ddbmm_ledger_recovered_total"), "recovered"),
            ],
            "cps",
        ),
        lines(
            "Looks",
            "Looks at keys that were judged and committed, those that proved a key right, and those that "
            "only led to another look.",
            [
                (_rate("ddbmm_validations_total"), "judged"),
                (_rate("ddbmm_ledger_matches_total"), "right"),
                (_rate("ddbmm_validation_rechecks_total"), "looked again"),
            ],
            "cps",
        ),
        lines(
            "What became of the versions",
            "Every sampled change is in exactly one of these states; their sum is the changes published.",
            [
                (f"sum(ddbmm_versions_{state}{{s}})", state)
                for state in ("reached", "outstanding", "alarmed", "expired", "indeterminate", "dead")
            ],
            stacked=True,
        ),
        number(
            "Accounting",
            "Whether every record that was read is accounted for, as docs/architecture.md defines it.",
            "min(ddbmm_ledger_balanced{s})",
            steps=[(None, BAD), (1, GOOD)],
            width=4,
            height=8,
            mappings={"1": ("BALANCED", GOOD), "0": ("BROKEN", BAD)},
        ),
        number(
            "Keys seen",
            "Distinct keys with at least one sampled change; those not compared yet are outstanding.",
            "max(ddbmm_keys_seen{s})",
            width=4,
            height=8,
        ),
    ]


def freshness() -> list:
    buckets = f"sum by (le) (rate(ddbmm_replication_lag_seconds_bucket{{s}}{RATE}))"
    lag = lines(
        "Replication lag",
        "From the write at the origin to the first look that matched, and the p99 that the gate allows.",
        [
            *(
                (f"histogram_quantile({q}, {buckets})", name)
                for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            ("max(ddbmm_cutover_lag_limit_seconds{s})", "allowed"),
        ],
        "s",
    )
    reader = lines(
        "Reader behind the stream",
        "Age of the oldest change that may be unread, and what the gate allows.",
        [
            ("max(ddbmm_stream_reader_lag_seconds{s})", "behind"),
            ("max(ddbmm_cutover_reader_lag_limit_seconds{s})", "allowed"),
        ],
        "s",
    )
    return [
        dashed(lag, "allowed", BAD),
        heat(
            "Replication lag, distribution",
            "How many changes a second took how long.",
            buckets,
            8,
        ),
        lines(
            "Oldest change waited for",
            "Age of the oldest change that a look missed and that no finding covers yet.",
            [("time() - min(ddbmm_oldest_unconverged_timestamp_seconds{s})", "oldest")],
            "s",
        ),
        dashed(reader, "allowed", BAD),
        lines(
            "Time left until records are lost",
            "DynamoDB keeps a stream record for 24 hours; at 0 the oldest unread one is gone.",
            [("min(ddbmm_stream_retention_headroom_seconds{s})", "left")],
            "s",
            steps=[(None, "transparent"), (6 * HOUR, BAD)],
        ),
        lines(
            "Time since",
            "Polling stays near 0 while a reader is alive; the others grow while nothing is written.",
            [
                (_age("ddbmm_stream_last_poll_timestamp_seconds"), "stream polled"),
                (_age("ddbmm_checkpoint_timestamp_seconds"), "checkpoint"),
                (_age("ddbmm_last_validation_timestamp_seconds"), "verdict"),
            ],
            "s",
        ),
    ]


def pipeline() -> list:
    return [
        lines(
            "Changes read",
            "Change records read from the stream and published, by table and type.",
            [(_rate("ddbmm_stream_records_read_total", "table, event"), "{{table}} {{event}}")],
            "cps",
            stacked=True,
        ),
        lines(
            "Changes sampled",
            "Changes whose key the sampler kept or left out; those whose key was waiting for a look already.",
            [
                (_rate("ddbmm_keys_sampled_total"), "kept"),
                (_rate("ddbmm_ledger_not_sampled_total"), "left out"),
                (_rate("ddbmm_keys_coalesced_total"), "joined a waiting key"),
                (_rate("ddbmm_ledger_records_repeated_total"), "repeats dropped"),
            ],
            "cps",
        ),
        lines(
            "Queue",
            "Keys due now, held by a validator, and waiting for their next look; keys with an open history.",
            [
                ("max(ddbmm_queue_backlog_entries{s})", "due now"),
                ("max(ddbmm_queue_pending_entries{s})", "held"),
                ("max(ddbmm_queue_due_entries{s})", "due later"),
                ("max(ddbmm_keys_outstanding{s})", "open keys"),
            ],
        ),
        lines(
            "Redelivered and dead entries",
            "Entries whose validator went silent, and entries given up: their keys were not judged.",
            [
                (_rate("ddbmm_queue_redelivered_entries_total"), "redelivered"),
                (_rate("ddbmm_queue_dead_entries_total", "reason"), "dead: {{reason}}"),
            ],
            "cps",
        ),
        lines(
            "Partitions",
            "Partitions (of a stream: shards) by whether they are read to their end.",
            [("sum by (state) (ddbmm_partitions{s})", "{{state}}")],
            stacked=True,
        ),
        number(
            "Losses of records",
            "Stream records that were gone before they were read. `status` counts them; they close the gate.",
            "max(ddbmm_stream_gaps_total{s})",
            steps=[(None, GOOD), (1, BAD)],
            height=8,
        ),
        number(
            "Readers alive",
            "Stream readers with a heartbeat in Redis.",
            "max(ddbmm_reader_processes{s})",
            steps=[(None, BAD), (1, GOOD)],
            height=8,
        ),
        number(
            "Share sampled",
            "Configured share of the keys that is sampled.",
            "max(ddbmm_sample_ratio{s} > 0)",
            "percentunit",
            width=2,
            height=8,
        ),
    ]


def aws() -> list:
    units = _rate("ddbmm_consumed_read_capacity_units_total", "side")
    cost = _rate("ddbmm_consumed_read_capacity_units_total")
    keys, batches = _rate("ddbmm_batch_keys_sum", "side"), _rate("ddbmm_batch_keys_count", "side")
    duration = f"sum by (le, operation) (rate(ddbmm_aws_request_duration_seconds_bucket{{s}}{RATE}))"
    return [
        lines(
            "Requests",
            "AWS requests sent, by side and operation.",
            [(f"{_rate('ddbmm_aws_requests_total', 'side, operation')} > 0", "{{side}} {{operation}}")],
            "reqps",
        ),
        lines(
            "Refused and failed requests",
            "Requests told to slow down, and requests that failed for another reason, by code.",
            [
                (_rate("ddbmm_aws_throttled_requests_total", "side"), "{{side}} throttled"),
                (f"{_rate('ddbmm_aws_request_failures_total', 'side, code')} > 0", "{{side}} {{code}}"),
            ],
            "reqps",
        ),
        lines(
            "Request time p99",
            "99 % of the requests took at most this long.",
            [(f"histogram_quantile(0.99, {duration}) > 0", "{{operation}}")],
            "s",
        ),
        lines(
            "Read units",
            "Read units that the tables say were consumed, and the time spent waiting for --max-rcu.",
            [
                (units, "{{side}}"),
                (_rate("ddbmm_rate_limit_wait_seconds_total", "side"), "{{side}}: seconds waited a second"),
            ],
        ),
        number(
            "Cost of the reads an hour",
            "Read units at the price in the variable at the top; requests to the stream are not in it.",
            f"{cost} * {HOUR} / 1e6 * $read_price",
            "currencyUSD",
            width=4,
            height=8,
            decimals=4,
        ),
        number(
            "Reads a version",
            "Keys read on the verified side for every sampled change, since the migration was begun.",
            "sum(ddbmm_ledger_reads_total{s}) / sum(ddbmm_ledger_versions_published_total{s})",
            steps=[(None, GOOD), (1.5, WARN), (3, BAD)],
            width=4,
            height=8,
            decimals=2,
        ),
        lines(
            "Keys a BatchGetItem",
            "Mean number of keys in one request; 100 is the most that DynamoDB takes.",
            [(f"{keys} / ({batches} > 0)", "{{side}}")],
            high=100,
        ),
        lines(
            "Credentials expire in",
            "Time left of temporary credentials; those of a role are renewed 15 minutes before.",
            [("min by (side) (ddbmm_credentials_expiry_timestamp_seconds{s} > 0) - time()", "{{side}}")],
            "s",
            width=12,
        ),
        lines(
            "Clock skew",
            "AWS's clock minus that of the host. Requests are refused beyond 5 minutes.",
            [("max by (side) (ddbmm_clock_skew_seconds{s})", "{{side}}")],
            "s",
            width=12,
            low=None,
        ),
    ]


def resources() -> list:
    return [
        lines(
            "Processes",
            "Processes that the supervisors keep alive, by container.",
            [("sum by (role, instance) (ddbmm_worker_processes{s})", "{{role}} {{instance}}")],
        ),
        lines(
            "Restarts",
            "Processes that ended by themselves and were restarted.",
            [("sum by (role) (increase(ddbmm_worker_restarts_total{s}[$__rate_interval]))", "{{role}}")],
        ),
        lines(
            "Log lines",
            "Log lines written, by level.",
            [(_rate("ddbmm_log_messages_total", "level"), "{{level}}")],
            "cps",
        ),
        lines(
            "Targets up",
            "Containers that answered the last scrape, by role.",
            [('sum by (role) (up{job=~"$job",instance=~"$instance",role!=""})', "{{role}}")],
        ),
        lines(
            "Redis memory",
            "Memory that Redis uses, and its limit (0: none).",
            [("max(redis_memory_used_bytes)", "used"), ("max(redis_memory_max_bytes)", "limit")],
            "bytes",
        ),
        number(
            "Redis",
            "Whether Redis answered the monitor at the last scrape.",
            "min(ddbmm_store_up{s})",
            steps=[(None, BAD), (1, GOOD)],
            height=8,
            mappings={"1": ("UP", GOOD), "0": ("DOWN", BAD)},
        ),
        number(
            "Unreadable metric files",
            "Slot files that had to be left out of the last scrape.",
            "sum(ddbmm_metrics_unreadable_files{s})",
            steps=[(None, GOOD), (1, WARN)],
            height=8,
        ),
        number(
            "Builds",
            "How many different versions run; more than 1 is normal only during an upgrade.",
            "count(count by (version) (ddbmm_build_info{s}))",
            steps=[(None, NEUTRAL), (2, WARN)],
            width=2,
            height=8,
        ),
    ]
