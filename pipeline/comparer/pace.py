"""How fast one side's segments are read: read units a second, and what DynamoDB throttles.

Reads: a monotonic clock. Writes: nothing. Never: boto3.

A hot partition throttles the segments that lie on it: each backs off alone, and the others go on. A limit of
the table throttles whoever comes next: when several segments are refused within a second, all of them wait.
"""

import threading
import time
from collections.abc import Callable

from pipeline.aws import RateLimiter
from pipeline.backoff import Backoff
from pipeline.producers.base import Stop

#: Of one segment that is throttled again and again; of all of them, where the table is.
SEGMENT_BACKOFF, TABLE_BACKOFF = Backoff(0.5, 30.0, jittered=True), Backoff(0.5, 8.0)
#: So many segments refused within a second speak of the table.
TABLE_SEGMENTS, WITHIN_SECONDS = 3, 1.0


class SidePace:
    """Paces the reads of one side. Thread-safe: a process's threads share one instance."""

    def __init__(self, max_rcu: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """max_rcu: read units a second, 0 = no limit."""
        self._limiter = RateLimiter(max_rcu, clock=monotonic)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._refused: dict[int, float] = {}  # segment → when it was throttled last
        self._failures: dict[int, int] = {}  # segment → times in a row
        self._table_failures = 0  # in a row
        self._pause_until = 0.0

    def limit(self, max_rcu: float) -> None:
        """Another limit from now on."""
        self._limiter.change(max_rcu)

    @property
    def limited(self) -> float:
        """Read units a second, 0 = no limit."""
        return self._limiter.rate

    def acquire(self, stop: Stop) -> bool:
        """Wait for this side's turn, then True; False as soon as `stop` is set."""
        while (seconds := self._pause_until - self._monotonic()) > 0:
            if stop.wait(seconds):
                return False
        return self._limiter.acquire(stop)

    def read(self, segment: int, units: float) -> None:
        """Book a page that was read."""
        self._limiter.charge(units)
        with self._lock:
            self._failures.pop(segment, None)
            if self._monotonic() >= self._pause_until:
                self._table_failures = 0

    def throttled(self, segment: int) -> float:
        """Book a refusal; how many seconds this segment has to wait."""
        now = self._monotonic()
        with self._lock:
            failures = self._failures[segment] = self._failures.get(segment, 0) + 1
            self._refused[segment] = now
            self._refused = {one: at for one, at in self._refused.items() if now - at < WITHIN_SECONDS}
            if len(self._refused) >= TABLE_SEGMENTS and now >= self._pause_until:
                self._table_failures += 1
                self._pause_until = now + TABLE_BACKOFF.after(self._table_failures)
                self._refused.clear()
        return SEGMENT_BACKOFF.after(failures)

    def forget(self, segment: int) -> None:
        """The segment is not read any more."""
        with self._lock:
            self._failures.pop(segment, None)
