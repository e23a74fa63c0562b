"""Paces reads: a token bucket with debt, in read capacity units.

Reads: a monotonic clock. Writes: nothing. Never: AWS.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Waitable(Protocol):
    """An event: `wait` returns True as soon as it is set, False after `timeout` seconds."""

    def wait(self, timeout: float) -> bool: ...


class RateLimiter:
    """What a read costs is known only afterwards, so a read may overdraw and the next ones wait.

    `units_per_second` of 0 means unlimited. Up to one second's worth is saved while idle. Thread-safe.
    """

    def __init__(self, units_per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = units_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._balance = units_per_second
        self._counted_at = clock()

    def acquire(self, stop: Waitable) -> bool:
        """Wait while in debt, then True; False as soon as `stop` is set."""
        while (debt_seconds := self._debt_seconds()) > 0:
            if stop.wait(debt_seconds):
                return False
        return True

    def charge(self, units: float) -> None:
        """Book what a read consumed."""
        if self._rate > 0:
            with self._lock:
                self._balance -= units

    def _debt_seconds(self) -> float:
        if self._rate <= 0:
            return 0.0
        with self._lock:
            now = self._clock()
            self._balance = min(self._rate, self._balance + (now - self._counted_at) * self._rate)
            self._counted_at = now
            return -self._balance / self._rate
