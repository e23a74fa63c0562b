"""A comparison under every fault: each item is counted once, each difference found, and nothing else is said.

kill -9 of each process in its middle, and of Redis; a throttled table and a throttled segment; pages that are
cut, broken or empty; keys that lie in other segments of the other table.
"""

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.comparing.state import Comparison
from pipeline.core.model import Side
from pipeline.errors import StoreError
from tests.faults import accounts
from tests.faults.world import World
from tests.servers import eventually

#: How every wrong item is wrong, in turns: what the source holds, what the target holds, the finding.
WRONG: list[tuple[dict[str, Any] | None, dict[str, Any] | None, str]] = [
    ({"v": {"S": "a"}}, None, "missing"),
    (None, {"v": {"S": "a"}}, "extra"),
    ({"v": {"S": "a"}}, {"v": {"S": "b"}}, "different"),
    ({"v": {"S": "1"}}, {"v": {"N": "1"}}, "different"),
]
PATIENCE_SECONDS = 180.0
#: Each process of `run` and `compare` that works, and the command that it belongs to.
VICTIMS = [
    *(("compare-comparer-0", "compare"), ("compare-validator-0", "compare"), ("validator-0", "run")),
    *(("validator-1", "run"), ("monitor-0", "run"), ("reader-0", "run")),
]


class Cold:
    """Items that no stream shows, and what is wrong with some of them."""

    def __init__(self, world: World, items: int, wrong: int) -> None:
        self._world = world
        self.equal = items
        self.truth: dict[str, str] = {}
        world.fake.steer("fill", table="source", mirror="target", count=items, streamed=False)
        for number in range(wrong):
            source, target, kind = WRONG[number % len(WRONG)]
            name = f"wrong-{number}"
            self.truth[name] = kind
            for table, item in (("source", source), ("target", target)):
                if item is not None:
                    world.fake.steer("put", table=table, item={"pk": {"S": name}, **item}, streamed=False)

    def held(self, side: Side) -> int:
        absent = "extra" if side is Side.SOURCE else "missing"
        return self.equal + sum(kind != absent for kind in self.truth.values())

    def settle(self, case: str, moved: bool = False) -> None:
        """Check all that must be true of a finished comparison, and note the case's row.

        moved: keys lie in other segments of the other table, so that equal items are suspects as well.
        """
        store, tally = self._world.store, comparison(self._world).tally
        ledger, found = store.ledger(), self._found()
        counted, held = (
            sum(each(side) for side in Side) for each in (tally.items, self.held)
        )  # of both sides
        accounts.ROWS.append(
            accounts.Row(
                f"comparison: {case}",
                self._world.kills,
                counted,
                max(0, held - counted),
                max(0, counted - held),
                sum(self.truth.get(key) != kind for key, kind in found.items()) + ledger.recovered,
                len(self.truth.keys() - found.keys()),
            )
        )
        assert found == self.truth
        assert [tally.items(side) for side in Side] == [self.held(side) for side in Side]
        assert (tally.imbalance, tally.covered, ledger.recovered, ledger.suspects_waiting) == ("", 0, 0, 0)
        if not moved:
            assert (tally.equal, tally.suspects) == (self.equal, len(self.truth))
            assert ledger.suspects_published == len(self.truth)
        accounts.assert_books_balance(store)
        accounts.assert_each_key_in_one_place(store)

    def _found(self) -> dict[str, str]:
        return {json.loads(one.key): str(one.kind) for one in self._world.store.findings()}


def comparison(world: World) -> Comparison:
    found = world.store.figures().comparison
    assert found is not None
    return found


def done(world: World) -> int:
    """How many partitions are counted; -1 while nobody can tell."""
    try:
        found = world.store.figures().comparison
    except StoreError:
        return -1
    return found.done if found else -1


@contextlib.contextmanager
def comparing(world: World, *options: str) -> Iterator[None]:
    """A comparison that is waited for at the end, and has found something."""
    with world.running("compare", "--json", *options) as process:
        yield
        eventually(lambda: process.poll() is not None, PATIENCE_SECONDS, "the end of the comparison")
    assert process.returncode == 1, world.log_of("compare").read_text()[-2000:]
    partitions = world.compared()["partitions"]
    assert partitions["planned"] == partitions["read"]


def kill_each(world: World, options: tuple[str, ...]) -> None:
    """Kill every process and Redis, one after another, each while partitions are being read."""

    def goes_on() -> None:
        before = done(world)
        eventually(lambda: done(world) > max(before, 0), PATIENCE_SECONDS, "progress")

    lives = {slot: len(world.pids(slot, role)) for slot, role in VICTIMS if role == "compare"}
    with world.running("compare", "--json", *options) as process:
        for slot, life in lives.items():
            eventually(lambda: len(world.pids(slot, "compare")) > life, 60, f"{slot} started")  # noqa: B023
        for slot, role in VICTIMS:
            goes_on()
            world.kill(world.pids(slot, role)[-1])
        goes_on()
        world.stop_redis(signal.SIGKILL)
        world.kills += 1
        world.start_redis()
        goes_on()
        world.kill(process.pid)


@pytest.mark.parametrize("server", ["valkey", "redis"])
def test_kills_of_everything_in_the_middle_of_a_comparison_change_no_count(
    tmp_path: Path, kill_rounds: int, one_by_one: bool, server: str
) -> None:
    if server == "redis" and not one_by_one:
        pytest.skip("Valkey stands for both")
    rounds = (kill_rounds + 1) // 2
    with World(tmp_path, server=server) as world:
        cold = Cold(world, items=600, wrong=16)
        options = ("--segments", str(400 * rounds), "--in-flight", "2")
        world.fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=0.1)
        with world.watching():
            for _ in range(rounds):
                kill_each(world, options)
            assert 0 < done(world) < 400 * rounds, "killed in the middle"
            world.fake.steer("clear_faults")
            with comparing(world, *options):
                pass
        cold.settle(f"kill -9 of everything, {server}")
        assert world.kills >= 7 * rounds  # 8 unless one was between two lives


def throttle_the_table(world: World) -> None:
    world.fake.steer("limit_rate", operation="Scan", per_second=4)


def cut_pages(world: World) -> None:
    world.fake.steer("limit_scan", size_bytes=500, empty_pages=20)
    for kind in ("truncate", "bad_crc", "unknown_tag", "empty", "bad_gateway", "hang_up", "throttle"):
        world.fake.steer("fail", kind=kind, operation="Scan", calls=2)


def expire_credentials(world: World) -> None:
    world.fake.steer("fail", kind="expired_token", operation="Scan", calls=2)


ANSWERS: dict[str, list[Callable[[World], None]]] = {
    "throttled table": [throttle_the_table],
    "pages cut, broken and empty": [cut_pages],
    "credentials expire": [expire_credentials],
    "all of these": [throttle_the_table, cut_pages, expire_credentials],
}


@pytest.mark.parametrize("case", ANSWERS)
def test_no_answer_of_a_scan_changes_a_count(tmp_path: Path, case: str, one_by_one: bool) -> None:
    if one_by_one is (case == "all of these"):
        pytest.skip("had one by one, or all together")
    with World(tmp_path) as world:
        cold = Cold(world, items=60, wrong=8)
        world.fake.steer("fail", kind="slow", operation="Scan", calls=None, detail=0.3)
        with comparing(world, "--segments", "16", "--in-flight", "2", "--workers", "1"):
            eventually(lambda: done(world) >= 1, PATIENCE_SECONDS, "its middle")
            world.fake.steer("clear_faults")
            for spoil in ANSWERS[case]:
                spoil(world)
        cold.settle(case)


def test_a_throttled_segment_waits_alone(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        cold = Cold(world, items=60, wrong=8)
        world.fake.steer("heat", segment=3)
        with comparing(world, "--segments", "8", "--in-flight", "4"):
            eventually(lambda: done(world) == 7, PATIENCE_SECONDS, "all but the hot one")
            world.fake.steer("heat", segment=None)
        cold.settle("one throttled segment")


def test_keys_in_other_segments_of_the_other_table_are_no_findings(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        cold = Cold(world, items=200, wrong=8)
        world.fake.steer("scatter", table="target", salt="other")
        with comparing(world, "--segments", "8"):
            pass
        assert comparison(world).tally.equal < 100
        cold.settle("keys in other segments of the other table", moved=True)
