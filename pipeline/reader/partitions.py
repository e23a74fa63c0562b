"""The partitions of one producer that one reader holds: their leases, and when to read which next.

Reads and writes: leases, heartbeats and watermarks in the store. Never: AWS. It makes no batch and no thread
of its own.

A partition either waits for its turn (process/turns.py) or is in the hands of one thread, so it is never
read twice at once, and no thread belongs to a partition. Any number of readers share the partitions of one
producer: each takes ceil(partitions / readers alive) leases and gives back what is more. A lease that is lost
is noticed at the next renewal at the latest; until then its fence keeps its batches out.
"""

import math
import random
import threading
from collections.abc import Callable, Iterable

import structlog

from pipeline.core.model import Checkpoint
from pipeline.errors import StoreUnavailable
from pipeline.producers.base import Batch, PartitionReader, Producer
from pipeline.store import ReaderStore
from pipeline.store.messages import Lease

log = structlog.get_logger(__name__)

#: Leases are renewed once a second; one that was not for this long is free for others.
LEASE_MS = 6_000


class LeasedPartition:
    """A partition whose lease we hold. Only the thread that serves it changes it; anybody `leaving`, `moved`.

    A watermark holds for a checkpoint: the checkpoint is set first, the watermark read first.
    """

    __slots__ = (
        "batch",
        "checkpoint",
        "failures",
        "lease",
        "leaving",
        "moved",
        "pause_seconds",
        "reader",
        "watermark_ms",
    )

    def __init__(self, lease: Lease, checkpoint: Checkpoint, reader: PartitionReader) -> None:
        self.lease = lease
        self.checkpoint = checkpoint
        self.reader = reader
        self.batch: Batch | None = None  # read, but not published yet
        self.watermark_ms = 0
        self.pause_seconds = 0.0  # between the beginnings of two calls
        self.failures = 0
        self.leaving = False  # to be given back before it is read again
        self.moved = False  # the stored checkpoint was seen to be another than ours

    @property
    def partition(self) -> str:
        return self.lease.partition


class Holdings:
    """The leases that `owner`, one reader of one producer, holds. Thread-safe."""

    def __init__(
        self,
        store: ReaderStore,
        producer: Producer,
        owner: str,
        begin: Callable[[LeasedPartition], None],
    ) -> None:
        """begin: what is done with a partition that was taken."""
        self._store = store
        self._producer = producer
        self._owner = owner
        self._begin = begin
        self._held: dict[str, LeasedPartition] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def renew(self) -> None:
        """Keep the leases, post the watermarks. Raises StoreUnavailable and StateLost."""
        with self._lock:  # or a lease that is being given back would be taken again
            held = list(self._held.values())
            read = {one.partition: one.watermark_ms for one in held}
            watermarks = {one.partition: (one.checkpoint, read[one.partition]) for one in held}
            kept = self._store.renew(self._owner, [one.lease for one in held], watermarks, LEASE_MS)
        for one in held:
            if one.partition not in kept:
                one.leaving = True
            elif not kept[one.partition]:
                one.moved = True  # or just being published: whoever serves it looks again

    def balance(self) -> None:
        """Take leases up to our fair share, mark what is more as leaving.

        Raises StoreUnavailable and StateLost.
        """
        alive = self._store.heartbeat(self._producer.name, self._owner, LEASE_MS)
        tracked = self._store.partitions(self._producer.name)
        unfinished = [name for name, checkpoint in tracked.items() if not checkpoint.finished]
        share = math.ceil(len(unfinished) / max(alive, 1))
        with self._lock:
            staying = [one for one in self._held.values() if not one.leaving]
            free = [name for name in unfinished if name not in self._held]
        for one in random.sample(staying, max(0, len(staying) - share)):
            one.leaving = True
        random.shuffle(free)  # readers that begin together should not try for the same ones
        self._take(free, share - len(staying))

    def _take(self, names: Iterable[str], wanted: int) -> None:
        leases: list[Lease] = []
        for name in names:
            if len(leases) >= wanted:
                break
            if (lease := self._store.lease(name, self._owner, LEASE_MS)) is not None:
                leases.append(lease)
        # Only now: until we had the lease, somebody else may have moved the checkpoint.
        checkpoints = self._store.partitions(self._producer.name) if leases else {}
        for lease in leases:
            checkpoint = checkpoints.get(lease.partition)
            if checkpoint is None or checkpoint.finished:
                self._store.release(lease)
                continue
            reader = self._producer.open(lease.partition, checkpoint)
            held = LeasedPartition(lease, checkpoint, reader)
            with self._lock:
                self._held[lease.partition] = held
            self._begin(held)

    def let_go(self, held: LeasedPartition) -> None:
        """Give a partition back, so that another reader may have it at once."""
        with self._lock:
            self._held.pop(held.partition, None)
            try:
                self._store.release(held.lease)
            except StoreUnavailable as error:
                log.warning(
                    "lease not given back: it will run out", partition=held.partition, error=str(error)
                )

    def end(self) -> None:
        """Post the last watermarks and give everything back. Raises StoreUnavailable."""
        self.renew()
        for held in list(self._held.values()):
            self.let_go(held)
        self._store.retire(self._producer.name, self._owner)
