"""Whole comparisons as their users run them: `comparer`, its processes and Redis; and what follows from them.

Reads: the stub, the comparison in Redis, the processes' CPU clocks and memory. Writes: what the program
writes. Never: parts of it replaced.
"""

import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import subjects
from benchmarks.measure import Figures, until
from benchmarks.program import BOOT_SECONDS, Program
from benchmarks.stub import SCAN_ITEMS, Stub
from pipeline.core.comparing.result import BYTES_PER_UNIT
from pipeline.core.cost import READ_UNITS_LISTED
from pipeline.core.model import Side

DONE_SECONDS = 900.0
#: Partitions that are counted before a clock is looked at: the processes have booted by then.
WARM = 16
#: Segments under way in each comparer where waiting is to be the limit, not CPU.
SCALING_IN_FLIGHT = 1
#: In each segment there: several are read in a few seconds.
SCALING_ITEMS = 5_000
#: No segment waits for suspects to be answered: nobody answers them here.
UNANSWERED = "--stop-after-findings 100000000"


def _program(stubs: tuple[Stub, Stub], redis_url: str, directory: Path, options: str) -> Program:
    source, target = stubs
    return Program(
        source, target, redis_url, directory / "comparer.log", "comparer", f"{UNANSWERED} {options}"
    )


def throughput(stubs: tuple[Stub, Stub], redis_url: str, directory: Path, segments: int) -> Figures:
    """CPU per equal pair of all our processes and of Redis, from WARM segments on to the last."""
    server_seconds = subjects.server_clock(redis_url)
    options = f"--workers 1 --segments {segments}"
    with _program(stubs, redis_url, directory, options) as program:
        until(lambda: program.store.segments_done() >= WARM, BOOT_SECONDS, "the first segments")
        before, cpu, server = program.store.segments_done(), program.cpu_seconds(), server_seconds()
        until(lambda: program.store.segments_done() == segments, DONE_SECONDS, "the last segment")
        pairs = (segments - before) * SCAN_ITEMS
        tally = program.store.comparison().tally
        if tally.equal != segments * SCAN_ITEMS or tally.imbalance:
            raise AssertionError(f"not every pair was equal: {tally}")
        return {
            "us": (program.cpu_seconds() - cpu) / pairs * 1e6,
            "redis_us": (server_seconds() - server) / pairs * 1e6,
            "item_bytes": tally.item_bytes(Side.SOURCE) / tally.equal,
        }


def memory(stubs: tuple[Stub, Stub], redis_url: str, directory: Path, segments: int) -> Figures:
    """The most that any process took, and what was read, when so many segments have been compared."""
    with _program(stubs, redis_url, directory, f"--workers 1 --segments {segments}") as program:
        until(lambda: program.store.segments_done() == segments, DONE_SECONDS, "the last segment")
        tally = program.store.comparison().tally
        if not tally.keys or tally.imbalance:
            raise AssertionError(f"it does not add up: {tally}")
        return {
            "memory_mb": max(program.memory_mb().values()),
            "side_mb": tally.item_bytes(Side.SOURCE) / 1e6,
            "equal": tally.equal,
            "suspects": tally.suspects,
        }


def scaling(
    stubs: tuple[Stub, Stub], redis_url: str, directory: Path, comparers: int, segments: int
) -> Figures:
    """Pairs/s of so many comparers, from when all work to nine tenths."""
    options = f"--workers {comparers} --in-flight {SCALING_IN_FLIGHT} --segments {segments}"
    with _program(stubs, redis_url, directory, options) as program:
        started = b'"comparer started"'
        until(lambda: program.log.read_bytes().count(started) == comparers, BOOT_SECONDS, "all comparers")
        warm = program.store.segments_done() + 2 * SCALING_IN_FLIGHT * comparers
        until(lambda: program.store.segments_done() >= warm, BOOT_SECONDS, "all comparers at work")
        began, before = time.monotonic(), program.store.segments_done()
        until(lambda: program.store.segments_done() >= 0.9 * segments, DONE_SECONDS, "segments")
        ended, after = time.monotonic(), program.store.segments_done()
    if after - before < 0.3 * segments:
        raise AssertionError("too little was left when all comparers were at work")
    return {"pairs_per_second": (after - before) * SCALING_ITEMS / (ended - began)}


class Published(NamedTuple):
    """What AWS published of its own diff: two tables of so many items, in less time, for less, with workers.

    https://aws.amazon.com/blogs/database/efficiently-compare-items-across-two-amazon-dynamodb-tables
    """

    items: float = 0.5e9
    minutes: float = 7
    dollars: float = 10
    workers: int = 220


AWS_DIFF = Published()
CORES = 16


def extrapolated(us: float, item_bytes: float) -> list[str]:
    """What one host of CORES cores would take for the tables of AWS's figure, as lines of text.

    us: CPU of all our processes and Redis for a pair, as measured. item_bytes: of the items measured.
    """
    minutes = AWS_DIFF.items * us / 1e6 / CORES / 60
    gigabytes = AWS_DIFF.items * item_bytes / 1e9
    units = 2 * AWS_DIFF.items * item_bytes / BYTES_PER_UNIT
    dollars = units * READ_UNITS_LISTED / 1e6
    seconds = AWS_DIFF.minutes * 60
    billions = f"{AWS_DIFF.items / 1e9:g} billion"
    return [
        f"measured: {us:.2f} µs of CPU a pair, all processes and Redis; items of {item_bytes:.0f} B",
        f"extrapolated: 2 × {billions} such items, {gigabytes:,.0f} GB a side, on one host of {CORES} cores: "
        f"{minutes:.1f} min of all its cores, {dollars:.2f} dollars of read units (on demand, us-east-1)",
        f"published by AWS of its own diff: 2 × {billions} items in less than {AWS_DIFF.minutes:g} min with "
        f"{AWS_DIFF.workers} workers, for less than {AWS_DIFF.dollars:g} dollars",
        f"taken for granted: CPU grows with the pairs and the cores share it; in {AWS_DIFF.minutes:g} min "
        f"the host takes {2 * gigabytes * 8 / seconds:.1f} Gbit/s, and each table gives "
        f"{units / 2 / seconds:,.0f} read units a second "
        "(a table's default quota is 40,000)",
    ]
