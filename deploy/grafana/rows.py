"""What the dashboard shows, row by row, from the question "may we switch?" down to its freshness.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from deploy.grafana.panels import (
    BAD,
    GOOD,
    WARN,
    Column,
    Panels,
    Steps,
    band,
    dashed,
    heat,
    joined,
    lines,
    number,
    rows_of,
    states,
)
from deploy.grafana.queries import RATE, SHARE_DECIMALS, age, rate, share, store_rate

MINUTE, HOUR = 60, 3600
GATE = {"1": ("GO", GOOD), "0": ("TOO EARLY TO SAY", WARN), "-1": ("NO-GO", BAD)}
CHECK = {"1": ("passed", GOOD), "0": ("cannot be told yet", WARN), "-1": ("failed", BAD)}
UP = {"1": ("UP", GOOD), "0": ("DOWN", BAD)}
GATE_STEPS: Steps = [(None, BAD), (0, WARN), (1, GOOD)]
REDS: Steps = [(None, GOOD), (1, BAD)]


def migrations() -> Panels:
    """All migrations, one below the other."""
    return [
        joined(
            "Migrations",
            "Every migration that is watched; the rows below show the one that is chosen at the top.",
            "migration",
            [
                Column("Switch over?", "migration:ddbmm_cutover_gate:state", steps=GATE_STEPS, mappings=GATE),
                Column(
                    "Right keys",
                    share("migration:ddbmm_keys_right:ratio"),
                    "percentunit",
                    decimals=SHARE_DECIMALS,
                ),
                Column(
                    "At least (95 %)",
                    share("migration:ddbmm_keys_right_low_ratio:max"),
                    "percentunit",
                    decimals=SHARE_DECIMALS,
                ),
                Column("Demanded", "migration:ddbmm_cutover_objective:max", "percentunit"),
                Column("Open findings", "migration:ddbmm_mismatches_open:sum", steps=REDS),
                Column("Lag p99", "migration:ddbmm_replication_lag_seconds:p99_rate5m", "s", decimals=1),
                Column(
                    "Reader behind", "max by (migration) (ddbmm_stream_reader_lag_seconds)", "s", decimals=1
                ),
                Column("Redis", "min by (migration) (ddbmm_store_up)", mappings=UP),
            ],
            24,
            6,
            "no migration is watched",
        )
    ]


def go_or_no_go() -> Panels:
    """The answer, from three metres."""
    return [
        number(
            "Switch over?",
            "GO: every check of the gate passes. NO-GO: at least one fails. TOO EARLY TO SAY: none fails, "
            "but one cannot be told yet. `dynamodb-migration-monitor gate` gives the reasons.",
            "migration:ddbmm_cutover_gate:state{r}",
            steps=GATE_STEPS,
            width=6,
            mappings=GATE,
        ),
        number(
            "Right keys",
            "Share of the distinct keys judged that have no open finding.",
            share("migration:ddbmm_keys_right:ratio{r}"),
            "percentunit",
            [(None, BAD), (0.99, WARN), (0.999, GOOD)],
            decimals=SHARE_DECIMALS,
            nothing="none compared",
        ),
        number(
            "At least (95 %)",
            "Lower end of the 95 % interval of the share of right keys: what the sample proves.",
            share("migration:ddbmm_keys_right_low_ratio:max{r}"),
            "percentunit",
            [(None, BAD), (0.99, WARN), (0.999, GOOD)],
            decimals=SHARE_DECIMALS,
            nothing="none compared",
        ),
        number(
            "Open findings",
            "Keys that are wrong on the verified side now. `dynamodb-migration-monitor findings` lists them.",
            "migration:ddbmm_mismatches_open:sum{r}",
            steps=REDS,
        ),
        number(
            "Replication lag p99",
            "99 % of the changes of the last minutes were seen on the verified side within this time.",
            "migration:ddbmm_replication_lag_seconds:p99_rate5m{r} >= 0",
            "s",
            [(None, GOOD), (30, WARN), (MINUTE, BAD)],
            decimals=1,
            nothing="no writes",
        ),
        number(
            "Reader behind",
            "Age of the oldest change of the stream that may be unread.",
            "max(ddbmm_stream_reader_lag_seconds{m})",
            "s",
            [(None, GOOD), (MINUTE, WARN), (5 * MINUTE, BAD)],
            decimals=1,
        ),
        number(
            "Keys compared",
            "Distinct keys with a verdict. Few keys prove little, even when all of them are right.",
            "migration:ddbmm_keys_compared:max{r}",
            steps=[(None, BAD), (1, WARN), (1000, GOOD)],
        ),
        states(
            "Gate checks",
            "Every check of the gate over time. The gate is open while all of them pass.",
            (
                "min by (check) (ddbmm_cutover_check_passed{m}) "
                "- max by (check) (ddbmm_cutover_check_failed{m})",
                "{{check}}",
            ),
            CHECK,
            14,
            9,
        ),
        rows_of(
            "Alerts",
            "Alerts of the migration, and of processes, that fire or are about to. docs/runbook.md has a "
            "section for each.",
            'ALERTS{alertname=~"DynamoDBMigration.+",alertname!="DynamoDBMigrationWatchdog",'
            'migration=~"$migration|"}',
            ["alertname", "alertstate", "severity"],
            10,
            9,
            "no alerts",
        ),
    ]


def correctness() -> Panels:
    """Is the target the same as the source?"""
    share = lines(
        "Share of right keys",
        "Share of right keys, its 95 % interval, and what the gate demands of its lower end.",
        [
            ("migration:ddbmm_keys_right:ratio{r}", "right"),
            ("migration:ddbmm_keys_right_low_ratio:max{r}", "at least"),
            ("migration:ddbmm_keys_right_high_ratio:max{r}", "at most"),
            ("migration:ddbmm_cutover_objective:max{r}", "demanded"),
        ],
        "percentunit",
        width=6,
        low=None,
        high=1,
    )
    return [
        dashed(band(share, "at least", "at most"), "demanded", BAD),
        lines(
            "Open findings by kind",
            "missing: the target lacks the item. stale: an older version. different: no known version. "
            "extra: the target holds an item that the source lacks.",
            [("max by (kind) (ddbmm_mismatches_open{m})", "{{kind}}")],
            width=6,
            stacked=True,
        ),
        lines(
            "Oldest open finding",
            "How long the finding that has been open longest has been so; empty while none is open.",
            [("time() - min(ddbmm_oldest_finding_timestamp_seconds{m})", "oldest")],
            "s",
            width=6,
        ),
        lines(
            "Findings opened and recovered",
            "Verdicts that opened a finding, by kind, and findings that a later look found right.",
            [
                (rate("ddbmm_validation_mismatches_total", "kind"), "{{kind}}"),
                (store_rate("ddbmm_ledger_recovered_total"), "recovered"),
            ],
            "cps",
            width=6,
        ),
        lines(
            "Looks",
            "Looks at keys that were judged and committed, those that proved a key right, and those that "
            "only led to another look.",
            [
                (rate("ddbmm_validations_total"), "judged"),
                (rate("ddbmm_validation_matches_total"), "right"),
                (rate("ddbmm_validations_undecided_total"), "looked again"),
            ],
            "cps",
        ),
        lines(
            "What became of the versions",
            "Every sampled change is in exactly one of these states; their sum is the changes published.",
            [
                (f"max(ddbmm_versions_{state}{{m}})", state)
                for state in ("reached", "outstanding", "alarmed", "expired", "indeterminate", "dead")
            ],
            stacked=True,
        ),
        number(
            "Accounting",
            "Whether every record that was read is accounted for, as docs/architecture.md defines it.",
            "min(ddbmm_ledger_balanced{m})",
            steps=[(None, BAD), (1, GOOD)],
            width=4,
            height=8,
            mappings={"1": ("BALANCED", GOOD), "0": ("BROKEN", BAD)},
        ),
        number(
            "Keys seen",
            "Distinct keys with at least one sampled change; those not compared yet are outstanding.",
            "max(ddbmm_keys_seen{m})",
            width=4,
            height=8,
        ),
    ]


def freshness() -> Panels:
    """How far behind is it?"""
    buckets = f"sum by (le) (rate(ddbmm_replication_lag_seconds_bucket{{m}}{RATE}))"
    lag = lines(
        "Replication lag",
        "From the write at the origin to the first look that matched, and the p99 that the gate allows.",
        [
            *(
                (f"histogram_quantile({q}, {buckets})", name)
                for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
            ),
            ("max(ddbmm_cutover_lag_limit_seconds{m})", "allowed"),
        ],
        "s",
    )
    reader = lines(
        "Reader behind the stream",
        "Age of the oldest change that may be unread, and what the gate allows.",
        [
            ("max(ddbmm_stream_reader_lag_seconds{m})", "behind"),
            ("max(ddbmm_cutover_reader_lag_limit_seconds{m})", "allowed"),
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
            [("time() - min(ddbmm_oldest_unconverged_timestamp_seconds{m})", "oldest")],
            "s",
        ),
        dashed(reader, "allowed", BAD),
        lines(
            "Time left until records are lost",
            "DynamoDB keeps a stream record for 24 hours; at 0 the oldest unread one is gone.",
            [("min(ddbmm_stream_retention_headroom_seconds{m})", "left")],
            "s",
            steps=[(None, "transparent"), (6 * HOUR, BAD)],
        ),
        lines(
            "Time since",
            "Polling stays near 0 while a reader is alive; the others grow while nothing is written.",
            [
                (age("ddbmm_stream_last_poll_timestamp_seconds"), "stream polled"),
                (age("ddbmm_checkpoint_timestamp_seconds"), "checkpoint"),
                (age("ddbmm_last_validation_timestamp_seconds"), "verdict"),
            ],
            "s",
        ),
    ]


def comparison() -> Panels:
    """What of the tables does not change: the latest comparison of them whole."""
    return [
        number(
            "Compared",
            "Share of the partitions that the latest comparison has read.",
            "max(ddbmm_comparison_progress_ratio{m})",
            "percentunit",
            [(None, WARN), (1, GOOD)],
            width=4,
            height=8,
            nothing="none was made",
        ),
        number(
            "Comparison finished",
            "How long ago the latest comparison was finished, suspects included.",
            "time() - max(ddbmm_comparison_finished_timestamp_seconds{m})",
            "s",
            width=4,
            height=8,
            nothing="not finished",
        ),
        lines(
            "Could have gone unseen",
            "Largest share of wrong keys that could have gone unseen, with 95 % confidence: of the keys that "
            "changed, and of the whole table once its comparison proves something.",
            [("max by (stratum) (ddbmm_stratum_unseen_ratio{m})", "{{stratum}}")],
            "percentunit",
        ),
        lines(
            "Keys compared, by stratum",
            "Keys that changed and have an answer; keys of the whole table that were compared.",
            [("max by (stratum) (ddbmm_stratum_keys{m})", "{{stratum}}")],
        ),
        lines(
            "Keys compared whole",
            "Keys found equal, those handed over to be judged, and those that their stream is judging.",
            [
                ("max(ddbmm_comparison_equal_keys{m})", "equal"),
                ("max(ddbmm_comparison_suspect_keys{m})", "suspects"),
                ("max(ddbmm_comparison_covered_keys{m})", "covered"),
            ],
        ),
        lines(
            "Suspects",
            "What became of all comparisons' suspects: waiting for an answer, taken over by the stream, "
            "given up because their source never stood still, under an open finding.",
            [("max by (state) (ddbmm_suspect_keys{m})", "{{state}}")],
        ),
        lines(
            "Items compared",
            "Items that the comparison has read, by table.",
            [("max by (table) (ddbmm_comparison_items{m})", "{{table}}")],
        ),
        lines(
            "Comparison's read units",
            "Read units that the comparison's Scans took, by table.",
            [("max by (table) (ddbmm_comparison_read_units{m})", "{{table}}")],
        ),
        lines(
            "Partitions compared",
            "Segments, or an export's files and then buckets, that are read, and those that are left.",
            [("max by (phase, state) (ddbmm_comparison_partitions{m})", "{{phase}} {{state}}")],
            stacked=True,
        ),
    ]
