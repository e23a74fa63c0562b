"""Consumers of hosts that are gone are forgotten, and nothing that one of them holds."""

import pytest

from pipeline.core.model import ABSENT, Change, Counts
from pipeline.store.connection import GROUP
from tests.store_world import BEGIN, NEXT, A, StoreWorld


@pytest.fixture
def world(store_url: str) -> StoreWorld:
    return StoreWorld(store_url)


def consumers(world: StoreWorld) -> set[str]:
    told = world.admin.xinfo_consumers(world.store._key("work"), GROUP)
    return {one["name"].decode() for one in told}


def test_consumers_that_are_gone_are_forgotten_by_the_next_validator_that_starts(world: StoreWorld) -> None:
    for number in range(50):
        world.store.claim(f"host-{number}:validator-0", 1, 0)
    world.store.commit([], world.now_ms)
    pending = world.admin.xpending_range(world.store._key("work"), GROUP, "-", "+", 100)
    holding = {one["consumer"].decode() for one in pending}  # type: ignore[union-attr]
    world.store.claim("new", 1, 0, adopt=True, forget_after_ms=0)
    assert consumers(world) == holding | {"new"} and len(holding) < 5


def test_one_that_was_silent_for_a_moment_stays(world: StoreWorld) -> None:
    world.store.claim("idle", 1, 0)
    world.store.claim("new", 1, 0, adopt=True)
    assert {"idle", "gone", "new"} <= consumers(world)


def test_a_claim_that_adopts_nothing_forgets_nobody(world: StoreWorld) -> None:
    world.store.claim("new", 1, 0, forget_after_ms=0)
    assert "gone" in consumers(world)


def test_one_that_comes_back_works_on(world: StoreWorld) -> None:
    world.store.claim("new", 100, 0, adopt=True, forget_after_ms=0)
    assert "gone" not in consumers(world)
    change = Change(b"later", ABSENT, A, 1)
    world.store.publish(world.lease, BEGIN, NEXT, [change], Counts(1, 0, {"INSERT": 1}))
    assert [entry.key for entry in world.store.claim("gone", 10, 0).entries] == [b"later"]
