"""Paces reads: a token bucket with debts, in read capacity units.

Reads: a monotonic clock. Writes: nothing. Never: AWS.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

#: Of a unit: less is no debt, but what a float leaves over.
_NOTHING = 1e-6


class Waitable(Protocol):
    """An event: `wait` returns True as soon as it is set, False after `timeout` seconds."""

    def wait(self, timeout: float) -> bool: ...


class RateLimiter:
    """What a read costs is known only afterwards, so a read may overdraw, and its lane waits for that.

    Lanes share what is earned equally: one that has read 16 MB of large items pays for a long time, and the
    others go on meanwhile, more slowly. All of them together spend no more than the rate.

    `units_per_second` of 0 means unlimited. Up to one second's worth is saved while idle. Thread-safe.
    """

    def __init__(self, units_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = units_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._saved = units_per_second
        self._debts: dict[int, float] = {}  # lane → units
        self._counted_at = clock()

    def acquire(self, stop: Waitable, lane: int = 0) -> bool:
        """Wait while the lane is in debt, then True; False as soon as `stop` is set."""
        while (seconds := self.debt_seconds(lane)) > 0:
            if stop.wait(seconds):
                return False
        return True

    def charge(self, units: float, lane: int = 0) -> None:
        """Book what a read consumed."""
        if self._rate > 0:
            with self._lock:
                self._settle()
                left = units - self._saved
                self._saved = max(0.0, -left)
                if left > 0:
                    self._debts[lane] = self._debts.get(lane, 0.0) + left

    @property
    def rate(self) -> float:
        """Units a second, 0 = unlimited."""
        return self._rate

    def change(self, units_per_second: float) -> None:
        """Another rate from now on; what is owed stays owed."""
        with self._lock:
            self._settle()
            self._rate = units_per_second
            self._saved = min(self._saved, units_per_second)
            if units_per_second == 0:
                self._debts.clear()

    def debt_seconds(self, lane: int = 0) -> float:
        """How long the lane has to wait at least; longer while others pay, too."""
        with self._lock:
            self._settle()
            return self._debts[lane] / self._rate if lane in self._debts else 0.0

    def _settle(self) -> None:
        """Give what was earned to the lanes in debt, in equal parts, and save the rest."""
        now = self._clock()
        earned, self._counted_at = (now - self._counted_at) * self._rate, now
        while earned > _NOTHING and self._debts:
            paid = min(earned / len(self._debts), *self._debts.values())
            earned -= paid * len(self._debts)
            left = {lane: debt - paid for lane, debt in self._debts.items()}
            self._debts = {lane: debt for lane, debt in left.items() if debt > _NOTHING}
        self._saved = min(self._rate, self._saved + earned)
