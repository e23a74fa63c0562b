"""Sockets that stay open and answer nothing: they delay what hangs on them, and no end."""

import os
import signal
import subprocess
import time

import pytest

from pipeline.supervisor import STALL_SECONDS
from tests.faults.world import SLOTS, World
from tests.servers import eventually

#: A container's stop grace.
GRACE_SECONDS = 30


def test_a_half_open_socket_delays_its_own_keys_alone(world: World) -> None:
    with world.watching():
        stalled: list[int] = []

        def on_request(asked: list[str], port: int) -> str:
            if "BatchGetItem" not in asked or stalled:
                return "pass"
            stalled.append(port)
            return "still"

        world.aws_proxy.on_request = on_request
        world.write("held up", "equal")
        eventually(lambda: stalled, 30)
        for number in range(20):
            world.write(f"free-{number}", "equal")

        def only_one_waits() -> bool:
            ledger = world.store.ledger()
            return (ledger.reached, ledger.outstanding) == (20, 1)

        eventually(only_one_waits, 5, "all but the stalled one are judged")
        world.plant()
        world.settle("half-open socket to AWS")


def test_connections_that_are_cut_and_stand_still_lose_nothing(world: World) -> None:
    with world.watching():
        with world.writing():
            for proxy, told in (
                (world.aws_proxy, "not read: trying again"),
                (world.redis_proxy, "Redis does not serve us: waiting"),
            ):
                proxy.cut()
                read = world.store.ledger().records_read
                eventually(lambda: world.store.ledger().records_read > read, 60)  # noqa: B023
                proxy.stand_still()
                before = len(world.logged(told))
                eventually(lambda: len(world.logged(told)) > before, 90, told)  # noqa: B023
                proxy.stand_still(False)
        world.settle("connections cut, half-open")


@pytest.mark.parametrize("sides", [("aws",), ("redis",), ("aws", "redis")], ids="-".join)
def test_sigterm_during_a_stalled_call_ends_within_the_grace(
    world: World, sides: tuple[str, ...], one_by_one: bool
) -> None:
    if len(sides) == 1 and not one_by_one:
        pytest.skip("only one by one: make faults")
    with world.watching() as supervisor:
        world.plant()
        for side in sides:
            (world.aws_proxy if side == "aws" else world.redis_proxy).stand_still()
        world.plant()
        supervisor.terminate()
        assert supervisor.wait(GRACE_SECONDS) == 0
        for proxy in (world.aws_proxy, world.redis_proxy):
            proxy.stand_still(False)
    with world.running():
        world.settle(f"SIGTERM while {' and '.join(sides)} stall")


def test_a_group_that_stood_still_for_longer_than_a_process_may_be_silent_goes_on(
    world: World, one_by_one: bool
) -> None:
    """SIGSTOP of everything for 70 s (a laptop's lid, a debugger, a frozen container)."""
    if not one_by_one:
        pytest.skip("only one by one: make faults")
    with world.watching() as supervisor:
        world.plant()
        group = [supervisor.pid, *children_of(supervisor.pid)]
        for pid in group:
            os.kill(pid, signal.SIGSTOP)
        ends = time.monotonic() + STALL_SECONDS + 10
        eventually(lambda: time.monotonic() > ends, STALL_SECONDS + 20)
        for pid in reversed(group):
            os.kill(pid, signal.SIGCONT)
        world.plant()
        world.settle("SIGSTOP of everything, 70 s")
        assert world.logged("process hangs: killed") == []
        assert {slot: len(world.pids(slot)) for slot in SLOTS} == dict.fromkeys(SLOTS, 1)


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]
