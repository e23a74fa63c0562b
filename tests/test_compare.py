"""`compare` from outside: real processes, planted truth, kill -9, exit codes, the object it prints last."""

import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pipeline import exit_codes
from pipeline.commands import comparison
from pipeline.commands.comparison import Watch
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.comparing.state import CompareSettings
from pipeline.errors import StoreUnavailable
from pipeline.store import embedded
from pipeline.store.compare_store import Beginning
from tests import servers
from tests.comparing import COLD, PLANTED, Tables
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, RealTable, System
from tests.whole_store import WholeStore, watch


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        for name in ("source", "target"):
            one.steer("create_table", name=name, ttl="expires", view="NEW_AND_OLD_IMAGES")
        yield one


@pytest.fixture
def tables(tmp_path: Path, fake: FakeProcess) -> Tables:
    return Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "target"))


def shared(tmp_path: Path, fake: FakeProcess, url: str) -> Tables:
    return Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "target"), url)


def test_what_is_planted_is_found_and_nothing_else(tables: Tables) -> None:
    """Alone on one host: an embedded server, comparers and validators of its own."""
    tables.fill()
    planted = tables.plant()
    code, found = tables.compare("--segments", "5")
    assert code == 1 and found["answer"] == "findings"
    assert tables.findings() == planted
    assert found["equal"] == COLD + 2
    assert found["suspects"] == len(planted) + 1
    assert found["findings"] == {"missing": 1, "stale": 0, "different": 3, "extra": 1}
    assert found["partitions"] == {"planned": 5, "read": 5}
    assert found["excused"] == 1
    for side in ("source", "target"):
        assert found[side]["items"] == COLD + len(PLANTED) - (1 if side == "source" else 2)
        assert found[side]["read_units"] > 0
    assert found["success"]["low"] == found["success"]["high"] < 1


def test_equal_tables_are_equal(tables: Tables) -> None:
    tables.fill()
    code, found = tables.compare()
    assert (code, found["answer"], found["equal"], found["suspects"]) == (0, "equal", COLD, 0)
    assert found["success"] == {"low": 1.0, "high": 1.0, "confidence": 1.0, "unit": "key"}


def test_a_run_that_has_the_port_of_the_same_file_does_not_end_it(tables: Tables) -> None:
    tables.fill()
    with socket.create_server(("127.0.0.1", 0)) as run:
        port = run.getsockname()[1]
        code, found = tables.compare("--metrics-port", str(port))
    assert (code, found["answer"]) == (exit_codes.FINE, "equal")


def test_two_empty_tables_prove_nothing(tables: Tables) -> None:
    code, found = tables.compare()
    assert (code, found["answer"], found["success"]) == (3, "inconclusive", None)


def test_an_empty_target_lacks_everything(tables: Tables) -> None:
    for number in range(30):
        tables.source.put({"pk": {"S": f"k{number}"}})
    code, found = tables.compare()
    assert (code, found["findings"]["missing"], found["equal"]) == (1, 30, 0)


def test_it_stops_at_so_many_findings_and_goes_on_from_there(tables: Tables) -> None:
    for number in range(60):
        tables.source.put({"pk": {"S": f"k{number}"}})
    code, found = tables.compare("--stop-after-findings", "5", "--segments", "30")
    assert code == 1 and sum(found["findings"].values()) >= 5
    assert found["partitions"]["read"] <= 30
    code, found = tables.compare("--segments", "30")
    assert (code, found["findings"]["missing"], found["partitions"]["read"]) == (1, 60, 30)
    assert found["source"]["items"] == 60


def test_it_stops_after_a_while_and_goes_on_from_there(tables: Tables, fake: FakeProcess) -> None:
    tables.fill()
    fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=1)
    few = ("--workers", "1", "--in-flight", "2")
    code, found = tables.compare("--segments", "200", "--stop-after", "4s", *few)
    assert (code, found["answer"]) == (3, "inconclusive")
    read = found["partitions"]["read"]
    assert read < 200
    fake.steer("clear_faults")
    code, message = tables.refused("--segments", "7")
    assert code == 4 and "--restart" in message
    code, found = tables.compare("--segments", "200")
    assert (code, found["equal"], found["partitions"]["read"]) == (0, COLD, 200)


def test_a_sample_says_what_it_proves(tables: Tables) -> None:
    tables.fill(400)
    code, found = tables.compare("--segments", "100", "--sample-rate", "40")
    assert code == 0 and found["partitions"] == {"planned": 40, "read": 40}
    assert not found["whole"] and 0 < found["equal"] < 400
    success = found["success"]
    assert (success["unit"], success["high"]) == ("partition key", 1.0)
    assert success["by_partition_key"] == [success["by_partition_key"][0], 1.0]
    # 40 segments, however many keys they hold: differences may lie together.
    assert success["low"] == success["by_segment"][0] == pytest.approx(0.025 ** (1 / 40))
    assert success["low"] < success["by_partition_key"][0] < 1


def test_the_plan_costs_nothing(tables: Tables, fake: FakeProcess) -> None:
    tables.fill(10)
    done = subprocess.run(
        [word for word in tables.command("compare", "--dry-run", "--max-rcu", "100") if word != "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "one segment" in done.stdout and "definition: stream differs" not in done.stdout
    for word in ("segments", "items", "read units", "dollars", "time"):
        assert word in done.stdout
    assert not tables.state_dir.exists()


def test_the_plan_is_an_object_too_and_a_sample_that_is_none_is_said(tables: Tables) -> None:
    tables.fill(10)
    done = subprocess.run(
        tables.command("compare", "--dry-run", "--json", "--sample-rate", "5", "--segments", "20"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (done.returncode, found["segments"]) == (0, {"planned": 20, "of": 20})
    assert found["items"] == 10 and found["read_units"] > 0 and found["exports"]["source"] is None
    assert any("all of 20 segments are read" in note for note in found["notes"])


def test_tables_with_other_keys_are_refused(tmp_path: Path, fake: FakeProcess) -> None:
    fake.steer("create_table", name="other", sort_key="sk")
    code, message = Tables(tmp_path, FakeTable(fake, "source"), FakeTable(fake, "other")).refused()
    assert code == 4 and "key schemas differ" in message


def test_who_may_not_scan_is_told_at_the_start(tables: Tables, fake: FakeProcess) -> None:
    fake.steer("fail", kind="access_denied", operation="Scan", calls=None)
    code, message = tables.refused()
    assert code == 4 and "Scan" in message


@pytest.mark.parametrize("slot", ["compare-comparer-0", "compare-validator-0", "server"])
def test_whatever_dies_in_the_middle_the_counts_are_exact(
    tmp_path: Path, tables: Tables, fake: FakeProcess, slot: str
) -> None:
    tables.fill()
    planted = tables.plant()
    fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=0.2)
    with tables.comparing("--segments", "100", "--workers", "1", "--in-flight", "2") as child:
        url = eventually(lambda: noted_url(tables), 60)
        state = watch(url, tables.migration)
        eventually(lambda: (found := state.figures().comparison) and found.done >= 10, 60)
        if slot == "server":
            os.kill(int(redis.Redis.from_url(url).info("server")["process_id"]), signal.SIGKILL)
        else:
            os.kill(tables.pids(slot)[-1], signal.SIGKILL)
        fake.steer("clear_faults")
        eventually(lambda: child.poll() is not None, 120)
    found = json.loads(tables.log.read_text().splitlines()[-1])
    assert child.returncode == 1
    assert (found["equal"], found["partitions"]["read"]) == (COLD + 2, 100)
    assert found["source"]["items"] == COLD + len(PLANTED) - 1
    assert tables.findings() == planted


def noted_url(tables: Tables) -> str | None:
    return embedded._noted_url(tables.state_dir) if (tables.state_dir / "server.json").exists() else None


def test_beside_a_run_writes_are_no_findings(tmp_path: Path, fake: FakeProcess, store_url: str) -> None:
    """The replica is late all the time; what nobody writes is found all the same."""
    tables = shared(tmp_path, fake, store_url)
    tables.fill()
    planted = tables.plant()
    system = System(
        tmp_path, store_url, tables.source, tables.target, tables.migration, "--sample-rate", "100",
    )  # fmt: skip
    with system.running():
        eventually(lambda: system.store.figures().reader.watermark_ms, 60)
        with tables.comparing("--segments", "20") as child:
            number = 0
            while child.poll() is None:
                late = [f"hot-{number % 20}" for _ in range(3)]
                for name in late:
                    system.write(name, f"value {number}", replica="none")
                for name in late:
                    system.replicate(name, f"value {number}")
                number += 1
        found = json.loads(tables.log.read_text().splitlines()[-1])
        eventually(lambda: system.store.ledger().outstanding == 0, 60)
    assert child.returncode == 1 and found["equal"] >= COLD
    assert tables.findings() == planted
    assert system.store.ledger().balanced


def test_beside_a_run_on_the_same_directory_it_shares_the_state(tables: Tables) -> None:
    """One embedded server, one list of findings, and the gate knows of the comparison."""
    tables.fill(20)
    planted = tables.plant()
    run = [*tables.command("run"), "--iterator-type", "LATEST"]
    with servers.process(run, log=tables.log.with_suffix(".run"), env=dict(os.environ)):
        url = eventually(lambda: noted_url(tables), 60)
        watching = watch(url, tables.migration)
        eventually(lambda: watching.figures().reader.watermark_ms, 60)
        code, found = tables.compare()
        assert (code, found["equal"]) == (1, 22)
        assert tables.findings() == planted
        gate = subprocess.run(
            tables.command("gate"), capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
    checks = {one["name"]: one["result"] for one in json.loads(gate.stdout)["checks"]}
    assert (checks["whole-table"], checks["mismatches"], gate.returncode) == ("passed", "failed", 1)


def test_when_the_run_that_keeps_the_state_is_gone_it_ends_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server went with it, and nobody begins it again: that is no reason to wait for ever."""
    settings = CompareSettings(table_bytes=0)
    migration = MigrationConfig(name="gone", target_table="t")
    with servers.redis_like(servers.valkey_binary(), tmp_path) as url:
        process = ProcessConfig(command="compare", redis_url=url, state_dir="/kept")
        store = WholeStore.begin(url, migration.name, migration.settings())
        begun = store.begin_comparison(settings, Beginning.BEGIN)
        beside = Watch(process, migration, begun, is_embedded=True)
        alone = Watch(process, migration, begun)
    monkeypatch.setattr(comparison, "UNSERVED_SECONDS", 0.0)
    assert alone.ended() is None  # a Redis of its own comes back
    assert beside.ended() == exit_codes.COULD_NOT_ASK
    with pytest.raises(StoreUnavailable) as refused:
        beside.finish(exit_codes.COULD_NOT_ASK)
    assert "goes on where it was" in refused.value.remedy and "/kept" in refused.value.remedy


@pytest.mark.parametrize("keys", [{"pk": "S", "sk": "N"}, {"pk": "S", "sk": "B"}, {"pk": "N", "sk": "B"}])
def test_keys_of_every_kind_at_an_emulator(tmp_path: Path, moto_url: str, keys: dict[str, str]) -> None:
    name = uuid.uuid4().hex[:8]
    source, target = RealTable(moto_url, f"s-{name}", keys), RealTable(moto_url, f"t-{name}", keys)
    tables = Tables(tmp_path, source, target)
    spelled = {"S": "k{}", "N": "{}", "B": "AAA{}"}
    for number in range(10, 30):
        item = {one: {kind: spelled[kind].format(number)[-4:]} for one, kind in keys.items()}
        source.put(item)
        if number != 15:
            target.put(item)
    code, found = tables.compare("--segments", "3")
    assert (code, found["findings"]["missing"], found["suspects"]) == (1, 1, 1)
