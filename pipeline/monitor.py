"""The monitor role: reads the ledger again and again and tells the operator.

Reads: the store. Writes: log lines and the console. Never: AWS, anything into the store.
"""

import threading
import time
from collections.abc import Callable

import msgspec
import structlog

from pipeline.config import Config
from pipeline.core.figures import Figures
from pipeline.errors import StoreUnavailable
from pipeline.metrics import LedgerCollector, Metrics
from pipeline.report import text
from pipeline.store import FiguresView, RedisConnection

log = structlog.get_logger(__name__)

#: The supervisor is told that we live at least this often.
BEAT_SECONDS = 0.5


def ledger_collector(config: Config) -> LedgerCollector:
    """What to register with the registry that is served: the store's figures, read at each scrape."""
    store = FiguresView(RedisConnection(config.redis_url, config.migration))
    return LedgerCollector(store.figures, config.gate_limits())


def run_monitor(config: Config, stop: threading.Event, metrics: Metrics, beat: Callable[[], None]) -> None:
    """Print the statistics every `statistics_every_ms` until `stop`, and once more then.

    While Redis cannot be reached nothing is printed but that; the next round tries again. metrics: every
    role gets them; the monitor's own figures are exported by `ledger_collector`.
    """
    store = FiguresView(RedisConnection(config.redis_url, config.migration))
    before: Figures | None = None
    try:
        while not stop.is_set():
            _wait(config.statistics_every_ms / 1000, stop, beat)
            before = _tell(config, store, before) or before
    finally:
        store.close()


def _wait(seconds: float, stop: threading.Event, beat: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    beat()
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, BEAT_SECONDS)):
        beat()


def _tell(config: Config, store: FiguresView, before: Figures | None) -> Figures | None:
    try:
        figures = store.figures()
    except StoreUnavailable as error:
        log.warning("no statistics", error=str(error))
        return None
    if config.log_format == "json":
        log.info("statistics", **text.statistics_fields(figures, before))
    else:
        print(text.statistics_text(figures, before), flush=True)
    if not figures.ledger.balanced:
        log.error("accounting identity does not hold", ledger=msgspec.to_builtins(figures.ledger))
    return figures
