"""The monitor against a real store: statistics, status, findings and their exit codes."""

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
import structlog

from pipeline import monitor
from pipeline.commands import findings, inspect
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.gate import DEFAULT_LIMITS, Limits, Scope
from pipeline.core.model import ABSENT, Change, Checkpoint, Counts, Side
from pipeline.errors import ConfigurationError
from pipeline.store import MarkStore, StoreView
from pipeline.store.messages import Commit, Outcome
from tests import servers
from tests.whole_store import WholeStore

SETTINGS = {"verify_on": "target", "partition_key": "pk", "partition_type": "S"}
MATCHED = "reached=1 outstanding=-1 matches=1 reads=1 lag:3=1 lag_ms_sum=900"
MISSED = "alarmed=1 outstanding=-1 mismatches:missing=1 open:missing=1 reads=2"
FINDING = '{"kind":"missing","versions_behind":1,"attributes":[],"last_looked_ms":1795435200000}'


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    """A migration of its own that has just begun."""
    store = WholeStore.begin(valkey_url, f"orders-{uuid.uuid4().hex}", SETTINGS)
    yield store
    store.close()


@pytest.fixture
def process(valkey_url: str) -> ProcessConfig:
    """What the command line would say; only the end makes the monitor speak."""
    return ProcessConfig(redis_url=valkey_url, statistics_every_ms=3_600_000)


#: Where `publish` leaves the partition.
READ = Checkpoint(b"1")


def publish(store: WholeStore, *users: str) -> None:
    """One INSERT for each user, and one more whose key is not sampled."""
    start = Checkpoint(b"")
    store.register("test:1", start, 0)
    lease = store.lease("test:1", "reader-0", 60_000)
    assert lease is not None
    changes = [Change(f'"{user}"'.encode(), ABSENT, b"d" * 16, store.now_ms()) for user in users]
    counts = Counts(len(users) + 1, 1, {"INSERT": len(users) + 1})
    reply = store.publish(lease, start, READ, changes, counts)
    assert reply.outcome is Outcome.PUBLISHED


def judge(store: WholeStore, *missing: str) -> None:
    """Every published key matches, except the missing ones."""
    claim = store.claim("validator-0", 100, 0)
    wrong = {f'"{user}"'.encode() for user in missing}
    commits = [
        Commit(entry, entry.raw, claim.now_ms + 60_000, MISSED, FINDING, judged=True)
        if entry.key in wrong
        else Commit(entry, b"", 0, MATCHED, judged=True)
        for entry in claim.entries
    ]
    assert store.commit(commits, claim.now_ms).refused == []


# --- status ------------------------------------------------------------------------------------------------


def test_status_is_inconclusive_while_nothing_was_compared(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    assert inspect.status(process, store) == 3
    assert "nothing compared yet" in capsys.readouterr().out


def test_status_is_fine_when_every_judged_key_matches(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    judge(store)
    assert inspect.status(process, store) == 0
    assert "100 % of 2 keys" in capsys.readouterr().out


def test_status_json_tells_the_ledger_and_the_open_findings(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob", "cid", "dot")
    judge(store, "bob")
    assert inspect.status(replace(process, json=True), store) == 1
    reported = json.loads(capsys.readouterr().out)
    ledger = reported["ledger"]
    assert (ledger["records_read"], ledger["not_sampled"], ledger["versions_published"]) == (5, 1, 4)
    assert (ledger["reached"], ledger["alarmed"], ledger["outstanding"]) == (3, 1, 0)
    assert reported["balanced"] is True
    assert (reported["success"]["ratio"], reported["success"]["keys"]) == (0.75, 4)
    assert reported["open"]["missing"] == 1
    assert reported["reader"]["partitions"] == {"test": {"open": 1, "finished": 0}}
    assert 0.5 <= reported["lag_seconds"]["p50"] <= 1


def test_status_of_a_ledger_that_does_not_balance_is_not_fine(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    judge(store)
    with redis.Redis.from_url(process.redis_url) as client:
        client.hincrby(f"ddbmm:{{{store.migration}}}:ledger", "reached", -1)
    assert inspect.status(process, store) == 1
    assert "accounting identity does not hold" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [StoreView, MarkStore])
def test_a_migration_that_was_never_begun_is_a_configuration_error(
    process: ProcessConfig, kind: type[StoreView]
) -> None:
    with pytest.raises(ConfigurationError, match="no migration typo"):
        inspect.begun(process, MigrationConfig(name="typo"), kind)


def test_the_oldest_open_finding_says_since_when_there_is_one(store: WholeStore) -> None:
    publish(store, "ann", "bob")
    assert store.figures().oldest_finding_ms is None
    judge(store, "bob")
    [finding] = store.findings()
    assert store.figures().oldest_finding_ms == finding.first_seen_ms


# --- findings ----------------------------------------------------------------------------------------------


def test_findings_hide_keys_behind_their_hash_unless_asked(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    judge(store, "bob")
    assert findings.run(replace(process, json=True), store) == 1
    hidden = json.loads(capsys.readouterr().out)
    assert hidden["key"] == store.key_hash(b'"bob"')
    assert hidden["kind"] == "missing"
    assert findings.run(replace(process, json=True, show_keys=True), store) == 1
    assert json.loads(capsys.readouterr().out)["key"] == {"pk": {"S": "bob"}}
    assert findings.run(replace(process, show_keys=True), store) == 1
    assert '{"pk":{"S":"bob"}}' in capsys.readouterr().out


def test_no_findings_are_said_in_words_and_are_no_lines_in_json(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann")
    judge(store)
    assert findings.run(process, store) == 0
    assert capsys.readouterr().out == "no open findings\n"
    assert findings.run(replace(process, json=True), store) == 0
    assert capsys.readouterr().out == ""


# --- gate and milestones ------------------------------------------------------------------------------------


def test_the_gate_is_inconclusive_while_nothing_was_compared(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.heartbeat("test", "reader-0", 60_000)
    store.say_alive("validator-0", 60_000)
    assert inspect.gate(process, DEFAULT_LIMITS, store) == 3
    assert "TOO EARLY TO SAY" in capsys.readouterr().out


def test_an_open_finding_closes_the_gate_and_the_reasons_say_so(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    judge(store, "bob")
    assert inspect.gate(replace(process, json=True), DEFAULT_LIMITS, store) == 1
    reported = json.loads(capsys.readouterr().out)
    assert reported["result"] == "failed"
    checks = {check["name"]: check for check in reported["checks"]}
    assert checks["mismatches"] == {
        "name": "mismatches",
        "result": "failed",
        "reason": "open findings: 1 missing",
    }
    assert reported["limits"]["lag_ms"] == 60_000


def all_is_well(store: WholeStore) -> None:
    """Fifty keys judged right, by a reader that is alive and at the tip of its stream."""
    publish(store, *(f"user-{number}" for number in range(50)))
    judge(store)
    store.heartbeat("test", "reader-0", 60_000)
    store.say_alive("validator-0", 60_000)
    lease = store.lease("test:1", "reader-0", 60_000)
    assert lease is not None
    store.renew("reader-0", [lease], {"test:1": (READ, store.now_ms())}, 60_000)


def test_the_gate_opens_when_all_is_well_and_enough_was_compared_for_the_objective(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    all_is_well(store)
    assert inspect.gate(process, Limits(objective=0.9, scope=Scope.CHANGES), store) == 0, (
        capsys.readouterr().out
    )
    assert capsys.readouterr().out.startswith(f"migration {store.migration}: GO")


def test_a_clock_that_went_back_while_nobody_ran_opens_no_gate(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """The readers are long dead; the distance from Redis' clock is no longer what was kept."""
    all_is_well(store)
    assert inspect.gate(process, Limits(objective=0.9, scope=Scope.CHANGES), store) == 0, (
        capsys.readouterr().out
    )
    capsys.readouterr()
    store._redis.hset(store._key("clock"), "distance_ms", -600_000)
    view = StoreView.open(process.redis_url, store.migration)
    assert view is not None
    assert inspect.gate(process, Limits(objective=0.9, scope=Scope.CHANGES), view) != 0
    assert view.figures().reader_lag_seconds is None
    view.close()
    said = capsys.readouterr().out
    assert "GO" not in said.replace("NO-GO", "") and "reader" in said


def test_a_milestone_is_kept_in_the_store_and_may_be_moved(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store.figures().marks == {}
    assert inspect.mark(replace(process, milestone="T2"), store) == 0
    assert capsys.readouterr().out.startswith("T2 marked at 20")
    first = store.figures().marks["T2"]
    inspect.mark(replace(process, milestone="T2"), store)
    assert store.figures().marks["T2"] >= first
    assert set(store.figures().marks) == {"T2"}


# --- the role ----------------------------------------------------------------------------------------------


def run_for(process: ProcessConfig, migration: str, rounds: int) -> int:
    """Run the monitor for so many heartbeats; how many there were."""
    stop, beats = threading.Event(), 0

    def heartbeat() -> None:
        nonlocal beats
        beats += 1
        if beats == rounds:
            stop.set()

    monitor.run_monitor(process, (MigrationConfig(name=migration),), stop, heartbeat)
    return beats


def test_monitor_prints_its_final_statistics_when_stopped(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann", "bob")
    judge(store, "bob")
    assert run_for(process, store.migration, rounds=1) == 1
    reported = capsys.readouterr().out
    assert reported.count("statistics after") == 1
    assert "3 total, 3 unique (INSERT 3, MODIFY 0, REMOVE 0)" in reported
    assert "1 finding: 1 missing" in reported


def test_monitor_prints_at_every_interval(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(store, "ann")
    run_for(replace(process, statistics_every_ms=1), store.migration, rounds=3)
    assert capsys.readouterr().out.count("nothing compared yet") >= 2


def test_json_logs_carry_the_statistics_as_fields(process: ProcessConfig, store: WholeStore) -> None:
    publish(store, "ann")
    judge(store)
    with structlog.testing.capture_logs() as lines:
        run_for(replace(process, log_format="json"), store.migration, rounds=1)
    (line,) = [line for line in lines if line["event"] == "statistics"]
    assert (line["records_unique"], line["success_ratio"], line["open"]["missing"]) == (2, 1, 0)


def test_monitor_outlives_a_redis_that_is_away(process: ProcessConfig) -> None:
    away = replace(process, redis_url=f"redis://127.0.0.1:{servers.free_port()}", statistics_every_ms=1)
    with structlog.testing.capture_logs() as lines:
        run_for(away, "away", rounds=3)
    assert [line["event"] for line in lines].count("no statistics") >= 2


def test_the_direction_is_the_migrations_not_the_command_lines(
    process: ProcessConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS | {"verify_on": Side.SOURCE.value}
    backwards = WholeStore.begin(process.redis_url, f"backwards-{uuid.uuid4().hex}", settings)
    assert MigrationConfig().verify_on is Side.TARGET
    inspect.status(process, backwards)
    assert "never reached the target" in " ".join(capsys.readouterr().out.split())


def test_show_keys_without_a_known_schema_says_what_to_do(process: ProcessConfig) -> None:
    settings = {"verify_on": "target", "partition_key": "pk", "partition_type": ""}
    unseen = WholeStore.begin(process.redis_url, f"unseen-{uuid.uuid4().hex}", settings)
    with pytest.raises(ConfigurationError, match="leave --show-keys out"):
        findings.run(replace(process, show_keys=True), unseen)
