"""What is paged when a part of a watch dies: real processes, Prometheus, Alertmanager, every wait shortened.

The whole measurement, with the waits that are shipped, is `make watch-test`. There alone everything dies at
once: with short waits `NothingRuns` fires after another death as well, and Alertmanager, which does not call
off what is muted, would not tell it a second time.
"""

import time
from collections.abc import Iterator

import pytest

from tests import servers
from tests.deploy import watch
from tests.deploy.watch import DEATHS, World, observe

#: How much shorter the waits of the rules are: two minutes become four seconds.
FACTOR = 30
ENDS_SECONDS = 60.0
#: What must reach the receiver `page`.
PAGED = {
    "reader": "RoleAbsent (reader)",
    "validator": "RoleAbsent (validator)",
    "monitor": "RoleAbsent (monitor)",
    "redis": "RedisDown",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A migration whose gate is open."""
    with watch.world(FACTOR) as world:
        yield world


def wait_for_go(world: World) -> None:
    servers.eventually(lambda: world.answer() == "GO", ENDS_SECONDS, "GO on the wall")


def wait_for_calm(world: World, alert: str) -> None:
    """A slow machine may have missed some scrapes: what fires, or is not called off yet, is not told anew."""
    name, _, role = alert.rstrip(")").partition(" (")
    labels = {"alertname": f"DynamoDBMigration{name}", **({"role": role} if role else {})}

    def calm() -> bool:
        told = [one.firing for one in world.receivers.told if labels.items() <= one.labels.items()]
        return not (world.firing(name, **({"role": role} if role else {})) or (told and told[-1]))

    servers.eventually(calm, ENDS_SECONDS, f"no {alert}")


def test_a_prometheus_that_is_killed_and_back_goes_on_where_it_was(world: World) -> None:
    began = time.time()
    world.restart_prometheus()
    fresh = f"min(timestamp(ddbmm_migration_info)) > {began}"
    servers.eventually(lambda: world.query(fresh), ENDS_SECONDS, "figures of now")
    wait_for_go(world)
    assert world.query("count_over_time(migration:ddbmm_cutover_gate:state[10m])")


@pytest.mark.parametrize("name", PAGED)
def test_a_death_is_paged_and_the_wall_is_not_green(world: World, name: str) -> None:
    wait_for_go(world)
    wait_for_calm(world, PAGED[name])
    found = observe(
        world,
        DEATHS[name],
        ENDS_SECONDS,
        lambda seen: PAGED[name] in seen.pages() and seen.answers[-1][1] != "GO",
    )
    DEATHS[name].back(world)
    assert PAGED[name] in found.pages(), found
    assert found.answers[-1][1] != "GO", found
