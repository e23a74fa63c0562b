"""Who works when: most batches beside each other, an entry under suspicion with nothing else under way.

Reads: nothing. Writes: nothing. Never: the store, AWS. What becomes of an entry is decided elsewhere.

A validator that dies takes every entry in hand with it, and cannot say which of them killed it, if any did.
So what was in hand too often is tried alone.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator


class Quarantine:
    """Of one process. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[bytes, None] = {}  # entries, in order
        self._at_work = 0
        self._is_trial = False
        self._rests_until = 0.0

    def admit(self, entries: Iterable[bytes]) -> None:
        with self._changed:
            self._waiting.update(dict.fromkeys(entries))

    def release(self, entries: Iterable[bytes]) -> None:
        """They wait no more: tried, or taken over by another validator."""
        with self._changed:
            for entry in entries:
                self._waiting.pop(entry, None)

    def rest(self, seconds: float) -> None:
        """Hold no trial for a while."""
        self._rests_until = time.monotonic() + seconds

    @contextlib.contextmanager
    def company(self) -> Iterator[None]:
        """Work that others may be beside; waits for the end of a trial."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_trial)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def trial(self) -> Iterator[list[bytes]]:
        """The entries that wait, with nothing else under way; [] at once where there is to be no trial."""
        with self._changed:
            ready = not self._is_trial and time.monotonic() >= self._rests_until
            waiting = list(self._waiting) if ready else []
            if waiting:
                self._is_trial = True
                self._changed.wait_for(lambda: not self._at_work)
        try:
            yield waiting
        finally:
            if waiting:
                with self._changed:
                    self._is_trial = False
                    self._changed.notify_all()
