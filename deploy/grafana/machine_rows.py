"""What the dashboard shows of the machinery: pipeline, AWS and cost, processes.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from deploy.grafana.panels import BAD, GOOD, NEUTRAL, WARN, Panels, dashed, lines, number
from deploy.grafana.queries import RATE, rate, store_rate


def pipeline() -> Panels:
    """From the stream to the queue."""
    return [
        lines(
            "Changes read",
            "Change records read from the stream and published, by table and type.",
            [(rate("ddbmm_stream_records_read_total", "table, change"), "{{table}} {{change}}")],
            "cps",
            stacked=True,
        ),
        lines(
            "Changes sampled",
            "Changes whose key the sampler kept or left out; those whose key was waiting for a look already.",
            [
                (rate("ddbmm_keys_sampled_total"), "kept"),
                (store_rate("ddbmm_ledger_not_sampled_total"), "left out"),
                (store_rate("ddbmm_keys_coalesced_total"), "joined a waiting key"),
                (store_rate("ddbmm_ledger_records_repeated_total"), "repeats dropped"),
            ],
            "cps",
        ),
        dashed(
            dashed(
                lines(
                    "Queue",
                    "Keys due now, held by a validator, and waiting for their next look; keys with an open "
                    "history. Above its "
                    "limit the reader pauses; the gate allows less.",
                    [
                        ("max(ddbmm_queue_backlog_entries{m})", "due now"),
                        ("max(ddbmm_queue_pending_entries{m})", "held"),
                        ("max(ddbmm_queue_due_entries{m})", "due later"),
                        ("max(ddbmm_keys_outstanding{m})", "open keys"),
                        ("max(ddbmm_queue_limit_entries{m})", "reader pauses"),
                        ("max(ddbmm_cutover_backlog_limit_entries{m})", "gate allows"),
                    ],
                    "suffix: keys",
                ),
                "reader pauses",
                WARN,
            ),
            "gate allows",
            BAD,
        ),
        lines(
            "Redelivered and dead entries",
            "Entries whose validator went silent, and entries given up: their keys were not judged.",
            [
                (store_rate("ddbmm_queue_redelivered_entries_total"), "redelivered"),
                (store_rate("ddbmm_queue_dead_entries_total", "reason"), "dead: {{reason}}"),
            ],
            "cps",
        ),
        lines(
            "Partitions",
            "Partitions (of a stream: shards) by whether they are read to their end.",
            [("max by (state) (ddbmm_partitions{m})", "{{state}}")],
            "suffix: partitions",
            stacked=True,
        ),
        lines(
            "Validators at work",
            "Validators with a heartbeat, and those that hold entries.",
            [
                ("max(ddbmm_validator_processes{m})", "alive"),
                ("max(ddbmm_queue_consumers{m})", "hold entries"),
                ("max(ddbmm_reader_processes{m})", "readers"),
            ],
            "suffix: processes",
            width=6,
        ),
        number(
            "Share sampled",
            "Share of the keys that is followed now: less than --sample-rate where --max-cost-per-hour "
            "lowered it.",
            "max(ddbmm_sample_effective_ratio{m})",
            "percentunit",
            width=2,
            height=8,
        ),
    ]


def aws() -> Panels:
    """What the tables and their streams are asked, and what it costs."""
    units = rate("ddbmm_consumed_read_capacity_units_total", "side")
    an_hour = "max by (side, operation) (ddbmm_cost_dollars_per_hour{m})"
    keys, batches = rate("ddbmm_batch_keys_sum", "side"), rate("ddbmm_batch_keys_count", "side")
    duration = f"sum by (le, operation) (rate(ddbmm_aws_request_duration_seconds_bucket{{m}}{RATE}))"
    return [
        lines(
            "Requests",
            "AWS requests sent, by side and operation.",
            [
                (
                    f"{rate('ddbmm_aws_request_duration_seconds_count', 'side, operation')} > 0",
                    "{{side}} {{operation}}",
                )
            ],
            "reqps",
        ),
        lines(
            "Refused and failed requests",
            "Requests told to slow down, and requests that failed for another reason, by code.",
            [
                (rate("ddbmm_aws_throttled_requests_total", "side"), "{{side}} throttled"),
                (f"{rate('ddbmm_aws_request_failures_total', 'side, code')} > 0", "{{side}} {{code}}"),
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
                (rate("ddbmm_rate_limit_wait_seconds_total", "side"), "{{side}}: seconds waited a second"),
            ],
            "suffix: units/s",
        ),
        number(
            "Cost an hour",
            "Dollars an hour as in the last minutes: read units of both tables, and requests to the stream.",
            f"sum({an_hour})",
            "currencyUSD",
            width=4,
            height=8,
            decimals=4,
        ),
        number(
            "Reads a version",
            "Keys read on the verified side for every sampled change, since the migration was begun.",
            "max(ddbmm_ledger_reads_total{m}) / (max(ddbmm_ledger_versions_published_total{m}) > 0)",
            "suffix: reads",
            width=4,
            height=8,
            decimals=2,
        ),
        lines(
            "Keys a BatchGetItem",
            "Mean number of keys in one request; 100 is the most that DynamoDB takes.",
            [(f"{keys} / ({batches} > 0)", "{{side}}")],
            "suffix: keys",
            high=100,
        ),
        lines(
            "Clock skew",
            "AWS's clock minus that of the host, and minus Redis'. AWS refuses a host that is 5 minutes off; "
            "nothing depends on Redis' clock. Its steps are counted.",
            [
                ("max by (side) (ddbmm_clock_skew_seconds{m})", "{{side}}"),
                ("max(ddbmm_store_clock_distance_seconds{m})", "Redis"),
                (
                    "max(increase(ddbmm_store_clock_steps_total{m}[$__rate_interval]))",
                    "steps of Redis' clock",
                ),
            ],
            "s",
            width=12,
            low=None,
        ),
        dashed(
            lines(
                "Cost an hour by side and operation",
                "Dollars an hour as in the last minutes, and what --max-cost-per-hour allows. A Scan belongs "
                "to a comparison.",
                [
                    (f"{an_hour} > 0", "{{side}} {{operation}}"),
                    ("max(ddbmm_cost_budget_dollars_per_hour{m})", "allowed"),
                ],
                "currencyUSD",
                width=12,
            ),
            "allowed",
            BAD,
        ),
    ]


def resources() -> Panels:
    """Processes, their logs, Redis."""
    return [
        lines(
            "Processes",
            "Processes that the supervisors keep alive, by container.",
            [("sum by (role, instance) (ddbmm_worker_processes{p})", "{{role}} {{instance}}")],
            "suffix: processes",
        ),
        lines(
            "Restarts",
            "Processes that ended by themselves and were restarted.",
            [("sum by (role) (increase(ddbmm_worker_restarts_total{p}[$__rate_interval]))", "{{role}}")],
            "suffix: restarts",
        ),
        lines(
            "Log lines",
            "Log lines written, by level.",
            [(rate("ddbmm_log_messages_total", "level", "{p}"), "{{level}}")],
            "cps",
        ),
        lines(
            "Roles of the migration",
            "Containers that serve the chosen migration and answered the last scrape, by role.",
            [
                ("count by (role) (ddbmm_migration_info{m})", "{{role}}"),
                ("count by (role) (ddbmm_store_up{m})", "{{role}}"),
                ("max by (expected_role) (ddbmm_roles_expected{m})", "expected: {{expected_role}}"),
                ("min by (expected_role) (ddbmm_migration_served{m})", "served by each {{expected_role}}"),
            ],
            "suffix: containers",
        ),
        lines(
            "Targets up",
            "Containers that answered the last scrape, by role.",
            [('sum by (role) (up{job=~"$job",instance=~"$instance",role!=""})', "{{role}}")],
            "suffix: containers",
        ),
        lines(
            "Credentials expire in",
            "Time left of temporary credentials; those of a role are renewed 15 minutes before.",
            [("min by (side) (ddbmm_credentials_expiry_timestamp_seconds{m} > 0) - time()", "{{side}}")],
            "s",
            width=8,
        ),
        lines(
            "Memory of the processes",
            "Memory that each process holds, and what its container may use (no line without a limit).",
            [
                ("max by (instance, process) (process_resident_memory_bytes{o})", "{{instance}} {{process}}"),
                ("min(ddbmm_memory_limit_bytes{p})", "limit"),
            ],
            "bytes",
        ),
        lines(
            "Processor time of the processes",
            "Cores that each process keeps busy.",
            [
                (
                    f"sum by (instance, process) (rate(process_cpu_seconds_total{{o}}{RATE}))",
                    "{{instance}} {{process}}",
                )
            ],
            "suffix: cores",
        ),
        lines(
            "File descriptors, and age of the processes",
            "Descriptors that each process holds; how many processes were started in the last ten minutes.",
            [
                ("max by (instance, process) (process_open_fds{o})", "{{instance}} {{process}}"),
                ("count(time() - process_start_time_seconds{o} < 600)", "young processes"),
            ],
            "none",
        ),
        lines(
            "Images that cannot be read",
            "Images of change records that are not valid items: the versions are not known. The log has "
            "the first.",
            [(rate("ddbmm_stream_malformed_images_total"), "malformed")],
            "cps",
        ),
        lines(
            "Throttled writes of the target table",
            "The replicator's own trouble, as CloudWatch counts it, where an exporter gives it to this "
            "Prometheus "
            "(docs/operations.md).",
            [("sum by (name) (aws_dynamodb_write_throttle_events_sum)", "{{name}}")],
            "suffix: writes",
        ),
        lines(
            "Redis memory",
            "Memory that Redis uses, and its limit (0: none).",
            [("max(redis_memory_used_bytes)", "used"), ("max(redis_memory_max_bytes)", "limit")],
            "bytes",
        ),
        lines(
            "Redis itself",
            "Connections, and whether the last writes to disk went well (1) or not (0).",
            [
                ("max(redis_connected_clients)", "connections"),
                ("min(redis_rdb_last_bgsave_status)", "snapshot"),
                ("min(redis_aof_last_write_status)", "append-only file"),
            ],
            "none",
        ),
        lines(
            "Prometheus itself",
            "Rules that could not be evaluated and notifications that were not delivered, a second; 1 "
            "where the last "
            "configuration was taken.",
            [
                (f"sum(rate(prometheus_rule_evaluation_failures_total{RATE}))", "rules failed"),
                (f"sum(rate(prometheus_notifications_errors_total{RATE}))", "notifications failed"),
                (f"sum(rate(prometheus_notifications_dropped_total{RATE}))", "notifications dropped"),
                ("min(prometheus_config_last_reload_successful)", "configuration"),
            ],
            "none",
        ),
        lines(
            "Series in Prometheus",
            "Series that Prometheus holds now.",
            [("max(prometheus_tsdb_head_series)", "series")],
            "suffix: series",
        ),
        number(
            "Unreadable metric files",
            "Slot files that had to be left out of the last scrape.",
            "sum(ddbmm_metrics_unreadable_files{p})",
            "suffix: files",
            steps=[(None, GOOD), (1, WARN)],
            height=8,
        ),
        number(
            "Builds",
            "How many different versions run; more than 1 is normal only during an upgrade.",
            "count(count by (version) (ddbmm_build_info{p}))",
            "suffix: versions",
            steps=[(None, NEUTRAL), (2, WARN)],
            width=2,
            height=8,
        ),
    ]
