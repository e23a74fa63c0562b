"""Whether Redis serves this process: said when it does not, once a minute from then on, and when it is back.

Reads: the monotonic clock. Writes: log lines. Never: redis.

An outage is over when the kind of call that failed last goes well again: a server that refuses writes answers
reads all the time.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog

from pipeline.errors import StoreError, StoreUnavailable

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
    ) -> None:
        """note: called with the instant since when Redis does not serve us, 0.0 = it does."""
        self._note = note
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._began = 0.0
        self._said_at = float("-inf")
        self._failed, self._failed_at = "", 0.0

    def failed(self, call: str, error: StoreError) -> None:
        """call: what kind of call it was."""
        with self._lock:
            now = self._monotonic()
            self._failed, self._failed_at = call, now
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

    def served(self, call: str) -> None:
        """A call of this kind went well."""
        if not self._began:
            return
        with self._lock:
            now = self._monotonic()
            if not self._began or (call != self._failed and now - self._failed_at < FORGET_SECONDS):
                return
            seconds = round(now - self._began, 1)
            self._began, self._said_at = 0.0, float("-inf")
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
