"""Whose turn it is: what is due, handed to the threads of a pool fairly among those who share it.

Reads: the monotonic clock. Writes: nothing. It makes no thread, and does nothing of what is due.

Whatever is to be done belongs to a seat: one migration at this pool. Of what is due, that of the seat with
the fewest threads at work is next, and among equals that of the seat whose last turn was longest ago. So a
thousand things that are due for one seat do not delay the only one of another; what the others leave, it
takes.

Where several share a pool, nobody has all of it, and those whose calls hang have one thread each and half of
them together: a service that does not answer holds a thread for seconds, and the others' turn must come.
"""

import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable

#: What is to be done: it is called, and answers when it is due again (None: never).
Chore = Callable[[], float | None]


class Seat:
    """One of those who share a pool. Only `Turns` changes it."""

    __slots__ = ("at_work", "closed", "last_turn", "paused", "ready", "rests", "slow")

    def __init__(self) -> None:
        self.ready: deque[Chore] = deque()  # due, in order
        self.at_work = 0  # threads that serve it
        self.last_turn = 0
        self.rests: list[float] = []  # until when it has one thread fewer, each
        self.paused = self.slow = self.closed = False


class Turns:
    """Thread-safe. Instants are `time.monotonic()` seconds.

    Waking a thread costs more than most chores: nobody is woken who would find nothing to do, but for the one
    that waits for what is due next.
    """

    def __init__(self, threads: int) -> None:
        """threads: how many there are to hand things to."""
        self._threads = threads
        self._heap: list[tuple[float, int, Seat, Chore]] = []
        self._order = (
            itertools.count()
        )  # equal due times: first come, first served; chores are never compared
        self._turn = itertools.count(1)
        self._seats: set[Seat] = set()
        self._ready: set[Seat] = set()  # those that have something to be done now
        self._changed = threading.Condition()
        self._alarm = math.inf  # when a waiting thread looks again by itself: one is enough
        self._closed = False

    def seat(self) -> Seat:
        """A place for one more."""
        with self._changed:
            self._seats.add(seat := Seat())
            return seat

    def put(self, seat: Seat, chore: Chore, due: float) -> bool:
        """False: the seat was given up, and the chore with it."""
        with self._changed:
            if seat.closed:
                return False
            heapq.heappush(self._heap, (due, next(self._order), seat, chore))
            if due < self._alarm:
                self._changed.notify()
            return True

    def take(self) -> tuple[Seat, Chore] | None:
        """Wait for what is next, which must `leave` again; None once all is closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._ripen(now)
                if (seat := self._next(now)) is not None:
                    chore = seat.ready.popleft()
                    if not seat.ready:
                        self._ready.discard(seat)
                    seat.at_work += 1
                    seat.last_turn = next(self._turn)
                    if self._ready or self._alarm == math.inf:
                        self._changed.notify()  # another thread takes the next, or waits for it
                    return seat, chore
                self._wait(now)
            return None

    def leave(self, seat: Seat) -> None:
        """The thread that took something of this seat has done it."""
        with self._changed:
            seat.at_work -= 1
            if self._ready:  # the seat's, perhaps, which had all the threads that it may have
                self._changed.notify()

    def pause(self, seat: Seat, *, paused: bool) -> None:
        """While paused, nothing of this seat is handed out."""
        with self._changed:
            seat.paused = paused
            self._changed.notify()

    def slow(self, seat: Seat, *, slow: bool) -> None:
        """Whether the calls of this seat hang: then it has one thread, where others share the pool."""
        if seat.slow is not slow:
            with self._changed:
                seat.slow = slow
                self._changed.notify()

    def rest(self, seat: Seat, seconds: float) -> None:
        """The seat has one thread fewer for so long."""
        with self._changed:
            seat.rests.append(time.monotonic() + seconds)

    def hasten(self, seat: Seat) -> None:
        """Whatever waits for this seat is due now."""
        with self._changed:
            self._heap = [
                (-math.inf if one is seat else due, order, one, chore)
                for due, order, one, chore in self._heap
            ]
            heapq.heapify(self._heap)
            self._changed.notify()

    def give_up(self, seat: Seat) -> None:
        """Nothing of this seat is handed out any more; what is in hand is finished."""
        with self._changed:
            seat.closed = True
            self._seats.discard(seat)
            self._ready.discard(seat)
            seat.ready.clear()
            self._heap = [entry for entry in self._heap if entry[2] is not seat]
            heapq.heapify(self._heap)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- with the lock held ------------------------------------------------------------------------------

    def _ripen(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            _, _, seat, chore = heapq.heappop(self._heap)
            seat.ready.append(chore)
            self._ready.add(seat)

    def _next(self, now: float) -> Seat | None:
        if not self._ready:
            return None
        slow = sum(seat.at_work for seat in self._seats if seat.slow)
        free = [seat for seat in self._ready if seat.at_work < self._limit(seat, slow, now)]
        return min(free, key=lambda seat: (seat.at_work, seat.last_turn), default=None)

    def _limit(self, seat: Seat, slow: int, now: float) -> int:
        """How many threads the seat may have. slow: those that all slow ones have."""
        if seat.rests:
            seat.rests = [until for until in seat.rests if until > now]
        if seat.paused:
            return 0
        if len(self._seats) == 1:
            return self._threads - len(seat.rests)
        if seat.slow:
            return int(not seat.rests and slow < max(1, self._threads // 2))
        spare = max(1, self._threads // 4) if self._threads > 1 else 0
        return self._threads - spare - len(seat.rests)

    def _wait(self, now: float) -> None:
        """Until something changes, or the next is due; one thread looks at the clock for all."""
        rested = (min(seat.rests) for seat in self._ready if seat.rests)
        until = min([self._heap[0][0] if self._heap else math.inf, *rested])
        if until >= self._alarm:
            self._changed.wait()
            return
        self._alarm = until
        self._changed.wait(until - now)
        if self._alarm == until:
            self._alarm = math.inf
