"""Many migrations in one set of processes where nothing happens: what they cost by being there.

Reads: the processes' CPU clocks and memory. Writes: what the program writes. Never: parts of it replaced.
"""

import re
import time
import urllib.request
from pathlib import Path

from benchmarks import stub, subjects
from benchmarks.measure import Figures, until
from benchmarks.program import BOOT_SECONDS, Running
from benchmarks.stub import TABLE

#: As Prometheus does.
SCRAPE_SECONDS = 15.0
SCRAPES = 2


def idle(redis_url: str, directory: Path, migrations: int) -> Figures:
    """Of so many migrations with a shard each: cores that our processes and Redis take, scrapes included.

    And the largest process.
    """
    server_seconds = subjects.server_clock(redis_url)
    file = directory / "many.yml"
    names = [f"{TABLE}-{number}" for number in range(migrations)]
    file.write_text("\n".join(["migrations:", *(f"  {name}: {{}}" for name in names)]) + "\n")
    with stub.serve(shards=1, gated=True, dated=True) as source, stub.serve(dated=True) as target:
        log = directory / "many.log"
        argv = [
            *("run", "--config", str(file), "--redis-url", redis_url, "--region", "us-east-1"),
            *("--source-endpoint-url", source.url, "--target-endpoint-url", target.url),
            *("--metrics-port", "0", "--log-format", "json"),
        ]
        with Running(log, argv) as program:
            program.booted(readers=migrations, validators=2 * migrations)
            url = _metrics_url(log)
            cpu, server, began = program.cpu_seconds(), server_seconds(), time.monotonic()
            for _ in range(SCRAPES):
                with urllib.request.urlopen(url) as answer:
                    answer.read()
                time.sleep(SCRAPE_SECONDS)
            seconds = time.monotonic() - began
            return {
                "cores": (program.cpu_seconds() - cpu) / seconds,
                "redis_cores": (server_seconds() - server) / seconds,
                "memory_mb": max(program.memory_mb().values()),
            }


def _metrics_url(log: Path) -> str:
    until(lambda: b"metrics served" in log.read_bytes(), BOOT_SECONDS, "the port of the metrics")
    found = re.search(r'"url": "([^"]+)"', log.read_text())
    if found is None:
        raise RuntimeError(f"the log does not say where the metrics are: {log}")
    return found[1]
