"""A partition in hand: how its pages are read, and how its suspects leave.

Reads: whatever it is given to read. Writes: suspects, through the store. Never: judging, redis, boto3. An
error is neither a suspect nor a count.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from pipeline.backoff import Backoff
from pipeline.comparer.pace import SidePace
from pipeline.core.comparing.join import Showed, Suspect
from pipeline.core.comparing.partitions import Partition
from pipeline.errors import AwsError, StoreUnavailable, Throttled
from pipeline.producers.base import Stop
from pipeline.store import CompareStore
from pipeline.store.compare_store import Part
from pipeline.store.messages import Outcome

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

#: Suspects go out in batches of so many.
SUSPECTS = 1_000
#: Of what could not be read, and of a store that cannot be reached.
RETRIES = Backoff(0.5, 15.0, jittered=True)
#: How often is looked whether fewer suspects wait.
LOOK_SECONDS = 1.0


class LetGo(Exception):
    """The partition is somebody else's by now, or we are to stop: nothing of it is counted here."""


class Reader(Protocol):
    """What reads a side: `units` grow with it."""

    units: float


class Hand:
    """A partition that this process has taken. lost: somebody else has it by now; another thread sets it."""

    def __init__(
        self,
        store: CompareStore,
        comparison: str,
        part: Part,
        partition: Partition,
        *,
        leads: bool,
        most_waiting: int,
        stop: Stop,
    ) -> None:
        """See `Comparer`."""
        self.part, self.partition = part, partition
        self.lost = False
        self.covered = dict.fromkeys(Showed, 0)
        self._store = store
        self._comparison = comparison
        self._leads = leads
        self._most_waiting = most_waiting
        self._stop = stop
        self._suspects: list[Suspect] = []

    def begin_again(self) -> None:
        """What was read is read once more: suspects that are out stay out, and are counted anew."""
        self.covered = dict.fromkeys(Showed, 0)
        self._suspects = []

    def go_on(self) -> None:
        """Raises LetGo where the partition is not to be read any further."""
        if self.lost or self._stop.is_set():
            raise LetGo

    def wait(self, seconds: float) -> None:
        """Raises LetGo as `go_on` does."""
        self._stop.wait(seconds)
        self.go_on()

    def read(self, pace: SidePace, reader: Reader, call: Callable[[], Answer]) -> Answer:
        """What `call` reads of a table, when it is its turn, however often that fails. Raises LetGo."""
        failures, number = 0, self.partition.number
        while True:
            pace.acquire(self._stop)
            self.go_on()
            units = reader.units
            try:
                answer = call()
            except Throttled:
                seconds = pace.throttled(number)
            except AwsError as error:
                failures += 1
                seconds = RETRIES.after(failures)
                log.warning(
                    "page not read", of=str(self.partition), error=str(error), retry_seconds=round(seconds, 1)
                )
            else:
                pace.read(number, reader.units - units)
                return answer
            self.wait(seconds)

    def suspect(self, suspects: Sequence[Suspect]) -> None:
        """Take keys that are to be judged; they go out in batches. Raises LetGo."""
        self._suspects += suspects
        while len(self._suspects) >= SUSPECTS:
            self._publish(self._suspects[:SUSPECTS])
            del self._suspects[:SUSPECTS]

    def flush(self) -> None:
        """All suspects go out. Raises LetGo."""
        if self._suspects:
            self._publish(self._suspects)
            self._suspects = []

    def stored(self, call: Callable[[], Answer]) -> Answer:
        """The store's answer, however long it cannot be reached. Raises LetGo when we are to stop."""
        failures = 0
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                failures += 1
                log.debug("store not reached: trying again", error=str(error))
                if self._stop.wait(RETRIES.after(failures)):
                    raise LetGo from error

    def _publish(self, suspects: Sequence[Suspect]) -> None:
        """Hand suspects over, and wait while too many wait for an answer."""
        answer = self.stored(
            lambda: self._store.suspect(self._comparison, self.part, suspects, leads=self._leads)
        )
        if answer.outcome is Outcome.FENCED:
            raise LetGo
        for position in answer.covered:
            self.covered[suspects[position].showed] += 1
        while answer.waiting >= self._most_waiting:
            self.wait(LOOK_SECONDS)
            answer = self.stored(lambda: self._store.suspect(self._comparison, self.part, ()))
            if answer.outcome is Outcome.FENCED:
                raise LetGo
