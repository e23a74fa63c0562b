"""Entries that were in hand when validators died: tried alone, and only what dies then is buried."""

from collections.abc import Iterator

import pytest

from pipeline.aws import Connection, SideConfig
from pipeline.core.model import Side
from pipeline.store.validator_store import MAX_DELIVERIES
from pipeline.validator.validator import MAX_TRIALS
from tests.fake import Fake
from tests.validating import World, own_store


@pytest.fixture
def world(valkey_url: str) -> Iterator[World]:
    with Fake() as fake, own_store(valkey_url) as store:
        yield World(fake, store)


def died_with_everything_in_hand(world: World, times: int) -> None:
    for _ in range(times):
        world.store.claim("v", 100, 0, adopt=True)


def died_alone(world: World, times: int) -> None:
    """Validators that tried the only entry under suspicion."""
    [entry] = world.store.claim("v", 100, 0, adopt=True).entries
    for _ in range(times):
        _, trials = world.store.claim_alone("v", [entry.id], b"")
    assert trials == times


def test_an_entry_that_takes_down_its_validators_alone_becomes_a_dead_letter(
    world: World,
) -> None:
    world.published("k", None, world.item("k", "new"))
    died_with_everything_in_hand(world, MAX_DELIVERIES)
    died_alone(world, MAX_TRIALS)
    ledger = world.validate(lambda one: one.dead_entries["redelivered"] == 1)
    assert (ledger.dead, ledger.outstanding, ledger.balanced) == (1, 0, True)
    assert world.store.queue().dead == 1


def test_an_entry_that_is_buried_though_its_history_cannot_be_read_is_counted(
    world: World,
) -> None:
    """What cannot be read may be what took the validators down."""
    world.published("k", None, world.item("k", "new"))
    died_with_everything_in_hand(world, MAX_DELIVERIES)
    died_alone(world, MAX_TRIALS)
    world.store._redis.hset(world.store._key("history"), world.compact("k"), b"\x07rubbish")
    world.validate(lambda one: one.dead_entries["redelivered"] == 1)


def test_entries_that_were_in_hand_when_validators_died_are_tried_alone_and_judged(
    world: World,
) -> None:
    for number in range(5):
        item = world.item(f"k{number}", "new")
        world.fake.control.put("target", item)
        world.published(f"k{number}", None, item)
    died_with_everything_in_hand(world, 20)
    before = world.fake.control.keys_read()
    assert world.validate(lambda one: one.reached == 5).balanced
    assert world.fake.control.keys_read() - before == 5 * 3, (
        "a key that nobody has, on both sides, and the entry's"
    )
    assert world.store.ledger().dead_entries["redelivered"] == 0


def test_nothing_is_tried_alone_while_a_side_cannot_be_read(world: World) -> None:
    """And what is under no suspicion goes on."""
    world.published("tried", None, world.item("tried", "new"))
    died_with_everything_in_hand(world, MAX_DELIVERIES + 1)
    nowhere = Connection(SideConfig("source", region="us-east-1", endpoint_url="http://127.0.0.1:1"))
    origin, world.validator._origin = world.validator._origin, world.side_reader(Side.SOURCE, nowhere)
    for number in range(MAX_TRIALS + 2):
        item = world.item(f"k{number}", "new")
        world.fake.control.put("target", item)
        world.published(f"k{number}", None, item)
        world.validator._quarantine.rest(0)
        world.validate(lambda one: one.reached > number)  # noqa: B023
    assert not world.store._redis.exists(world.store._key("trials"))
    world.validator._origin = origin
    world.validator._quarantine.rest(0)
    world.fake.control.put("target", world.item("tried", "new"))
    assert world.validate(lambda one: one.reached == MAX_TRIALS + 3).dead == 0


def test_a_trial_that_was_survived_does_not_count(world: World) -> None:
    world.published("k", None, world.item("k", "new"))
    died_with_everything_in_hand(world, MAX_DELIVERIES + 1)
    [entry] = world.store.claim("v", 1, 0, adopt=True).entries
    counted = [world.store.claim_alone("v", [entry.id], survived)[1] for survived in (b"", b"", entry.id)]
    assert counted == [1, 2, 1]


def test_the_entry_that_was_tried_least_comes_first_and_one_of_another_validator_never(
    world: World,
) -> None:
    for key in "abc":
        world.published(key, None, world.item(key, "new"))
    mine = world.store.claim("v", 2, 0).entries
    [other] = world.store.claim("w", 2, 0).entries
    ids = [other.id, *(entry.id for entry in mine)]
    tried = [world.store.claim_alone("v", ids, b"") for _ in range(4)]
    assert [(claim.entries[0].id, trials) for claim, trials in tried] == [
        *((mine[0].id, 1), (mine[1].id, 1), (mine[0].id, 2), (mine[1].id, 2))
    ]
    assert world.store.claim_alone("v", [other.id, b"1-1"], b"")[0].entries == []
