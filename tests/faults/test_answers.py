"""What AWS may answer instead of what was asked for: none of it is a verdict, none of it loses a change."""

from tests.faults.world import World
from tests.servers import eventually

READS = [
    *("truncate", "bad_crc", "unknown_tag", "empty", "extra_key", "duplicate_key", "drop_key"),
    *("bad_gateway", "internal_error", "hang_up", "throttle", "unprocessed"),
    *("no_object", "not_utf8", "no_type", "no_table", "portal"),
]
RECORDS = [
    *("truncate", "bad_crc", "unknown_tag", "empty", "bad_gateway", "internal_error", "hang_up", "throttle"),
    *("expired_iterator", "no_object", "not_utf8", "no_type", "portal"),
]
FAULTS = [*(("BatchGetItem", kind) for kind in READS), *(("GetRecords", kind) for kind in RECORDS)]


def test_no_broken_answer_is_a_verdict(lasting_world: World, one_by_one: bool) -> None:
    steer = lasting_world.fake.steer
    for number, (operation, kind) in enumerate(FAULTS):
        # A fault's back-off doubles. That a key is left out shows nowhere: two answers must not agree on it.
        calls = 3 if one_by_one and kind != "drop_key" else 1
        before = steer("calls", operation=operation)
        steer("fail", kind=kind, operation=operation, calls=calls)
        lasting_world.plant()
        eventually(lambda: steer("calls", operation=operation) >= before + calls, 60)  # noqa: B023
        if one_by_one or number == len(FAULTS) - 1:
            lasting_world.settle(f"{operation}: {kind}" if one_by_one else "broken answers")


def test_credentials_that_expire_stop_nothing_for_good(lasting_world: World) -> None:
    lasting_world.fake.steer("fail", kind="expired_token", operation="GetRecords", calls=2)
    lasting_world.fake.steer("fail", kind="expired_token", operation="BatchGetItem", calls=2)
    lasting_world.plant()
    lasting_world.settle("credentials expire")


def test_a_throttle_storm_and_small_answers_only_cost_time(lasting_world: World) -> None:
    steer = lasting_world.fake.steer
    operations = ("GetRecords", "BatchGetItem", "DescribeStream", "GetShardIterator")
    before = steer("calls", operation="BatchGetItem")
    steer("limit_batch_get", size_bytes=600)  # a handful of items an answer: the rest is unprocessed
    for operation in operations:
        steer("limit_rate", operation=operation, per_second=4)
    lasting_world.plant(30)
    eventually(lambda: steer("calls", operation="BatchGetItem") > before + 15, 60, "a storm")
    steer("clear_faults")
    lasting_world.settle("throttle storm")
    steer("limit_batch_get", size_bytes=16 * 1024 * 1024)
