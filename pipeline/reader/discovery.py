"""Discovery: what the producer finds about its partitions goes into the store, by one reader at a time.

Reads: the store's checkpoints and watermarks, the producer. Writes: partitions and gaps through the store.
Never: AWS. Batches are published by others.

Of several readers of one producer one discovers, by a lease. What it found is recorded only while the lease
is still its own: one that was suspended and overtaken, or saw a state that was lost since, records nothing.
"""

import logging
import threading

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import AccessDenied, AwsError, ConfigurationError, NotFound, StoreUnavailable
from pipeline.producers.base import Discovery, Producer
from pipeline.reader.partitions import LEASE_MS
from pipeline.store import ReaderStore
from pipeline.store.messages import Lease, Outcome

log = structlog.get_logger(__name__)

EVERY_SECONDS = 1.0
BACKOFF = Backoff(2.0, 30.0)


class DiscoveryLoop:
    """Runs in a thread of its own; `soon` and `end` are for other threads."""

    def __init__(self, store: ReaderStore, producer: Producer, owner: str) -> None:
        self._store = store
        self._producer = producer
        self._owner = owner
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._lease: Lease | None = None
        self._proven = False  # a discovery went well: permissions and names are right

    def run(self) -> None:
        """Discover until `end`. Raises what the very first requests are refused with, StateLost, and what was
        not expected.
        """
        failures = 0
        while not self._ended.is_set():
            self._wake.clear()
            try:
                self._once()
            except (AwsError, ConfigurationError, StoreUnavailable) as error:
                if isinstance(error, (AccessDenied, NotFound, ConfigurationError)) and not self._proven:
                    raise
                failures += 1
                delay = BACKOFF.after(failures)
                level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.WARNING
                log.log(level, "discovery failed: trying again", error=str(error), retry_seconds=delay)
                self._ended.wait(delay)
            else:
                failures = 0
                self._wake.wait(EVERY_SECONDS)

    def soon(self) -> None:
        """A partition is read to its end: its children may be read now."""
        self._wake.set()

    def end(self) -> None:
        self._ended.set()
        self._wake.set()

    def let_go(self) -> None:
        """Give the lease back, once `run` has returned. Raises StoreUnavailable."""
        if self._lease is not None:
            self._store.release(self._lease)

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
