"""Two reader processes: each shard has one reader at a time, whatever befalls the other."""

import os
import signal
from typing import cast

from tests.faults.world import World
from tests.servers import eventually


def test_two_readers_share_the_shards_and_one_that_slept_is_fenced(world: World) -> None:
    with world.playing("reader", "reader", "validator", "monitor"):
        eventually(lambda: len(world.pids("reader-0")) == 2, 60)
        eventually(lambda: world.store.reader_state().readers == 2, 60)
        with world.writing():
            eventually(lambda: len(owners(world)) == 2, 60, "both hold leases")
            sleeper = world.pids("reader-0")[0]
            os.kill(sleeper, signal.SIGSTOP)
            eventually(lambda: len(owners(world)) == 1, 60, "the other took over")
            read = world.store.ledger().records_read
            eventually(lambda: world.store.ledger().records_read > read, 60)
            os.kill(sleeper, signal.SIGCONT)
            eventually(lambda: len(owners(world)) == 2, 60, "they share again")
        world.settle("two readers, one suspended")


def owners(world: World) -> set[bytes]:
    """Who holds leases of shards that have not run out."""
    now = world.store.now_ms()
    leases = cast(dict[bytes, bytes], world.redis.hgetall(world.store._key("leases")))
    told = [one.split(b"|") for name, one in leases.items() if b"/" in name]
    return {owner for _, expires, owner in told if int(expires) > now}
