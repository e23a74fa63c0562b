"""The publisher: next_batch → store.publish, for every partition of one producer that we hold the lease of.

Reads: the producer's batches, the store's checkpoints. Writes: changes, checkpoints, leases, watermarks and
gaps through the store. Never: redis, AWS. A batch's checkpoint is never apart from its changes; what is
inside a position or a partition's name is the producer's alone.

Two producers of one migration are two publishers on one store, in one process or in two: they share nothing
but the ledger, the histories and the watermark.

Threads: a bounded pool serves the schedule of partitions; one thread discovers partitions (`discovery`); the
caller's thread keeps leases and watermarks (`partitions`), and the clock.

What happens to a batch that cannot be published:
1. The store cannot be reached → the batch is kept and published later; nothing new is read meanwhile.
2. DUPLICATE → it was published, only the reply was lost: go on.
3. CONFLICT → the checkpoint is not what we took it for (a rolled-back Redis): open anew at the store's.
4. FENCED → somebody else has the partition: drop it. What we read, they read again.
"""

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable

import msgspec
import structlog

from pipeline.backoff import Backoff
from pipeline.errors import (
    AccessDenied,
    AwsError,
    ConfigurationError,
    StateLost,
    StoreFull,
    StoreUnavailable,
)
from pipeline.metrics import ReaderMetrics
from pipeline.process.pulse import Heartbeat
from pipeline.producers.base import Batch, Producer, Stop
from pipeline.reader.discovery import DiscoveryLoop
from pipeline.reader.partitions import Holdings, LeasedPartition, Schedule
from pipeline.store import ReaderStore
from pipeline.store.messages import Outcome

log = structlog.get_logger(__name__)

TICK_SECONDS = 1.0
#: A partition where nothing happens is asked after SPACING, twice that, … up to this: a change shows in time
#: for a verdict within 2 s.
IDLE_SECONDS = 1.0
#: … and when there are many partitions, so seldom that empty answers (0.8 ms of CPU each, measured) take no
#: more than a quarter of a core: 300 partitions at 1 s, 1000 at 3.2 s.
IDLE_SECONDS_PER_PARTITION = 0.0008 / 0.25
#: Of one partition after failures in a row.
BACKOFF = Backoff(0.5, 30.0, jittered=True)
#: Reading goes on once the backlog has fallen below this share of --max-backlog.
RESUME_SHARE = 0.8
#: How long threads may finish what is under way: an AWS call and a publish that both run into their timeouts.
END_SECONDS = 15.0


class Publisher:
    """Serves one producer until told to stop."""

    def __init__(
        self,
        store: ReaderStore,
        producer: Producer,
        metrics: ReaderMetrics,
        *,
        threads: int = 8,
        max_backlog: int = 100_000,
    ) -> None:
        """max_backlog: entries waiting for validators above which reading pauses."""
        self._store = store
        self._producer = producer
        self._metrics = metrics
        self._threads = threads
        self._max_backlog = max_backlog
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._schedule = Schedule()
        self._holdings = Holdings(store, producer, owner, self._schedule)
        self._discovery = DiscoveryLoop(store, producer, owner)
        self._paused = False
        self._store_due = 0.0  # the store could not be reached: nothing is read before this instant
        self._proven = False  # a batch was read: permissions and names are right
        self._failure: BaseException | None = None
        self._heartbeat: Heartbeat = lambda **_: None

    def run(self, stop: Stop, heartbeat: Heartbeat) -> None:
        """Read and publish until `stop`; then finish what is under way and give everything back.

        Raises AccessDenied, NotFound or ConfigurationError when the very first requests are refused,
        StateLost when the migration's state is gone from Redis, and what a thread did not expect.
        """
        self._heartbeat = heartbeat
        loops = [self._discovery.run, *[self._work] * self._threads]
        threads = [threading.Thread(target=self._guard, args=(loop,), daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        try:
            while not stop.is_set() and self._failure is None:
                try:
                    self._tick()
                except StoreUnavailable as error:
                    log.debug("leases not renewed: trying again", error=str(error))
                heartbeat(worked=self._proven)
                stop.wait(TICK_SECONDS)
        finally:
            self._end(threads)
        if self._failure is not None:
            raise self._failure

    # --- reading: in the pool --------------------------------------------------------------------------

    def _work(self) -> None:
        while (held := self._schedule.take()) is not None:
            due = None if held.leaving else self._serve(held)
            if due is None:
                self._holdings.let_go(held)
            else:
                self._schedule.put(held, due)

    def _serve(self, held: LeasedPartition) -> float | None:
        """One batch of one partition; when it is due again, None when it is no longer ours to read."""
        began = time.monotonic()
        try:
            if held.moved and not self._reload(held):
                return None
            held.moved = False
            if held.batch is None:
                if began < self._store_due:
                    return self._store_due + random.uniform(0, BACKOFF.first_seconds)
                held.batch = held.reader.next_batch()
                self._prove()
            keep = self._publish(held, held.batch)
        except (AwsError, ConfigurationError) as error:
            if isinstance(error, (AccessDenied, ConfigurationError)) and not self._proven:
                raise
            delay = self._backoff(held)
            log.warning(
                "not read: trying again", partition=held.partition, error=str(error), retry_seconds=delay
            )
            return began + delay
        except StoreUnavailable as error:
            delay = self._backoff(held)
            self._store_due = time.monotonic() + delay
            # That Redis does not serve us is said once (store/outage.py); that it is full, here.
            log.log(
                logging.WARNING if isinstance(error, StoreFull) else logging.DEBUG,
                "not published: trying again",
                partition=held.partition,
                error=str(error),
                retry_seconds=delay,
            )
            return self._store_due
        held.failures = 0
        return began + held.pause_seconds if keep else None

    def _prove(self) -> None:
        if not self._proven:
            self._proven = True
            self._heartbeat()  # at once: should this process be killed now, its supervisor knows

    def _publish(self, held: LeasedPartition, batch: Batch) -> bool:
        """Publish a batch; False when the partition is not ours to read any more. Raises StoreUnavailable."""
        if batch.gap is not None:
            # A reader that was suspended and overtaken meanwhile finds trimmed what others have read.
            reported = self._store.add_gap(
                held.lease, held.partition, batch.gap, held.checkpoint, batch.gap_until_ms
            )
            if reported is Outcome.FENCED:
                return False
            held.batch = batch = msgspec.structs.replace(batch, gap=None)
        if batch.checkpoint != held.checkpoint:
            reply = self._store.publish(
                held.lease,
                held.checkpoint,
                batch.checkpoint,
                batch.changes,
                batch.counts,
                batch.watch_began_ms,
            )
            self._note_backlog(reply.backlog)
            if reply.outcome is Outcome.FENCED:
                log.info("partition was taken over", partition=held.partition)
                return False
            if reply.outcome is Outcome.CONFLICT:
                return self._reload(held)
            self._count(batch, reply.left_out)
        held.batch = None
        held.checkpoint = batch.checkpoint
        held.watermark_ms = batch.watermark_ms
        held.pause_seconds = self._pause_seconds(held, batch)
        if batch.checkpoint.finished:
            log.info("partition finished", partition=held.partition)
            self._discovery.soon()
            return False
        return True

    def _reload(self, held: LeasedPartition) -> bool:
        """Go on at the stored checkpoint if it is not ours; False when the partition is not to be read."""
        checkpoint = self._store.partitions(self._producer.name).get(held.partition)
        if checkpoint == held.checkpoint:
            return True
        log.warning("checkpoint is another one: going on from there", partition=held.partition)
        held.batch = None
        if checkpoint is None or checkpoint.finished:
            return False
        held.watermark_ms = 0
        held.checkpoint = checkpoint
        held.reader = self._producer.open(held.partition, checkpoint)
        return True

    def _pause_seconds(self, held: LeasedPartition, batch: Batch) -> float:
        if not batch.idle:
            return batch.spacing_seconds
        longest = max(IDLE_SECONDS, IDLE_SECONDS_PER_PARTITION * len(self._holdings))
        return min(max(held.pause_seconds * 2, batch.spacing_seconds), longest)

    def _backoff(self, held: LeasedPartition) -> float:
        held.failures += 1
        return BACKOFF.after(held.failures)

    def _note_backlog(self, backlog: int) -> None:
        if backlog > self._max_backlog and not self._paused:
            log.warning(
                "validators are behind: reading pauses", backlog=backlog, max_backlog=self._max_backlog
            )
            self._paused = True
            self._schedule.pause(True)

    def _count(self, batch: Batch, left_out: int) -> None:
        self._producer.published(batch)
        self._metrics.keys_sampled.inc(len(batch.changes) - left_out)
        self._metrics.checkpoint_timestamp_seconds.set(self._store.now_ms() / 1000)

    # --- in the caller's thread ------------------------------------------------------------------------

    def _tick(self) -> None:
        """What is done once a second. Raises StoreUnavailable."""
        self._store.clock.keep()
        self._holdings.renew()
        self._holdings.balance()
        if self._paused and self._store.backlog() < self._max_backlog * RESUME_SHARE:
            log.info("reading goes on")
            self._paused = False
            self._schedule.pause(False)

    # --- the end ---------------------------------------------------------------------------------------

    def _guard(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except BaseException as error:  # noqa: BLE001  # `run` raises it again
            if self._failure is None:
                self._failure = error

    def _end(self, threads: Iterable[threading.Thread]) -> None:
        """Stop order: no new batches; those under way are published; then leases go, so that nobody waits."""
        self._discovery.end()
        self._schedule.close()
        deadline = time.monotonic() + END_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        try:
            self._discovery.let_go()
            self._holdings.end()
        except (StoreUnavailable, StateLost) as error:
            log.warning("leases not given back: they will run out", error=str(error))
