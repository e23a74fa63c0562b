"""What Redis may do: lose replies, fill up, lose everything, hold rubbish."""

import pytest
import redis

from tests import places
from tests.faults import accounts
from tests.faults.proxy import LoseReplies
from tests.faults.world import World
from tests.servers import eventually


def test_a_lost_reply_to_any_command_changes_nothing_twice(world: World) -> None:
    """The first reply to each kind of request is lost once the program runs, and every 20th after it."""
    with world.watching() as supervisor:
        loses = world.redis_proxy.on_request = LoseReplies(every=20)
        with world.writing():
            eventually(lambda: min(loses.lost[name] for name in ("publish", "claim", "commit")) >= 3, 60)
            world.kill(world.pids("reader-0")[-1])
            world.kill(world.pids("validator-0")[-1])
            steer = world.fake.steer
            steer("split", table="source")
            eventually(lambda: all(loses.lost[one] for one in ("track", "renew", "lease")), 60)
        world.redis_proxy.on_request = lambda _names, _port: "pass"
        assert supervisor.poll() is None
        world.settle("lost replies")


def test_a_flushed_redis_is_filled_again_and_told(world: World) -> None:
    with world.watching():
        with world.writing():
            eventually(lambda: world.store.ledger().alarmed, 60)
            world.redis.flushall()
            eventually(lambda: world.store.begun_again() and world.store.ledger().records_read, 60)
        world.settle("FLUSHALL")
    assert [gap.reason for gap in world.store.gaps()] == ["state lost"]


def test_a_full_redis_drains_even_if_validators_are_restarted_and_then_goes_on(world: World) -> None:
    with world.watching():
        world.fake.steer("fail", kind="throttle", operation="BatchGetItem", calls=None)
        world.plant(50)
        eventually(lambda: world.store.ledger().records_read == world.writes, 60)
        world.redis.config_set("maxmemory", "1mb")
        with pytest.raises(redis.OutOfMemoryError):
            world.redis.set("no", "room")
        world.kill(world.pids("validator-0")[-1])
        world.kill(world.pids("validator-1")[-1])
        world.kills -= 2  # of no interest to the table
        world.fake.steer("clear_faults")
        eventually(lambda: not world.store.ledger().outstanding, 90, "drained")
        world.plant(10)
        world.redis.config_set("maxmemory", "0")
        world.settle("Redis at maxmemory")


def test_rubbish_in_the_queue_becomes_dead_letters_and_stops_nobody(world: World) -> None:
    work, history = world.store._key("work"), world.store._key("history")
    with world.watching():
        world.plant()
        world.redis.xadd(work, {"k": b'"nobody"'})
        world.redis.xadd(work, {"rubbish": b"\xff"})
        world.redis.hset(history, '"bad"', b"\x07rubbish")
        places.queue(world.store, b'"bad"')
        world.plant()
        eventually(lambda: world.store.queue().dead == 3, 30)
        world.redis.delete(world.store._key("dead"))
        world.settle("poison entries")
    assert world.store.ledger().dead_entries == {"poison": 3, "redelivered": 0}
    assert accounts.histories_of(world.store).keys().isdisjoint({b'"bad"', b'"nobody"'})
