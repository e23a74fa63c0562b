"""No script is ever carried out by half: Redis rolls nothing back, so whatever it may refuse comes first."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core.model import ABSENT, Change, Counts
from pipeline.errors import MonitorError, StoreError, StoreUnavailable
from pipeline.store import scripts
from pipeline.store.answers import NotAllowed
from pipeline.store.messages import Outcome
from tests import places, servers
from tests.servers import eventually
from tests.store_world import BEGIN, CALLS, NEXT, A, StoreWorld

#: What each script says it does: `local work = key(1, 'stream', 'XADD XLEN')`; and what all of them do.
_KEY = re.compile(r"key\(\w+, (?:'\w+'|nil), +'([A-Z| ]+)'\)")
_BY_ALL = ("TIME", "TYPE")


def commands_of(script: str) -> list[str]:
    text = scripts.source(script).partition("return refused end")[0]
    found = {command for said in _KEY.findall(text) for command in said.split()}
    assert found, script
    return sorted(found | set(_BY_ALL))


CASES = [(script, command) for script in scripts.names() for command in commands_of(script)]


@pytest.fixture
def world(store_url: str) -> Iterator[StoreWorld]:
    world = StoreWorld(store_url)
    yield world
    world.store.close()
    world.admin.close()


def prepared(world: StoreWorld, script: str) -> None:
    if script in ("begin", "begin_again"):
        world.admin.delete(world.store._key("meta"), world.store._key("work"))


@pytest.mark.parametrize(("script", "command"), CASES)
def test_a_user_who_lacks_one_command_changes_nothing(world: StoreWorld, script: str, command: str) -> None:
    """What stood in front of the refused one had been written, and was written again by the repeat."""
    prepared(world, script)
    before = world.everything()
    with world.without(command) as weak, pytest.raises(NotAllowed, match=f"(?i){re.escape(command)}"):
        CALLS[script](world, weak)
    assert world.everything() == before
    CALLS[script](world, world.store)
    assert world.store.ledger().balanced


@pytest.mark.parametrize("script", scripts.names())
def test_a_key_that_is_something_else_changes_nothing(world: StoreWorld, script: str) -> None:
    prepared(world, script)
    minute, sample = world.now_ms // 60_000, world.followed.sample
    names = {
        "commit": scripts.commit(minute),
        "publish": scripts.publish(sample),
        "lower": scripts.lower(sample),
        "spend": scripts.spend(minute),
    }
    keys = names.get(script, getattr(scripts, script.upper(), None))
    assert keys is not None
    replaced = [name for name in keys.keys if script != "begin_again" or name == "meta"]
    for name in replaced:
        key = world.store._key(name)
        saved = world.admin.dump(key)
        world.admin.delete(key)
        world.admin.rpush(key, "something else")
        before = world.everything()
        with pytest.raises(StoreError, match="something else"):
            CALLS[script](world, world.store)
        assert world.everything() == before
        world.admin.delete(key)
        if saved is not None:
            world.admin.restore(key, 0, saved)
    CALLS[script](world, world.store)


@pytest.mark.parametrize(
    ("script", "name", "field"),
    [
        ("publish", "ledger", "keys_coalesced"),
        ("publish", "ledger", "records:MODIFY"),
        ("commit", "ledger", "recovered"),
        ("commit", "late", "5"),
        ("commit", "lag", "1"),
        ("add_gap", "ledger", "gaps"),
        ("spend", "cost", "target:BatchGetItem:requests"),
        ("lease", "meta", "epoch"),
    ],
)
def test_a_counter_that_is_no_number_changes_nothing(
    world: StoreWorld, script: str, name: str, field: str
) -> None:
    key = world.store._key(f"lag:{world.now_ms // 60_000}" if name == "lag" else name)
    world.admin.hset(key, field, "many")
    before = world.everything()
    with pytest.raises(StoreError, match="no number"):
        CALLS[script](world, world.store)
    assert world.everything() == before
    world.admin.hdel(key, field)
    CALLS[script](world, world.store)


def test_a_history_of_two_bytes_does_not_stop_a_claim(world: StoreWorld) -> None:
    """It raised in the middle of every claim: nobody got any work any more."""
    places.wait(world.store, 1, {b"cut": b"\1\1"})
    found = world.store.claim("v", 10, 0).entries
    assert {entry.key for entry in found} == {b"due", b"cut"}


def test_memory_that_runs_out_in_the_middle_of_a_batch(world: StoreWorld) -> None:
    """All of the batch or nothing of it; and the repeat brings the books where they belong."""
    changes = [Change(b"key %d" % number, ABSENT, A, 1) for number in range(20_000)]
    counts = Counts(len(changes), 0, {"INSERT": len(changes)})
    for spare_kb in (0, 16, 256, 1_024):
        used = int(world.admin.info("memory")["used_memory"])
        world.admin.config_set("maxmemory", used + spare_kb * 1024)
        before = world.everything()
        try:
            world.store.publish(world.lease, BEGIN, NEXT, changes, counts)
            break
        except StoreUnavailable:
            assert world.everything() == before
        finally:
            world.admin.config_set("maxmemory", 0)
    reply = world.store.publish(world.lease, BEGIN, NEXT, changes, counts)
    ledger = world.store.ledger()
    assert reply.outcome in (Outcome.DUPLICATE, Outcome.PUBLISHED)
    assert ledger.balanced and ledger.records["INSERT"] == len(changes)


@pytest.mark.parametrize("binary", [servers.valkey_binary, servers.redis_binary])
def test_a_server_that_cannot_save_takes_nothing_and_goes_on_later(
    tmp_path: Path, binary: Callable[[], str]
) -> None:
    """MISCONF: a snapshot failed, and Redis takes no writes until one succeeds."""
    directory = tmp_path / "state"
    options = ("--appendonly", "no", "--save", "900 1000000")
    with servers.redis_like(binary(), directory, *options) as url:
        world = StoreWorld(url)
        (directory / "dump.rdb" / "in the way").mkdir(parents=True)
        world.admin.bgsave()
        eventually(lambda: world.admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        before = world.everything()
        for script in ("publish", "claim", "commit", "renew"):
            with pytest.raises(StoreUnavailable, match="no writes"):
                CALLS[script](world, world.store)
        assert world.everything() == before
        shutil.rmtree(directory / "dump.rdb")
        world.admin.bgsave()
        eventually(lambda: world.admin.info("persistence")["rdb_last_bgsave_status"] == "ok")
        for script in ("commit", "publish"):
            CALLS[script](world, world.store)
        assert world.store.ledger().balanced


def test_what_is_refused_is_an_error_of_ours(world: StoreWorld) -> None:
    with world.without("EVALSHA") as weak, pytest.raises(MonitorError):
        weak.mark("T1")
