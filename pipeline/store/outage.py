"""Whether Redis serves this process: said when it does not, once a minute from then on, and when it is back.

Reads: the monotonic clock. Writes: log lines. Never: redis.

An outage is over when the kind of call that failed last goes well again: a server that refuses writes
answers reads all the time. Of several migrations, each has calls of its own: in a cluster one may be on a
node that is away, and the others not.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog

from pipeline.errors import StateDamaged, StoreError, StoreUnavailable

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

#: Between two lines about one outage.
SAID_EVERY_SECONDS = 60.0
#: What failed last may never be asked again (a lease given back): then any answer after this long will do.
FORGET_SECONDS = 30.0
#: Between two tries of `once_served`.
RETRY_SECONDS = 1.0


class Stop(Protocol):
    """What ends the waiting."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Outage:
    """Of one process. Thread-safe."""

    def __init__(
        self,
        note: Callable[[float], None] = lambda _since: None,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        of_several: bool = False,
    ) -> None:
        """note: called with the instant since when Redis does not serve us, 0.0 = it does. of_several: the
        process serves several migrations, and the state of one that is damaged is no outage.
        """
        self._note = note
        self._monotonic = monotonic
        self.of_several = of_several
        self._lock = threading.Lock()
        self._began = 0.0
        self._said_at = float("-inf")
        self._failed: dict[str, tuple[str, float]] = {}  # migration → what failed last, and when

    def failed(self, call: str, error: StoreError, migration: str = "") -> None:
        """call: what kind of call it was, of which migration."""
        if self.of_several and isinstance(error, StateDamaged):
            return
        with self._lock:
            now = self._monotonic()
            self._failed[migration] = call, now
            if not self._began:
                self._began = now
                self._note(now)
            if now - self._said_at < SAID_EVERY_SECONDS:
                return
            self._said_at = now
            since = round(now - self._began)
        log.warning(
            "Redis does not serve us: waiting",
            error=error.problem,
            remedy=error.remedy or None,
            since_seconds=since,
        )

    def served(self, call: str, migration: str = "") -> None:
        """A call of this kind went well."""
        if not self._began:
            return
        with self._lock:
            now = self._monotonic()
            failed, failed_at = self._failed.get(migration, ("", 0.0))
            if not self._began or (call != failed and now - failed_at < FORGET_SECONDS):
                return
            self._failed.pop(migration, None)
            if any(now - at < FORGET_SECONDS for _, at in self._failed.values()):
                return
            seconds = round(now - self._began, 1)
            self._began, self._said_at = 0.0, float("-inf")
            self._failed.clear()
            self._note(0.0)
        log.info("Redis is back", after_seconds=seconds)


def once_served(call: Callable[[], Answer], stop: Stop, heartbeat: Callable[[], None]) -> Answer | None:
    """What `call` answers once Redis serves us; None when we are to stop before."""
    while not stop.is_set():
        try:
            return call()
        except StoreUnavailable:
            heartbeat()
            stop.wait(RETRY_SECONDS)
    return None
