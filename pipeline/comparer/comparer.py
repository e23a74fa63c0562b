"""The comparer's engine: takes partitions of a comparison, has them compared, counts what they held.

Reads: the comparison in the store. Writes: what each partition held, once; suspects, through `hand`. Never:
judging, redis, boto3. No item value leaves this process but into the spill.

kill -9 costs the partitions in hand, which are read again: suspects are published idempotently before a
partition is counted, and it is counted once.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from pipeline.comparer.hand import RETRIES, Hand, LetGo
from pipeline.core.comparing.join import Showed
from pipeline.core.comparing.partitions import Partition, Partitions
from pipeline.core.comparing.state import Tally
from pipeline.errors import AwsError, SpillIncomplete
from pipeline.producers.base import Stop
from pipeline.store import CompareStore
from pipeline.store.compare_store import Part, Standing
from pipeline.store.messages import Outcome

log = structlog.get_logger(__name__)

#: A comparer that is silent this long loses its partitions; it renews them once a second.
LEASE_MS = 20_000


class Work(Protocol):
    """How partitions are compared: see `work`."""

    def compare(self, hand: Hand) -> Tally:
        """Read a partition to its end. Raises LetGo, and AwsError where a file could not be read now."""
        ...

    def forget(self, partition: Partition) -> None:
        """It is not read any more."""
        ...

    def over(self) -> None:
        """All partitions are read."""
        ...


class Comparer:
    """Works on one comparison; `step` is one partition. Thread-safe: a process's threads share one."""

    def __init__(
        self,
        store: CompareStore,
        comparison: str,
        partitions: Partitions,
        work: Work,
        *,
        owner: str,
        leads: bool,
        most_waiting: int,
        stop: Stop,
    ) -> None:
        """leads: the source is the verified side. most_waiting: while so many suspects wait for an answer,
        nothing more is read.
        """
        self._store = store
        self._comparison = comparison
        self._partitions = partitions
        self._work = work
        self._owner = owner
        self._leads = leads
        self._most_waiting = most_waiting
        self._stop = stop
        self._lock = threading.Lock()
        self._in_hand: dict[Part, Hand] = {}  # an ordinal may come back while who lost it is still at it
        #: All partitions are read.
        self.is_over = False
        #: Another one stands in the store by now, or none does.
        self.is_gone = False

    def step(self) -> bool:
        """Take one partition and read it to its end; False when there is none to take now.

        Raises StoreError, and ConfigurationError (ExportDamaged, …) for what cannot be compared at all.
        """
        standing, part = self._store.take(self._comparison, self._owner, LEASE_MS)
        if standing is Standing.GONE:
            self.is_gone = True
        if standing in (Standing.SETTLING, Standing.FINISHED):
            self._work.over()
            self.is_over = True
        if part is None:
            return False
        with self._holding(part) as hand:
            try:
                self._compare(hand)
            except LetGo:
                self._give_back(hand)
        return True

    def keep(self) -> None:
        """Renew what is in hand: to be called once a second. Raises StoreError."""
        with self._lock:
            hands = list(self._in_hand.values())
        if hands:
            self._renew(hands, LEASE_MS)

    @contextmanager
    def _holding(self, part: Part) -> Iterator[Hand]:
        hand = Hand(
            self._store,
            self._comparison,
            part,
            self._partitions.at(part.ordinal),
            leads=self._leads,
            most_waiting=self._most_waiting,
            stop=self._stop,
        )
        with self._lock:
            self._in_hand[part] = hand
        try:
            yield hand
        finally:
            with self._lock:
                del self._in_hand[part]
            self._work.forget(hand.partition)

    def _compare(self, hand: Hand) -> None:
        tally = self._read(hand)
        hand.flush()
        tally.covered_source = hand.covered[Showed.SOURCE]
        tally.covered_target = hand.covered[Showed.TARGET]
        tally.covered_both = hand.covered[Showed.BOTH]
        self._finish(hand, tally)

    def _read(self, hand: Hand) -> Tally:
        """A file that breaks off is read from its beginning: nothing is believed that was not read whole."""
        failures = 0
        while True:
            hand.go_on()
            try:
                return self._work.compare(hand)
            except SpillIncomplete:
                self._renew([hand], LEASE_MS)  # who was overtaken may come when all is over and removed
                hand.go_on()
                raise
            except AwsError as error:
                failures += 1
                seconds = RETRIES.after(failures)
                log.warning(
                    "file not read", of=str(hand.partition), error=str(error), retry_seconds=round(seconds, 1)
                )
                hand.begin_again()
                hand.wait(seconds)

    def _finish(self, hand: Hand, tally: Tally) -> None:
        outcome = hand.stored(lambda: self._store.finish(self._comparison, hand.part, tally))
        if outcome is Outcome.FENCED:
            log.warning("partition was taken over: not counted here", partition=str(hand.partition))

    def _give_back(self, hand: Hand) -> None:
        """So that somebody else need not wait until its lease has run out."""
        self._renew([hand], 0)

    def _renew(self, hands: list[Hand], ttl_ms: int) -> None:
        parts = [hand.part for hand in hands]
        ours = self._store.renew_parts(self._comparison, self._owner, parts, ttl_ms)
        for hand in hands:
            hand.lost = hand.part.ordinal not in ours
