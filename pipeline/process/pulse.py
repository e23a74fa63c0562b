"""What a child tells its supervisor without a lock: that it lives, has worked, and since when Redis is away.

Reads: a monotonic clock. Writes: raw doubles that both processes see.

A lock would be held for ever by a child that was killed while it had it; a raw double is written in one step.
"""

import ctypes
import time
from collections.abc import Callable
from multiprocessing import sharedctypes
from typing import Any, Protocol

#: More than this between two looks: the supervisor stood still itself (SIGSTOP, a paused machine), and so,
#: perhaps, did its children. They get the time that it was there to see.
LOOK_SECONDS_MAX = 1.0


class Heartbeat(Protocol):
    """Called about once a second by a role that runs. worked: it has done its work at least once."""

    def __call__(self, *, worked: bool = True) -> None: ...


class Pulse:
    """One child's, over its restarts. `beat` and `unserved` are the child's, all else the supervisor's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        # Last beat; 1 once it has worked; since when Redis has not served it, 0 = it does.
        self._shared: Any = sharedctypes.RawArray(ctypes.c_double, 3)
        self._monotonic = monotonic
        self.begin()

    def begin(self) -> None:
        """A process is about to be started: it has all the time again."""
        self._shared[0] = self._shared[2] = 0.0
        self._seen = 0.0
        self._looked_at = self._monotonic()
        self.silent_seconds = 0.0
        self.beating_seconds = 0.0

    def beat(self, *, worked: bool = True) -> None:
        self._shared[0] = self._monotonic()
        if worked:
            self._shared[1] = 1.0

    def unserved(self, since: float) -> None:
        """since: the instant since when Redis has not served this process; 0.0 = it does."""
        self._shared[2] = since

    @property
    def unserved_seconds(self) -> float:
        """For how long Redis has not served the child."""
        since = float(self._shared[2])
        return self._monotonic() - since if since else 0.0

    def look(self) -> None:
        """To be called again and again: counts for how long nothing new was there."""
        now = self._monotonic()
        passed = min(now - self._looked_at, LOOK_SECONDS_MAX)
        self._looked_at = now
        beat = float(self._shared[0])
        self.silent_seconds = 0.0 if beat != self._seen else self.silent_seconds + passed
        self._seen = beat
        self.beating_seconds += passed if beat else 0.0

    @property
    def is_there(self) -> bool:
        """The process that was started last has given a sign of life."""
        return bool(self._shared[0])

    @property
    def has_worked(self) -> bool:
        """Some process of this child has done its work."""
        return bool(self._shared[1])

    def __getstate__(self) -> tuple[Any]:
        return (self._shared,)

    def __setstate__(self, state: tuple[Any]) -> None:
        (self._shared,) = state
        self._monotonic = time.monotonic
