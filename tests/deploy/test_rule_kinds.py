"""What every rule must stand: gaps, two of everything, figures that go back, no figures at all.

Whole migrations, healthy or broken in every way at once, as a Prometheus has them; asked is what fires.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from tests.deploy import artifacts
from tests.deploy.test_rules import promtool

MINUTES = 60
#: Which series speaks of whom: metric and labels → (of a healthy migration, of a broken one), as promtool
#: writes a minute's values: a number that stays, or `first+step` that grows.
OF_ROLES = {
    "reader": {
        'up{job="ddbmm"}': ("1", "1"),
        'ddbmm_build_info{version="1"}': ("1", "1"),
        "ddbmm_migration_info": ("1", "1"),
        "ddbmm_stream_last_poll_timestamp_seconds": ("0+60", "60"),
        "ddbmm_keys_sampled_total": ("0+60", "0+60"),
        'ddbmm_migration_served{expected_role="reader"}': ("1", "0"),
    },
    "validator": {
        'ddbmm_log_messages_total{level="error"}': ("0", "0+1"),
        "ddbmm_migration_info": ("1", "1"),
        "ddbmm_validations_total": ("0+60", "0+60"),
        'ddbmm_migration_served{expected_role="validator"}': ("1", "0"),
        "ddbmm_validation_matches_total": ("0+60", "0"),
        'ddbmm_validation_mismatches_total{kind="missing"}': ("0", "0+60"),
        "ddbmm_replication_lag_seconds_count": ("0+60", "0"),
        'ddbmm_replication_lag_seconds_bucket{le="5"}': ("0+60", "0"),
        'ddbmm_replication_lag_seconds_bucket{le="+Inf"}': ("0+60", "0"),
        'ddbmm_rate_limit_wait_seconds_total{side="target"}': ("0", "0+90"),
    },
    "monitor": {
        "ddbmm_store_up": ("1", "1"),
        "ddbmm_reader_processes": ("1", "0"),
        "ddbmm_validator_processes": ("1", "0"),
        "ddbmm_cutover_objective_ratio": ("0.999", "0.999"),
        "ddbmm_cutover_lag_limit_seconds": ("60", "60"),
        "ddbmm_cutover_reader_lag_limit_seconds": ("60", "60"),
        'ddbmm_cutover_check_passed{check="lag"}': ("1", "0"),
        'ddbmm_cutover_check_failed{check="lag"}': ("0", "1"),
        "ddbmm_keys_judged": ("9000", "900"),
        "ddbmm_keys_right_low_ratio": ("0.9996", "0.5"),
        'ddbmm_mismatches_open{kind="missing"}': ("0", "7"),
        "ddbmm_oldest_finding_timestamp_seconds": ("", "0"),
        "ddbmm_oldest_unconverged_timestamp_seconds": ("", "0"),
        "ddbmm_ledger_balanced": ("1", "0"),
        "ddbmm_stream_gaps_open": ("0", "1"),
        'ddbmm_queue_dead_entries_total{reason="poison"}': ("0", "0+1"),
        "ddbmm_stream_reader_lag_seconds": ("2", "900"),
        "ddbmm_stream_retention_headroom_seconds": ("86000", "9000"),
        "ddbmm_queue_backlog_entries": ("3", "2000+50"),
        "ddbmm_ledger_reads_total": ("0+60", "500"),
        "ddbmm_looks_overdue_seconds": ("0", "400"),
        "ddbmm_replication_delay_seconds": ("2", "900"),
        "ddbmm_comparison_progress_ratio": ("1", "0.5"),
    },
}
#: What fires of a broken migration. Its reader is behind, so its replication lag is not called one.
BY_THE_MONITOR = {
    *("OpenMismatches", "AccountingBroken", "StreamDataLost", "QueueEntriesDead", "ReaderLagHigh"),
    *("RetentionRisk", "NoValidations", "QueueBacklogGrowing", "ComparisonStalled", "RateLimited"),
}
BY_ALL = BY_THE_MONITOR | {"MismatchRatioHigh", "NotServed", "ProcessUnknown", "ReaderNotPolling"}
BY_ALL |= {"ReplicationStalled"}
#: Firing whatever is watched, and the alert that does not name a migration.
ALWAYS = {("", "Watchdog")}
ERRORS = {("", "ErrorsLogged")}

Series = dict[str, str]


def values(each_minute: str, *, gap_at: int = 0, back_at: int = 0) -> str:
    """An hour of a figure. gap_at: minute from which it is not there for two. back_at: minute at which what
    grows goes back to half.
    """
    first, _, step = each_minute.partition("+")

    def run(since: int, until: int, lower: float = 0) -> str:
        at = float(first) + (float(step or 0) * since) - lower
        return f"{at:g}+{step or 0}x{until - since - 1}"

    if gap_at:
        return f"{run(0, gap_at)} stale _ {run(gap_at + 2, MINUTES)}"
    if back_at and step:
        return f"{run(0, back_at)} {run(back_at, MINUTES, lower=float(step) * back_at / 2)}"
    return run(0, MINUTES)


def world(
    migration: str, *, broken: bool = False, monitors: int = 1, gap_at: int = 0, back_at: int = 0
) -> Series:
    """Everything that is exported of one migration. gap_at, back_at: of what the monitors say."""
    made = {}
    for role, metrics in OF_ROLES.items():
        for number in range(monitors if role == "monitor" else 1):
            who = f'migration="{migration}",role="{role}",instance="{migration}-{role}-{number}"'
            for metric, sayings in metrics.items():
                if not (each_minute := sayings[broken]):
                    continue
                name, _, labels = metric.rstrip("}").partition("{")
                of_monitor = {"gap_at": gap_at, "back_at": back_at} if role == "monitor" else {}
                made[f"{name}{{{who}{',' if labels else ''}{labels}}}"] = values(each_minute, **of_monitor)
    # Of no migration are only a process's own figures.
    own = ("up{", "ddbmm_build_info{", "ddbmm_log_messages_total{")
    return {
        name.replace(f'migration="{migration}",', "") if name.startswith(own) else name: text
        for name, text in made.items()
    }


def firing(directory: Path, series: Series, minutes: Iterable[int]) -> dict[int, set[tuple[str, str]]]:
    """Which alerts fire at each minute, as (migration, name).

    promtool tells what it found where that is not what it was told to expect: here, nothing.
    """
    expr = 'group by (alertname, migration) (ALERTS{alertstate="firing"})'
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in artifacts.RULES]
    test = {
        "rule_files": [str(file) for file in artifacts.RULES],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for file in files for group in file["groups"]],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": text} for name, text in series.items()],
                "promql_expr_test": [{"expr": expr, "eval_time": f"{minute}m"} for minute in minutes],
            }
        ],
    }
    made = directory / "kinds.yml"
    made.write_text(yaml.safe_dump(test), encoding="utf-8")
    told = promtool("test", "rules", made)
    found = re.findall(r"time: (\S+),\s+exp:.*\s+got: (.*)", told.stdout + told.stderr)
    label = r'alertname="DynamoDBMigration(\w+)"(?:, migration="(\w+)")?'
    assert len(found) == len(list(minutes)), told.stdout + told.stderr  # Watchdog fires at each of them
    return {
        _minute(time): {(migration, name) for name, migration in re.findall(label, got)}
        for time, got in found
    }


def _minute(duration: str) -> int:
    hours, minutes = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?", duration).groups(default="0")  # type: ignore[union-attr]
    return 60 * int(hours) + int(minutes)


def check(directory: Path, series: Series, fires: Mapping[int, set[tuple[str, str]]]) -> None:
    found = firing(directory, series, fires.keys())
    for minute, expected in fires.items():
        missing, beside = (expected | ALWAYS) - found[minute], found[minute] - expected - ALWAYS
        assert (expected | ALWAYS) == found[minute], f"minute {minute}: {missing=}, {beside=}"


def of(migration: str, names: set[str]) -> set[tuple[str, str]]:
    return {(migration, name) for name in names}


def test_without_any_figure_it_is_said_that_nothing_runs_and_nothing_else(tmp_path: Path) -> None:
    check(tmp_path, {}, {1: set(), 30: {("", "NothingRuns")}})


def test_of_two_healthy_migrations_nothing_fires_but_go(tmp_path: Path) -> None:
    go = {("orders", "CutoverReady"), ("customers", "CutoverReady")}
    check(tmp_path, world("orders") | world("customers"), {4: set(), 20: go, 50: go})


def test_of_a_broken_migration_everything_fires_that_can(tmp_path: Path) -> None:
    check(tmp_path, world("broken", broken=True), {40: of("broken", BY_ALL) | ERRORS})


def test_of_two_migrations_the_alerts_name_the_broken_one(tmp_path: Path) -> None:
    both = world("orders") | world("broken", broken=True)
    check(tmp_path, both, {40: of("broken", BY_ALL) | of("orders", {"CutoverReady"}) | ERRORS})


def test_a_monitor_that_is_gone_for_two_minutes_raises_no_alert(tmp_path: Path) -> None:
    go = {("orders", "CutoverReady")}
    check(tmp_path, world("orders", gap_at=20), {19: go, 20: set(), 21: set(), 22: set(), 40: go})


def test_a_monitor_that_is_gone_for_two_minutes_resolves_none_and_begins_none_anew(tmp_path: Path) -> None:
    firing = of("broken", BY_ALL) | ERRORS
    unseen = of("broken", BY_ALL - {"ProcessUnknown"}) | ERRORS
    minutes = {35: unseen, 36: unseen, 37: unseen, 38: unseen, 39: firing}
    check(tmp_path, world("broken", broken=True, gap_at=35), {34: firing, **minutes})


def test_two_monitors_say_everything_twice_and_it_fires_once(tmp_path: Path) -> None:
    check(tmp_path, world("broken", broken=True, monitors=2), {40: of("broken", BY_ALL) | ERRORS})
    check(tmp_path, world("orders", monitors=2), {40: {("orders", "CutoverReady")}})


def test_figures_that_go_back_to_a_backup_raise_no_alert(tmp_path: Path) -> None:
    go = {("orders", "CutoverReady")}
    check(tmp_path, world("orders", back_at=30), dict.fromkeys((29, 30, 31, 33, 36, 45), go))


def test_of_two_hosts_with_the_same_role_names_one_is_lost(tmp_path: Path) -> None:
    here = world("orders")
    there = {
        name.replace('instance="', 'instance="far-'): f"{values('1', gap_at=20).split(' stale')[0]} stale"
        for name in world("orders")
        if 'role="reader"' in name and not name.startswith("up{")
    }
    up = {'up{job="ddbmm",role="reader",instance="far-orders-reader-0"}': "1x19 0x60"}
    twice = {name: "2x60" for name in here if name.startswith("ddbmm_reader_processes")}
    lost = {("", "TargetDown"), ("orders", "CutoverReady")}
    check(tmp_path, here | there | up | twice, {19: {("orders", "CutoverReady")}, 30: lost})


def test_without_redis_that_alone_is_said(tmp_path: Path) -> None:
    known = {
        name: "0x60" if name.startswith("ddbmm_store_up") else text
        for name, text in world("orders").items()
        if 'role="monitor"' not in name or name.startswith("ddbmm_store_up")
    }
    check(tmp_path, known, {30: {("orders", "RedisDown")}})
