"""Does it stay flat? Cost by the number of shards, of outstanding keys, and of one key's versions.

Reads and writes: the stub, Redis. Never: extrapolation; every point is measured.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks import stub, subjects
from benchmarks.measure import Figures, Round, until
from benchmarks.program import Program

#: Pages of each shard of the shard curve. A shard is read four times a second at most, so that one alone
#: takes longer than its records cost: ten are the least. Few shards have more pages, or they would be read in
#: a tenth of a second of CPU, which says little; opening a shard costs less than one page.
MANY_SHARDS, SHARD_PAGES, PAGES_OF_FEW = 1_000, 6, 20
#: A point of the key curve judges this many pages of 1000 keys.
POINT_PAGES = 10
_PARK_KEYS = 1_000
#: Versions of the hot key in a batch, as many as a page of a stream holds, and in a point of its curve.
_PAGE, ROUND_VERSIONS = 1_000, 10_000
IDLE_SECONDS = 3.0
REPEATS = 3


class Curve(NamedTuple):
    """Cost by size. points: medians of what was measured. ratios: of each larger size its cost in terms of
    the smallest's, which was measured right before and right after it: a neighbour's load is on both.
    """

    points: dict[int, Figures]
    ratios: dict[int, list[float]]


def _curve(sizes: Sequence[int], repeats: int, measure: Callable[[int], Figures]) -> Curve:
    smallest, *larger = sorted(sizes)
    measured: dict[int, list[Figures]] = {size: [] for size in (smallest, *larger)}
    ratios: dict[int, list[float]] = {size: [] for size in larger}
    for _ in range(repeats):
        measured[smallest].append(measure(smallest))
        for size in larger:
            measured[size].append(measure(size))
            measured[smallest].append(measure(smallest))
            around = measured[smallest][-2:]
            ratios[size].append(measured[size][-1]["us"] / mean(ground["us"] for ground in around))
    return Curve({size: _median(rounds) for size, rounds in measured.items()}, ratios)


def shards(redis_url: str, directory: Path, counts: Sequence[int], repeats: int) -> Curve:
    """The reader, 1 % sampled, by number of shards: CPU per record with full pages everywhere.

    And the share of a core it takes while nothing happens. What it takes then with the least number of shards
    is left out of the costs: it is the same every second, however much is read in it.
    """
    ground = 0.0

    def point(count: int) -> Figures:
        nonlocal ground
        found = _shard_point(redis_url, directory, count)
        if count == min(counts):
            ground = found["idle_share"]
        return {**found, "us": found["us"] - ground * found["us_elapsed"]}

    return _curve(counts, repeats, point)


def _shard_point(redis_url: str, directory: Path, count: int) -> Figures:
    pages = SHARD_PAGES if count >= MANY_SHARDS else PAGES_OF_FEW
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


def outstanding(redis_url: str, url: str, sizes: Sequence[int], repeats: int) -> Curve:
    """One validator thread, by number of keys that have a history and wait for their next look.

    Every key judged is closed at once, so that number stands still while a point is measured; each size is a
    migration of its own. With Redis's memory for each key that waits.
    """
    memory = subjects.server_memory(redis_url)
    rounds: dict[int, Round] = {}
    waiting_bytes: dict[int, float] = {}
    for size in sizes:
        feed = subjects.Feed(url, subjects.open_store(redis_url))
        rounds[size] = subjects.judging(url, redis_url, feed, POINT_PAGES, threads=1, stable_for_ms=1)
        rounds[size]()
        empty = memory()
        for first in range(0, size, _PARK_KEYS):
            subjects.park(feed, _keys(first, min(size, first + _PARK_KEYS)))
        waiting_bytes[size] = (memory() - empty) / size
    return _curve(sizes, repeats, lambda size: {**rounds[size](), "bytes_per_key": waiting_bytes[size]})


def hot_key(redis_url: str, url: str, sizes: Sequence[int]) -> Curve:
    """Redis's CPU and append-only file for a version of one key that nobody looks at, by how many it has.

    A point is the last versions of so many; of the least size, which is less than a round, on as many new
    keys as make one.
    """
    feed = subjects.Feed(url, subjects.open_store(redis_url))
    smallest, *larger = sorted(sizes)
    measured: dict[int, list[Figures]] = {smallest: []}
    ratios: dict[int, list[float]] = {}
    published = 0
    for size in larger:
        starts = range(size - REPEATS * ROUND_VERSIONS, size, ROUND_VERSIONS)
        _rewrite(feed, b'"hot"', published, starts[0])
        grounds, points = [], []
        for start in starts:
            keys = [b'"warm#%d#%d"' % (start, number) for number in range(ROUND_VERSIONS // smallest)]
            grounds.append(_rewritten(redis_url, feed, keys, 0, smallest))
            points.append(_rewritten(redis_url, feed, [b'"hot"'], start, start + ROUND_VERSIONS))
        measured[smallest] += grounds
        measured[size] = points
        ratios[size] = [point["us"] / ground["us"] for point, ground in zip(points, grounds, strict=True)]
        published = size
    return Curve({size: _median(rounds) for size, rounds in measured.items()}, ratios)


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
