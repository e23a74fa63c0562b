"""The monitor role: reads ledgers again and again, reports them, and keeps samples for the timeline.

Reads: the store. Writes: log lines, the console, samples of the figures. Never: AWS.

Of one migration a block is printed each time; of several a line each, the worst first, and with JSON logs,
where each is an event, only of those where something has happened, and of all once in a while.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import structlog

from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.figures import Figures
from pipeline.core.samples import sample_of
from pipeline.counted_causes import CountedCauses
from pipeline.errors import StateDamaged, StoreError
from pipeline.metrics import StoreCollector, Watched
from pipeline.process import streams
from pipeline.report import overview_text, standing, text
from pipeline.report.standing import Standing
from pipeline.store import FiguresView, Outage, Pools, RedisConnection, SampleStore

log = structlog.get_logger(__name__)

#: The supervisor sees a heartbeat at least this often.
HEARTBEAT_SECONDS = 0.5
#: Whether Redis serves us is tried this often, statistics or not.
CHECK_SECONDS = 5.0
#: Of many migrations so many have a line; one where nothing happens is an event every so many times.
MOST_LINES, QUIET_ROUNDS = 30, 20


def store_collector(process: ProcessConfig, migrations: tuple[MigrationConfig, ...]) -> StoreCollector:
    """What to register with the registry that is served: the store's figures, read at each scrape."""
    pools = Pools()
    return StoreCollector([_watched(process, one, pools) for one in migrations])


def _watched(process: ProcessConfig, migration: MigrationConfig, pools: Pools) -> Watched:
    store = FiguresView(RedisConnection(process.redis_url, migration.name, pools=pools))
    store.terms = migration.terms()

    def figures() -> Figures:
        store.check_takes_writes()
        return store.figures()

    return Watched(migration.name, figures, migration.gate_limits(), CountedCauses(store).of)


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
    outage, pools = Outage(unserved, of_several=len(migrations) > 1), Pools()
    monitored = [_Monitored(process, one, outage, pools) for one in migrations]
    turn = 0
    checked_at = float("-inf")

    def alive() -> None:
        nonlocal checked_at, turn
        heartbeat()
        if time.monotonic() - checked_at >= CHECK_SECONDS:
            checked_at = time.monotonic()
            turn = (turn + 1) % len(monitored)
            monitored[turn].check()

    try:
        while not stop.is_set():
            _wait(process.statistics_every_ms / 1000, stop, alive)
            _round(process, monitored, heartbeat, stop)
    finally:
        for one in monitored:
            one.store.close()


def _wait(seconds: float, stop: threading.Event, alive: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    alive()
    while (left := until - time.monotonic()) > 0 and not stop.wait(min(left, HEARTBEAT_SECONDS)):
        alive()


def _round(
    process: ProcessConfig,
    monitored: "Sequence[_Monitored]",
    heartbeat: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Read the figures of each, keep samples, and say what there is to say."""
    several = len(monitored) > 1
    standings: list[Standing] = []
    for one in monitored:
        if several:
            heartbeat()  # each may wait for a server that does not answer
        before, figures = one.before, one.read()
        if figures is None and stop.is_set():
            break  # the end does not wait for each of them
        standings.append(one.standing())
        if figures is None:
            continue
        if process.log_format == "json":
            one.log(before, figures, quiet=several)
        elif not several:
            _print(process, text.statistics_text(figures, before))
    is_whole = len(standings) == len(monitored)  # else it would speak of a part as of all
    if several and is_whole and process.log_format != "json":
        # At the end those who read and judge have ended before: no answer would be one.
        answered = not stop.is_set()
        ranked = standing.worst_first(standings)
        _print(process, "\n".join(overview_text.status_lines(ranked, MOST_LINES, answered=answered)))


def _print(process: ProcessConfig, said: str) -> None:
    if lost := streams.show(said):
        every = process.statistics_every_ms / 1000
        log.warning("statistics cannot be printed", error=lost.strerror, retry_seconds=every)


class _Monitored:
    """One migration as it was read last."""

    def __init__(
        self, process: ProcessConfig, migration: MigrationConfig, outage: Outage, pools: Pools
    ) -> None:
        self.store = SampleStore(
            RedisConnection(process.redis_url, migration.name, outage=outage, pools=pools)
        )
        self.store.terms = migration.terms()
        self.before: Figures | None = None
        self._migration = migration
        self._outage = outage
        self._said: dict[str, object] = {}
        self._quiet_rounds = 0
        self._problem: StoreError | None = None

    def check(self) -> None:
        """Whether Redis serves us; an outage is told by the store itself."""
        with contextlib.suppress(StoreError):
            self.store.check_takes_writes()

    def read(self) -> Figures | None:
        """The figures, and a sample of them kept; None while they cannot be read."""
        try:
            figures = self.store.figures()
        except StoreError as error:
            self._fails(error)
            return None
        self.before, self._problem = figures, None
        try:
            self.store.keep(sample_of(figures))
        except StoreError as error:  # a full Redis has figures, and no room for their sample
            log.warning("no sample for the timeline", error=str(error))
        if wrong := figures.ledger.imbalance:
            log.error(
                "accounting identity does not hold",
                migration=self._migration.name,
                wrong=wrong,
                ledger=msgspec.to_builtins(figures.ledger),
            )
        return figures

    def _fails(self, error: StoreError) -> None:
        """What concerns this migration alone is said once; what concerns all, the store says."""
        own = self._outage.of_several and isinstance(error, StateDamaged)
        news = own and str(error) != str(self._problem)
        level = logging.ERROR if news else logging.DEBUG
        named = {"migration": self._migration.name}
        log.log(level, "no statistics", **named, error=error.problem, remedy=error.remedy)
        self._problem = error

    def standing(self) -> Standing:
        """For the overview."""
        name = self._migration.name
        if self._problem is not None:
            return standing.unread(name, standing.problem_of(self._problem))
        if self.before is None:
            return standing.unread(name, standing.Problem("it was not read yet"))
        return standing.of_figures(name, self.before, self._migration.gate_limits())

    def log(self, before: Figures | None, figures: Figures, *, quiet: bool) -> None:
        """One event. quiet: not while nothing happens, but for every so many times."""
        fields = text.statistics_fields(figures, before)
        news = {name: fields[name] for name in ("records_total", "keys_judged", "open", "balanced")}
        self._quiet_rounds = 0 if news != self._said else self._quiet_rounds + 1
        self._said = news
        if quiet and self._quiet_rounds % QUIET_ROUNDS:
            return
        named = {"migration": self._migration.name} if quiet else {}
        log.info("statistics", **named, **fields)
