"""A Redis that answers, but refuses, moves or takes no writes: every role waits, and says so once."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
import redis

from tests import servers
from tests.faults.world import SLOTS, World
from tests.servers import eventually

AWAY, BACK = "Redis does not serve us: waiting", "Redis is back"
#: One of every kind that `store/answers.py` knows; tests/test_redis_answers.py has them all.
REFUSALS = (
    "-LOADING Redis is loading the dataset in memory",
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "-READONLY You can't write against a read only replica.",
    "-WRONGPASS invalid username-password pair or user is disabled.",
    "-NOPERM User ddbmm has no permissions to run the 'evalsha' command",
    "-MOVED 14041 127.0.0.1:24610",
    "-NEWS that no version of this program has heard of",
    "HTTP/1.1 400 Bad Request",
)


def pids(world: World) -> list[int]:
    return [world.pids(slot)[-1] for slot in SLOTS]


def refuse(world: World, answer: str) -> None:
    """Answer everything with it until every role must have met it, then serve again."""
    proxy = world.redis_proxy
    proxy.refused.clear()
    proxy.on_request = lambda _names, _port: answer
    eventually(lambda: proxy.refused.total() >= 20, 60, answer)
    proxy.on_request = lambda _names, _port: "pass"
    proxy.seen.clear()
    eventually(lambda: proxy.seen["renew"] and proxy.seen["claim"], 60, f"after {answer}")


def test_whatever_redis_says_every_role_waits_through_it(world: World) -> None:
    with world.watching() as supervisor:
        before = pids(world)
        with world.writing():
            for answer in REFUSALS:
                refuse(world, answer)
        assert supervisor.poll() is None
        assert pids(world) == before, "no process ended"
        world.settle("refusals")
    assert "Traceback" not in world.log.read_text()
    assert "ddbmm has no permissions" not in world.log.read_text()


def test_an_outage_is_said_once_by_each_process_and_its_end_too(world: World) -> None:
    with world.watching():
        world.redis_proxy.on_request = lambda _names, _port: "-LOADING Redis is loading"
        eventually(lambda: len(world.logged(AWAY)) == len(SLOTS), 30, "one line a process")
        world.redis_proxy.refused.clear()
        eventually(lambda: world.redis_proxy.refused.total() >= 20, 60, "tried again and again")
        assert len(world.logged(AWAY)) == len(SLOTS)
        assert len([line for line in world._lines() if line.get("level") == "warning"]) == len(SLOTS)
        world.redis_proxy.on_request = lambda _names, _port: "pass"
        eventually(lambda: len(world.logged(BACK)) == len(SLOTS), 60, "one line a process")
        world.plant()
        world.settle("one outage")


@pytest.fixture
def replica(world: World, tmp_path: Path) -> Iterator[str]:
    """A replica of the world's Redis that has caught up."""
    port = int(world.redis.connection_pool.connection_kwargs["port"])
    options = ("--replicaof", "127.0.0.1", str(port))
    with servers.redis_like(servers.valkey_binary(), tmp_path / "replica", *options) as url:
        client = redis.Redis.from_url(url)
        eventually(lambda: client.info("replication").get("master_link_status") == "up", 30, "the replica")
        yield url


def scraped(world: World, path: str) -> tuple[int, str]:
    [line] = world.logged("metrics served")
    try:
        with urllib.request.urlopen(line["url"].replace("/metrics", path), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_a_failover_behind_a_name_takes_every_process_along(world: World, replica: str) -> None:
    """The old primary stays alive, read only, and keeps its connections open for ever."""
    new, old = redis.Redis.from_url(replica), redis.Redis.from_url(world.store_url)
    with world.watching() as supervisor:
        before = pids(world)
        world.plant()
        world.rest()
        new.execute_command("REPLICAOF", "NO", "ONE")
        port = new.connection_pool.connection_kwargs["port"]
        old.execute_command("REPLICAOF", "127.0.0.1", port)
        eventually(lambda: 'store_up{migration="faults"} 0.0' in scraped(world, "/metrics")[1], 30, "noticed")
        world.redis_proxy.server_port = port  # the name leads to the new one
        eventually(lambda: 'store_up{migration="faults"} 1.0' in scraped(world, "/metrics")[1], 30, "found")
        world.plant()
        world.store.close()
        world.look_at(replica)
        world.settle("failover behind a name")
        assert supervisor.poll() is None and pids(world) == before


def test_health_says_that_redis_takes_no_writes(world: World) -> None:
    with world.watching():
        assert scraped(world, "/healthz")[0] == 200
        world.redis.config_set("min-replicas-to-write", 1)
        status, why = eventually(
            lambda: found if (found := scraped(world, "/healthz"))[0] != 200 else None, 90, "health"
        )
        assert (status, "Redis has not served" in why) == (503, True)
        world.redis.config_set("min-replicas-to-write", 0)
        eventually(lambda: scraped(world, "/healthz")[0] == 200, 60, "healthy again")
