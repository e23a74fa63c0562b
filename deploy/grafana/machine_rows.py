"""What the dashboard shows of the machinery: pipeline, AWS and cost, processes.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from deploy.grafana.panels import BAD, GOOD, NEUTRAL, WARN, Panels, lines, number
from deploy.grafana.queries import RATE, rate, store_rate

HOUR = 3600
UP = {"1": ("UP", GOOD), "0": ("DOWN", BAD)}
#: On-demand reads, US East (AWS, "Pricing for on-demand capacity"); the variable read_price overrides it.
PRICE_PER_MILLION = "0.125"


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
        lines(
            "Queue",
            "Keys due now, held by a validator, and waiting for their next look; keys with an open history.",
            [
                ("max(ddbmm_queue_backlog_entries{m})", "due now"),
                ("max(ddbmm_queue_pending_entries{m})", "held"),
                ("max(ddbmm_queue_due_entries{m})", "due later"),
                ("max(ddbmm_keys_outstanding{m})", "open keys"),
            ],
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
            stacked=True,
        ),
        number(
            "Losses of records",
            "Losses of stream records that no comparison has closed. They close the gate.",
            "max(ddbmm_stream_gaps_open{m})",
            steps=[(None, GOOD), (1, BAD)],
            height=8,
        ),
        number(
            "Readers alive",
            "Stream readers with a heartbeat in Redis.",
            "max(ddbmm_reader_processes{m})",
            steps=[(None, BAD), (1, GOOD)],
            height=8,
        ),
        number(
            "Share sampled",
            "Configured share of the keys that is sampled.",
            "max(ddbmm_sample_ratio{m} > 0)",
            "percentunit",
            width=2,
            height=8,
        ),
    ]


def aws() -> Panels:
    """What the tables and their streams are asked, and what it costs."""
    units = rate("ddbmm_consumed_read_capacity_units_total", "side")
    cost = rate("ddbmm_consumed_read_capacity_units_total")
    keys, batches = rate("ddbmm_batch_keys_sum", "side"), rate("ddbmm_batch_keys_count", "side")
    duration = f"sum by (le, operation) (rate(ddbmm_aws_request_duration_seconds_bucket{{m}}{RATE}))"
    return [
        lines(
            "Requests",
            "AWS requests sent, by side and operation.",
            [(f"{rate('ddbmm_aws_requests_total', 'side, operation')} > 0", "{{side}} {{operation}}")],
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
            "max(ddbmm_ledger_reads_total{m}) / (max(ddbmm_ledger_versions_published_total{m}) > 0)",
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
            [("min by (side) (ddbmm_credentials_expiry_timestamp_seconds{m} > 0) - time()", "{{side}}")],
            "s",
            width=12,
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
    ]


def resources() -> Panels:
    """Processes, their logs, Redis."""
    return [
        lines(
            "Processes",
            "Processes that the supervisors keep alive, by container.",
            [("sum by (role, instance) (ddbmm_worker_processes{p})", "{{role}} {{instance}}")],
        ),
        lines(
            "Restarts",
            "Processes that ended by themselves and were restarted.",
            [("sum by (role) (increase(ddbmm_worker_restarts_total{p}[$__rate_interval]))", "{{role}}")],
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
            ],
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
            "min(ddbmm_store_up{m})",
            steps=[(None, BAD), (1, GOOD)],
            height=8,
            mappings=UP,
        ),
        number(
            "Unreadable metric files",
            "Slot files that had to be left out of the last scrape.",
            "sum(ddbmm_metrics_unreadable_files{p})",
            steps=[(None, GOOD), (1, WARN)],
            height=8,
        ),
        number(
            "Builds",
            "How many different versions run; more than 1 is normal only during an upgrade.",
            "count(count by (version) (ddbmm_build_info{p}))",
            steps=[(None, NEUTRAL), (2, WARN)],
            width=2,
            height=8,
        ),
    ]
