"""The monitor role: reads the ledger again and again, reports it, and keeps a sample of it for the timeline.

Reads: the store. Writes: log lines, the console, samples of the figures. Never: AWS.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.figures import Figures
from pipeline.core.samples import sample_of
from pipeline.counted_causes import CountedCauses
from pipeline.errors import StoreError
from pipeline.metrics import StoreCollector, Watched
from pipeline.process import streams
from pipeline.report import text
from pipeline.store import FiguresView, Outage, RedisConnection, SampleStore

log = structlog.get_logger(__name__)

#: The supervisor sees a heartbeat at least this often.
HEARTBEAT_SECONDS = 0.5
#: Whether Redis serves us is tried this often, statistics or not.
CHECK_SECONDS = 5.0


def store_collector(process: ProcessConfig, migrations: tuple[MigrationConfig, ...]) -> StoreCollector:
    """What to register with the registry that is served: the store's figures, read at each scrape."""
    (migration,) = migrations
    store = FiguresView(RedisConnection(process.redis_url, migration.name))

    def figures() -> Figures:
        store.check_takes_writes()
        return store.figures()

    causes = CountedCauses(store).of
    return StoreCollector([Watched(migration.name, figures, migration.gate_limits(), causes)])


def run_monitor(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    stop: threading.Event,
    heartbeat: Callable[[], None],
    *,
    unserved: Callable[[float], None] = lambda _since: None,
) -> None:
    """Print the statistics every `statistics_every_ms` until `stop`, and once more then.

    While Redis does not serve us nothing is printed but that; the next round tries again. unserved: as
    `Outage` calls it.
    """
    (migration,) = migrations
    store = SampleStore(RedisConnection(process.redis_url, migration.name, outage=Outage(unserved)))
    before: Figures | None = None
    checked_at = float("-inf")

    def alive() -> None:
        nonlocal checked_at
        heartbeat()
        if time.monotonic() - checked_at >= CHECK_SECONDS:
            checked_at = time.monotonic()
            with contextlib.suppress(StoreError):  # the outage is told
                store.check_takes_writes()

    try:
        while not stop.is_set():
            _wait(process.statistics_every_ms / 1000, stop, alive)
            before = _report(process, store, before) or before
    finally:
        store.close()


def _wait(seconds: float, stop: threading.Event, alive: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    alive()
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, HEARTBEAT_SECONDS)):
        alive()


def _report(process: ProcessConfig, store: SampleStore, before: Figures | None) -> Figures | None:
    try:
        figures = store.figures()
    except StoreError as error:
        log.debug("no statistics", error=str(error))
        return None
    try:
        store.keep(sample_of(figures))
    except StoreError as error:  # a full Redis has figures, and no room for their sample
        log.warning("no sample for the timeline", error=str(error))
    if process.log_format == "json":
        log.info("statistics", **text.statistics_fields(figures, before))
    elif lost := streams.show(text.statistics_text(figures, before)):
        every = process.statistics_every_ms / 1000
        log.warning("statistics cannot be printed", error=lost.strerror, retry_seconds=every)
    if wrong := figures.ledger.imbalance:
        log.error(
            "accounting identity does not hold", wrong=wrong, ledger=msgspec.to_builtins(figures.ledger)
        )
    return figures
