"""The supervisor: spawns the roles as processes, watches and restarts them, serves /metrics, stops in order.

Reads: signals, heartbeats, exit codes. Writes: child processes, one HTTP port. Never: AWS, the store. A
scrape asks for figures through the monitor.

Children are spawned, never forked: sockets and locks do not survive a fork. They share nothing that needs a
lock (one kill -9 would hold it for ever): a child's heartbeat is a raw double, its stop order is SIGTERM.

Stop order: reader and validators first and together (what is unread stays in the stream, what is under way is
committed), the monitor last, so that its final figures are final. Signal handlers only set a flag.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from pipeline import exit_codes, live_page, metrics, monitor
from pipeline.backoff import Backoff
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.errors import MonitorError, PortTaken
from pipeline.process import logs, scratch, streams, tether
from pipeline.process.pulse import Pulse

log = structlog.get_logger(__name__)

#: A child without a heartbeat for this long hangs: it is killed and restarted.
STALL_SECONDS = 60.0
#: Spawning, importing boto3 and opening connections takes a few seconds; slow credential helpers take longer.
BOOT_SECONDS = 120.0
#: Between restarts; a child that ran this long begins at the shortest wait again.
RESTART_BACKOFF, HEALTHY_SECONDS = Backoff(1.0, 30.0), 60.0
#: How long children may take to finish what is under way: the stop grace of a container is 30 s.
GRACE_SECONDS = 25.0
#: Not healthy is who has been without Redis for longer; it restarts nothing, and nothing is lost by waiting.
UNSERVED_SECONDS = 30.0
TICK_SECONDS = 0.2
#: EX_CONFIG of sysexits.h: a child says that no restart helps, though it has worked. Nobody else sees it.
FINAL_EXIT = 78


#: Asked several times a second: the exit code when the work is done, None while it is not.
Until = Callable[[], int | None]


def run(
    process: ProcessConfig,
    migrations: tuple[MigrationConfig, ...],
    roles: Sequence[str],
    until: Until = lambda: None,
) -> int:
    """Run the roles ("reader", "validator", "comparer", "monitor") until a signal or `until`; the exit code.

    0 after SIGTERM, 130 after SIGINT, 2 or 4 when a role that has not worked yet cannot work with this
    configuration. One that has worked is started again however it ended, unless its error is final.
    """
    with scratch.directory(_home(process)) as directory:
        return _Supervisor(process, migrations, roles, directory).run(until)


def _home(process: ProcessConfig) -> str | None:
    """The state directory where this host keeps the state: nobody cleans there."""
    embedded = process.redis_url.startswith("unix:") and Path(process.state_dir).is_dir()
    return process.state_dir if embedded else None


@dataclass(frozen=True)
class _Work:
    """What a child is started with. slot: its name, kept over restarts. directory: of the metrics' files."""

    role: str
    slot: str
    process: ProcessConfig
    migrations: tuple[MigrationConfig, ...]
    directory: str


class _Child:
    """One slot: the process in it, its heartbeat, when it may be restarted."""

    def __init__(self, work: _Work) -> None:
        self.role, self.slot = work.role, work.slot
        self._work = work
        self.process: BaseProcess | None = None
        self.pulse = Pulse()
        self.restart_at = 0.0
        self.failures = 0  # in a row

    def spawn(self, context: Any) -> None:
        self.pulse.begin()
        arguments = (self._work, self.pulse, os.getpid())
        process = context.Process(target=_child_main, args=arguments, name=self.slot)
        process.start()
        self.process = process
        log.info("process started", slot=self.slot, pid=self.process.pid)

    def alive(self) -> bool:
        return self.process is not None and self.process.is_alive()

    def stalled(self) -> bool:
        return self.pulse.silent_seconds > (STALL_SECONDS if self.pulse.is_there else BOOT_SECONDS)

    @property
    def is_healthy(self) -> bool:
        """It has been running for a while."""
        return self.pulse.beating_seconds > HEALTHY_SECONDS

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)


class _Supervisor:
    def __init__(
        self,
        process: ProcessConfig,
        migrations: tuple[MigrationConfig, ...],
        roles: Sequence[str],
        directory: str,
    ) -> None:
        self._process = process
        self._migrations = migrations
        self._context = multiprocessing.get_context("spawn")
        self._stop_signal = 0
        self._wakeup = threading.Event()
        self._worked: set[str] = set()  # roles
        self._children = [
            _Child(_Work(role, slot, process, migrations, directory))
            for role in roles
            for slot in _slots(process, role)
        ]
        metrics.prepare_directory(directory)
        self._metrics = metrics.start(directory, "supervisor")
        self._metrics.registry.register(metrics.ProcessCollector(self._pids))
        logs.count(self._metrics.logged)
        # The figures of a migration are exported once: by `compare` too, which has no monitor.
        self._with_figures = "monitor" in roles or process.command == "compare"

    def run(self, until: Until) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        pages: dict[str, metrics.Page] = {}
        if self._with_figures:
            self._metrics.registry.register(monitor.store_collector(self._process, self._migrations))
            pages = live_page.pages(self._process, self._migrations)
        server = self._serve(pages)
        root = f"http://{self._process.bind_address}:{server.port}"
        log.info("metrics served", url=f"{root}/metrics", **({"page": f"{root}/"} if pages else {}))
        # For the children's malloc (glibc): else each thread of a reader, though they take turns, keeps the
        # memory of its largest page for itself, 87 instead of 77 MB.
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")
        try:
            for child in self._children:
                child.spawn(self._context)
            return self._watch(until)
        finally:
            self._stop_children()
            server.close()

    def _serve(self, pages: dict[str, metrics.Page]) -> metrics.MetricsServer:
        """`compare` is started beside a `run`, with the same file: that one has the port."""
        at, port = self._process.bind_address, self._process.metrics_port
        try:
            return metrics.serve(at, port, self._metrics.registry, self._health, pages)
        except PortTaken as error:
            if self._process.command != "compare":
                raise
            log.info(
                "this command's metrics go to a free port: the run beside it has theirs", why=error.problem
            )
            return metrics.serve(at, 0, self._metrics.registry, self._health, pages)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop_signal = number

    def _watch(self, until: Until) -> int:
        while not self._stop_signal:
            if (done := until()) is not None:
                return done
            for child in self._children:
                code = self._tend(child)
                if code in exit_codes.HALTING:
                    return code
            self._metrics.keep()
            self._metrics.worker_processes.set(sum(child.alive() for child in self._children))
            self._wakeup.wait(TICK_SECONDS)
        log.info("stopping", signal=signal.Signals(self._stop_signal).name)
        return exit_codes.INTERRUPTED if self._stop_signal == signal.SIGINT else exit_codes.FINE

    def _tend(self, child: _Child) -> int | None:
        """Keep one child running; its exit code when a restart would change nothing."""
        if child.alive():
            child.pulse.look()
            if child.stalled():
                log.error("process hangs: killed", slot=child.slot)
                child.signal(signal.SIGKILL)
            elif child.is_healthy:
                child.failures = 0
                self._worked.add(child.role)
            return None
        if child.process is not None:
            code = child.process.exitcode
            child.process.join()
            child.process = None
            if code == FINAL_EXIT:
                return exit_codes.CONFIGURATION
            if code in exit_codes.HALTING and not self._has_worked(child.role):
                return code
            child.failures += 1
            wait_seconds = RESTART_BACKOFF.after(child.failures)
            log.error(
                "process ended: restarting",
                slot=child.slot,
                exit_code=code,
                after_seconds=wait_seconds,
                **({"reason": "it is refused what it had before"} if code in exit_codes.HALTING else {}),
            )
            self._metrics.worker_restarts.inc()
            child.restart_at = time.monotonic() + wait_seconds
        elif time.monotonic() >= child.restart_at:
            child.spawn(self._context)
        return None

    def _has_worked(self, role: str) -> bool:
        """Whether the role has worked in this run: then what it needs is right, and away for a while."""
        if any(child.pulse.has_worked for child in self._children if child.role == role):
            self._worked.add(role)
        return role in self._worked

    def _stop_children(self) -> None:
        deadline = time.monotonic() + GRACE_SECONDS
        first = [child for child in self._children if child.role != "monitor"]
        last = [child for child in self._children if child.role == "monitor"]
        for group in (first, last):
            for child in group:
                child.signal(signal.SIGTERM)
            for child in group:
                if child.process is not None:
                    child.process.join(max(0.1, deadline - time.monotonic()))
                    if child.process.is_alive():
                        log.error("process did not stop in time: killed", slot=child.slot)
                        child.signal(signal.SIGKILL)
                        child.process.join()

    def _pids(self) -> dict[str, int]:
        """Every process that runs, by its slot."""
        running = {"supervisor": os.getpid()}
        for child in self._children:
            process = child.process  # a scrape is answered by a thread of its own
            if process is not None and process.pid is not None:
                running[child.slot] = process.pid
        return running

    def _health(self) -> tuple[bool, str]:
        missing = [child.slot for child in self._children if not child.alive() or child.stalled()]
        if missing:
            return False, f"not running: {', '.join(missing)}"
        unserved = max(child.pulse.unserved_seconds for child in self._children)
        if unserved > UNSERVED_SECONDS:
            return False, f"Redis has not served for {unserved:.0f} s: the log says why"
        return True, "all processes run"


def _slots(process: ProcessConfig, role: str) -> list[str]:
    count = process.workers if role in ("validator", "comparer") else 1
    # Slots name consumers: beside a run on the same host, `compare` must not take those of the run.
    prefix = "compare-" if process.command == "compare" else ""
    return [f"{prefix}{role}-{number}" for number in range(count)]


# --- in the child ------------------------------------------------------------------------------------------


def _child_main(work: _Work, pulse: Pulse, parent: int) -> None:
    """Entry point of a spawned process."""
    tether.die_with(parent)
    streams.prepare()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    logs.configure(work.process.log_format, work.process.log_level)
    own_metrics = metrics.start(work.directory, work.slot, len(work.migrations))
    logs.count(own_metrics.logged)
    try:
        _run_role(work, stop, own_metrics, pulse)
    except MonitorError as error:
        log.error(str(error), role=work.role)
        sys.exit(FINAL_EXIT if error.is_final else error.exit_code)
    except Exception:
        log.exception("process failed", role=work.role)
        sys.exit(exit_codes.DEFECT)
    finally:
        streams.flush()


def _run_role(work: _Work, stop: threading.Event, own_metrics: metrics.Metrics, pulse: Pulse) -> None:
    def heartbeat(*, worked: bool = True) -> None:
        pulse.beat(worked=worked)
        own_metrics.keep()

    told = (stop, own_metrics, heartbeat)
    unserved = pulse.unserved
    # A role's imports (boto3 is 40 MB) are paid only by the process that plays it.
    if work.role == "reader":
        from pipeline.reader.role import run_reader

        run_reader(work.process, work.migrations, *told, unserved=unserved)
    elif work.role == "validator":
        from pipeline.validator.role import run_validator

        run_validator(work.process, work.migrations, *told, work.slot, unserved=unserved)
    elif work.role == "comparer":
        from pipeline.comparer.role import run_comparer

        run_comparer(work.process, work.migrations, *told, work.slot, unserved=unserved)
    else:
        monitor.run_monitor(work.process, work.migrations, stop, heartbeat, unserved=unserved)
