"""The monitor role: reads the ledger again and again and reports it.

Reads: the store. Writes: log lines and the console. Never: AWS, the store's writers.
"""

import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.figures import Figures
from pipeline.errors import StoreUnavailable
from pipeline.metrics import StoreCollector, Watched
from pipeline.report import text
from pipeline.store import FiguresView, RedisConnection

log = structlog.get_logger(__name__)

#: The supervisor sees a heartbeat at least this often.
HEARTBEAT_SECONDS = 0.5


def store_collector(process: ProcessConfig, migration: MigrationConfig) -> StoreCollector:
    """What to register with the registry that is served: the store's figures, read at each scrape."""
    store = FiguresView(RedisConnection(process.redis_url, migration.name))
    return StoreCollector([Watched(migration.name, store.figures, migration.gate_limits())])


def run_monitor(
    process: ProcessConfig,
    migration: MigrationConfig,
    stop: threading.Event,
    heartbeat: Callable[[], None],
) -> None:
    """Print the statistics every `statistics_every_ms` until `stop`, and once more then.

    While Redis cannot be reached nothing is printed but that; the next round tries again.
    """
    store = FiguresView(RedisConnection(process.redis_url, migration.name))
    before: Figures | None = None
    try:
        while not stop.is_set():
            _wait(process.statistics_every_ms / 1000, stop, heartbeat)
            before = _report(process, store, before) or before
    finally:
        store.close()


def _wait(seconds: float, stop: threading.Event, heartbeat: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    heartbeat()
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, HEARTBEAT_SECONDS)):
        heartbeat()


def _report(process: ProcessConfig, store: FiguresView, before: Figures | None) -> Figures | None:
    try:
        figures = store.figures()
    except StoreUnavailable as error:
        log.warning("no statistics", error=str(error))
        return None
    if process.log_format == "json":
        log.info("statistics", **text.statistics_fields(figures, before))
    else:
        _print(text.statistics_text(figures, before))
    if wrong := figures.ledger.imbalance:
        log.error(
            "accounting identity does not hold", wrong=wrong, ledger=msgspec.to_builtins(figures.ledger)
        )
    return figures


def _print(block: str) -> None:
    """On standard output, if it can be written: nothing depends on it."""
    try:
        print(block, flush=True)
    except OSError as error:
        log.warning("statistics cannot be printed", error=error.strerror)
