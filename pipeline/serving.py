"""The migrations of one process: each is taken up, kept, given up when it fails, and taken up again.

Reads: the monotonic clock. Writes: log lines, and in metrics whether each migration is served. Never: AWS,
the store. What a migration's work is, a role says.

One migration alone is what the process is there for: what it fails with, `run` raises, and the supervisor
decides. Of several, none takes the others with it: what it fails with is logged once, exported, and tried
again. Redis that does not serve us concerns all of them, and is said elsewhere (store/outage.py).

Threads: a role's own pools do the work. Here are two more: one that takes migrations up, which waits for AWS,
and one that keeps what Redis must hear of once a second, which does not.
"""

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import structlog

from pipeline.backoff import Backoff
from pipeline.errors import (
    AccessDenied,
    AwsUnavailable,
    ConfigurationError,
    CredentialsExpired,
    MonitorError,
    NotFound,
    NotServed,
    StateDamaged,
    StoreUnavailable,
)
from pipeline.metrics import Metrics
from pipeline.process import pool
from pipeline.process.pool import Pool
from pipeline.process.pulse import Heartbeat
from pipeline.process.turns import Chore, Seat

log = structlog.get_logger(__name__)

#: Between two tries to take up a migration that cannot be served; of one alone that Redis does not serve.
BACKOFF, RETRY_SECONDS = Backoff(1.0, 60.0), 1.0
#: Between two times that a migration is kept, and between two looks whether its work is over.
KEEP_SECONDS, ENDING_SECONDS = 1.0, 0.2
#: With so many migrations that keeping each takes this long, they are kept less often; but what is said to be
#: alive for six seconds has three tries.
KEEP_EACH_SECONDS, KEEP_SECONDS_MAX = 0.02, 2.0
#: A migration that was taken up again, and went well for so long, is served.
WELL_SECONDS = 10.0
#: Threads that take migrations up, and threads that keep them; no more than there are migrations.
ASKING_THREADS, KEEPING_THREADS = 4, 3
#: How long threads may finish what is under way, and then what they hold be given back: the supervisor kills
#: after 25 s.
END_SECONDS, GIVE_BACK_SECONDS = 15.0, 5.0
#: What a person has to put right, while a migration is served as well.
TO_BE_PUT_RIGHT = (AccessDenied, NotFound, NotServed, ConfigurationError, CredentialsExpired, StateDamaged)


class Stop(Protocol):
    """What ends the process."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Work(Protocol):
    """A migration that was taken up."""

    @property
    def has_worked(self) -> bool:
        """It has done what it is there for at least once: its configuration is right."""

    def keep(self) -> None:
        """What is done once a second, or a little less often where migrations are many.

        Raises StoreUnavailable to go on, anything else to be given up.
        """

    def end(self, error: BaseException | None) -> bool:
        """Finish what is under way and give everything back; False: not yet, to be called again.

        error: what it was given up for; None: the process ends.
        """


class Troubles:
    """Whether this process serves a migration: exported, and said whenever the reason changes."""

    def __init__(self, migration: str, role: str, served: Callable[[float], None], *, alone: bool) -> None:
        self._named = {"migration": migration, "role": role}
        self._served = served
        self._alone = alone
        self._reasons: dict[str, str] = {"beginning": ""}  # what does not go well → why
        self._told: set[str] = set()  # since it was served last: two reasons may take turns
        served(0)

    def failing(self, what: str, error: BaseException) -> None:
        """What: "beginning", or a part of the work."""
        reason = _told_apart(error)
        news = reason not in self._told
        self._reasons[what] = reason
        self._told.add(reason)
        self._served(0)
        if not news or self._alone:
            return
        traced = {} if isinstance(error, MonitorError) else {"exc_info": error}
        log.error("migration is not served", **self._named, part=what, **_told(error), **traced)

    def fine(self, what: str) -> None:
        """Cheap where nothing is wrong."""
        if what in self._reasons:
            was = self._reasons.pop(what, "")
            if not self._reasons:
                self._told.clear()
                self._served(1)
                if was and not self._alone:
                    log.info("migration is served again", **self._named)

    @contextlib.contextmanager
    def part(self, what: str) -> Iterator[None]:
        """A part of the work is done; what a person has to put right is said, and raised all the same."""
        try:
            yield
        except TO_BE_PUT_RIGHT as error:
            self.failing(what, error)
            raise
        self.fine(what)


def _told(error: BaseException) -> dict[str, str]:
    if isinstance(error, MonitorError):
        return {"reason": error.problem, **({"remedy": error.remedy} if error.remedy else {})}
    return {"reason": type(error).__name__, "remedy": "this is a defect of the program: please report it"}


def _told_apart(error: BaseException) -> str:
    """What one reason has in common with itself a moment later: not how many seconds are left."""
    said = error.problem if isinstance(error, MonitorError) else ""
    return f"{type(error).__name__} {re.sub('[0-9]+', '0', said)}"


class Lane:
    """One migration in this process. Its parts call `guarded` work, which fails nobody else."""

    def __init__(self, service: "Service", migration: str, troubles: Troubles, asking: Seat) -> None:
        self.migration, self.troubles = migration, troubles
        self.alone = service.alone
        self.work: Work | None = None
        self.failure: BaseException | None = None
        self.failures = 0  # in a row
        self.times = 0  # it was taken up
        self.taken_up_at = 0.0
        self.every_seconds = service.every_seconds
        self._service, self.asking = service, asking

    def guarded(self, chore: Chore) -> Chore:
        """The chore; what it raises ends this migration's work, and it is not done again.

        What is left of work that was ended before ends no other.
        """
        times = self.times

        def safely() -> float | None:
            try:
                with self.named():
                    return chore()
            except Exception as error:  # noqa: BLE001  # whatever it is concerns this migration alone
                if times == self.times:
                    self.fail(error)
                return None

        return safely

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Log lines say which migration they are about, where there are several."""
        if self.alone:
            yield
            return
        with structlog.contextvars.bound_contextvars(migration=self.migration):
            yield

    def fail(self, error: BaseException) -> None:
        """The work cannot go on."""
        if self.failure is None:
            self.failure = error

    def ask(self, chore: Chore) -> None:
        """Have something done by the threads that wait for AWS, from now on."""
        self._service.asking.turns.put(self.asking, self.guarded(chore), time.monotonic())

    def ask_soon(self) -> None:
        """Whatever these threads have to do for this migration is due now."""
        self._service.asking.turns.hasten(self.asking)

    def asks_slowly(self, slowly: bool) -> None:
        """Whether AWS keeps those threads waiting on behalf of this migration."""
        self._service.asking.turns.slow(self.asking, slow=slowly)


#: Takes a migration up; raises what it cannot be served for.
Begin = Callable[[Lane], Work]


class Service:
    """Serves migrations until told to stop. pools: the role's own threads."""

    def __init__(
        self, role: str, migrations: Iterable[tuple[str, Begin]], metrics: Metrics, pools: Sequence[Pool] = ()
    ) -> None:
        migrations = list(migrations)
        self.alone = len(migrations) == 1
        #: How often each is kept.
        self.every_seconds = max(KEEP_SECONDS, min(KEEP_EACH_SECONDS * len(migrations), KEEP_SECONDS_MAX))
        self.asking = Pool(min(ASKING_THREADS, len(migrations)))
        self._keeping = Pool(min(KEEPING_THREADS, len(migrations)))
        self._pools = (*pools, self.asking, self._keeping)
        self._begins: dict[Lane, Begin] = {}
        self._seats: dict[Lane, Seat] = {}
        for migration, begin in migrations:
            troubles = Troubles(migration, role, metrics.served(migration, role), alone=self.alone)
            lane = Lane(self, migration, troubles, self.asking.turns.seat())
            self._begins[lane], self._seats[lane] = begin, self._keeping.turns.seat()

    def run(self, stop: Stop, heartbeat: Heartbeat) -> None:
        """Serve until `stop`; then finish what is under way and give everything back.

        Raises what one migration alone fails with, and what none of our threads expected.
        """
        for lane in self._begins:
            self._take_up(lane, time.monotonic())
        for each in self._pools:
            each.start()
        try:
            while not stop.is_set() and self._failure() is None:
                if not any(each.hangs for each in self._pools):
                    self.beat(heartbeat)
                stop.wait(KEEP_SECONDS)
        finally:
            pool.close(self._pools, END_SECONDS)
            self._end(stop, heartbeat)
        if (failure := self._failure()) is not None:
            raise failure

    def beat(self, heartbeat: Heartbeat) -> None:
        heartbeat(worked=any(lane.work is not None and lane.work.has_worked for lane in self._begins))

    def _failure(self) -> BaseException | None:
        """What the process ends with."""
        of_pools = next((each.failure for each in self._pools if each.failure is not None), None)
        of_the_lane = next((lane.failure for lane in self._begins), None) if self.alone else None
        return of_pools or of_the_lane

    # --- taking up, in the threads that wait for AWS ------------------------------------------------------

    def _take_up(self, lane: Lane, due: float) -> None:
        lane.failure = None
        lane.times += 1

        def begin() -> float | None:
            with lane.named():
                return self._begin(lane)

        self.asking.turns.put(lane.asking, begin, due)

    def _begin(self, lane: Lane) -> float | None:
        """Take a migration up; when it is to be tried again, None when its work has begun."""
        try:
            lane.work = self._begins[lane](lane)
        except StoreUnavailable as error:
            if isinstance(error, StateDamaged) and not lane.alone:
                return self._refused(lane, error)
            return time.monotonic() + RETRY_SECONDS
        except Exception as error:  # noqa: BLE001  # whatever it is concerns this migration alone
            if lane.alone:
                lane.fail(error)
                return None
            return self._refused(lane, error)
        self.asking.turns.slow(lane.asking, slow=False)
        lane.taken_up_at = time.monotonic()
        lane.troubles.fine("beginning")
        self._keeping.turns.put(self._seats[lane], lambda: self._keep(lane), time.monotonic())
        return None

    def _refused(self, lane: Lane, error: Exception) -> float:
        lane.failures += 1
        delay = BACKOFF.after(lane.failures)
        lane.troubles.failing("beginning", error)
        self.asking.turns.slow(lane.asking, slow=isinstance(error, AwsUnavailable))
        return time.monotonic() + delay

    # --- keeping, in the threads that do not --------------------------------------------------------------

    def _keep(self, lane: Lane) -> float | None:
        """When the migration is to be kept again; None when it was given up."""
        began = time.monotonic()
        with lane.named():
            if lane.failure is not None:
                return self._give_up(lane)
            try:
                self._keep_once(lane, began)
            except Exception as error:  # noqa: BLE001  # whatever it is concerns this migration alone
                lane.fail(error)
                return began
        return began + self.every_seconds

    def _keep_once(self, lane: Lane, now: float) -> None:
        work = lane.work
        if work is None:
            return
        slow = True
        try:
            with lane.troubles.part("state"):
                work.keep()
            slow = False
        except StoreUnavailable as error:
            log.debug("not kept: trying again", error=str(error))
        finally:
            self._keeping.turns.slow(self._seats[lane], slow=slow)
        if work.has_worked or now - lane.taken_up_at > WELL_SECONDS:
            lane.failures = 0
            lane.troubles.fine("work")

    def _give_up(self, lane: Lane) -> float | None:
        """End the work and take the migration up again later; when to look again, None once that is done."""
        error = lane.failure
        if lane.alone or lane.work is None or error is None:
            return None  # the process ends
        lane.troubles.failing("work", error)
        if not self._ended(lane, error):
            return time.monotonic() + ENDING_SECONDS
        lane.work = None
        lane.failures += 1
        self._take_up(lane, time.monotonic() + BACKOFF.after(lane.failures))
        return None

    def _ended(self, lane: Lane, error: BaseException | None) -> bool:
        if lane.work is None:
            return True
        try:
            return lane.work.end(error)
        except Exception as again:  # noqa: BLE001  # whatever it is concerns this migration alone
            log.warning("not all was given back: it will run out", error=_told(again)["reason"])
            return True

    # --- the end -------------------------------------------------------------------------------------------

    def _end(self, stop: Stop, heartbeat: Heartbeat) -> None:
        """No thread is at work any more: give back what is held, so that nobody waits for it."""
        until = time.monotonic() + GIVE_BACK_SECONDS
        for lane in self._begins:
            failure = lane.failure if self.alone else None
            while not self._ended(lane, failure):
                if failure is None or stop.is_set():
                    break
                self.beat(heartbeat)
                stop.wait(KEEP_SECONDS)
            if time.monotonic() > until:
                log.warning("not everything was given back in time: it will run out")
                return
