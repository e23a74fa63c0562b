"""What a stream may do: grow, end, lose records, hide shards. Every loss has a name, the rest is read."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.world import World
from tests.servers import eventually


def closed(world: World) -> list[str]:
    return [one["id"] for one in world.fake.steer("shards", table="source") if one["closed"]]


def gaps(world: World) -> list[str]:
    return [gap.reason for gap in world.store.gaps()]


def test_splits_rollovers_late_children_closed_leaves_and_lists_of_pages(lasting_world: World) -> None:
    steer = lasting_world.fake.steer
    lasting_world.plant()
    children = steer("split", table="source")
    lasting_world.plant()
    for child in children:
        steer("hide_shard", table="source", shard=child, walks=2)
    for shard in steer("split", table="source", shard=children[0], ways=1):
        steer("close_shard", table="source", shard=shard)  # a closed leaf, until the next write to it
    lasting_world.plant()
    for _ in range(2):
        for one in steer("shards", table="source"):
            if not one["closed"]:
                steer("split", table="source", shard=one["id"], ways=5)
        lasting_world.plant()
    assert len(steer("shards", table="source")) > 100
    lasting_world.settle("shards split, roll over, are listed late; > 100")
    assert gaps(lasting_world) == []


def test_a_finished_shard_that_is_not_listed_for_a_while_is_not_read_again(lasting_world: World) -> None:
    steer = lasting_world.fake.steer
    hidden = closed(lasting_world)
    for shard in hidden:
        steer("hide_shard", table="source", shard=shard)
    calls = steer("calls", operation="DescribeStream")
    eventually(lambda: steer("calls", operation="DescribeStream") > calls, 60)
    for shard in hidden:
        steer("show_shard", table="source", shard=shard)
    lasting_world.plant()
    lasting_world.settle("finished shards are listed again")
    assert gaps(lasting_world) == []


def test_expired_iterators_are_derived_anew(lasting_world: World) -> None:
    lasting_world.fake.steer("expire_iterators", table="source")
    lasting_world.plant()
    lasting_world.settle("iterators expire")
    assert gaps(lasting_world) == []


@contextmanager
def nothing_is_read(world: World) -> Iterator[None]:
    """What is written inside is in the stream, but not yet read."""
    world.fake.steer("fail", kind="throttle", operation="GetRecords", calls=None)
    calls = world.fake.steer("calls", operation="GetRecords")
    eventually(lambda: world.fake.steer("calls", operation="GetRecords") > calls + 4, 30)
    yield
    world.fake.steer("clear_faults")


def records(world: World) -> dict[str, int]:
    return {one["id"]: one["records"] for one in world.fake.steer("shards", table="source")}


TRIMS = ("at_iterator", "at_records", "as_not_found")


def test_trimmed_records_are_a_gap_and_nothing_else_is_lost(world: World, one_by_one: bool) -> None:
    """All three forms of a trim; what is lost belongs to keys that are equal on both sides."""
    with world.watching():
        world.plant()
        world.rest()
        for forms in [(one,) for one in TRIMS] if one_by_one else [TRIMS]:
            with nothing_is_read(world):
                before = records(world)
                for number in range(40):
                    world.write(f"{forms}-{number}", "equal")
                unread = {shard: records(world)[shard] - count for shard, count in before.items()}
                for shows, shard in zip(forms, sorted(unread, key=lambda one: -unread[one]), strict=False):
                    lost = unread[shard] if shows == "as_not_found" else 2
                    trim(world, shard, before[shard] + lost, shows)
                    world.trimmed += lost
            world.plant()
            world.settle(f"records trimmed, shown {', '.join(forms)}")
    assert len(gaps(world)) == len(TRIMS)


def trim(world: World, shard: str, count: int, shows: str) -> None:
    if shows == "as_not_found":
        world.fake.steer("split", table="source", shard=shard)
    elif shows == "at_iterator":
        world.fake.steer("expire_iterators", table="source")
    world.fake.steer("trim", table="source", shard=shard, records=count, shows=shows)


def test_a_stream_enabled_anew_and_a_target_table_that_is_gone_for_a_while(world: World) -> None:
    """What happened while there was no stream is a gap; what could not be looked at is no finding."""
    steer = world.fake.steer
    with world.watching():
        world.plant()
        steer("disable_stream", table="source")
        steer("enable_stream", table="source", shards=2)
        world.plant()
        world.settle("stream enabled anew")
        assert gaps(world) == ["stream disabled"]
        steer("delete_table", table="target")
        steer("create_table", name="elsewhere")
        calls = steer("calls", operation="BatchGetItem")
        for number in range(5):
            world._sides[0][1].put({"pk": {"S": f"away-{number}"}, "value": {"S": "equal"}})
            world.writes += 1
        eventually(lambda: steer("calls", operation="BatchGetItem") > calls + 2, 60)
        assert world.found() == world.truth()
        steer("create_table", name="target")
        for name, value in world.target.items():
            if value is not None:
                world._sides[1][1].put({"pk": {"S": name}, "value": {"S": value}})
        for number in range(5):
            world._sides[1][1].put({"pk": {"S": f"away-{number}"}, "value": {"S": "equal"}})
        world.settle("target table deleted and restored")
