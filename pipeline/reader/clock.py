"""The store's clock, carried on between questions with this host's monotonic one.

Reads: the store's clock through the callable given. Writes: nothing.
"""

import time
from collections.abc import Callable

from pipeline.producers.base import SKEW_TOLERATED_MS

#: An answer of the store that took longer says too little about its clock.
SYNC_WITHIN_SECONDS = 0.5


class StoreClock:
    """The store's clock, carried on with this host's monotonic one between calls of `sync`."""

    def __init__(self, store_now_ms: Callable[[], int]) -> None:
        self._store_now_ms = store_now_ms
        self._ahead_of_monotonic_ms: int | None = None
        self.sync()

    def sync(self) -> None:
        """Ask the store. Raises StoreUnavailable; the clock then runs on as before.

        So it does after an answer that was long on its way, or that a process standing still took up late.
        """
        asked = time.monotonic()
        store_ms = self._store_now_ms()
        answered = time.monotonic()
        if self._ahead_of_monotonic_ms is None or answered - asked <= SYNC_WITHIN_SECONDS:
            self._ahead_of_monotonic_ms = store_ms - int(answered * 1000)

    def now_ms(self) -> int:
        return int(time.monotonic() * 1000) + (self._ahead_of_monotonic_ms or 0)

    def offset_ms(self, aws_skew_ms: int | None) -> int:
        """What to add to AWS's times. aws_skew_ms: AWS's clock minus this host's, None when not known."""
        if aws_skew_ms is None:
            return 0
        offset = self.now_ms() - int(time.time() * 1000) - aws_skew_ms
        return offset if abs(offset) > SKEW_TOLERATED_MS else 0
