"""The validator role: one process that keeps `in_flight` batches under way until it is told to stop.

Reads: the configuration. Writes: nothing by itself. Never: judging.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from pipeline.aws import Connection, TableReader, describe_table
from pipeline.config import Config
from pipeline.core.canonical import Digester
from pipeline.core.model import Policy, Side
from pipeline.errors import AwsError, StoreError
from pipeline.metrics import Metrics
from pipeline.process import garbage
from pipeline.sides import connect, report
from pipeline.store import Store
from pipeline.validator.side_reader import SideReader
from pipeline.validator.validator import BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS, Validator

log = structlog.get_logger(__name__)

#: An idle thread asks for work this often; threads start staggered, so the process asks more often.
IDLE_SECONDS = 0.4
#: When no thread of the process began a batch for this long, the process hangs.
HANGING_SECONDS = 120.0


def run_validator(
    config: Config, stop: threading.Event, metrics: Metrics, beat: Callable[[], None], slot: str
) -> None:
    """Validate until `stop`. slot: this worker's name, kept over restarts, so that it takes back its work."""
    store = Store(config.redis_url, config.migration)
    store.open(config.settings())
    connections = {side: connect(config, side, metrics) for side in Side}
    readers = {side: _side_reader(config, side, connections[side], metrics, stop) for side in Side}
    validator = Validator(
        store,
        readers[config.verify_on],
        readers[config.origin],
        Policy(
            converge_within_ms=config.converge_within_ms,
            stable_for_ms=config.stable_for_ms,
            leads=config.verify_on is Side.SOURCE,
        ),
        metrics,
        consumer=f"{socket.gethostname()}:{slot}",
        ignore=frozenset(config.ignore_attributes),
        reclaim_after_ms=config.reclaim_after_ms,
        verbose=config.verbose,
        stop=stop,
    )
    log.info("validator started", slot=slot, in_flight=config.in_flight)

    def alive() -> None:
        beat()
        for connection in connections.values():
            report(connection, metrics)

    garbage.settle()
    _serve(validator, config.in_flight, stop, alive)
    store.close()


def _side_reader(
    config: Config, side: Side, connection: Connection, metrics: Metrics, stop: threading.Event
) -> SideReader:
    table = describe_table(connection, config.table(side))
    return SideReader(
        side,
        TableReader(connection, table.name, table.schema),
        metrics,
        digester=Digester(frozenset(config.ignore_attributes)),
        ttl_attribute=table.ttl_attribute,
        max_rcu=config.max_rcu / config.workers,
        stop=stop,
    )


def _serve(validator: Validator, threads: int, stop: threading.Event, beat: Callable[[], None]) -> None:
    """Run `threads` loops until `stop`. A loop that fails for an unforeseen reason fails the process; while
    every loop hangs, nobody beats, and the supervisor ends the process."""
    active = [time.monotonic()] * threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix="validator")
    try:
        loops = [pool.submit(_loop, validator, number, active, stop) for number in range(threads)]
        while not stop.wait(1.0):
            if time.monotonic() - max(active) < HANGING_SECONDS:
                beat()
            for loop in loops:
                if loop.done():
                    loop.result()
    finally:
        pool.shutdown(wait=True)


def _loop(validator: Validator, number: int, active: list[float], stop: threading.Event) -> None:
    failures = 0
    stop.wait(number * IDLE_SECONDS / len(active))
    while not stop.is_set():
        active[number] = time.monotonic()
        try:
            claimed = validator.step()
        except (AwsError, StoreError) as error:
            failures += 1
            delay = min(BACKOFF_MAX_SECONDS, BACKOFF_MIN_SECONDS * 2 ** min(failures, 10))
            log.warning("batch put back", error=str(error), kind=type(error).__name__, retry_seconds=delay)
            stop.wait(delay)
            continue
        failures = 0
        if not claimed:
            stop.wait(IDLE_SECONDS)
