"""The row of the gate's checks: each with its figure and its limit, over time, and the alerts.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from deploy.grafana.first_rows import CHECK, GATE_STEPS, STATE
from deploy.grafana.panels import FRESH, NEUTRAL, Column, Panels, joined, rows_of, states

#: Each check, in words that say what its value is and in which unit.
CHECKS = {
    "compared": "compared: keys that changed and have a verdict",
    "mismatches": "mismatches: open findings",
    "success": "success: share of right keys, at least (95 %)",
    "whole-table": "whole-table: share of the tables compared",
    "definitions": "definitions: differences that were named",
    "excused": "excused: share of keys that TTL will mend",
    "lag": "lag: p99 of the replication lag, s",
    "waiting": "waiting: age of the oldest change not found, s",
    "reader": "reader: age of the oldest unread change, s",
    "validators": "validators: processes alive",
    "looks": "looks: how long a due key waits for its look, s",
    "gaps": "gaps: losses of stream records",
    "dead": "dead: entries given up without a verdict",
    "backlog": "backlog: keys due for a look",
    "accounting": "accounting: books that do not balance",
}
#: What the gate demands of a check's value: (at least or at most, the metric, or a number that is no option).
_LIMITS: dict[str, tuple[str, str | int]] = {
    "success": ("≥", "ddbmm_cutover_objective_ratio"),
    "compared": ("≥", "ddbmm_cutover_keys_needed"),
    "whole-table": ("≥", "ddbmm_cutover_whole_table_demanded"),
    "definitions": ("≥", 0),  # compared at all: what differs is the operator's to judge
    "validators": ("≥", 1),
    "excused": ("≤", "ddbmm_cutover_excused_limit_ratio"),
    "lag": ("≤", "ddbmm_cutover_lag_limit_seconds"),
    "waiting": ("≤", "ddbmm_cutover_lag_limit_seconds"),
    "reader": ("≤", "ddbmm_cutover_reader_lag_limit_seconds"),
    "looks": ("≤", "ddbmm_cutover_look_delay_limit_seconds"),
    "backlog": ("≤", "ddbmm_cutover_backlog_limit_entries"),
    "mismatches": ("≤", 0),
    "gaps": ("≤", 0),
    "dead": ("≤", 0),
    "accounting": ("≤", 0),
}


def _limits(sign: str) -> str:
    """The limits of one direction, a series for each check."""
    made = [
        f'label_replace({_limit(of)}, "check", "{check}", "", "")'
        for check, (direction, of) in _LIMITS.items()
        if direction == sign
    ]
    return f"({' or '.join(made)}) and on () {FRESH}"


def _limit(of: str | int) -> str:
    return f"max({of}{{m}})" if isinstance(of, str) else f"{of} + 0 * max(ddbmm_store_up{{m}})"


def checks() -> Panels:
    """Every check with its figure and its limit, over time, and the alerts."""
    fresh = f"and on () {FRESH}"
    return [
        joined(
            "Checks",
            "Every check of the gate: what it looks at, and what is demanded of it. `gate` says it in "
            "sentences.",
            "check",
            [
                Column("Result", f"({STATE}) {fresh}", steps=GATE_STEPS, mappings=CHECK),
                Column("Value", f"max by (check) (ddbmm_cutover_check_value{{m}}) {fresh}", decimals=5),
                Column("At least", _limits("≥")),
                Column("At most", _limits("≤")),
            ],
            12,
            17,
            "the monitor is silent",
            texts={name: (text, NEUTRAL) for name, text in CHECKS.items()},
        ),
        states(
            "Gate checks",
            "Every check of the gate over time. The gate is open while all of them pass.",
            (STATE, "{{check}}"),
            CHECK,
            12,
            17,
        ),
        rows_of(
            "Alerts",
            "Alerts of the migration, and of processes, that fire or are about to. The runbook has a "
            "section for "
            "each.",
            'ALERTS{alertname=~"DynamoDBMigration.+",alertname!="DynamoDBMigrationWatchdog",'
            'migration=~"$migration|"}',
            {name: name for name in ("alertname", "alertstate", "severity", "migration", "role")},
            24,
            6,
            "no alerts",
        ),
    ]
