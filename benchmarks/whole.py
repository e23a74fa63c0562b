"""The whole program measured: CPU per change, changes/s, delay, memory, and what a second validator adds.

Reads: the stub, the program's ledger and log. Writes: what the program writes. Never: parts of it replaced.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import quantiles

from benchmarks import stub, subjects
from benchmarks.measure import Figures, until
from benchmarks.program import BOOT_SECONDS, Program
from benchmarks.stub import Stub
from pipeline.store import StoreView
from pipeline.validator.role import IDLE_SECONDS

SHARDS = 8
#: Short, so that histories close (a second claim and commit, no read) while we measure.
OPTIONS = "--workers 2 --stable-for 1s"
DONE_SECONDS = 240.0


@contextlib.contextmanager
def stubs(
    *, records: int = 0, rate: int = 0, shards: int = SHARDS, latency_ms: int = 0
) -> Iterator[tuple[Stub, Stub]]:
    """Source and target, the stream gated."""
    with (
        stub.serve(shards=shards, records=records, gated=True, rate=rate, latency_ms=latency_ms) as source,
        stub.serve(latency_ms=latency_ms) as target,
    ):
        yield source, target


def pipeline(redis_url: str, directory: Path, pages: int, latency_ms: int) -> Figures:
    """CPU per change of all our processes, from the first change to the last history closed.

    And changes/s to the last verdict, and memory.
    """
    changes = SHARDS * pages * 1000
    server_seconds = subjects.server_clock(redis_url)
    with (
        stubs(records=pages * 1000, latency_ms=latency_ms) as (source, target),
        Program(source, target, redis_url, directory / "pipeline.log", "run", OPTIONS) as program,
    ):
        program.booted(readers=1, validators=2)
        store = program.store
        cpu, server, began = program.cpu_seconds(), server_seconds(), time.monotonic()
        source.begin()
        until(lambda: store.counted("matches") == changes, DONE_SECONDS, "all verdicts")
        seconds = time.monotonic() - began
        until(lambda: store.keys_with_a_history() == 0, DONE_SECONDS, "all histories closed")
        figures = {
            "us": (program.cpu_seconds() - cpu) / changes * 1e6,
            "redis_us": (server_seconds() - server) / changes * 1e6,
            "changes_per_second": changes / seconds,
            "memory_mb": max(program.memory_mb().values()),
        }
        _check(store, changes)
        return figures


def _check(store: StoreView, changes: int) -> None:
    ledger = store.ledger()
    if not ledger.balanced or ledger.matches != changes or any(ledger.mismatches.values()):
        raise AssertionError(f"the ledger does not say {changes} matches: {ledger}")


def delay(redis_url: str, directory: Path, shards: int, rate: int, seconds: int) -> Figures:
    """From a change's appearance in the stream to its verdict committed, in sync, 5 ms per AWS call."""
    records = rate * seconds
    log = directory / "delay.log"
    with (
        stubs(shards=shards, records=records, rate=rate, latency_ms=5) as (source, target),
        Program(source, target, redis_url, log, "run", f"{OPTIONS} --verbose") as program,
    ):
        program.booted(readers=1, validators=2)
        began = source.begin()
        until(lambda: program.store.ledger().matches == shards * records, DONE_SECONDS, "all verdicts")
        hashes = _appearances(program.store, shards, rate, records, began)
    delays = [at - hashes[key] for key, at in _verdicts(log)]
    cuts = quantiles(delays, n=100)
    return {"p50_seconds": cuts[49], "p99_seconds": cuts[98], "most_seconds": max(delays)}


def _appearances(store: StoreView, shards: int, rate: int, records: int, began: float) -> dict[str, float]:
    """Key hash → Unix time at which its record appeared: record n when n+1 are there."""
    return {
        store.key_hash(f'"{stub.key_of(shard, record)}"'.encode()): began + (record + 1) / rate
        for shard in range(shards)
        for record in range(records)
    }


def _verdicts(log: Path) -> Iterator[tuple[str, float]]:
    """Key hash and Unix time of each verdict that the validators logged."""
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry.get("event") == "verdict":
            yield entry["key"], datetime.fromisoformat(entry["timestamp"]).timestamp()


def scaling(redis_url: str, directory: Path, validators: int, pages: int) -> Figures:
    """Keys/s of so many validators on a full queue, 20 ms per AWS call: from when all work to nine tenths."""
    keys = pages * 1000
    options = f"--workers {validators} --in-flight {SCALING_IN_FLIGHT} --stable-for 1h"
    with stub.serve() as source, stub.serve(latency_ms=20) as target:
        program = Program(source, target, redis_url, directory / "scaling.log", "validator", options)
        feed = subjects.Feed(source.url, program.store)
        for _ in range(pages):
            feed.page()
        with program:
            started = b'"validator started"'
            until(
                lambda: program.log.read_bytes().count(started) == validators, BOOT_SECONDS, "all validators"
            )
            time.sleep(IDLE_SECONDS)  # a validator's threads begin spread over so long
            began, before = time.monotonic(), program.store.ledger().matches
            until(lambda: program.store.ledger().matches >= 0.9 * keys, DONE_SECONDS, "verdicts")
            ended, after = time.monotonic(), program.store.ledger().matches
    if after - before < 0.3 * keys:
        raise AssertionError("the queue was nearly empty before all validators were at work")
    return {"keys_per_second": (after - before) / (ended - began)}


#: Calls under way in each validator: few enough that waiting, not CPU, is what limits one of them.
SCALING_IN_FLIGHT = 2
