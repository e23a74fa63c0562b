"""The monitor: reads the ledger and tells the operator; and the commands that look once, status and findings.

Reads: the store. Writes: log lines and the console. Never: AWS, anything into the store.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from pipeline import report
from pipeline.config import Config
from pipeline.core.canonical import KeySchema
from pipeline.core.figures import Figures
from pipeline.core.gate import Limits, Result, judge
from pipeline.core.model import Side
from pipeline.errors import ConfigurationError, StoreUnavailable
from pipeline.metrics import LedgerCollector, Metrics
from pipeline.store import Store

log = structlog.get_logger(__name__)

#: Exit codes of the commands that look (DESIGN: command line).
FINE, MISMATCHES_OPEN, INCONCLUSIVE = 0, 1, 3
_GATE_EXIT = {Result.PASSED: 0, Result.FAILED: 1, Result.INCONCLUSIVE: 3}
#: The supervisor is told that we live at least this often.
BEAT_SECONDS = 0.5


def snapshot(store: Store) -> Figures:
    """Everything the store knows, read now. Raises StoreUnavailable."""
    meta = store.load()
    now_ms = store.now_ms()
    return Figures(
        now_ms=now_ms,
        started_ms=meta.started_ms if meta else now_ms,
        ledger=store.ledger(),
        queue=store.queue(),
        reader=store.reader_state(),
        lag_counts=store.lag_histogram(),
        oldest_waiting_ms=store.oldest_waiting_ms(),
        marks=store.marks(),
    )


def ledger_collector(config: Config) -> LedgerCollector:
    """What to register with the registry that is served: the store's figures, read at each scrape."""
    store = Store(config.redis_url, config.migration)
    return LedgerCollector(lambda: snapshot(store), gate_limits(config))


def gate_limits(config: Config) -> Limits:
    return Limits(
        objective=config.gate_objective / 100,
        lag_ms=config.gate_lag_ms,
        reader_lag_ms=config.gate_reader_lag_ms,
        backlog=config.gate_backlog,
    )


def run_monitor(config: Config, stop: threading.Event, metrics: Metrics, beat: Callable[[], None]) -> None:
    """Print the statistics every `statistics_every_ms` until `stop`, and once more then.

    While Redis cannot be reached nothing is printed but that; the next round tries again. metrics: every
    role gets them; the monitor's own figures are exported by `ledger_collector`.
    """
    store = Store(config.redis_url, config.migration)
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


def _tell(config: Config, store: Store, before: Figures | None) -> Figures | None:
    try:
        figures = snapshot(store)
    except StoreUnavailable as error:
        log.warning("no statistics", error=str(error))
        return None
    if config.log_format == "json":
        log.info("statistics", **report.statistics_fields(figures, before))
    else:
        print(report.statistics_text(figures, before), flush=True)
    if not figures.ledger.balanced:
        log.error("accounting identity does not hold", ledger=msgspec.to_builtins(figures.ledger))
    return figures


# --- commands that look once -------------------------------------------------------------------------------


def status(config: Config, store: Store) -> int:
    """Print where the migration stands; the exit code. Raises ConfigurationError when it was never begun."""
    settings = _settings(store)
    figures = snapshot(store)
    heading = report.Heading(store.migration, Side(settings["verify_on"]))
    if config.json:
        print(msgspec.json.encode(report.status_object(heading, figures)).decode())
    else:
        print(report.status_text(heading, figures))
    return exit_code(figures)


def findings(config: Config, store: Store) -> int:
    """Print every open finding, oldest first; the exit code. Raises ConfigurationError as `status` does."""
    show = _key_shower(config, store, _settings(store))
    if config.json:
        for finding in store.findings():
            print(report.finding_line(finding, show(finding.key)))
    else:
        print(report.findings_table((finding, _text(show(finding.key))) for finding in store.findings()))
    sys.stdout.flush()
    return exit_code(snapshot(store))


def gate(config: Config, store: Store) -> int:
    """Print whether to switch over, and why; the exit code. Raises ConfigurationError as `status` does."""
    _settings(store)
    figures, limits = snapshot(store), gate_limits(config)
    verdict = judge(figures, limits)
    if config.json:
        told = report.gate_object(store.migration, figures.now_ms, verdict, limits)
        print(msgspec.json.encode(told).decode())
    else:
        print(report.gate_text(store.migration, verdict))
    return _GATE_EXIT[verdict.result]


def mark(config: Config, store: Store) -> int:
    """Note that a milestone is reached now. Raises ConfigurationError as `status` does."""
    _settings(store)
    print(report.marked(config.milestone, store.mark(config.milestone)))
    return FINE


def exit_code(figures: Figures) -> int:
    """0: all is right that was judged. 1: something is wrong, books included. 3: nothing was judged."""
    if figures.open_total or not figures.ledger.balanced:
        return MISMATCHES_OPEN
    return FINE if figures.success.keys else INCONCLUSIVE


def _settings(store: Store) -> Mapping[str, str]:
    meta = store.load()
    if meta is None:
        raise ConfigurationError(
            f"there is no migration {store.migration} in this Redis: "
            "check --migration, --redis-url and --state-dir, or begin it with `run`"
        )
    return meta.settings


def _key_shower(config: Config, store: Store, settings: Mapping[str, str]) -> Callable[[bytes], object]:
    """How a key is shown: as its keyed hash, or with --show-keys as the wire JSON object."""
    if not config.show_keys:
        return store.key_hash
    names = ("partition_key", "partition_type", "sort_key", "sort_type")
    try:
        schema = msgspec.convert({name: settings.get(name) or None for name in names}, KeySchema)
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"migration {store.migration} does not say how its keys look ({error}): leave --show-keys out"
        ) from error
    return lambda key: msgspec.Raw(schema.wire(key))


def _text(shown: object) -> str:
    return bytes(shown).decode() if isinstance(shown, msgspec.Raw) else str(shown)
