"""Primaries killed and slots moved again and again, behind Sentinels and in a cluster, while all runs."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from tests import redis_forms, servers
from tests.faults.world import World
from tests.servers import eventually

BINARIES = {"redis": servers.redis_binary, "valkey": servers.valkey_binary}


def goes_on(world: World) -> None:
    """Wait until all that has been written by now is read."""
    before = world.writes

    def has_read() -> bool:
        with contextlib.suppress(StoreError):
            return world.store.ledger().records_read > before
        return False

    eventually(has_read, 90, "it goes on")


def survive(world: World, rounds: int, events: list[Callable[[], None]], case: str) -> None:
    """Every event in every round, each after more changes were read."""
    with world.watching() as supervisor:
        with world.writing():
            for event in events * rounds:
                event()
                goes_on(world)
        assert supervisor.poll() is None
        world.settle(case)
    assert "Traceback" not in world.log.read_text()


@pytest.mark.parametrize("server", BINARIES)
def test_a_cluster_loses_nodes_and_moves_the_migration(tmp_path: Path, server: str, kill_rounds: int) -> None:
    with (
        redis_forms.cluster_set(BINARIES[server](), tmp_path / "cluster") as cluster,
        World(tmp_path, url=cluster.url) as world,
    ):

        def die() -> None:
            cluster.fail_over("faults")
            world.kills += 1

        events = [lambda: cluster.move("faults"), die]
        survive(world, kill_rounds, events, f"{server} cluster: slot moved, node killed")


@pytest.mark.parametrize("server", BINARIES)
def test_sentinels_replace_the_primary(tmp_path: Path, server: str, kill_rounds: int) -> None:
    with (
        redis_forms.sentinel_set(BINARIES[server](), tmp_path / "sentinels") as sentinels,
        World(tmp_path, url=sentinels.url) as world,
    ):

        def die() -> None:
            sentinels.fail_over()
            world.kills += 1

        survive(world, kill_rounds, [die], f"{server} Sentinels: primary killed")
