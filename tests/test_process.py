"""A process's loops and its sign of life: what fails ends all, what hangs is left behind."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import structlog

from pipeline.process import loops
from pipeline.process.pulse import LOOK_SECONDS_MAX, Pulse


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def hanging() -> Iterator[Callable[[], None]]:
    """A loop that heeds nothing until the test is over."""
    over = threading.Event()

    def hang() -> None:
        over.wait(60)

    try:
        yield hang
    finally:
        over.set()


def test_the_first_loop_that_fails_ends_the_others_and_is_told_at_once() -> None:
    stop, told_before_the_end = threading.Event(), []

    def fail() -> None:
        raise ZeroDivisionError("a value that must not be shown")

    def other() -> None:
        assert stop.wait(120)
        told_before_the_end.extend(logged)

    with structlog.testing.capture_logs() as logged, pytest.raises(ZeroDivisionError):
        loops.serve([fail, other], stop, lambda: None)
    assert [(line["event"], line["kind"]) for line in told_before_the_end] == [
        ("a loop failed: the others are ended", "ZeroDivisionError")
    ]
    assert "must not be shown" not in str(logged)


def test_loops_that_never_end_keep_no_failure_back() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with hanging() as hang, structlog.testing.capture_logs() as logged, pytest.raises(ZeroDivisionError):
        loops.serve([fail, *[hang] * 7], threading.Event(), lambda: None, end_seconds=0.1)
    assert ("loops did not end in time: left behind", 7) in [
        (one["event"], one.get("loops")) for one in logged
    ]


def test_what_is_done_every_second_may_fail_and_ends_the_loops() -> None:
    stop = threading.Event()

    def tick() -> None:
        raise OSError

    def loop() -> None:
        stop.wait(120)

    with pytest.raises(OSError, match=r"^$"):
        loops.serve([loop], stop, tick)
    assert stop.is_set()


def test_silence_counts_only_while_the_supervisor_was_there_to_hear() -> None:
    """SIGSTOP of the whole group for 70 s: the first look afterwards finds a beat that is 70 s old."""
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat()
    pulse.look()
    clock.now += 70
    pulse.look()
    assert pulse.silent_seconds <= LOOK_SECONDS_MAX
    pulse.beat()
    pulse.look()
    assert pulse.silent_seconds == 0


def test_a_child_that_hangs_is_silent_for_all_the_time() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    pulse.beat()
    pulse.look()
    for _ in range(70):
        clock.now += 1
        pulse.look()
    assert pulse.silent_seconds == pytest.approx(70)


def test_what_a_child_has_worked_outlives_its_restart() -> None:
    pulse = Pulse(Clock())
    pulse.beat(worked=False)
    assert (pulse.is_there, pulse.has_worked) == (True, False)
    pulse.beat()
    pulse.begin()
    assert (pulse.is_there, pulse.has_worked) == (False, True)
