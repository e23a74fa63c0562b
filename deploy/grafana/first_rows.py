"""The two rows that are read from three metres: may we switch, and if not, why; and the checks in full.

Reads: nothing. Writes: nothing. Never: positions and identifiers (see generate.py).
"""

from grafana_foundation_sdk.builders import stat

from deploy.grafana.panels import (
    BAD,
    FRESH,
    FRESH_SECONDS,
    GOOD,
    NEUTRAL,
    SILENCE,
    UNKNOWN,
    WARN,
    Judged,
    Panels,
    Steps,
    judged,
    named,
    number,
)
from deploy.grafana.queries import RATE, SHARE_DECIMALS, share

GATE = {"1": ("GO", GOOD), "0": ("TOO EARLY TO SAY", WARN), "-1": ("NO-GO", BAD)}
CHECK = {"1": ("passed", GOOD), "0": ("cannot be told yet", WARN), "-1": ("failed", BAD)}
GATE_STEPS: Steps = [(None, BAD), (0, WARN), (1, GOOD)]
UP = {"1": ("UP", GOOD), "0": ("DOWN", BAD)}
STATE = "min by (check) (ddbmm_cutover_check_passed{m}) - max by (check) (ddbmm_cutover_check_failed{m})"
_TABLES = "source_table, source_account, source_region, target_table, target_account, target_region"


def answer() -> Panels:
    """The answer, for whom, of when, and what speaks against it."""
    said = (
        "{{source_table}} ({{source_account}} {{source_region}}) → "
        "{{target_table}} ({{target_account}} {{target_region}})"
    )
    fresh = f"and on () {FRESH}"
    settings = "verify_on, sample_percent"
    served = f"and on () (time() - max(timestamp(ddbmm_migration_info{{m}})) < {FRESH_SECONDS})"
    return [
        named(
            "Migration",
            "What is migrated where, as the processes that serve it say.",
            [
                (f"max by ({_TABLES}) (ddbmm_migration_info{{m}}) {served}", said, NEUTRAL),
                (
                    f"max by ({settings}) (ddbmm_migration_info{{m}}) {served}",
                    "verifying the {{verify_on}}, {{sample_percent}} % of the keys",
                    NEUTRAL,
                ),
            ],
            "NO PROCESS ANSWERS",
            6,
        ),
        number(
            "Switch over?",
            "GO: every check of the gate passes. NO-GO: at least one fails. TOO EARLY TO SAY: none fails, "
            "but one cannot be told yet. `dynamodb-migration-monitor gate` gives the reasons.",
            "migration:ddbmm_cutover_gate:state{r}",
            "none",
            steps=GATE_STEPS,
            width=6,
            mappings=GATE,
        ),
        named(
            "Why",
            "The checks that fail, and those that cannot be told yet; the table of checks has their figures.",
            [
                (f"bottomk(4, {STATE} == -1) {fresh}", "✗ {{check}}", BAD),
                (f"bottomk(4, {STATE} == 0) {fresh}", "? {{check}}", WARN),
                (f"min(ddbmm_cutover_check_passed{{m}}) == 1 {fresh}", "every check passes", GOOD),
                (f"{SILENCE} == -9", "REDIS IS SILENT", UNKNOWN),
            ],
            "MONITOR IS SILENT",
            5,
        ),
        number(
            "Age of the figures",
            "How long ago the monitor's figures were scraped. Beyond 30 s nothing here is shown as known.",
            "time() - max(timestamp(ddbmm_store_up{m}))",
            "s",
            width=2,
            decimals=0,
        ),
        number(
            "Clock",
            "When this page was last drawn anew: a page that stands still shows an old time.",
            "time() * 1000 + 0 * max(ddbmm_store_up{m})",
            "dateTimeAsLocal",
            width=2,
        ),
        _milestones(),
        *_figures(),
    ]


def _milestones() -> stat.Panel:
    marked = f"max by (mark) (ddbmm_cutover_mark_timestamp_seconds{{m}}) and on () {FRESH}"
    return named(
        "Milestones",
        "Those that were marked: T0 stream on, T1 export begun, T2 import complete, T3 caught up, T4 "
        "switched over. The blue lines of the curves say when.",
        [
            (marked, "{{mark}}", NEUTRAL),
            (f"min(ddbmm_store_up{{m}}) unless on () ({marked}) and on () {FRESH}", "none marked", UNKNOWN),
        ],
        "MONITOR IS SILENT",
        3,
    )


def _against(value: str, sign: str, limit: str) -> str:
    """The value where it compares so with the limit."""
    return f"{value} {sign} on () max({limit}{{m}})"


def _within(value: str, limit: str) -> list[Judged]:
    """A figure that the gate allows up to a limit."""
    return [
        Judged("within what is allowed", _against(value, "<=", limit), GOOD),
        Judged("more than is allowed", _against(value, ">", limit), BAD),
    ]


def _none(value: str, none: str, some: str) -> list[Judged]:
    """A count of what there must be nothing of."""
    return [Judged(none, f"{value} == 0", GOOD), Judged(some, f"{value} > 0", BAD)]


def _any(value: str, some: str, none: str) -> list[Judged]:
    """A count of what there must be something of."""
    return [Judged(some, f"{value} > 0", GOOD), Judged(none, f"{value} == 0", BAD)]


LOW, HIGH = "migration:ddbmm_keys_right_low_ratio:max{r}", "migration:ddbmm_keys_right_high_ratio:max{r}"
RIGHT = "migration:ddbmm_keys_right:ratio{r}"
OVERDUE = "max(ddbmm_looks_overdue_seconds{m})"
DELAY = "max(ddbmm_replication_delay_seconds{m})"
#: Nobody looks: then nobody knows how far the other side is.
BLIND = (
    f"({OVERDUE} > on () max(ddbmm_cutover_look_delay_limit_seconds{{m}})"
    " or max(ddbmm_validator_processes{m}) == 0)"
)
COVERED = "max(ddbmm_comparison_progress_ratio{m})"
WHOLE = 'max(ddbmm_cutover_check_passed{migration="$migration",instance=~"$instance",check="whole-table"})'
OBJECTIVE = "ddbmm_cutover_objective_ratio"


def _figures() -> Panels:
    """What the answer rests on, each judged by what the gate demands."""
    return [
        judged(
            "At least (95 %)",
            "Lower end of the 95 % interval of the share of right keys: what the sample proves.",
            "percentunit",
            [
                Judged("as demanded", f"{share(LOW)} and on () ({_against(LOW, '>=', OBJECTIVE)})", GOOD),
                Judged(
                    "not proven yet",
                    f"{share(LOW)} and on () ({_against(LOW, '<', OBJECTIVE)}) "
                    f"and on () ({_against(HIGH, '>=', OBJECTIVE)})",
                    WARN,
                ),
                Judged(
                    "fewer than demanded", f"{share(LOW)} and on () ({_against(HIGH, '<', OBJECTIVE)})", BAD
                ),
            ],
            decimals=SHARE_DECIMALS,
            nothing="none compared",
        ),
        number(
            "Demanded",
            "What the gate demands of the lower end (`--gate-objective`).",
            f"max({OBJECTIVE}{{m}})",
            "percentunit",
            width=2,
            decimals=SHARE_DECIMALS,
        ),
        judged(
            "Open findings",
            "Keys that are wrong on the verified side now. `dynamodb-migration-monitor findings` lists them.",
            "suffix: findings",
            _none("migration:ddbmm_mismatches_open:sum{r}", "nothing is known to be wrong", "keys are wrong"),
        ),
        judged(
            "Replication lag now",
            "The larger of the p99 of the last minutes and the age of the oldest change that was not "
            "found. A delay "
            "of the reader or the validators themselves is not in it.",
            "s",
            [
                Judged("NOBODY LOOKS: not known since", f"{OVERDUE} and on () {BLIND}", BAD),
                *(
                    Judged(one.said, f"{one.expr} unless on () {BLIND}", one.colour)
                    for one in _within(DELAY, "ddbmm_cutover_lag_limit_seconds")
                ),
            ],
            decimals=1,
            nothing="no writes",
        ),
        judged(
            "Looks overdue",
            "How long the key that has waited longest for a look has been due: what nobody has looked for "
            "is not "
            "known to be right.",
            "s",
            _within(OVERDUE, "ddbmm_cutover_look_delay_limit_seconds"),
            decimals=0,
        ),
        judged(
            "Reader behind",
            "Age of the oldest change of the stream that may be unread.",
            "s",
            _within("max(ddbmm_stream_reader_lag_seconds{m})", "ddbmm_cutover_reader_lag_limit_seconds"),
            decimals=1,
        ),
        judged(
            "Whole table",
            "Share of both tables that the latest comparison has read, and whether the gate takes it for "
            "proof.",
            "percentunit",
            [
                Judged("proven", f"{COVERED} and on () ({WHOLE} == 1)", GOOD),
                Judged("not proven yet", f"{COVERED} and on () ({WHOLE} == 0)", WARN),
            ],
            nothing="none was made",
        ),
        number(
            "Redis",
            "Whether Redis answered the monitor at the last scrape.",
            "min(ddbmm_store_up{m})",
            "none",
            [(None, BAD), (1, GOOD)],
            width=2,
            mappings=UP,
        ),
        number(
            "Prometheus",
            "Whether Prometheus evaluates its rules: alerts and this page depend on it.",
            "min(time() - prometheus_rule_group_last_evaluation_timestamp_seconds < bool "
            "3 * prometheus_rule_group_interval_seconds) + 0 * max(ddbmm_store_up{m})",
            "none",
            [(None, BAD), (1, GOOD)],
            width=2,
            mappings={"1": ("EVALUATES", GOOD), "0": ("IS BEHIND", BAD)},
            nothing="not scraped",
        ),
        *_progress(),
    ]


def _progress() -> Panels:
    """How far it is, who works on it, and what it has cost."""
    judged_keys, needed = "max(ddbmm_keys_judged{m})", "max(ddbmm_cutover_keys_needed{m})"
    return [
        judged(
            "Right keys",
            "Share of the distinct keys judged that have no open finding.",
            "percentunit",
            [
                Judged("as demanded", f"{share(RIGHT)} and on () ({_against(RIGHT, '>=', OBJECTIVE)})", GOOD),
                Judged(
                    "fewer than demanded",
                    f"{share(RIGHT)} and on () ({_against(RIGHT, '<', OBJECTIVE)})",
                    BAD,
                ),
            ],
            decimals=SHARE_DECIMALS,
            nothing="none compared",
        ),
        judged(
            "Keys compared",
            "Distinct keys with a verdict. Few keys prove little, even when all of them are right.",
            "suffix: keys",
            [
                Judged(
                    "enough, when all are right",
                    _against(judged_keys, ">=", "ddbmm_cutover_keys_needed"),
                    GOOD,
                ),
                Judged("too few to prove it", _against(judged_keys, "<", "ddbmm_cutover_keys_needed"), WARN),
            ],
            nothing="no number is enough",
        ),
        number(
            "Enough keys in",
            "Until enough keys are compared for the objective, at the pace of the last minutes.",
            f"clamp_min({needed} - {judged_keys}, 0) / (max(deriv(ddbmm_keys_judged{{m}}{RATE})) > 0) "
            f"or on () 0 * ({judged_keys} >= {needed})",
            "s",
            decimals=0,
            nothing="no telling",
        ),
        judged(
            "Validators",
            "Validators with a heartbeat in Redis.",
            "suffix: alive",
            _any("max(ddbmm_validator_processes{m})", "changes are judged", "NOTHING IS JUDGED"),
        ),
        judged(
            "Readers alive",
            "Stream readers with a heartbeat in Redis.",
            "suffix: alive",
            _any("max(ddbmm_reader_processes{m})", "changes are read", "NOTHING IS READ"),
        ),
        judged(
            "Losses of records",
            "Losses of stream records that no comparison has closed: they close the gate.",
            "suffix: losses",
            _none("max(ddbmm_stream_gaps_open{m})", "nothing was lost", "changes were lost"),
        ),
        judged(
            "Excused keys",
            "Share of the keys that differ in what TTL itself will remove: neither right nor wrong.",
            "percentunit",
            _within(
                "max(ddbmm_keys_excused{m}) / (max(ddbmm_keys_excused{m}) + max(ddbmm_keys_judged{m}) > 0)",
                "ddbmm_cutover_excused_limit_ratio",
            ),
            nothing="none compared",
        ),
        number(
            "Cost so far",
            "Dollars spent on reading since the migration was begun: read units of both tables, and requests "
            "to the stream, at the monitor's prices.",
            "sum(max by (side, operation) (ddbmm_cost_dollars_total{m}))",
            "currencyUSD",
            decimals=4,
        ),
    ]
