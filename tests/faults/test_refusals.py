"""AWS that refuses for a while, just when a worker is started again: what has worked in this run goes on."""

import json

import pytest

from tests.faults.world import World
from tests.odd_answers import http
from tests.servers import eventually

JSON = "application/x-amz-json-1.0"
GONE = http(400, json.dumps({"__type": "x#ResourceNotFoundException", "message": "not found"}), JSON)
KMS = http(400, json.dumps({"__type": "x#KMSAccessDeniedException", "message": "the key is disabled"}), JSON)


@pytest.mark.parametrize(
    ("slot", "operation", "answer"),
    [
        ("validator-0", "DescribeTable", GONE),
        ("reader-0", "DescribeTable", None),  # access denied
        ("reader-0", "DescribeStream", GONE),
        ("reader-0", "GetRecords", None),
        ("validator-1", "DescribeTimeToLive", KMS),
    ],
)
def test_a_worker_killed_while_it_is_refused_is_started_until_it_is_not(
    world: World, slot: str, operation: str, answer: str | None
) -> None:
    with world.watching() as supervisor:
        world.plant()
        eventually(lambda: world.store.ledger().reached, 30)
        if answer is None:
            world.fake.steer("fail", kind="access_denied", operation=operation, calls=None)
        else:
            world.fake.steer("say", operation=operation, raw=answer, calls=None)
        world.kill(world.pids(slot)[-1])
        refused = eventually(
            lambda: [one for one in world.logged("process ended: restarting") if one["exit_code"] != -9], 60
        )
        assert {one["slot"] for one in refused} == {slot}
        assert supervisor.poll() is None, "the run ended"
        world.fake.steer("clear_faults")
        world.plant()
        world.settle(f"{slot} killed, {operation} refused")
        assert supervisor.poll() is None


def test_a_start_that_never_worked_ends_with_the_reason(world: World) -> None:
    world.fake.steer("fail", kind="access_denied", operation="DescribeTable", calls=None)
    with world.running() as supervisor:
        assert supervisor.wait(60) == 4
