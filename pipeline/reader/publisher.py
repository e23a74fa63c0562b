"""The publisher: next_batch → store.publish, for every partition of one producer that we hold the lease of.

Reads: the producer's batches, the store's checkpoints. Writes: changes, checkpoints, leases, watermarks and
gaps through the store. Never: redis, AWS. A batch's checkpoint is never apart from its changes; what is
inside a position or a partition's name is the producer's alone.

Two producers of one migration are two publishers on one store, in one process or in two: they share nothing
but the ledger, the histories and the watermark.

Threads are shared with the other migrations of the process: one pool reads partitions, another keeps leases
and watermarks (`partitions`) and the clock, a third discovers (`discovery`); see `pipeline/serving.py`.

What happens to a batch that cannot be published:
1. The store cannot be reached → the batch is kept and published later; nothing new is read meanwhile.
2. DUPLICATE → it was published, only the reply was lost: go on.
3. CONFLICT → the checkpoint is not what we took it for (a rolled-back Redis): open anew at the store's.
4. FENCED → somebody else has the partition: drop it. What we read, they read again.
"""

import functools
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable

import msgspec
import structlog

from pipeline.backoff import Backoff
from pipeline.errors import (
    AccessDenied,
    AwsError,
    AwsUnavailable,
    ConfigurationError,
    StateLost,
    StoreFull,
    StoreUnavailable,
)
from pipeline.metrics import ReaderMetrics
from pipeline.process.turns import Turns
from pipeline.producers.base import Batch, Producer
from pipeline.reader.discovery import Discoveries
from pipeline.reader.idling import IdlePolls
from pipeline.reader.partitions import Holdings, LeasedPartition
from pipeline.serving import Lane
from pipeline.store import ReaderStore
from pipeline.store.messages import Outcome

log = structlog.get_logger(__name__)

#: Of one partition after failures in a row.
BACKOFF = Backoff(0.5, 30.0, jittered=True)
#: Reading goes on once the backlog has fallen below this share of --max-backlog.
RESUME_SHARE = 0.8
#: How long threads may finish what is under way: an AWS call and a publish that both run into their timeouts.
END_SECONDS = 15.0


class Publisher:
    """Serves one producer, as a `serving.Work`."""

    def __init__(
        self,
        store: ReaderStore,
        producer: Producer,
        metrics: ReaderMetrics,
        lane: Lane,
        reading: Turns,
        idle: IdlePolls,
        *,
        max_backlog: int = 100_000,
        proved: Callable[[], None] = lambda: None,
    ) -> None:
        """reading, idle: shared with the process's other migrations. max_backlog: entries waiting for
        validators above which reading pauses. proved: called when the first batch was read.
        """
        self._store = store
        self._producer = producer
        self._metrics = metrics
        self._lane = lane
        self._turns, self._idle = reading, idle
        self._seat = reading.seat()
        self._max_backlog = max_backlog
        self._proved = proved
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._holdings = Holdings(store, producer, owner, self._begin)
        self._discoveries = Discoveries(store, producer, owner, lane)
        self._paused = False
        self._store_due = 0.0  # the store could not be reached: nothing is read before this instant
        self._proven = False  # a batch was read: permissions and names are right
        self._ends_at = 0.0  # when what is under way is waited for no longer
        self._begun_again = False
        lane.ask(self._discoveries.turn)

    @property
    def has_worked(self) -> bool:
        """See `serving.Work`."""
        return self._proven

    # --- reading: in the pool --------------------------------------------------------------------------

    def _begin(self, held: LeasedPartition) -> None:
        """It is read from now on. Raises what the very first requests are refused with."""
        chore = self._lane.guarded(functools.partial(self._serve, held))
        self._turns.put(self._seat, chore, time.monotonic())

    def _serve(self, held: LeasedPartition) -> float | None:
        """One batch of one partition; when it is due again, None when it is no longer ours to read."""
        due = None if held.leaving else self._serve_once(held)
        if due is None:
            self._holdings.let_go(held)
        return due

    def _serve_once(self, held: LeasedPartition) -> float | None:
        began = time.monotonic()
        try:
            if held.moved and not self._reload(held):
                return None
            held.moved = False
            if held.batch is None:
                if began < self._store_due:
                    return self._store_due + random.uniform(0, BACKOFF.first_seconds)
                held.batch = self._read(held)
            with self._lane.troubles.part("publishing"):
                keep = self._publish(held, held.batch)
        except (AwsError, ConfigurationError) as error:
            if isinstance(error, (AccessDenied, ConfigurationError)) and not self._proven:
                raise
            self._turns.slow(self._seat, slow=isinstance(error, AwsUnavailable))
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

    def _read(self, held: LeasedPartition) -> Batch:
        with self._lane.troubles.part("reading"):
            batch = held.reader.next_batch()
        self._turns.slow(self._seat, slow=False)
        if not self._proven:
            self._proven = True
            self._proved()  # at once: should this process be killed now, its supervisor knows
        return batch

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
            self._lane.ask_soon()
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
        longest = self._idle.longest_seconds(self)
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
            self._turns.pause(self._seat, paused=True)

    def _count(self, batch: Batch, left_out: int) -> None:
        self._producer.published(batch)
        self._metrics.keys_sampled.inc(len(batch.changes) - left_out)
        self._metrics.checkpoint_timestamp_seconds.set(self._store.now_ms() / 1000)

    # --- once a second ---------------------------------------------------------------------------------

    def keep(self) -> None:
        """See `serving.Work`. Raises StoreUnavailable and StateLost."""
        self._store.clock.keep()
        self._holdings.renew()
        self._holdings.balance()
        self._idle.note(self, len(self._holdings))
        if self._paused and self._store.backlog() < self._max_backlog * RESUME_SHARE:
            log.info("reading goes on")
            self._paused = False
            self._turns.pause(self._seat, paused=False)

    # --- the end ---------------------------------------------------------------------------------------

    def end(self, error: BaseException | None) -> bool:
        """See `serving.Work`. No new batches; those under way are published; then leases go, so that nobody
        waits. A state that was lost is begun again first: only this process knows when the watch began.
        """
        if not self._ends_at:
            self._ends_at = time.monotonic() + END_SECONDS
            self._turns.give_up(self._seat)
            self._idle.note(self, 0)
            if isinstance(error, StateLost):
                log.error("reading everything since the migration was begun once more", error=str(error))
        under_way = self._seat.at_work and time.monotonic() < self._ends_at
        if under_way or not self._is_begun_again(error):
            return False
        try:
            if not self._discoveries.end() and time.monotonic() < self._ends_at:
                return False
            self._holdings.end()
        except (StoreUnavailable, StateLost) as refused:
            log.warning("leases not given back: they will run out", error=str(refused))
        self._store.close()
        return True

    def _is_begun_again(self, error: BaseException | None) -> bool:
        if not isinstance(error, StateLost) or self._begun_again:
            return True
        try:
            self._store.begin_again()
        except StoreUnavailable as refused:
            log.debug("not begun again yet", error=str(refused))
            return False
        self._begun_again = True
        return True
