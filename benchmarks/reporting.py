"""What a report of many findings takes: CPU, memory, size of the page.

Reads and writes: Redis, a file. Never: the stub.
"""

import resource
import uuid
from pathlib import Path

import msgspec

from benchmarks.measure import Figures, Round, own_cpu_seconds
from benchmarks.subjects import open_store
from pipeline.commands import report
from pipeline.config import ProcessConfig
from pipeline.core.gate import DEFAULT_LIMITS
from pipeline.store import StoreView

FINDINGS = 100_000
_AT_ONCE = 1_000
#: Different places where items differ: so many causes.
CAUSES = 700


def page(redis_url: str, directory: str) -> Round:
    """A round is one page of 100,000 open findings."""
    store, file = open_store(redis_url), Path(directory) / f"report-{uuid.uuid4().hex}.html"
    for first in range(0, FINDINGS, _AT_ONCE):
        _open(store, first)
    process = ProcessConfig(redis_url=redis_url, output=str(file))

    def measured() -> Figures:
        began = own_cpu_seconds()
        report.of_state(process, DEFAULT_LIMITS, store)
        return {
            "cpu_s": own_cpu_seconds() - began,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "page_mb": file.stat().st_size / 1e6,
        }

    return measured


def _open(store: StoreView, first: int) -> None:
    """Findings as commits leave them."""
    now_ms = store.now_ms()
    found = {
        msgspec.json.encode(f"c#{number}"): msgspec.json.encode(
            {
                "kind": "different",
                "versions_behind": 1,
                "attributes": [f"contact.field{number % CAUSES}", "address.city"],
                "operation": "MODIFY",
                "oldest_change_ms": now_ms - 90_000,
                "last_looked_ms": now_ms,
            }
        )
        for number in range(first, first + _AT_ONCE)
    }
    store._redis.hset(store._key("findings"), mapping=dict(found.items()))
    store._redis.zadd(store._key("findings-since"), dict.fromkeys(found, now_ms))
    store._redis.hincrby(store._key("ledger"), "open:different", len(found))
