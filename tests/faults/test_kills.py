"""kill -9 of every process, at named points and at random: nothing is lost, nothing is counted twice."""

import contextlib
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.faults.world import AOF, RDB, SLOTS, World
from tests.servers import eventually

#: (what is asked for, whether it was carried out when the process dies).
READER_POINTS = [
    *(("publish", True), ("publish", False), ("GetRecords", True), ("renew", True)),
    *(("lease", True), ("GetShardIterator", False), ("DescribeStream", True), ("heartbeat", True)),
]
VALIDATOR_POINTS = [
    *(("commit", True), ("claim", True), ("BatchGetItem", True), ("commit", False)),
    *(("BatchGetItem", False), ("claim", False)),
]


def owner_of(port: int, candidates: list[int]) -> int | None:
    """Which process holds the connection whose local port this is."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            for pid in candidates:
                with contextlib.suppress(OSError):
                    for link in Path(f"/proc/{pid}/fd").iterdir():
                        if str(link.readlink()) == f"socket:[{fields[9]}]":
                            return pid
    return None


@contextlib.contextmanager
def dying_at(world: World, name: str, carried_out: bool) -> Iterator[threading.Event]:
    """The next process of the program that asks for `name` dies then, or when the answer is there."""
    done, armed = threading.Event(), threading.Lock()

    def asker(port: int) -> int | None:
        return owner_of(port, [world.pids(slot)[-1] for slot in SLOTS])

    def kill(port: int) -> None:
        if (victim := asker(port)) is not None:
            world.kill(victim)
            done.set()

    def on_request(asked: list[str], port: int) -> str:
        # The supervisor asks as well: it tries every script before it starts anybody.
        if name not in asked or asker(port) is None or not armed.acquire(blocking=False):
            return "pass"
        if carried_out:
            return "lose reply"
        kill(port)
        return "lose"

    proxies: list[Proxy] = [world.redis_proxy, world.aws_proxy]
    for proxy in proxies:
        proxy.on_lost_reply = kill
        proxy.on_request = on_request
    try:
        yield done
    finally:
        for proxy in proxies:
            proxy.on_request = lambda _names, _port: "pass"


def kill_round(world: World, number: int, chance: random.Random) -> None:
    """Nine kills: the reader twice and validators three times at named points, four at random."""
    with world.watching() as supervisor:
        points = [
            *(VALIDATOR_POINTS[(number * 3 + at) % len(VALIDATOR_POINTS)] for at in range(3)),
            *(READER_POINTS[(number * 2 + at) % len(READER_POINTS)] for at in range(2)),
        ]
        for name, carried_out in points:
            with dying_at(world, name, carried_out) as done:
                eventually(done.is_set, 60, f"killed at {name}")
        if not world.is_durable:
            world.redis.save()
        threading.Event().wait(chance.uniform(0, 1))
        living = [pid for pid in (world.pids(slot)[-1] for slot in SLOTS) if Path(f"/proc/{pid}").exists()]
        for pid in chance.sample(living, min(2, len(living))):
            world.kill(pid)
        threading.Event().wait(chance.uniform(0, 0.5))
        world.stop_redis(signal.SIGKILL)
        world.kills += 1
        threading.Event().wait(chance.uniform(0, 0.5))
        world.start_redis()
        world.kill(supervisor.pid)


@pytest.mark.parametrize(
    ("server", "durability"), [("valkey", AOF), ("redis", RDB)], ids=["valkey-aof", "redis-rdb"]
)
def test_kills_of_everything_lose_nothing_and_count_nothing_twice(
    tmp_path: Path, request: pytest.FixtureRequest, kill_rounds: int, server: str, durability: tuple[str, ...]
) -> None:
    chance = random.Random(request.config.getoption("--faults-seed"))
    rounds = kill_rounds if durability is AOF else (kill_rounds + 1) // 2
    with World(tmp_path, server=server, durability=durability) as world:
        with world.writing():
            for number in range(rounds):
                kill_round(world, number, chance)
        with world.running():
            world.settle(f"kill -9, {server} {'append-only file' if durability is AOF else 'snapshots'}")
    assert world.kills >= 7 * rounds  # 9 unless two were between two lives
