"""The validator role: one process that keeps `in_flight` batches under way until it is told to stop.

Reads: the configuration. Writes: nothing by itself. Never: judging.
"""

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable

import structlog

from pipeline.aws import Connection, TableReader, describe_table
from pipeline.backoff import Backoff
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.adaptive import LEAST_MS
from pipeline.core.canonical import Digester
from pipeline.core.model import Policy, Side
from pipeline.errors import AwsError, StoreError, StoreUnavailable
from pipeline.metrics import Metrics, ValidatorMetrics
from pipeline.process import garbage, loops
from pipeline.sides import clocks, connect, report
from pipeline.store import Outage, ValidatorStore, once_served
from pipeline.validator.side_reader import TTL_EVERY_SECONDS, SideReader
from pipeline.validator.validator import Validator

log = structlog.get_logger(__name__)

#: An idle thread asks for work this often; threads start staggered, so the process asks more often.
IDLE_SECONDS = 0.4
#: Of a thread whose batches fail.
BACKOFF = Backoff(1.0, 30.0)
#: A validator says once a second that it is alive; so long it is believed.
ALIVE_MS = 6_000
#: When no thread of the process began a batch for this long, the process hangs.
HANGING_SECONDS = 120.0


def run_validator(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: threading.Event,
    metrics: Metrics,
    heartbeat: Callable[[], None],
    slot: str,
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Validate until `stop`. slot: this worker's name, kept over restarts, so that it takes back its work.

    unserved: as `Outage` calls it.
    """
    (migration,) = migrations
    own_metrics = metrics.of_validator(migration.name)
    own_metrics.describe(migration.described())
    connections = {side: connect(migration, side, own_metrics) for side in Side}
    max_rcu = migration.max_rcu * process.units_share("validator")
    readers = {
        side: _side_reader(migration, side, connections[side], own_metrics, max_rcu, stop) for side in Side
    }
    aws, outage = clocks(migration, connections), Outage(unserved)
    store = once_served(
        lambda: ValidatorStore.begin(process.redis_url, migration.name, migration.settings(), aws, outage),
        stop,
        heartbeat,
    )
    if store is None:
        return
    consumer = f"{socket.gethostname()}:{slot}"
    validator = Validator(
        store,
        readers[migration.verify_on],
        readers[migration.origin],
        Policy(
            converge_within_ms=migration.longest_deadline_ms,
            stable_for_ms=migration.stable_for_ms,
            leads=migration.verify_on is Side.SOURCE,
            ttl_grace_ms=migration.ttl_grace_ms,
            adapted_ms=0 if migration.is_adaptive else None,
        ),
        own_metrics,
        consumer=consumer,
        ignore=frozenset(migration.ignore_attributes),
        reclaim_after_ms=process.reclaim_after_ms,
        verbose=process.verbose,
        stop=stop,
    )
    log.info("validator started", slot=slot, in_flight=process.in_flight)

    def alive() -> None:
        heartbeat()
        with contextlib.suppress(StoreError):  # whoever claims will say so
            store.clock.keep()
            store.say_alive(consumer, ALIVE_MS)
            if migration.is_adaptive:
                store.adapt(migration.converge_at_most_ms)
        for connection in connections.values():
            report(connection, own_metrics)

    garbage.freeze()
    _serve(validator, process.in_flight, stop, alive)
    with contextlib.suppress(StoreError):  # then it is forgotten when its time is up
        store.say_gone(consumer)
    store.close()


def _side_reader(
    migration: MigrationConfig,
    side: Side,
    connection: Connection,
    metrics: ValidatorMetrics,
    max_rcu: float,
    stop: threading.Event,
) -> SideReader:
    table = describe_table(connection, migration.table(side))
    return SideReader(
        side,
        TableReader(connection, table.asked, table.schema),
        metrics,
        digester=Digester(frozenset(migration.ignore_attributes)),
        ttl_attribute=table.ttl_attribute,
        ttl_every_seconds=min(TTL_EVERY_SECONDS, (migration.converge_within_ms or LEAST_MS) / 1000),
        max_rcu=max_rcu,
        stop=stop,
    )


def _serve(validator: Validator, threads: int, stop: threading.Event, heartbeat: Callable[[], None]) -> None:
    """Run `threads` loops until `stop`; see `loops.serve`. While every loop hangs, there is no heartbeat, and
    the supervisor ends the process.
    """
    active = [time.monotonic()] * threads

    def every_second() -> None:
        if time.monotonic() - max(active) < HANGING_SECONDS:
            heartbeat()

    steps = [functools.partial(_loop, validator, number, active, stop) for number in range(threads)]
    loops.serve(steps, stop, every_second)


def _loop(validator: Validator, number: int, active: list[float], stop: threading.Event) -> None:
    failures = 0
    stop.wait(number * IDLE_SECONDS / len(active))
    while not stop.is_set():
        active[number] = time.monotonic()
        if not validator.pay():
            continue
        try:
            claimed = validator.step()
        except (AwsError, StoreError) as error:
            failures += 1
            delay = BACKOFF.after(failures)
            # That Redis does not serve us is said once (store/outage.py).
            level = logging.DEBUG if isinstance(error, StoreUnavailable) else logging.WARNING
            log.log(level, "batch put back", error=str(error), kind=type(error).__name__, retry_seconds=delay)
            stop.wait(delay)
            continue
        failures = 0
        if not claimed:
            stop.wait(IDLE_SECONDS)
