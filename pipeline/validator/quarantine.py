"""Who works when: most batches beside each other, an entry under suspicion with nothing else under way.

Reads: nothing. Writes: nothing. Never: the store, AWS. What becomes of an entry is decided elsewhere.

A validator that dies takes every entry in hand with it, and cannot say which of them killed it, if any did.
So what was in hand too often is tried alone: with nothing else under way of any migration of the process, or
an entry of another one might kill it, and this one be blamed.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator


class House:
    """What is under way in one process. Thread-safe."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.at_work = 0
        self.is_trial = False


class Quarantine:
    """Of one migration in one process. Thread-safe."""

    def __init__(self, house: House | None = None) -> None:
        """house: shared by the migrations of the process."""
        self._house = house or House()
        self._waiting: dict[bytes, None] = {}  # entries, in order
        self._rests_until = 0.0

    def admit(self, entries: Iterable[bytes]) -> None:
        with self._house.changed:
            self._waiting.update(dict.fromkeys(entries))

    def release(self, entries: Iterable[bytes]) -> None:
        """They wait no more: tried, or taken over by another validator."""
        with self._house.changed:
            for entry in entries:
                self._waiting.pop(entry, None)

    def rest(self, seconds: float) -> None:
        """Hold no trial for a while."""
        self._rests_until = time.monotonic() + seconds

    @contextlib.contextmanager
    def company(self) -> Iterator[None]:
        """Work that others may be beside; waits for the end of a trial."""
        house = self._house
        with house.changed:
            house.changed.wait_for(lambda: not house.is_trial)
            house.at_work += 1
        try:
            yield
        finally:
            with house.changed:
                house.at_work -= 1
                house.changed.notify_all()

    @contextlib.contextmanager
    def trial(self) -> Iterator[list[bytes]]:
        """The entries that wait, with nothing else under way; [] at once where there is to be no trial."""
        house = self._house
        with house.changed:
            ready = not house.is_trial and time.monotonic() >= self._rests_until
            waiting = list(self._waiting) if ready else []
            if waiting:
                house.is_trial = True
                house.changed.wait_for(lambda: not house.at_work)
        try:
            yield waiting
        finally:
            if waiting:
                with house.changed:
                    house.is_trial = False
                    house.changed.notify_all()
