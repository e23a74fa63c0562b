"""Redis' clock steps, while the program runs and while it does not: no verdict and no figure moves."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.faults.world import World
from tests.servers import eventually

STEPPED = "the clock of the Redis host stepped: nothing depends on it"


@pytest.fixture
def clock(tmp_path: Path) -> servers.SteppingClock:
    return servers.SteppingClock(tmp_path / "clock")


@pytest.fixture
def world(tmp_path: Path, clock: servers.SteppingClock) -> Iterator[World]:
    with World(tmp_path, clock=clock) as one:
        yield one


def stepped(world: World, times: int = 1) -> None:
    """Wait until every step was noticed, and see that it was said once."""
    eventually(lambda: world.store.figures().clock.steps == times, 30, "the step was noticed")
    eventually(lambda: world.logged(STEPPED), 30, "the step was said")  # just after it was counted
    assert len(world.logged(STEPPED)) == times


@pytest.mark.parametrize("seconds", [120])
def test_a_replica_that_is_late_but_in_time_is_no_finding(
    tmp_path: Path, clock: servers.SteppingClock, seconds: int
) -> None:
    with World(tmp_path, "--converge-within", "40s", clock=clock) as world, world.watching():
        for number in range(10):
            world.write(f"late-{number}", "new", "none")
        eventually(lambda: world.store.ledger().reads >= 10, 30, "all were looked at")
        clock.step(seconds)
        written = time.monotonic()
        stepped(world)
        eventually(lambda: time.monotonic() > written + 16)
        for number in range(10):
            world.replicate(f"late-{number}", "new")
        world.plant(10)
        world.settle(f"Redis' clock {seconds:+} s, a replica that is late")


@pytest.mark.parametrize("seconds", [-600, 600])
def test_a_reader_that_stood_still_makes_no_finding(
    world: World, clock: servers.SteppingClock, seconds: int
) -> None:
    with world.watching():
        world.plant()
        eventually(lambda: world.store.reader_state().watermark_ms, 30)
        for number in range(6):
            world.write(f"toggled-{number}", "a")
        world.rest()
        reader = world.pids("reader-0")[-1]
        os.kill(reader, signal.SIGSTOP)
        clock.step(seconds)
        stood = time.monotonic()
        for number in range(6):  # the target shows what the reader has not seen
            world.write(f"toggled-{number}", "b")
        lag = eventually(lambda: (world.store.figures().reader_lag_seconds or 0) > 8, 30, "the lag shows")
        assert lag and time.monotonic() - stood > 3
        os.kill(reader, signal.SIGCONT)
        stepped(world)
        world.settle(f"Redis' clock {seconds:+} s, a reader that stood still")


@pytest.mark.parametrize("seconds", [-600, -2, 2, 600])
def test_what_waits_for_its_next_look_does_not_wait_longer(
    world: World, clock: servers.SteppingClock, seconds: int
) -> None:
    with world.watching(), world.writing():
        eventually(lambda: world.store.ledger().alarmed, 60)
        clock.step(seconds)
        if abs(seconds) > 2:
            stepped(world)
        judged = world.store.ledger().matches
        eventually(lambda: world.store.ledger().matches > judged + 50, 60, "judging goes on")
        figures = world.store.figures()
        assert figures.reader_lag_seconds is not None and 1 < figures.reader_lag_seconds < 8
    with world.watching():
        world.settle(f"Redis' clock {seconds:+} s while running")


@pytest.mark.parametrize("seconds", [-3_600, 3_600])
def test_after_a_crash_the_leases_of_the_dead_do_not_last(
    world: World, clock: servers.SteppingClock, seconds: int
) -> None:
    """Killed with everything under way, and started again on a clock that is an hour off."""
    with world.watching() as supervisor, world.writing():
        eventually(lambda: world.store.ledger().alarmed, 60)
        world.kill(supervisor.pid)
        supervisor.wait()
    clock.step(seconds)
    world.plant()
    began = time.monotonic()
    with world.watching():
        stepped(world)
        read = world.store.ledger().records_read
        eventually(
            lambda: world.store.ledger().records_read > read or world.store.ledger().outstanding == 0, 60
        )
        assert time.monotonic() - began < 60
        world.settle(f"Redis' clock {seconds:+} s and kill -9 of everything")
