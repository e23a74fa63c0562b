"""Does it stay flat? Cost by the number of shards, of outstanding keys, and of one key's versions.

Reads and writes: the stub, Redis. Never: extrapolation; every point is measured.
"""

import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import stub, subjects
from benchmarks.measure import Figures, until
from benchmarks.program import Program

#: Each point of the shard curve reads at least this many records, or its fixed costs would blur it.
SHARD_RECORDS = 40_000
#: A point of the key curve judges this many pages of 1000 keys.
POINT_PAGES = 10
_PARK_KEYS = 1_000
#: Versions of the hot key in a batch, as many as a page of a stream holds, and in a point of its curve.
_PAGE, ROUND_VERSIONS = 1_000, 10_000
IDLE_SECONDS = 3.0
REPEATS = 3


def shards(redis_url: str, directory: Path, counts: Iterable[int], repeats: int) -> dict[int, Figures]:
    """The reader, 1 % sampled, by number of shards: CPU per record with full pages everywhere.

    And the share of a core it takes while nothing happens. What it takes then with the least number of shards
    is left out of the costs: it is the same every second, however much is read in it.
    """
    points: dict[int, Figures] = {}
    for count in sorted(counts):
        point = _median(_shard_point(redis_url, directory, count) for _ in range(repeats))
        ground = next(iter(points.values()), point)["idle_share"]
        points[count] = {**point, "us": point["us"] - ground * point["us_elapsed"]}
    return points


def _shard_point(redis_url: str, directory: Path, count: int) -> Figures:
    pages = max(2, SHARD_RECORDS // (count * 1000))
    records = count * pages * 1000
    with (
        stub.serve(shards=count, records=pages * 1000, gated=True) as source,
        stub.serve() as target,
        Program(source, target, redis_url, directory / "shards.log", "reader", "--sample-rate 1") as program,
    ):
        until(lambda: _tracked(program) == count, 120, "all shards tracked")
        program.booted(readers=1, validators=0)
        cpu = program.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        idle_cpu = program.cpu_seconds() - cpu
        cpu, began = program.cpu_seconds(), time.monotonic()
        source.begin()
        until(lambda: program.store.ledger().records_read == records, 240, "all records")
        return {
            "us": (program.cpu_seconds() - cpu) / records * 1e6,
            "us_elapsed": (time.monotonic() - began) / records * 1e6,
            "idle_share": idle_cpu / IDLE_SECONDS,
        }


def _median(rounds: Iterable[Figures]) -> Figures:
    """The round of median cost."""
    ordered = sorted(rounds, key=lambda figures: figures["us"])
    return ordered[len(ordered) // 2]


def _tracked(program: Program) -> int:
    return program.store.reader_state().partitions_open


def outstanding(redis_url: str, url: str, sizes: Iterable[int]) -> dict[int, Figures]:
    """One validator thread, by number of keys that have a history and wait for their next look.

    Every key judged is closed at once, so that number stands still while a point is measured. With Redis's
    memory for each of them.
    """
    feed = subjects.Feed(url, subjects.open_store(redis_url))
    judging = subjects.judging(url, redis_url, feed, POINT_PAGES, threads=1, stable_for_ms=1)
    memory = subjects.server_memory(redis_url)
    judging()
    empty, parked = memory(), 0
    points: dict[int, Figures] = {}
    for size in sizes:
        for first in range(parked, size, _PARK_KEYS):
            subjects.park(feed, _keys(first, min(size, first + _PARK_KEYS)))
        parked = size
        waiting_bytes = (memory() - empty) / size
        points[size] = {**_median(judging() for _ in range(REPEATS)), "bytes_per_key": waiting_bytes}
    return points


def hot_key(redis_url: str, url: str, sizes: Iterable[int]) -> dict[int, Figures]:
    """Redis's CPU and append-only file for a version of one key that nobody looks at, by how many it has.

    A point is the last versions of so many; of less than a round, on as many keys as make one.
    """
    feed = subjects.Feed(url, subjects.open_store(redis_url))
    points: dict[int, Figures] = {}
    published = 0
    for size in sizes:
        if size < ROUND_VERSIONS:
            keys = [b'"warm#%d"' % number for number in range(ROUND_VERSIONS // size)]
            points[size] = _rewritten(redis_url, feed, keys, 0, size)
            continue
        starts = range(size - REPEATS * ROUND_VERSIONS, size, ROUND_VERSIONS)
        _rewrite(feed, b'"hot"', published, starts[0])
        points[size] = _median(
            _rewritten(redis_url, feed, [b'"hot"'], start, start + ROUND_VERSIONS) for start in starts
        )
        published = size
    return points


def _rewritten(redis_url: str, feed: subjects.Feed, keys: list[bytes], start: int, end: int) -> Figures:
    server_seconds, log_bytes = subjects.server_clock(redis_url), subjects.server_log(redis_url)
    began, bytes_before = server_seconds(), log_bytes()
    for key in keys:
        _rewrite(feed, key, start, end)
    versions = len(keys) * (end - start)
    return {
        "us": (server_seconds() - began) / versions * 1e6,
        "log_bytes": (log_bytes() - bytes_before) / versions,
    }


def _rewrite(feed: subjects.Feed, key: bytes, start: int, end: int) -> None:
    for first in range(start, end, _PAGE):
        feed.rewrites(key, first + 1, _PAGE)


def queued_bytes(redis_url: str, url: str, count: int) -> float:
    """Redis's memory for a key that was published and not yet claimed."""
    feed = subjects.Feed(url, subjects.open_store(redis_url))
    memory = subjects.server_memory(redis_url)
    empty = memory()
    for first in range(0, count, _PARK_KEYS):
        feed.synthetic(_keys(first, first + _PARK_KEYS))
    return (memory() - empty) / count


def _keys(first: int, end: int) -> list[bytes]:
    return [b'"user#%012d"' % number for number in range(first, end)]
