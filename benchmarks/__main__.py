"""`python -m benchmarks`: measures, prints the table, writes it with a picture.

Reads: options. Writes: results.json, results.md and results.svg into --output. Never: another run's figures.

  --quick          fewer rounds and smaller sizes: under a minute, for a look
  --output DIR     where the files go (default: build/benchmarks)
  --only WORD …    only these: reader validator redis whole delay scaling growth many compare comparers report
"""

import argparse
import logging
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from benchmarks import (
    baselines,
    comparers,
    comparing,
    growth,
    many,
    picture,
    reporting,
    results,
    store_cost,
    stub,
    subjects,
    whole,
)
from benchmarks.measure import Figures, bench, take_turns
from benchmarks.results import Results, at_most, cheaper, faster
from pipeline.store import embedded


class Run:
    """A part's run: where it measures, how much, and what was found so far."""

    def __init__(self, redis_url: str, directory: Path, found: Results) -> None:
        self.redis_url = redis_url
        self.directory = directory
        self.quick = found.quick
        self.repeats = 2 if found.quick else 5
        self.results = found

    def add(self, *rows: results.Row) -> None:
        self.results.rows += rows
        for row in rows:
            print(f"  {row.what}: {row.ours.median:,.1f} {row.unit}", file=sys.stderr, flush=True)

    def sized(self, quick: int, full: int) -> int:
        return quick if self.quick else full


def reader(run: Run) -> None:
    for size, name in ((400, "400 B"), (2000, "2 KB")):
        with stub.serve(item_bytes=size) as server:
            for percent, need in ((1, 18), (100, 7)):
                with (
                    bench(baselines.reader, server.url, percent, run.sized(1, 4)) as plain,
                    bench(subjects.reader, server.url, percent, run.sized(5, 20)) as ours,
                ):
                    theirs, mine = take_turns(run.repeats, plain, ours)
                run.add(cheaper(f"reader, CPU per record, {name}, {percent} % sampled", mine, theirs, need))
    with (
        stub.serve() as server,
        bench(subjects.publishing, server.url, run.redis_url, 100, run.sized(5, 20)) as ours,
    ):
        (mine,) = take_turns(run.repeats, ours)
    run.add(
        at_most("the same with publishing, 400 B, 100 %", "µs", [one["us"] for one in mine], None),
        at_most("… and Redis's part of it", "µs", [one["redis_us"] for one in mine], None),
    )


def validator(run: Run) -> None:
    pages = run.sized(5, 20)
    with (
        stub.serve() as server,
        stub.serve(latency_ms=5) as distant,
        bench(baselines.get_item, server.url, run.sized(300, 1000)) as one_by_one,
        bench(baselines.batch_get_item, server.url, run.sized(2000, 5000)) as batches,
        bench(subjects.validator, server.url, run.redis_url, pages, 1, 60_000) as single,
        bench(subjects.validator, distant.url, run.redis_url, pages, 8, 60_000) as threaded,
    ):
        turns = take_turns(run.repeats, one_by_one, batches, single, threaded)
    gets, hundreds, alone, eight = turns
    run.add(
        cheaper("validator, CPU per key, vs get_item, compared", alone, gets, 30),
        cheaper("validator, CPU per key, vs batch_get_item, compared", alone, hundreds, 3),
        cheaper("… with 8 calls of 5 ms in flight, vs get_item", eight, gets, None),
        at_most("… Redis's part of it", "µs", [one["redis_us"] for one in alone], None),
    )


def whole_pipeline(run: Run) -> None:
    theirs, mine = [], []
    with stub.serve() as server, bench(baselines.pipeline, server.url, run.sized(300, 1000)) as plain:
        plain.round()
        for _ in range(run.sized(3, 5)):  # in turns: a neighbour's load is on both
            theirs.append(plain.round())
            mine.append(whole.pipeline(run.redis_url, run.directory, run.sized(10, 30), 5))
    with (
        stub.serve(latency_ms=5) as server,
        bench(baselines.seed_loop, server.url, whole.SHARDS, 2.0) as seed,
    ):
        slow = [seed.round()]
    with_redis: list[Figures] = [{"us": one["us"] + one["redis_us"]} for one in mine]
    run.add(
        cheaper("whole pipeline, CPU per change, all our processes", mine, theirs, 15),
        cheaper("… with Redis's CPU", with_redis, theirs, 15),
        at_most("… Redis's CPU per sampled change", "µs", [one["redis_us"] for one in mine], 12),
        faster("whole pipeline, changes/s, 8 shards, 5 ms per call", mine, slow, 20, "changes_per_second"),
        at_most("memory, the largest process", "MB", [one["memory_mb"] for one in mine], 80),
    )


def redis_cost(run: Run) -> None:
    rounds = store_cost.rounds(run.redis_url, run.sized(20, 60), run.repeats)
    run.add(
        at_most("Redis's CPU per sampled change, its part alone", "µs", [one["us"] for one in rounds], 12)
    )
    run.results.notes.append(store_cost.said(rounds[-1]))


def delay(run: Run) -> None:
    busy = whole.delay(run.redis_url, run.directory, whole.SHARDS, 100, run.sized(4, 20))
    run.add(at_most("added delay p99, 800 changes/s", "s", [busy["p99_seconds"]], 2))
    if not run.quick:
        sparse = whole.delay(run.redis_url, run.directory, 32, 1, 15)
        run.add(at_most("added delay p99, 32 changes/s on 32 shards", "s", [sparse["p99_seconds"]], 2))


def scaling(run: Run) -> None:
    pages = run.sized(50, 100)
    one, two = ([whole.scaling(run.redis_url, run.directory, count, pages * count)] for count in (1, 2))
    run.add(faster("1 → 2 validators, 20 ms per call, keys/s", two, one, 1.8, "keys_per_second"))


def growth_curves(run: Run) -> None:
    shards = (10, 100) if run.quick else (10, 100, 1000)
    keys = (1_000, 10_000) if run.quick else (1_000, 10_000, 100_000, 1_000_000)
    versions = (1_000, 100_000) if run.quick else (1_000, 10_000 * growth.REPEATS, 100_000, 1_000_000)
    repeats = run.sized(2, 5)
    with stub.serve() as server:
        by_versions = growth.hot_key(run.redis_url, server.url, versions)
        queued = growth.queued_bytes(run.redis_url, server.url, run.sized(20_000, 200_000))
        by_keys = growth.outstanding(run.redis_url, server.url, keys, repeats)
    by_shards = growth.shards(run.redis_url, run.directory, shards, repeats)
    run.results.by_keys, run.results.by_shards = by_keys.points, by_shards.points
    waiting = by_keys.points[max(keys)]["bytes_per_key"]
    run.add(
        at_most("Redis per outstanding key, in the queue", "B", [queued], 300),
        at_most("Redis per outstanding key, waiting for its next look", "B", [waiting], 300),
        results.growth("CPU per record by shards", min(shards), by_shards.ratios),
        results.growth("CPU per key by outstanding keys", min(keys), by_keys.ratios),
        results.growth(
            "Redis's CPU per version of one key that nobody looks at", min(versions), by_versions.ratios
        ),
        at_most(
            "… and its append-only file", "B", [one["log_bytes"] for one in by_versions.points.values()], 100
        ),
    )


def many_migrations(run: Run) -> None:
    count = run.sized(20, 100)
    rounds = [many.idle(run.redis_url, run.directory, count) for _ in range(run.sized(1, 3))]
    cores = [one["cores"] + one["redis_cores"] for one in rounds]
    run.add(
        at_most(f"{count} idle migrations, all processes and Redis, scraped", "cores", cores, 0.5),
        at_most("… Redis's part of it", "cores", [one["redis_cores"] for one in rounds], None),
        at_most("… memory, the largest process", "MB", [one["memory_mb"] for one in rounds], 150),
    )


def compare(run: Run) -> None:
    with stub.serve() as server:
        for name, tables, need in (
            ("the same", (stub.TABLE, stub.TABLE), 25),
            ("another", (stub.TABLE, stub.REORDERED_TABLE), 12),
        ):
            with (
                bench(baselines.compare, server.url, tables, 1) as plain,
                bench(comparing.compare, server.url, tables, 1) as ours,
            ):
                theirs, mine = take_turns(run.repeats, plain, ours)
            run.add(cheaper(f"compare, CPU per pair, 400 B, attributes in {name} order", mine, theirs, need))
        with bench(comparing.disjoint, server.url) as ours:
            (apart,) = take_turns(run.repeats, ours)
        suspects = [one["us"] for one in apart]
        run.add(at_most("compare, CPU per suspect, tables that share nothing", "µs", suspects, None))
    folders = tuple(comparing.make_export(run.directory / f"export-{seed}", seed) for seed in (1, 2))
    data = folders[0] / "data" / "file0.json.gz"
    with (
        bench(baselines.export, data) as plain,
        bench(comparing.export, folders, run.directory / "spill") as ours,
    ):
        theirs, mine = take_turns(run.repeats, plain, ours)
    run.add(
        cheaper("export, CPU per item and side, 400 B, sorted and joined", mine, theirs, 2.5),
        at_most("… memory", "MB", [one["memory_mb"] for one in mine], 150),
    )


def compare_cost(run: Run) -> None:
    """The command itself: what a pair costs, Redis included, and what follows for half a billion."""
    for name, reordered in (("the same", 0), ("another", 1)):
        with stub.serve() as source, stub.serve(reordered=reordered) as target:
            rounds = [
                comparers.throughput((source, target), run.redis_url, run.directory, run.sized(40, 120))
                for _ in range(run.sized(1, 3))
            ]
        every = [one["us"] + one["redis_us"] for one in rounds]
        what = f"comparer, CPU per pair, {name} order, all processes and Redis"
        run.add(at_most(what, "µs", every, None))
    redis_seconds = [one["redis_us"] for one in rounds]
    run.add(at_most("… Redis's part, for 1,000,000 equal pairs", "s", redis_seconds, 2))
    run.results.notes += comparers.extrapolated(statistics.median(every), rounds[0]["item_bytes"])


def compare_memory(run: Run) -> None:
    """The largest process, whatever the tables are."""
    megabytes = run.sized(100, 1000)
    collection = {"item_bytes": 2000, "collection": 1, "scan_items": 520 * megabytes}
    tables: tuple[tuple[str, int, dict[str, Any], dict[str, Any]], ...] = (
        ("segments of 16 MB", run.sized(8, 16), {"item_bytes": 700}, {}),
        (f"an item collection of {megabytes:,} MB", 1, collection, {"lacks": 1000}),
        ("tables that share nothing", run.sized(8, 16), {}, {"apart": 5000}),
    )
    for what, segments, both, target_only in tables:
        with stub.serve(**both) as source, stub.serve(**both, **target_only) as target:
            found = comparers.memory((source, target), run.redis_url, run.directory, segments)
        run.add(at_most(f"comparer, memory, {what}", "MB", [found["memory_mb"]], 150))


def compare_scaling(run: Run) -> None:
    segments = run.sized(15, 60)
    # Small pages: waiting is to be the limit of two comparers and two stubs on two cores, not CPU.
    slow: dict[str, Any] = {"latency_ms": 20, "page_bytes": 100_000, "scan_items": comparers.SCALING_ITEMS}
    with stub.serve(**slow) as source, stub.serve(**slow) as target:
        one, two = (
            [comparers.scaling((source, target), run.redis_url, run.directory, count, segments * count)]
            for count in (1, 2)
        )
    run.add(
        faster("1 → 2 comparers, 20 ms per call, pages of 100 KB, pairs/s", two, one, 1.8, "pairs_per_second")
    )


def comparers_whole(run: Run) -> None:
    compare_cost(run)
    compare_memory(run)
    compare_scaling(run)


def report(run: Run) -> None:
    """One page of 100,000 open findings; `status` and `gate` read less."""
    with bench(reporting.page, run.redis_url, str(run.directory)) as ours:
        [rounds] = take_turns(run.repeats, ours)
    for name, unit, need in (("cpu_s", "s", 5), ("memory_mb", "MB", 200), ("page_mb", "MB", 5)):
        what = f"report of 100,000 findings, {name.partition('_')[0]}"
        run.add(at_most(what, unit, [one[name] for one in rounds], need))


PARTS: dict[str, Callable[[Run], None]] = {
    "reader": reader,
    "validator": validator,
    "redis": redis_cost,
    "whole": whole_pipeline,
    "delay": delay,
    "scaling": scaling,
    "growth": growth_curves,
    "many": many_migrations,
    "compare": compare,
    "comparers": comparers_whole,
    "report": report,
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(argv)
    os.environ.update(stub.AWS_ENVIRONMENT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    found = Results(results.machine(), options.quick)
    for part in options.only:
        print(part, file=sys.stderr, flush=True)
        # A server for each: what one part leaves behind is not to be paid for in the rows of the next.
        with tempfile.TemporaryDirectory() as directory, embedded.running(directory) as redis_url:
            PARTS[part](Run(redis_url, Path(directory), found))
    _write(found, options.output)
    missed = [row for row in found.rows if row.met is False]
    return 1 if missed else 0


def _write(found: Results, output: Path) -> None:
    text = results.table(found)
    print(text)
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.md").write_text(text + "\n")
    (output / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if found.by_shards and found.by_keys and any(row.factor for row in found.rows):
        (output / "results.svg").write_text(picture.draw(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
