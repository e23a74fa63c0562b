"""What the dashboard shows of all migrations, and of one: correctness, freshness, the whole table.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import dashboard

from deploy.grafana.first_rows import GATE, UP
from deploy.grafana.panels import (
    BAD,
    FRESH,
    FRESH_SECONDS,
    GOOD,
    NEUTRAL,
    RUNBOOK,
    UNKNOWN,
    WARN,
    Column,
    Panels,
    Steps,
    band,
    coloured,
    dashed,
    heat,
    joined,
    lines,
    number,
    rows_of,
)
from deploy.grafana.queries import RATE, SHARE_DECIMALS, age, rate, share, store_rate

#: One colour a kind, none of them that of good.
KINDS = {"missing": BAD, "stale": WARN, "different": "purple", "extra": "yellow"}
#: Known too old: its figures are not shown.
SILENT = "-9"
#: By every process that has the migration in its file.
SERVED = {"1": ("yes", GOOD), "0": ("NO", BAD)}
GATES = {**GATE, SILENT: ("MONITOR IS SILENT", UNKNOWN)}
STEPS: Steps = [(None, UNKNOWN), (-1, BAD), (0, WARN), (1, GOOD)]
FOUND: Steps = [(None, GOOD), (1, BAD)]


def _fresh(expr: str) -> str:
    """A figure of every migration, where it is not too old to be shown as now."""
    age = "time() - max by (migration) (timestamp(ddbmm_store_up))"
    return f"({expr}) and on (migration) ({age} < {FRESH_SECONDS})"


def migrations() -> Panels:
    """All migrations, one below the other."""
    watched = f"{SILENT} * migration:ddbmm_watched:last1d"
    return [
        joined(
            "Migrations",
            "Every migration that is watched, worst first; the rows below show the one chosen at the top.",
            "migration",
            [
                Column(
                    "Switch over?",
                    f"{_fresh('migration:ddbmm_cutover_gate:state')} or on (migration) ({watched})",
                    steps=STEPS,
                    mappings=GATES,
                ),
                Column(
                    "Figures are",
                    "time() - max by (migration) (timestamp(ddbmm_store_up))",
                    "s",
                    decimals=0,
                ),
                Column(
                    "Right keys",
                    _fresh(share("migration:ddbmm_keys_right:ratio")),
                    "percentunit",
                    decimals=SHARE_DECIMALS,
                ),
                Column(
                    "At least (95 %)",
                    _fresh(share("migration:ddbmm_keys_right_low_ratio:max")),
                    "percentunit",
                    decimals=SHARE_DECIMALS,
                ),
                Column("Demanded", _fresh("migration:ddbmm_cutover_objective:max"), "percentunit"),
                Column("Open findings", _fresh("migration:ddbmm_mismatches_open:sum"), steps=FOUND),
                Column(
                    "Lag", _fresh("max by (migration) (ddbmm_replication_delay_seconds)"), "s", decimals=1
                ),
                Column(
                    "Looks overdue",
                    _fresh("max by (migration) (ddbmm_looks_overdue_seconds)"),
                    "s",
                    decimals=0,
                ),
                Column(
                    "Reader behind",
                    _fresh("max by (migration) (ddbmm_stream_reader_lag_seconds)"),
                    "s",
                    decimals=1,
                ),
                Column(
                    "Coverage",
                    _fresh("max by (migration) (ddbmm_comparison_coverage_ratio)"),
                    "percentunit",
                    nothing="none",
                ),
                Column("Validators", _fresh("max by (migration) (ddbmm_validator_processes)")),
                Column(
                    "Served",
                    "min by (migration) (ddbmm_migration_served)",
                    steps=[(None, BAD), (1, GOOD)],
                    mappings=SERVED,
                ),
                Column("Redis", _fresh("min by (migration) (ddbmm_store_up)"), mappings=UP),
            ],
            24,
            6,
            "no migration is watched",
            worst_first="Switch over?",
        )
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
        coloured(
            lines(
                "Open findings by kind",
                "missing: the target lacks the item. stale: an older version. different: no known version. "
                "extra: the target holds an item that the source lacks.",
                [("max by (kind) (ddbmm_mismatches_open{m})", "{{kind}}")],
                "suffix: findings",
                width=6,
                stacked=True,
            ),
            KINDS,
        ),
        lines(
            "Oldest open finding",
            "How long the finding that has been open longest has been so; empty while none is open.",
            [("time() - min(ddbmm_oldest_finding_timestamp_seconds{m})", "oldest")],
            "s",
            width=6,
        ),
        coloured(
            lines(
                "Findings opened and recovered",
                "Verdicts that opened a finding, by kind; findings that a later look found right, or that "
                "TTL will mend.",
                [
                    (rate("ddbmm_validation_mismatches_total", "kind"), "{{kind}}"),
                    (store_rate("ddbmm_ledger_recovered_total"), "recovered"),
                    (store_rate("ddbmm_ledger_findings_excused_total"), "excused"),
                ],
                "cps",
                width=6,
            ),
            {**KINDS, "recovered": GOOD, "excused": NEUTRAL},
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
            "suffix: versions",
            stacked=True,
        ),
        number(
            "Accounting",
            "Whether every record that was read is accounted for, as docs/architecture.md defines it.",
            "min(ddbmm_ledger_balanced{m})",
            "none",
            steps=[(None, BAD), (1, GOOD)],
            width=4,
            height=8,
            mappings={"1": ("BALANCED", GOOD), "0": ("BROKEN", BAD)},
        ),
        number(
            "Keys seen",
            "Distinct keys with at least one sampled change; those not compared yet are outstanding.",
            "max(ddbmm_keys_seen{m})",
            "suffix: keys",
            width=4,
            height=8,
        ),
        _causes(),
    ]


def _causes() -> table.Panel:
    by = "rank, cause, kind, operation"
    panel = rows_of(
        "Findings by cause",
        "Defects are systematic: the ten biggest causes of the open findings, of at most the 10,000 that "
        "were opened first, counted every 30 s. Operation: what made the newest version; none: a comparison "
        "found it, of a key that did not change. The paths that differ stand in `findings --by cause` and on "
        "the page at `/` of the monitor's port, the keys in `findings --cause ID`.",
        f"max by ({by}) (ddbmm_findings_by_cause{{m}}) and on () {FRESH}",
        {"rank": "#", "cause": "Cause", "kind": "Kind", "operation": "Operation", "Value": "Findings"},
        24,
        8,
        "no open findings, or not known: see the tile Open findings",
    )
    asked = {"title": "findings --cause ${__value.raw}", "url": f"{RUNBOOK}#openmismatches"}
    panel.override_by_name("Cause", [dashboard.DynamicConfigValue(id_val="links", value=[asked])])
    return panel.sort_by([common.TableSortByFieldState().display_name("Findings").desc(True)])


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
        dashed(
            lines(
                "Oldest change waited for",
                "Age of the oldest change that was not found, or could not be read, and that no finding "
                "covers yet; how "
                "long the key that has waited longest for its look has been due.",
                [
                    ("time() - min(ddbmm_oldest_unconverged_timestamp_seconds{m})", "oldest"),
                    ("max(ddbmm_looks_overdue_seconds{m})", "look overdue"),
                    ("max(ddbmm_cutover_lag_limit_seconds{m})", "allowed"),
                ],
                "s",
            ),
            "allowed",
            BAD,
        ),
        dashed(reader, "allowed", BAD),
        lines(
            "Partitions furthest behind",
            "Age of the oldest unread change of the ten partitions (of a stream: shards) that are furthest "
            "behind, the "
            "worst first. A line that falls is read faster than it is written.",
            [("max by (rank) (ddbmm_partition_lag_seconds{m})", "{{rank}}")],
            "s",
        ),
        lines(
            "Time left until records are lost",
            "DynamoDB keeps a stream record for 24 hours; at 0 the oldest unread one is gone.",
            [("min(ddbmm_stream_retention_headroom_seconds{m})", "left")],
            "s",
        ),
        lines(
            "Time since",
            "Polling stays near 0 while a reader is alive; the others grow while nothing is written.",
            [
                (age("ddbmm_stream_last_poll_timestamp_seconds"), "stream polled"),
                (age("ddbmm_checkpoint_timestamp_seconds"), "checkpoint"),
                (age("ddbmm_last_verdict_timestamp_seconds"), "verdict"),
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
            "suffix: keys",
        ),
        lines(
            "Keys compared whole",
            "Keys found equal, those handed over to be judged, and those that their stream is judging.",
            [
                ("max(ddbmm_comparison_equal_keys{m})", "equal"),
                ("max(ddbmm_comparison_suspect_keys{m})", "suspects"),
                ("max(ddbmm_comparison_covered_keys{m})", "covered"),
            ],
            "suffix: keys",
        ),
        lines(
            "Suspects",
            "What became of all comparisons' suspects: waiting for an answer, taken over by the stream, "
            "given up because their source never stood still, under an open finding.",
            [("max by (state) (ddbmm_suspect_keys{m})", "{{state}}")],
            "suffix: keys",
        ),
        lines(
            "Items compared",
            "Items that the comparison has read, by table.",
            [("max by (table) (ddbmm_comparison_items{m})", "{{table}}")],
            "suffix: items",
        ),
        lines(
            "Comparison's read units",
            "Read units that the comparison's Scans took, by table.",
            [("max by (table) (ddbmm_comparison_read_units{m})", "{{table}}")],
            "suffix: read units",
        ),
        lines(
            "Partitions compared",
            "Segments, or an export's files and then buckets, that are read, and those that are left.",
            [("max by (phase, state) (ddbmm_comparison_partitions{m})", "{{phase}} {{state}}")],
            "suffix: partitions",
            stacked=True,
        ),
    ]
