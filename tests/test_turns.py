"""Whose turn it is: nobody waits behind another's thousand things, or behind one whose calls hang."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from pipeline.process import pool
from pipeline.process.pool import Pool
from pipeline.process.turns import Chore, Seat, Turns
from tests.servers import eventually

LONG = 3_600.0


def nothing() -> None:
    return None


def filled(turns: Turns, chores: int) -> Seat:
    """A seat for which so many things are due."""
    seat = turns.seat()
    for _ in range(chores):
        turns.put(seat, nothing, 0.0)
    return seat


def taken(turns: Turns) -> Seat:
    found = turns.take()
    assert found is not None
    return found[0]


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is over: whoever waits for it ends."""
    event = threading.Event()
    yield event
    event.set()


def test_one_thing_does_not_wait_behind_a_thousand_of_another() -> None:
    turns = Turns(4)
    filled(turns, 1_000)
    small = filled(turns, 1)
    assert small in {taken(turns), taken(turns)}


def test_of_equals_the_one_whose_turn_was_longest_ago_is_next() -> None:
    turns = Turns(4)
    seats = [filled(turns, 10) for _ in range(3)]
    rounds = []
    for _ in range(6):
        rounds.append(taken(turns))
        turns.leave(rounds[-1])
    assert set(rounds[:3]) == set(seats) and rounds[3:] == rounds[:3]


def test_one_alone_has_all_threads_and_of_several_nobody_has_all() -> None:
    turns = Turns(8)
    alone = filled(turns, 100)
    assert [taken(turns) for _ in range(8)] == [alone] * 8
    for _ in range(8):
        turns.leave(alone)
    late = turns.seat()
    assert [taken(turns) for _ in range(6)] == [alone] * 6
    turns.put(late, nothing, 0.0)
    assert taken(turns) is late


def test_those_that_hang_have_one_thread_each_and_half_of_them_together() -> None:
    turns = Turns(8)
    hanging = [filled(turns, 10) for _ in range(6)]
    fine = filled(turns, 10)
    for seat in hanging:
        turns.slow(seat, slow=True)
    count = Counter(taken(turns) for _ in range(8))
    assert count[fine] == 4 and sorted(count[seat] for seat in hanging) == [0, 0, 1, 1, 1, 1]


def test_a_paused_seat_is_passed_over_and_the_others_are_not() -> None:
    turns = Turns(2)
    paused, other = filled(turns, 2), filled(turns, 1)
    turns.pause(paused, paused=True)
    assert taken(turns) is other
    turns.pause(paused, paused=False)
    turns.leave(other)
    assert taken(turns) is paused


def test_a_seat_that_rests_has_one_thread_fewer_until_that_is_over() -> None:
    turns = Turns(2)
    seat = filled(turns, 3)
    turns.rest(seat, LONG)
    assert taken(turns) is seat and turns._next(time.monotonic()) is None
    assert turns._next(time.monotonic() + 2 * LONG) is seat


def test_what_a_seat_has_left_is_due_when_it_is_hastened() -> None:
    turns = Turns(1)
    late, later = turns.seat(), turns.seat()
    turns.put(later, nothing, time.monotonic() + LONG)
    turns.put(late, nothing, time.monotonic() + LONG)
    turns.hasten(late)
    assert taken(turns) is late


def test_what_a_seat_that_is_given_up_has_left_is_not_done() -> None:
    turns = Turns(1)
    gone, other = filled(turns, 5), turns.seat()
    turns.put(gone, nothing, time.monotonic() + LONG)
    turns.give_up(gone)
    assert not turns.put(gone, nothing, 0.0)
    turns.put(other, nothing, 0.0)
    assert taken(turns) is other and not turns._heap and not turns._ready


def test_whoever_waits_for_later_is_woken_for_what_is_due_before_that(over: threading.Event) -> None:
    serving, done = Pool(4), threading.Event()
    seat = serving.turns.seat()
    serving.turns.put(seat, nothing, time.monotonic() + LONG)
    serving.start()
    serving.turns.put(seat, done.set, time.monotonic() + 0.05)
    assert done.wait(120)
    pool.close([serving], 30)


def test_what_becomes_due_at_once_is_taken_by_as_many_threads(over: threading.Event) -> None:
    """The first of them may hang: the next does not wait for it, though another thread watches the clock."""

    def stuck() -> None:
        over.wait()

    serving = Pool(4)
    turns, seat = serving.turns, serving.turns.seat()

    def all_wait() -> bool:
        return len(turns._changed._waiters) == 4  # type: ignore[attr-defined]

    serving.start()
    eventually(all_wait)
    turns.put(seat, nothing, time.monotonic() + LONG)
    eventually(lambda: turns._alarm < float("inf") and all_wait())
    turns.pause(seat, paused=True)
    for _ in range(3):
        turns.put(seat, stuck, 0.0)
    eventually(lambda: len(seat.ready) == 3 and all_wait())
    turns.pause(seat, paused=False)
    eventually(lambda: seat.at_work == 3, 30)


def test_whatever_is_due_is_done_and_nothing_by_two_threads_at_once() -> None:
    """Many seats, many threads, each chore again and again, one seat at times left for a while."""
    serving = Pool(8)
    done: Counter[int] = Counter()
    busy: set[int] = set()
    twice: list[int] = []

    def chore(number: int) -> Chore:
        def run() -> float | None:
            if number in busy:
                twice.append(number)
            busy.add(number)
            done[number] += 1
            busy.discard(number)
            return time.monotonic() + 0.002 * (number % 3) if done[number] < 20 else None

        return run

    seats = [serving.turns.seat() for _ in range(20)]
    for number in range(100):
        serving.turns.put(seats[number % 20], chore(number), 0.0)
    serving.start()
    eventually(lambda: sum(done.values()) == 100 * 20, 60, "every chore done as often as it was due")
    pool.close([serving], 30)
    assert not twice and serving.failure is None


def test_a_pool_all_of_whose_threads_are_stuck_hangs(
    over: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck() -> None:
        over.wait()

    monkeypatch.setattr(pool, "HANGING_SECONDS", 0.01)
    serving = Pool(2)
    seat = serving.turns.seat()
    serving.start()
    serving.turns.put(seat, stuck, 0.0)
    eventually(lambda: seat.at_work == 1)
    assert not serving.hangs, "the other thread waits for work"
    serving.turns.put(seat, stuck, 0.0)
    eventually(lambda: serving.hangs, 30)


def test_what_a_chore_raises_is_kept_for_whoever_runs_the_pool() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    serving = Pool(1)
    serving.turns.put(serving.turns.seat(), fail, 0.0)
    serving.start()
    failed: Callable[[], bool] = lambda: isinstance(serving.failure, ZeroDivisionError)  # noqa: E731
    eventually(failed)
    pool.close([serving], 30)


def test_threads_of_a_pool_are_not_torn_from_their_work_every_five_milliseconds() -> None:
    serving = Pool(1)
    serving.start()
    pool.close([serving], 30)
    assert sys.getswitchinterval() == pytest.approx(pool.SWITCH_SECONDS)
