"""The main job with real processes: planted truth equals findings, key by key; nothing is lost to kill -9."""

import json
import os
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, System, balanced


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        one.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=4)
        one.steer("create_table", name="target")
        yield one


@pytest.fixture
def system(tmp_path: Path, store_url: str, fake: FakeProcess) -> System:
    return System(tmp_path, store_url, *tables(fake), f"e2e-{uuid.uuid4().hex[:12]}")


def tables(fake: FakeProcess) -> tuple[FakeTable, FakeTable]:
    return FakeTable(fake, "source"), FakeTable(fake, "target")


def plant(system: System, round_number: int, keys: int = 10) -> None:
    """New values for all keys, faults for some: each kind, by the key's number."""
    for number in range(keys):
        name = f"r{round_number}-{number}"
        system.write(name, "first")
        if number % 5 == 1:
            system.write(name, "second", replica=None)
        elif number % 5 == 2:
            system.write(name, "second", replica="wrong")
        elif number % 5 == 3:
            system.write(name, "second", replica="none")
        elif number % 5 == 4:
            system.write(name, None, replica="none")
        else:
            system.write(name, "second")


def test_tables_may_be_named_by_their_arns(tmp_path: Path, store_url: str, fake: FakeProcess) -> None:
    """As tables of another account must be: the run ended over a --stream-arn that nobody gave."""
    arns = [
        FakeTable(fake, f"arn:aws:dynamodb:us-east-1:123456789012:table/{one}")
        for one in ("source", "target")
    ]
    system = System(tmp_path, store_url, arns[0], arns[1], f"e2e-{uuid.uuid4().hex[:12]}")
    with system.running():
        plant(system, 0, keys=5)
        eventually(system.at_rest, 60)
    assert system.findings() == system.truth()


def test_the_live_page_of_a_run_tells_what_was_planted_and_draws_its_timeline(system: System) -> None:
    with system.running():
        plant(system, 0, keys=10)
        eventually(system.at_rest, 60)
        [served] = system.logged("metrics served")
        eventually(lambda: len(system.store.samples()) > 1, 60)
        with urllib.request.urlopen(f"{served['page']}report.json", timeout=30) as answer:
            facts = json.load(answer)["facts"]
        with urllib.request.urlopen(served["page"], timeout=30) as answer:
            page = answer.read().decode()
    assert facts["findings"]["total"] == len(system.truth()) and facts["result"] == "failed"
    assert {one["kind"] for one in facts["findings"]["causes"]} == set(system.truth().values())
    assert len(facts["samples"]) > 1 and "NO-GO" in page and "<polyline" in page


def test_planted_truth_is_found_key_by_key_and_nothing_else(system: System) -> None:
    with system.running():
        plant(system, 0, keys=50)
        status = eventually(system.at_rest, 60)
    assert system.findings() == system.truth()
    assert len(system.truth()) == 40
    assert balanced(status)
    assert status["open"] == {"missing": 10, "different": 10, "stale": 10, "extra": 10}
    assert status["success"]["keys"] == 50


def test_after_kill_9_of_each_process_in_turn_nothing_is_lost_or_counted_twice(
    tmp_path: Path, fake: FakeProcess
) -> None:
    port = servers.free_port()
    binary, state = servers.valkey_binary(), tmp_path / "state"
    url = f"redis://127.0.0.1:{port}/0"
    system = System(tmp_path, url, *tables(fake), "killed", "--workers", "2")
    with servers.redis_like(binary, state, port=port):
        with system.running():
            plant(system, 0)
            for number, slot in enumerate(("reader-0", "validator-0", "validator-1", "monitor-0"), start=1):
                victim = eventually(lambda slot=slot: system.pids(slot), 30)[-1]  # type: ignore[misc]
                os.kill(victim, signal.SIGKILL)
                plant(system, number)
                eventually(lambda slot=slot, victim=victim: system.pids(slot)[-1] != victim, 30)  # type: ignore[misc]
            supervisor = _parent_of(system.pids("reader-0")[-1])
            os.kill(supervisor, signal.SIGKILL)
            eventually(
                lambda: not _alive(system.pids("reader-0")[-1]), 10, "no orphan outlives its supervisor"
            )
        plant(system, 5)
    with servers.redis_like(binary, state, port=port), system.running():  # Redis was restarted as well
        status = eventually(system.at_rest, 60)
        assert system.findings() == system.truth()
    assert balanced(status)
    assert status["ledger"]["versions_published"] == system.writes
    assert status["queue"]["dead"] == 0


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
