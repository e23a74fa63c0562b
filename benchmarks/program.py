"""The whole program as its users run it: the command, its processes, and what they cost.

Reads: the processes' CPU clocks and memory, the ledger. Writes: a migration in Redis, a log file. Never: a
process that outlives the benchmark.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measure import children_of, command_of, cpu_seconds, peak_memory_mb, until
from benchmarks.stub import AWS_ENVIRONMENT, TABLE, Stub
from benchmarks.subjects import BenchStore
from pipeline.commands import preflight
from pipeline.config import load
from pipeline.process.tether import tied

BOOT_SECONDS, END_SECONDS = 120.0, 30.0
#: Booted: no process used more than this share of a core for the last SETTLED_SECONDS.
SETTLED_SHARE, SETTLED_SECONDS = 0.25, 0.5


class Running:
    """`dynamodb-migration-monitor` with these words, while it runs."""

    def __init__(self, log: Path, argv: list[str]) -> None:
        self.log = log
        self._argv = argv

    def __enter__(self) -> Self:
        with self.log.open("wb") as sink:
            self._process = subprocess.Popen(
                tied([sys.executable, "-m", "pipeline.cli", *self._argv]),
                env={**os.environ, **AWS_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def processes(self) -> list[int]:
        """The supervisor and its children."""
        return [self._process.pid, *children_of(self._process.pid)]

    def booted(self, readers: int, validators: int) -> None:
        """Wait until so many processes say that they have started, and none is busy any more."""
        wanted = [b'"reader started"'] * readers + [b'"validator started"'] * validators

        def settled() -> bool:
            if self._process.poll() is not None:
                raise RuntimeError(f"the program ended: {self.log.read_text()[-1000:]}")
            said = self.log.read_bytes()
            if any(said.count(words) < wanted.count(words) for words in wanted):
                return False
            before = {pid: cpu_seconds(pid) for pid in self.processes()}
            time.sleep(SETTLED_SECONDS)
            used = [cpu_seconds(pid) - seconds for pid, seconds in before.items()]
            return max(used) < SETTLED_SHARE * SETTLED_SECONDS

        until(settled, BOOT_SECONDS, f"the program to boot: {self.log}")

    def cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, self.processes()))

    def memory_mb(self) -> dict[str, float]:
        """Peak memory of each process that runs our code, by what it is."""
        found: dict[str, float] = {}
        for pid in self.processes():
            if "resource_tracker" not in command_of(pid):
                found[f"process {len(found)}"] = peak_memory_mb(pid)
        return found


class Program(Running):
    """COMMAND with one table's stream and the other table on two stubs."""

    def __init__(
        self, source: Stub, target: Stub, redis_url: str, log: Path, command: str, options: str
    ) -> None:
        """options: more of the command line. The migration is begun here, the processes with `__enter__`."""
        migration = f"bench-{uuid.uuid4().hex[:8]}"
        argv = [
            *(command, "--migration", migration, "--redis-url", redis_url, "--target-table", TABLE),
            *("--source-endpoint-url", source.url, "--target-endpoint-url", target.url),
            *("--region", "us-east-1", "--iterator-type", "TRIM_HORIZON", "--metrics-port", "0"),
            *("--log-format", "json", *shlex.split(options)),
        ]
        super().__init__(log, argv)
        loaded = load(argv, {})
        prepared, _, _ = preflight.prepare(loaded.process, loaded.migrations[0])
        self.store = BenchStore.begin(redis_url, migration, prepared.settings())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.store.close()
