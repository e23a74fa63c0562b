"""The validator role: one process that keeps `in_flight` batches under way, of all its migrations by turns.

Reads: the configuration. Writes: nothing by itself. Never: judging.
"""

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from pipeline.aws import Connection, TableReader, describe_table
from pipeline.backoff import Backoff
from pipeline.both_tables import complete
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.adaptive import LEAST_MS
from pipeline.core.canonical import Digester
from pipeline.core.model import Policy, Side
from pipeline.errors import (
    AwsError,
    AwsUnavailable,
    MonitorError,
    StateDamaged,
    StateLost,
    StoreError,
    StoreUnavailable,
)
from pipeline.metrics import Metrics, ValidatorMetrics
from pipeline.process import garbage
from pipeline.process.pool import Pool
from pipeline.process.pulse import Heartbeat
from pipeline.serving import TO_BE_PUT_RIGHT, Lane, Service, Work
from pipeline.sides import Connections, clocks, count_spent, report
from pipeline.store import Outage, Pools, ValidatorStore
from pipeline.validator.quarantine import House
from pipeline.validator.side_reader import TTL_EVERY_SECONDS, SideReader
from pipeline.validator.validator import Validator

log = structlog.get_logger(__name__)

#: An idle process asks for work as often as if each of its threads asked this often, …
IDLE_SECONDS = 0.4
#: … for that of each migration, but no more often than this for that of all: a question takes 0.3 ms of CPU.
ASKED_A_SECOND = 100.0
#: Of a thread whose batches fail.
BACKOFF = Backoff(1.0, 30.0)
#: Between two looks whether both tables are those that were judged and can be read, whatever there is to
#: judge: so long may a GO outlive the table. And while one cannot be read.
PROVE_SECONDS, PROBE_SECONDS = 15.0, 10.0
#: Of all migrations of a process; each takes four requests, and AWS answers few that describe tables.
PROVED_A_SECOND = 2.0
#: After so long without a failure the state of keys is no longer damaged, though no batch has come since.
MENDED_SECONDS = 60.0
#: A validator says once a second that it is alive; so long it is believed.
ALIVE_MS = 6_000
#: How long a batch under way may take until a migration is given up.
END_SECONDS = 15.0


def run_validator(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: threading.Event,
    metrics: Metrics,
    heartbeat: Heartbeat,
    slot: str,
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Validate until `stop`. Raises MonitorError when the configuration of one migration alone cannot work;
    see `pipeline/serving.py`.

    slot: this worker's name, kept over restarts, so that it takes back its work. unserved: as `Outage` calls
    it.
    """
    judging = Pool(process.in_flight)
    role = _Validators(process, stop, metrics, slot, judging)
    role.outage = Outage(unserved, of_several=len(migrations) > 1)
    role.idle_seconds = max(IDLE_SECONDS / process.in_flight, len(migrations) / ASKED_A_SECOND)
    role.prove_seconds = max(PROVE_SECONDS, len(migrations) / PROVED_A_SECOND)
    begins = [(one.name, functools.partial(role.begin, one)) for one in migrations]
    Service("validator", begins, metrics, [judging]).run(stop, heartbeat)


class _Validators:
    """What the migrations of one process share."""

    def __init__(
        self, process: ProcessConfig, stop: threading.Event, metrics: Metrics, slot: str, judging: Pool
    ) -> None:
        self._process, self._stop, self._metrics = process, stop, metrics
        self._slot, self._judging = slot, judging
        self._connections, self._pools, self._house = Connections(), Pools(), House()
        self.idle_seconds, self.prove_seconds = IDLE_SECONDS, PROVE_SECONDS
        self.outage = Outage()

    def begin(self, migration: MigrationConfig, lane: Lane) -> Work:
        """Take one migration up. Raises MonitorError."""
        metrics = self._metrics.of_validator(migration.name)
        connections = {side: self._connections.connect(migration, side, metrics) for side in Side}
        times = None if lane.alone else migration.judged_by()
        if not lane.alone:
            migration = complete(migration, connections[Side.SOURCE], connections[Side.TARGET])
        metrics.describe(migration.described())
        readers = {side: self._side_reader(migration, side, connections[side], metrics) for side in Side}
        store = ValidatorStore.begin(
            self._process.redis_url,
            migration.name,
            migration.settings(),
            clocks(migration, connections),
            self.outage,
            pools=self._pools,
            judged_by=times,
        )
        consumer = f"{socket.gethostname()}:{self._slot}"
        validator = Validator(
            store,
            readers[migration.verify_on],
            readers[migration.origin],
            _policy(migration),
            metrics,
            consumer=consumer,
            ignore=frozenset(migration.ignore_attributes),
            reclaim_after_ms=self._process.reclaim_after_ms,
            verbose=self._process.verbose,
            house=self._house,
        )
        presence = _Presence(store, consumer, migration, connections, metrics)
        presence.hold_tables()

        def prove() -> None:
            validator.probe()
            presence.hold_tables()

        log.info("validator started", slot=self._slot, in_flight=self._process.in_flight)
        garbage.freeze()
        return _Judging(
            validator,
            lane,
            self._judging,
            self.idle_seconds,
            prove_seconds=self.prove_seconds,
            prove=prove,
            keep=presence.keep,
            end=presence.end,
        )

    def _side_reader(
        self, migration: MigrationConfig, side: Side, connection: Connection, metrics: ValidatorMetrics
    ) -> SideReader:
        table = describe_table(connection, migration.table(side))
        return SideReader(
            side,
            TableReader(connection, table.asked, table.schema),
            metrics,
            digester=Digester(frozenset(migration.ignore_attributes)),
            ttl_attribute=table.ttl_attribute,
            ttl_every_seconds=min(TTL_EVERY_SECONDS, (migration.converge_within_ms or LEAST_MS) / 1000),
            max_rcu=migration.max_rcu * self._process.units_share("validator"),
            stop=self._stop,
        )


class _Presence:
    """What Redis and the metrics hear of a validator of one migration, whether or not it has work."""

    def __init__(
        self,
        store: ValidatorStore,
        consumer: str,
        migration: MigrationConfig,
        connections: Mapping[Side, Connection],
        metrics: ValidatorMetrics,
    ) -> None:
        self._store, self._consumer, self._migration = store, consumer, migration
        self._connections, self._metrics = connections, metrics

    def hold_tables(self) -> None:
        """Raises SettingsChanged when one of the tables is not the one that was judged before."""
        tables = {
            side: describe_table(one, self._migration.table(side)) for side, one in self._connections.items()
        }
        self._store.hold_tables({side: told.id for side, told in tables.items() if told.id})

    def keep(self, judges: bool) -> None:
        """judges: it can, as far as is known. Raises StoreError."""
        for connection in self._connections.values():
            report(connection, self._metrics)
        self._store.clock.keep()
        if judges:  # one that cannot is none: nobody may count on it, the gate least of all
            self._store.say_alive(self._consumer, ALIVE_MS)
        if self._migration.is_adaptive:
            self._store.adapt(self._migration.converge_at_most_ms)
        count_spent(self._store, self._metrics)

    def end(self) -> None:
        with contextlib.suppress(StoreError):  # then it is forgotten when its time is up
            self._store.say_gone(self._consumer)
            count_spent(self._store, self._metrics)
        self._store.close()


def _policy(migration: MigrationConfig) -> Policy:
    return Policy(
        converge_within_ms=migration.longest_deadline_ms,
        stable_for_ms=migration.stable_for_ms,
        leads=migration.verify_on is Side.SOURCE,
        ttl_grace_ms=migration.ttl_grace_ms,
        adapted_ms=0 if migration.is_adaptive else None,
    )


class _Judging:
    """One migration's validator, as a `serving.Work`: one thread at a time claims, any number judge."""

    has_worked = True

    def __init__(
        self,
        validator: Validator,
        lane: Lane,
        judging: Pool,
        idle_seconds: float,
        *,
        prove_seconds: float = PROVE_SECONDS,
        prove: Callable[[], None],
        keep: Callable[[bool], None],
        end: Callable[[], None],
    ) -> None:
        self._validator, self._lane = validator, lane
        self._turns = judging.turns
        self._idle_seconds, self._prove_seconds = idle_seconds, prove_seconds
        self._threads = judging.threads
        self._prove, self._keep, self._end = prove, keep, end
        self._failures = 0  # in a row
        self._reads = True  # both tables, as far as is known
        self._proves_at = time.monotonic() + self._prove_seconds
        self._is_damaged, self._damaged_at = False, 0.0  # the state of keys
        self._ends_at = 0.0
        self._seat = self._turns.seat()
        self._chore = lane.guarded(self._step)
        self._turns.put(self._seat, self._chore, time.monotonic())
        lane.ask(self._proven)

    def keep(self) -> None:
        with contextlib.suppress(StateLost):  # its reader begins it again
            self._keep(self._reads and not self._is_damaged)

    def end(self, _error: BaseException | None) -> bool:
        if not self._ends_at:
            self._ends_at = time.monotonic() + END_SECONDS
            self._turns.give_up(self._seat)
        if self._seat.at_work and time.monotonic() < self._ends_at:
            return False
        self._end()
        return True

    def _step(self) -> float | None:
        """One batch; when the next is to be claimed, None where another thread may claim it already."""
        if rest := self._validator.pay():
            return time.monotonic() + rest
        handed_on = False

        def claimed(entries: int) -> None:
            nonlocal handed_on
            handed_on = True
            again = time.monotonic() if entries else time.monotonic() + self._idle_seconds
            self._turns.put(self._seat, self._chore, again)

        try:
            judged = self._validator.step(claimed)
        except (AwsError, StoreError) as error:
            self._failed(error)
        else:
            self._failures = 0
            self._turns.slow(self._seat, slow=False)
            if judged:
                self._unharmed()
        return None if handed_on else time.monotonic()

    def _failed(self, error: Exception) -> None:
        """One thread fewer works for this migration, for a while."""
        delay = BACKOFF.after(1 + self._failures // self._threads)
        self._failures += 1
        # That Redis does not serve us is said once (store/outage.py).
        level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.WARNING
        log.log(level, "batch put back", error=str(error), kind=type(error).__name__, retry_seconds=delay)
        self._turns.slow(self._seat, slow=isinstance(error, AwsUnavailable))
        self._turns.rest(self._seat, delay)
        if isinstance(error, StateDamaged):
            self._is_damaged, self._damaged_at = True, time.monotonic()
            self._lane.troubles.failing("state of keys", error)
        elif isinstance(error, TO_BE_PUT_RIGHT):
            self._lane.troubles.failing("judging", error)
            if self._reads:
                self._reads = False
                self._lane.ask_soon()

    def _proven(self) -> float | None:
        """Read a key that nobody has: while nothing changes no batch would show that a table is gone, and of
        those that fail none may come that shows it is back. Only this says that it is.
        """
        now = time.monotonic()
        if self._ends_at:
            return None
        if self._reads and now < self._proves_at:
            return self._proves_at
        try:
            self._prove()
        except (AwsUnavailable, *TO_BE_PUT_RIGHT) as error:
            self._lane.asks_slowly(isinstance(error, AwsUnavailable))
            self._unreadable(error)
            return time.monotonic() + PROBE_SECONDS
        except (AwsError, StoreError):  # slowed down, as it may be: nothing is known
            return time.monotonic() + PROBE_SECONDS
        self._reads, self._proves_at = True, time.monotonic() + self._prove_seconds
        self._lane.asks_slowly(False)
        self._lane.troubles.fine("judging")
        if now - self._damaged_at > MENDED_SECONDS:
            self._unharmed()
        return self._proves_at

    def _unharmed(self) -> None:
        self._is_damaged = False
        self._lane.troubles.fine("state of keys")

    def _unreadable(self, error: MonitorError) -> None:
        to_be_put_right = isinstance(error, TO_BE_PUT_RIGHT)
        if self._reads and (self._lane.alone or not to_be_put_right):
            log.warning("a table cannot be read", error=str(error), retry_seconds=PROBE_SECONDS)
        self._reads = False
        if to_be_put_right:
            self._lane.troubles.failing("judging", error)
