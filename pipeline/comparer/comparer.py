"""The comparer's engine: takes partitions of a comparison, reads both sides, hands over suspects and counts.

Reads: both tables through segment pairs; the comparison in the store. Writes: suspects, and what each
partition held, once. Never: judging, redis, boto3. No item value leaves this process, and an error is neither
a suspect nor a count.

kill -9 costs the partitions in hand, which are read again: suspects are published idempotently before a
partition is counted, and it is counted once.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog

from pipeline.backoff import Backoff
from pipeline.comparer.pace import SidePace
from pipeline.core.comparing.join import JoinCounts, Showed, Suspect
from pipeline.core.comparing.keys import PartitionKeys
from pipeline.core.comparing.segments import SegmentPlan
from pipeline.core.comparing.state import Tally
from pipeline.core.model import Side
from pipeline.errors import AwsError, StateLost, StoreUnavailable, Throttled
from pipeline.producers.base import Stop
from pipeline.producers.scan.segment import SegmentPair
from pipeline.store import CompareStore
from pipeline.store.compare_store import Part, Standing
from pipeline.store.messages import Outcome

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

#: A comparer that is silent this long loses its partitions; it renews them once a second.
LEASE_MS = 20_000
#: Suspects go out in batches of so many.
SUSPECTS = 1_000
#: Of a page that could not be read, and of a store that cannot be reached.
RETRIES = Backoff(0.5, 15.0, jittered=True)
#: How often is looked whether fewer suspects wait.
LOOK_SECONDS = 1.0


class Opened:
    """A segment of both tables as it is read. partitions: counts partition keys, where that is wanted."""

    def __init__(self, pair: SegmentPair, partitions: PartitionKeys | None = None) -> None:
        self.pair = pair
        self.partitions = partitions


class _InHand:
    """A partition that this process has taken. lost: somebody else has it by now."""

    def __init__(self, part: Part, segment: int) -> None:
        self.part, self.segment = part, segment
        self.lost = False
        self.covered = dict.fromkeys(Showed, 0)


class Comparer:
    """Works on one comparison; `step` is one partition. Thread-safe: a process's threads share one."""

    def __init__(
        self,
        store: CompareStore,
        comparison: str,
        plan: SegmentPlan,
        open_segment: Callable[[int, int], Opened],
        paces: Mapping[Side, SidePace],
        *,
        owner: str,
        leads: bool,
        most_waiting: int,
        stop: Stop,
    ) -> None:
        """open_segment: called with a segment's number and how many there are. leads: the source is the
        verified side. most_waiting: while so many suspects wait for an answer, nothing more is read.
        """
        self._store = store
        self._comparison = comparison
        self._plan = plan
        self._open = open_segment
        self._paces = paces
        self._owner = owner
        self._leads = leads
        self._most_waiting = most_waiting
        self._stop = stop
        self._lock = threading.Lock()
        self._in_hand: dict[int, _InHand] = {}

    def step(self) -> bool:
        """Take one partition and read it to its end; False when there is none to take now.

        Raises StoreError, among them StateLost when another comparison stands in the store.
        """
        standing, part = self._store.take(self._comparison, self._owner, LEASE_MS)
        if standing is Standing.GONE:
            raise StateLost("the comparison is gone from Redis, or was begun anew")
        if part is None:
            return False
        with self._holding(part) as hand:
            self._compare(hand)
        return True

    def keep(self) -> None:
        """Renew what is in hand: to be called once a second. Raises StoreError."""
        with self._lock:
            hands = list(self._in_hand.values())
        if not hands:
            return
        parts = [hand.part for hand in hands]
        ours = self._store.renew_parts(self._comparison, self._owner, parts, LEASE_MS)
        for hand in hands:
            hand.lost = hand.part.ordinal not in ours

    @contextmanager
    def _holding(self, part: Part) -> Iterator[_InHand]:
        hand = _InHand(part, self._plan.segments[part.ordinal])
        with self._lock:
            self._in_hand[part.ordinal] = hand
        try:
            yield hand
        finally:
            with self._lock:
                del self._in_hand[part.ordinal]
            for pace in self._paces.values():
                pace.forget(hand.segment)

    def _compare(self, hand: _InHand) -> None:
        opened = self._open(hand.segment, self._plan.total)
        suspects: list[Suspect] = []
        while not opened.pair.finished:
            if not self._goes_on(hand):
                return
            suspects += self._page(hand, opened.pair)
            while len(suspects) >= (1 if opened.pair.finished else SUSPECTS):
                if not self._publish(hand, suspects[:SUSPECTS]):
                    return
                del suspects[:SUSPECTS]
        self._finish(hand, opened)

    def _goes_on(self, hand: _InHand) -> bool:
        """False when the partition is somebody else's, or is given back because we are to stop."""
        if not hand.lost and self._stop.is_set():
            self._store.renew_parts(self._comparison, self._owner, [hand.part], 0)
            return False
        return not hand.lost

    def _page(self, hand: _InHand, pair: SegmentPair) -> list[Suspect]:
        """One page of the side that is behind; nothing when it could not be read now."""
        side, failures = pair.next_side, 0
        pace, reader = self._paces[side], pair.readers[side]
        while pace.acquire(self._stop) and not hand.lost:
            units = reader.units
            try:
                suspects = pair.step()
            except Throttled:
                seconds = pace.throttled(hand.segment)
            except AwsError as error:
                failures += 1
                seconds = RETRIES.after(failures)
                log.warning("page not read", side=side, error=str(error), retry_seconds=round(seconds, 1))
            else:
                pace.read(hand.segment, reader.units - units)
                return suspects
            if self._stop.wait(seconds):
                break
        return []

    def _publish(self, hand: _InHand, suspects: Sequence[Suspect]) -> bool:
        """Hand suspects over, and wait while too many wait for an answer; False when we are fenced off."""
        answer = self._stored(
            lambda: self._store.suspect(self._comparison, hand.part, suspects, leads=self._leads)
        )
        if answer is None or answer.outcome is Outcome.FENCED:
            return False
        for position in answer.covered:
            hand.covered[suspects[position].showed] += 1
        while answer.waiting >= self._most_waiting and self._goes_on(hand):
            self._stop.wait(LOOK_SECONDS)
            answer = self._stored(lambda: self._store.suspect(self._comparison, hand.part, ()))
            if answer is None or answer.outcome is Outcome.FENCED:
                return False
        return not hand.lost

    def _finish(self, hand: _InHand, opened: Opened) -> None:
        tally = _tally(hand, opened)
        outcome = self._stored(lambda: self._store.finish(self._comparison, hand.part, tally))
        if outcome is Outcome.FENCED:
            log.warning("segment was taken over: not counted here", segment=hand.segment)

    def _stored(self, call: Callable[[], Answer]) -> Answer | None:
        """The store's answer, however long it cannot be reached; None when we are to stop meanwhile."""
        failures = 0
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                failures += 1
                log.debug("store not reached: trying again", error=str(error))
                if self._stop.wait(RETRIES.after(failures)):
                    return None


def _tally(hand: _InHand, opened: Opened) -> Tally:
    """What the partition held, as it is counted."""
    pair, counts = opened.pair, opened.pair.join.counts
    joined = {name: getattr(counts, name) for name in JoinCounts.__struct_fields__}
    tally = Tally(
        **joined,
        covered_source=hand.covered[Showed.SOURCE],
        covered_target=hand.covered[Showed.TARGET],
        covered_both=hand.covered[Showed.BOTH],
        half_units_source=round(2 * pair.readers[Side.SOURCE].units),
        half_units_target=round(2 * pair.readers[Side.TARGET].units),
    )
    tally.partition_keys = opened.partitions.count if opened.partitions else tally.keys
    return tally
