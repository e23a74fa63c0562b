"""Discovery: what the producer finds about its partitions goes into the store, by one reader at a time.

Reads: the store's checkpoints and watermarks, the producer. Writes: partitions and gaps through the store.
Never: AWS. Batches are published by others.

Of several readers of one producer one discovers, by a lease. What it found is recorded only while the lease
is still its own: one that was suspended and overtaken, or saw a state that was lost since, records nothing.
"""

import logging
import threading
import time

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import AccessDenied, AwsError, ConfigurationError, NotFound, StoreUnavailable
from pipeline.producers.base import Discovery, Producer
from pipeline.reader.partitions import LEASE_MS
from pipeline.serving import Lane
from pipeline.store import ReaderStore
from pipeline.store.messages import Lease, Outcome

log = structlog.get_logger(__name__)

BACKOFF = Backoff(2.0, 30.0)


class Discoveries:
    """Of one producer. `turn` has one caller at a time; `end` is for other threads."""

    def __init__(self, store: ReaderStore, producer: Producer, owner: str, lane: Lane) -> None:
        self._store = store
        self._producer = producer
        self._owner = owner
        self._lane = lane
        self._busy = threading.Lock()
        self._ended = False
        self._lease: Lease | None = None
        self._failures = 0
        self._proven = False  # a discovery went well: permissions and names are right

    def turn(self) -> float | None:
        """Discover once; when to do so again, None after `end`. Raises what the very first requests are
        refused with, StateLost, and what was not expected.
        """
        with self._busy:
            if self._ended:
                return None
            began = time.monotonic()
            try:
                with self._lane.troubles.part("discovery"):
                    self._once()
            except (AwsError, ConfigurationError, StoreUnavailable) as error:
                if isinstance(error, (AccessDenied, NotFound, ConfigurationError)) and not self._proven:
                    raise
                return time.monotonic() + self._failed(error)
            self._failures = 0
            return began + self._lane.every_seconds

    def _failed(self, error: Exception) -> float:
        """How long to wait."""
        self._failures += 1
        delay = BACKOFF.after(self._failures)
        level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.WARNING
        log.log(level, "discovery failed: trying again", error=str(error), retry_seconds=delay)
        return delay

    def end(self) -> bool:
        """Give the lease back; False while a discovery is under way. Raises StoreUnavailable."""
        self._ended = True
        if not self._busy.acquire(blocking=False):
            return False
        lease, self._lease = self._lease, None
        self._busy.release()
        if lease is not None:
            self._store.release(lease)
        return True

    def _once(self) -> None:
        name = self._producer.name
        # No partition is called so: their names have a ":" where this one ends.
        self._lease = self._store.lease(name, self._owner, LEASE_MS)
        if self._lease is None:
            return
        seen = self._producer.discover(self._store.partitions(name), self._store.watermarks(name))
        self._proven = True
        if seen != Discovery():
            self._record(self._lease, seen)

    def _record(self, lease: Lease, seen: Discovery) -> None:
        for lost in seen.lost:
            if self._store.add_gap(lease, lost.partition, lost.reason) is Outcome.PUBLISHED:
                log.error("changes are lost", partition=lost.partition, reason=lost.reason)
        holds = self._producer.holds_watermark
        found = [(one.partition, one.checkpoint, one.watermark_ms if holds else None) for one in seen.found]
        if not self._store.track(lease, found, seen.unwatched, seen.forget):
            log.info("somebody else discovers now")
        elif found:
            log.info("partitions found", partitions=len(found))
