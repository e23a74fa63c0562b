"""The declared metrics, slot files shared by processes, what the store knows and the /metrics port."""

import http.client
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import metrics as m
from pipeline.core.causes import Causes
from pipeline.core.figures import Figures
from pipeline.core.gate import CHECKS, DEFAULT_LIMITS, Limits
from pipeline.core.ledger import Ledger, Queue, ReaderState
from pipeline.core.model import ChangeType, Side, VerdictKind
from pipeline.errors import PortTaken, StoreUnavailable
from pipeline.metrics.cutover import VALUES
from pipeline.metrics.exposition import SlotFilesCollector
from pipeline.metrics.migration import INFO_LABELS
from pipeline.process.usage import memory_limit_bytes
from tests import servers
from tests.report_states import finding
from tests.whole_store import watch

#: Endings that name a unit or a convention (Prometheus, "Metric and label naming").
UNITS = (
    "_dollars_per_hour",
    "_seconds",
    "_bytes",
    "_total",
    "_info",
    "_ratio",
    "_entries",
    "_keys",
    "_processes",
    "_files",
)
#: Gauges that count things and carry the thing's name instead.
COUNTS = {
    "ddbmm_sample_lowered",
    *(
        "ddbmm_store_up",
        "ddbmm_migration_served",
        "ddbmm_ledger_balanced",
        "ddbmm_mismatches_open",
        "ddbmm_partitions",
    ),
    *("ddbmm_keys_judged", "ddbmm_keys_excused", "ddbmm_keys_seen", "ddbmm_keys_outstanding"),
    *("ddbmm_cutover_check_passed", "ddbmm_cutover_check_failed", "ddbmm_cutover_check_value"),
    *("ddbmm_cutover_keys_needed", "ddbmm_cutover_whole_table_demanded", "ddbmm_queue_consumers"),
    *("ddbmm_roles_expected", "process_open_fds"),
    *("ddbmm_comparison_items", "ddbmm_comparison_read_units", "ddbmm_comparison_partitions"),
    *("ddbmm_stream_gaps_open", "ddbmm_findings_by_cause"),
    *(
        f"ddbmm_versions_{s}"
        for s in ("reached", "alarmed", "expired", "indeterminate", "dead", "outstanding")
    ),
}


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The exposition as a scraper reads it: (name, sorted labels) → value."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def of_orders(
    registry: CollectorRegistry,
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What is said of the migration "orders", without that label."""
    ours = ("migration", "orders")
    return {
        (name, tuple(label for label in labels if label != ours)): value
        for (name, labels), value in samples(registry).items()
        if ours in labels
    }


def watched(figures: Callable[[], Figures], limits: Limits = DEFAULT_LIMITS) -> m.StoreCollector:
    return m.StoreCollector([m.Watched("orders", figures, limits)])


def figures(**changes: object) -> Figures:
    empty = Figures(
        now_ms=1_000_000,
        started_ms=1_000_000,
        ledger=Ledger.from_fields({}, 0, 0),
        queue=Queue(0, 0, 0, 0, 0),
        reader=ReaderState(0, {}, 0, 0),
        lag_counts=[],
        oldest_waiting_ms=None,
    )
    return msgspec.structs.replace(empty, **changes)


# --- declarations ------------------------------------------------------------------------------------------


def test_names_follow_the_conventions_and_are_declared_once() -> None:
    declared = m.declarations(m.start(None, "test"))
    names = [one.name for one in declared]
    assert len(names) == len(set(names))
    for one in declared:
        assert one.name.startswith(("ddbmm_", "process_"))
        assert one.name.endswith(UNITS) or one.name in COUNTS, one.name
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name


def test_labels_are_closed_sets_that_never_name_a_role_key_or_shard() -> None:
    for one in m.declarations(m.start(None, "test")):
        for label, values in one.labels.items():
            assert label in {
                *(
                    "table",
                    "change",
                    "kind",
                    "side",
                    "operation",
                    "code",
                    "level",
                    "state",
                    "stratum",
                    "phase",
                    "reason",
                ),
                *(
                    "check",
                    "mark",
                    "version",
                    "python_version",
                    "migration",
                    "expected_role",
                    "rank",
                    "process",
                ),
                *(("cause",) if one.name == "ddbmm_findings_by_cause" else ()),
                *(INFO_LABELS if one.name == "ddbmm_migration_info" else ()),
            }
            known = bool(values) or label in {"migration", "process", "cause"} or label in INFO_LABELS
            assert known, f"{one.name} does not say which values {label} takes"


def test_what_speaks_of_a_migration_says_of_which_and_what_speaks_of_a_process_does_not() -> None:
    declared = m.declarations(m.start(None, "test"))
    assert {one.name for one in declared if "migration" not in one.labels} == {
        "ddbmm_build_info",
        "ddbmm_log_messages_total",
        "ddbmm_memory_limit_bytes",
        "ddbmm_metrics_unreadable_files",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "ddbmm_worker_processes",
        "ddbmm_worker_restarts_total",
    }
    for one in declared:
        assert next(iter(one.labels), None) == "migration" or "migration" not in one.labels


def test_two_migrations_of_one_process_do_not_mix() -> None:
    metrics = m.start(None, "test")
    metrics.of_validator("orders").validations.inc(3)
    metrics.of_validator("customers").validations.inc(4)
    found = samples(metrics.registry)
    assert found["ddbmm_validations_total", (("migration", "orders"),)] == 3
    assert found["ddbmm_validations_total", (("migration", "customers"),)] == 4


def test_known_label_sets_exist_at_zero_before_anything_happens() -> None:
    metrics = m.start(None, "test")
    metrics.of_reader("orders", "target").aws_observer("stream")
    metrics.of_validator("orders")
    found = of_orders(metrics.registry)
    assert found["ddbmm_validation_mismatches_total", (("kind", "missing"),)] == 0
    assert found["ddbmm_stream_records_read_total", (("change", "REMOVE"), ("table", "target"))] == 0
    assert found["ddbmm_aws_throttled_requests_total", (("side", "stream"),)] == 0


def test_a_process_exports_only_what_it_calls_and_counts() -> None:
    metrics = m.start(None, "test")
    metrics.of_reader("orders", "source").aws_observer("stream")
    found = of_orders(metrics.registry)
    asked = {
        (dict(at)["operation"], dict(at)["side"]) for name, at in found if name.endswith("seconds_count")
    }
    assert asked == {("GetRecords", "stream"), ("other", "stream")}
    assert not [name for name, _ in found if "validation" in name or "replication_lag" in name]


def test_no_created_series_are_exported() -> None:
    assert "_created" not in generate_latest(m.start(None, "test").registry).decode()


def test_bound_children_count_into_their_metric() -> None:
    metrics = m.start(None, "test")
    metrics.of_reader("orders", Side.SOURCE).records_read[ChangeType.INSERT].inc(3)
    metrics.of_validator("orders").mismatches[VerdictKind.STALE].inc()
    found = of_orders(metrics.registry)
    assert found["ddbmm_stream_records_read_total", (("change", "INSERT"), ("table", "source"))] == 3
    assert found["ddbmm_validation_mismatches_total", (("kind", "stale"),)] == 1


@pytest.mark.parametrize("amounts", [[], [0.3], [0.1, 0.25, 0.2500001, 7, 7, 1e9]])
def test_a_batch_of_amounts_counts_as_each_of_them(amounts: list[float]) -> None:
    at_once, one_by_one = m.start(None, "test"), m.start(None, "test")
    at_once.of_validator("orders").replication_lag_seconds.observe_all(amounts)
    lag = one_by_one.of_validator("orders").replication_lag_seconds
    for amount in amounts:
        lag.observe(amount)
    assert samples(at_once.registry) == samples(one_by_one.registry)


def test_observer_separates_throttles_from_failures_and_closes_the_label_set() -> None:
    metrics = m.start(None, "test")
    observer = metrics.of_validator("orders").aws_observer("target")
    observer.request("BatchGetItem", 0.01, None)
    observer.request("BatchGetItem", 0.01, "ThrottlingException")
    observer.request("BatchGetItem", 0.01, "SomethingNobodyHeardOf")
    observer.request("NewOperation", 0.01, "AccessDeniedException")
    observer.consumed("BatchGetItem", 2.5)
    found = of_orders(metrics.registry)
    for operation, number in (("BatchGetItem", 3), ("other", 1)):
        call = (("operation", operation), ("side", "target"))
        assert found["ddbmm_aws_request_duration_seconds_count", call] == number
    side = ("side", "target")
    assert found["ddbmm_aws_throttled_requests_total", (side,)] == 1
    for code in ("other", "AccessDeniedException"):
        assert found["ddbmm_aws_request_failures_total", (("code", code), side)] == 1
    assert found["ddbmm_consumed_read_capacity_units_total", (("side", "target"),)] == 2.5


@pytest.mark.parametrize("slot", ["", "validator_0", "a/b"])
def test_a_slot_that_cannot_be_read_back_from_a_file_name_is_refused(slot: str) -> None:
    with pytest.raises(ValueError, match="slot"):
        m.start(None, slot)


# --- slot files --------------------------------------------------------------------------------------------

WORKER = """
import sys, time
from pipeline import metrics as m
metrics = m.start(sys.argv[1], sys.argv[2])
metrics.of_validator("orders").validations.inc(int(sys.argv[3]))
reader = metrics.of_reader("orders", "source")
if len(sys.argv) > 4:
    reader.checkpoint_timestamp_seconds.set(float(sys.argv[4]))
print("counted", flush=True)
time.sleep(60)
"""


def count_in_a_killed_process(directory: Path, slot: str, *numbers: object) -> None:
    """A process counts in its slot and is killed with SIGKILL right after."""
    command = [sys.executable, "-c", WORKER, str(directory), slot, *map(str, numbers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "counted\n"
        finally:
            worker.send_signal(signal.SIGKILL)


def scrape(directory: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(SlotFilesCollector(str(directory)))
    return samples(registry)


ORDERS = (("migration", "orders"),)


def test_restarted_slots_go_on_counting_and_leave_no_more_files(tmp_path: Path) -> None:
    count_in_a_killed_process(tmp_path, "validator-0", 1)
    files = len(list(tmp_path.iterdir()))
    for _ in range(3):
        count_in_a_killed_process(tmp_path, "validator-0", 1)
    assert len(list(tmp_path.iterdir())) == files
    count_in_a_killed_process(tmp_path, "validator-1", 10)
    assert scrape(tmp_path)["ddbmm_validations_total", ORDERS] == 14


def test_a_gauge_shows_the_latest_set_and_ignores_slots_that_never_set_it(tmp_path: Path) -> None:
    count_in_a_killed_process(tmp_path, "validator-0", 1, 900.0)
    count_in_a_killed_process(tmp_path, "validator-1", 1, 500.0)
    count_in_a_killed_process(tmp_path, "reader-0", 1)
    assert scrape(tmp_path)["ddbmm_checkpoint_timestamp_seconds", ORDERS] == 500


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff\xff\x00\x00" + b"\xff" * 60])
def test_a_broken_slot_file_is_left_out_and_counted(tmp_path: Path, content: bytes) -> None:
    count_in_a_killed_process(tmp_path, "validator-0", 7)
    (tmp_path / "counter_validator-1.db").write_bytes(content)
    found = scrape(tmp_path)
    assert found["ddbmm_validations_total", ORDERS] == 7
    assert found["ddbmm_metrics_unreadable_files", ()] == 1


KEEPER = """
import sys
from pipeline import metrics as m
from pipeline.process import logs
logs.configure("json", "info")
own = m.start(sys.argv[1], sys.argv[2])
of = own.of_validator("orders")
of.validations.inc(7)
own.of_reader("orders", "source").checkpoint_timestamp_seconds.set(500)
of.replication_lag_seconds.observe_all([1.0, 2.0])
print("begun", flush=True)
for line in sys.stdin:
    print("counted", flush=True)
    own.keep()
    of.validations.inc()
"""


@pytest.mark.parametrize(
    "removed",
    ["counter_*", "gauge_*", "*.db", "."],
    ids=["counters", "gauges", "every file", "the directory"],
)
def test_files_that_a_cleaner_removed_are_made_anew_and_nothing_is_lost(tmp_path: Path, removed: str) -> None:
    directory = tmp_path / "metrics"
    command = [sys.executable, "-c", KEEPER, str(directory), "validator-0"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None and worker.stdout is not None and worker.stderr is not None
        assert worker.stdout.readline() == "begun\n"
        for rounds in (1, 2, 3):  # the cleaner comes every night
            before = scrape(directory)
            if removed == ".":
                shutil.rmtree(directory)
            else:
                for file in directory.glob(removed):
                    file.unlink()
            worker.stdin.write("\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == "counted\n"
            key = ("ddbmm_validations_total", ORDERS)
            expected = 7 + rounds
            servers.eventually(lambda: directory.exists() and scrape(directory).get(key) == expected)  # noqa: B023
            assert scrape(directory).keys() == before.keys()
        worker.stdin.close()
        worker.wait(120)
        said = worker.stderr.read()
    assert said.count("metrics files were removed: made anew") == 3, said
    found = scrape(directory)
    assert found["ddbmm_checkpoint_timestamp_seconds", ORDERS] == 500
    assert found["ddbmm_replication_lag_seconds_count", ORDERS] == 2


def test_preparing_the_directory_wipes_slot_files_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    m.prepare_directory(str(directory))
    (directory / "counter_reader-0.db").touch()
    (directory / "notes.txt").touch()
    m.prepare_directory(str(directory))
    assert [file.name for file in directory.iterdir()] == ["notes.txt"]


# --- what the store knows ----------------------------------------------------------------------------------


def test_every_count_of_the_ledger_is_exported() -> None:
    """Each int field gets a value of its own; each value must show up."""
    numbers = count(1000)
    counted = {f.name for f in msgspec.structs.fields(Ledger) if f.type is int}
    ledger = msgspec.convert({name: next(numbers) for name in counted}, Ledger)
    registry = CollectorRegistry()
    registry.register(watched(lambda: figures(ledger=ledger, reader=ReaderState(0, {}, ledger.gaps, 0))))
    exported = set(of_orders(registry).values())
    missing = {name for name in counted if getattr(ledger, name) not in exported}
    assert missing == {"lag_ms_sum"}  # the sum of ddbmm_replication_lag_seconds


def test_what_was_not_measured_has_no_sample_and_known_labels_are_zero() -> None:
    registry = CollectorRegistry()
    registry.register(watched(figures))
    found = of_orders(registry)
    assert ("ddbmm_stream_reader_lag_seconds", ()) not in found
    assert ("ddbmm_oldest_unconverged_timestamp_seconds", ()) not in found
    assert found["ddbmm_mismatches_open", (("kind", "extra"),)] == 0
    assert found["ddbmm_partitions", (("state", "open"),)] == 0


def test_reader_lag_grows_while_nothing_is_read() -> None:
    registry = CollectorRegistry()
    state = ReaderState(400_000, {}, 0, 0)
    registry.register(watched(lambda: figures(reader=state)))
    found = of_orders(registry)
    assert found["ddbmm_stream_reader_lag_seconds", ()] == 600
    assert found["ddbmm_stream_retention_headroom_seconds", ()] == 24 * 3600 - 600


def test_gate_checks_say_passed_failed_or_neither_while_they_are_inconclusive() -> None:
    registry = CollectorRegistry()
    registry.register(watched(lambda: figures(queue=Queue(0, 0, 0, 0, 1)), Limits(objective=0.9)))
    found = of_orders(registry)
    words = ("passed", "failed")
    reported = {
        check: tuple(found[f"ddbmm_cutover_check_{word}", (("check", check),)] for word in words)
        for check in ("gaps", "dead", "compared")
    }
    assert reported == {"gaps": (1, 0), "dead": (0, 1), "compared": (0, 0)}
    assert found["ddbmm_cutover_objective_ratio", ()] == 0.9
    assert found["ddbmm_cutover_lag_limit_seconds", ()] == 60


def test_every_check_shows_what_it_looks_at_and_what_is_not_measured_has_no_sample() -> None:
    assert VALUES.keys() == CHECKS.keys()
    registry = CollectorRegistry()
    registry.register(watched(lambda: figures(validators=3, longest_due_ms=960_000)))
    found = of_orders(registry)
    shown = {dict(labels)["check"]: v for (name, labels), v in found.items() if name.endswith("check_value")}
    assert (shown["validators"], shown["looks"]) == (3, 40)
    assert not {"success", "lag", "reader", "whole-table"} & shown.keys()


@pytest.mark.parametrize(
    ("p99_bucket", "waiting_ms", "seconds"),
    [(None, None, None), (3, None, 2.0), (3, 940_000, 60.0), (None, 940_000, 60.0), (13, 990_000, 300.0)],
)
def test_the_delay_is_the_larger_of_what_arrived_late_and_what_is_still_waited_for(
    p99_bucket: int | None, waiting_ms: int | None, seconds: float | None
) -> None:
    """p99 alone told of a replicator that stood still how fast it had been."""
    counts = [0] * 19
    if p99_bucket is not None:
        counts[p99_bucket + 1] = 100
    delay = figures(lag_counts=counts, oldest_waiting_ms=waiting_ms).replication_delay_seconds
    assert delay == (None if seconds is None else pytest.approx(seconds, rel=0.02))


def test_the_partitions_furthest_behind_are_told_apart_by_rank() -> None:
    registry = CollectorRegistry()
    state = ReaderState(0, {}, 0, 1, furthest_behind_ms=[400_000, 999_000])
    registry.register(watched(lambda: figures(reader=state)))
    found = of_orders(registry)
    lags = {labels: v for (name, labels), v in found.items() if name == "ddbmm_partition_lag_seconds"}
    assert lags == {(("rank", "1"),): 600, (("rank", "2"),): 1}


def test_the_biggest_causes_are_told_apart_by_rank_and_named_by_their_id() -> None:
    causes = Causes()
    for number in range(12):
        operation = None if number else ChangeType.MODIFY
        for _ in range(20 - number):
            causes.add(finding("k", attributes=[f"a{number}"], operation=operation), "")
    registry = CollectorRegistry()
    registry.register(m.StoreCollector([m.Watched("orders", figures, causes=lambda _: causes.ranked())]))
    found = {
        dict(labels)["rank"]: (dict(labels), value)
        for (name, labels), value in of_orders(registry).items()
        if name == "ddbmm_findings_by_cause"
    }
    [declared] = [one for one in m.declarations(m.start(None, "test")) if one.name.endswith("_by_cause")]
    assert set(found) == set(declared.labels["rank"])
    for labels, _ in found.values():
        assert labels["kind"] in declared.labels["kind"]
        assert labels["operation"] in declared.labels["operation"]
        assert re.fullmatch("[0-9a-f]{8}", labels["cause"])
    assert [found[str(rank)][1] for rank in range(1, 11)] == list(range(20, 10, -1))
    assert (found["1"][0]["operation"], found["2"][0]["operation"]) == ("MODIFY", "none")
    assert found["1"][0]["cause"] == causes.ranked()[0].id


def test_the_roles_are_expected_until_the_migration_was_signed_off() -> None:
    for marks, expected in (({}, 1), ({"T3": 1}, 1), ({"T3": 1, "T4": 2}, 0)):
        registry = CollectorRegistry()
        registry.register(watched(lambda marks=marks: figures(marks=marks)))  # type: ignore[misc]
        assert of_orders(registry)["ddbmm_roles_expected", (("expected_role", "validator"),)] == expected


def test_a_process_tells_what_it_uses() -> None:
    registry = CollectorRegistry()
    registry.register(m.ProcessCollector(lambda: {"own": os.getpid(), "gone": 2**22 + 1}))
    found = {name: value for (name, labels), value in samples(registry).items() if labels}
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 2
    assert found["process_cpu_seconds_total"] > 0
    assert 0 < time.time() - found["process_start_time_seconds"] < 86_400
    assert {dict(labels).get("process") for _, labels in samples(registry) if labels} == {"own"}


@pytest.mark.parametrize(
    ("file", "content", "limit"),
    [
        ("sys/fs/cgroup/memory.max", "536870912\n", 536_870_912),
        ("sys/fs/cgroup/memory.max", "max\n", None),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("nothing", "", None),
    ],
)
def test_the_memory_limit_is_that_of_the_control_group(
    tmp_path: Path, file: str, content: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    assert memory_limit_bytes(tmp_path) == limit


def test_a_milestone_is_exported_once_it_was_marked() -> None:
    registry = CollectorRegistry()
    registry.register(watched(lambda: figures(marks={"T2": 1_500})))
    marked = {labels: v for (name, labels), v in of_orders(registry).items() if "cutover_mark" in name}
    assert marked == {(("mark", "T2"),): 1.5}


def test_scrapes_in_quick_succession_read_the_store_once() -> None:
    reads = 0

    def read() -> Figures:
        nonlocal reads
        reads += 1
        return figures()

    collector = watched(read)
    collector.CACHE_SECONDS = 3600.0
    first, second = list(collector.collect()), list(collector.collect())
    assert reads == 1
    assert [f.name for f in first] == [f.name for f in second]


def test_a_dead_redis_is_told_by_store_up_and_not_by_stale_figures(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with servers.redis_like(servers.valkey_binary(), tmp_path) as url:
        store = watch(url, "orders")
        collector = watched(store.figures)
        collector.CACHE_SECONDS = 0.0
        registry.register(collector)
        found = of_orders(registry)
        assert found["ddbmm_store_up", ()] == 1
        assert found["ddbmm_queue_backlog_entries", ()] == 0
    assert of_orders(registry) == {("ddbmm_store_up", ()): 0}
    with pytest.raises(StoreUnavailable):
        store.figures()


def test_a_migration_that_cannot_be_read_does_not_take_another_with_it() -> None:
    def away() -> Figures:
        raise StoreUnavailable("away")

    registry = CollectorRegistry()
    registry.register(m.StoreCollector([m.Watched("customers", away), m.Watched("orders", figures)]))
    found = samples(registry)
    assert found["ddbmm_store_up", (("migration", "customers"),)] == 0
    assert found["ddbmm_store_up", ORDERS] == 1
    assert found["ddbmm_ledger_balanced", ORDERS] == 1
    assert ("ddbmm_ledger_balanced", (("migration", "customers"),)) not in found


# --- the port ----------------------------------------------------------------------------------------------


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def server() -> Iterator[m.MetricsServer]:
    metrics = m.start(None, "test")
    server = m.serve("127.0.0.1", 0, metrics.registry, lambda: (True, "ok"))
    yield server
    server.close()


def test_any_free_port_serves_metrics_and_nothing_else(server: m.MetricsServer) -> None:
    assert server.port > 0
    status, body = get(server.port, "/metrics")
    assert status == 200
    assert any(f.name == "ddbmm_build_info" for f in text_string_to_metric_families(body))
    assert get(server.port, "/admin")[0] == 404


def test_health_is_200_when_fine_and_503_with_the_reason_when_not() -> None:
    health = [(True, "ok")]
    server = m.serve("127.0.0.1", 0, CollectorRegistry(), lambda: health[-1])
    try:
        assert get(server.port, "/healthz") == (200, "ok\n")
        health.append((False, "validator-1 is not answering"))
        assert get(server.port, "/healthz") == (503, "validator-1 is not answering\n")
    finally:
        server.close()


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/admin"])
def test_head_is_answered_as_get_is_but_for_the_body(server: m.MetricsServer, path: str) -> None:
    lengths = {}
    for method in ("GET", "HEAD"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        lengths[method] = answer.status, len(answer.read()), answer.headers["Content-Type"]
        connection.close()
    assert lengths["HEAD"] == (lengths["GET"][0], 0, lengths["GET"][2])


def test_a_scrape_that_is_aborted_prints_nothing(
    server: m.MetricsServer, capfd: pytest.CaptureFixture[str]
) -> None:
    before = threading.active_count()
    for sent in (b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /metr", b"\x16\x03\x01", b""):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port)) as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                line.sendall(sent)
    servers.eventually(lambda: threading.active_count() <= before, what="every request is through")
    assert get(server.port, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_client_that_never_finishes_its_request_does_not_hold_up_others(server: m.MetricsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as stuck:
        stuck.sendall(b"GET /metr")
        assert get(server.port, "/healthz")[0] == 200


def test_a_port_in_use_is_a_configuration_error_with_the_remedy(server: m.MetricsServer) -> None:
    with pytest.raises(PortTaken, match="--metrics-port"):
        m.serve("127.0.0.1", server.port, CollectorRegistry(), lambda: (True, "ok"))
