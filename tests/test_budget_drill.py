"""The budget with real processes: the sample is lowered, its planted truth is found, a restart keeps it."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.canonical import KeySchema
from pipeline.core.sampling import Sampler
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, System, balanced, string_key


@pytest.fixture
def fake() -> Iterator[FakeProcess]:
    with FakeProcess() as one:
        one.steer("create_table", name="source", view="NEW_AND_OLD_IMAGES", shards=2)
        one.steer("create_table", name="target")
        yield one


@pytest.fixture
def system(tmp_path: Path, valkey_url: str, fake: FakeProcess) -> System:
    sides = FakeTable(fake, "source"), FakeTable(fake, "target")
    # A dollar a unit, and a stream that costs next to nothing.
    prices = ("--price-read-units", "1000000", "--price-stream-reads", "0.000001")
    return System(tmp_path, valkey_url, *sides, f"budget-{uuid.uuid4().hex[:12]}", *prices)


def plant(system: System, names: list[str]) -> None:
    """Every third one never arrives."""
    for number, name in enumerate(names):
        system.write(name, "new", replica="none" if number % 3 == 0 else "same")


def as_if_an_hour_had_gone(system: System, dollars: int) -> None:
    """So much was spent in each of the last minutes of a run that was begun an hour ago."""
    redis, key, now_ms = system.store._redis, system.store._key, time.time_ns() // 1_000_000
    redis.hset(key("meta"), "started_ms", now_ms - 3_600_000)
    for ago in range(7):
        redis.hset(key(f"cost:{now_ms // 60_000 - ago}"), "target:BatchGetItem:half_units", 2 * dollars)


def kept(names: list[str], percent: float) -> set[str]:
    sampler, schema = Sampler(percent), KeySchema("pk", "S")
    return {name for name in names if sampler.keeps(schema.compact_of(string_key(name)))}


def test_a_sample_that_costs_too_much_is_lowered_and_stays_so(system: System) -> None:
    first, second = ([f"{round_}-{n}" for n in range(60)] for round_ in "ab")
    with system.running():
        plant(system, first)
        status = eventually(system.at_rest, 60)
    assert system.findings() == system.truth()
    looked_up = next(one for one in status["cost"]["lines"] if one["side"] == "target")
    assert looked_up["units"] >= len(first) / 2
    listed = looked_up["units"] * 0.125 / 1e6  # `status` was given no prices
    assert looked_up["dollars"] == pytest.approx(listed)

    as_if_an_hour_had_gone(system, 100)  # 6,000 an hour
    with system.running("run", "--max-cost-per-hour", "1500"):
        eventually(lambda: system.logged("sample lowered"), 60)
        eventually(lambda: system.store.figures().sample.percent == 25, 60)
        plant(system, second)
        status = eventually(system.at_rest, 60)
    truth = {name: kind for name, kind in system.truth().items() if name in {*first, *kept(second, 25)}}
    assert system.findings() == truth
    assert balanced(status)
    assert status["ledger"]["not_sampled"] == len(second) - len(kept(second, 25))
    # What was judged before does not count, but for what is open; and no key that is not followed does.
    assert 0 < status["success"]["keys"] <= len(kept(second, 25) | set(system.findings()))
    assert "25 % of the keys are followed since" in " ".join(status["notes"])

    with system.running("run", "--max-cost-per-hour", "1500"):
        eventually(lambda: system.logged("the sample stays lowered"), 60)
        assert system.store.figures().sample.percent == 25
    with system.running("run", "--max-cost-per-hour", "10000"):
        eventually(lambda: system.logged("sample raised again"), 60)
    gate = system.command("gate").stdout
    assert "TOO EARLY" in gate or "NO-GO" in gate
    assert "were followed, to save cost" in gate.replace("\n ", "").replace("  ", " ")
