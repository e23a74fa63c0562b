"""How things are measured: CPU time of processes, repeated rounds, ratios within one run.

Reads: the kernel's CPU clocks and /proc. Writes: nothing. Never: wall time where CPU time is meant.

Ours and the baseline take turns, each in a process of its own that is started once: a machine that slows down
halfway slows both. A ratio is taken round by round, then the median of the ratios.
"""

import contextlib
import logging
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog

from benchmarks.stub import AWS_ENVIRONMENT

#: What one round measured, by name; units are in the names.
Figures = dict[str, float]
Round = Callable[[], Figures]

_spawn = multiprocessing.get_context("spawn")


class Spread(msgspec.Struct, frozen=True):
    """Minimum, median and maximum of repeated rounds."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(ordered[0], statistics.median(ordered), ordered[-1])


def own_cpu_seconds() -> float:
    """User and system time of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds(pid: int) -> float:
    """The same of another process, to the nanosecond: its CPU clock (Linux, clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def peak_memory_mb(pid: int | Literal["self"]) -> float:
    """The most that was ever resident (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} does not say how much memory it took")


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


def until(done: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `done`. Raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Bench:
    """One thing to measure, in a process of its own. `setup(*args)` runs there and returns the round."""

    def __init__(self, setup: Callable[..., Round], *args: Any) -> None:
        self._pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(theirs, setup, args), daemon=True)
        self._process.start()
        theirs.close()

    def round(self) -> Figures:
        """One round. Raises EOFError when the process failed; it has then said why."""
        self._pipe.send(True)
        figures: Figures = self._pipe.recv()
        return figures

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


@contextlib.contextmanager
def bench(setup: Callable[..., Round], *args: Any) -> Iterator[Bench]:
    one = Bench(setup, *args)
    try:
        yield one
    finally:
        one.close()


def _serve(pipe: Connection, setup: Callable[..., Round], args: tuple[Any, ...]) -> None:
    os.environ.update(AWS_ENVIRONMENT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    measured = setup(*args)
    with contextlib.suppress(EOFError):  # the parent is done
        while pipe.recv():
            pipe.send(measured())


def take_turns(repeats: int, *benches: Bench) -> list[list[Figures]]:
    """Rounds of each, taken in turns; a first round of each warms up and is thrown away."""
    for one in benches:
        one.round()
    rounds = [[one.round() for one in benches] for _ in range(repeats)]
    return [list(figures) for figures in zip(*rounds, strict=True)]
