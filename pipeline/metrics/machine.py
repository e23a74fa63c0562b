"""What the machine gives this process and its children: the memory that they may use, read at each scrape.

Reads: the control group's files (process/memory.py). Writes: nothing. Never: redis.
"""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.metrics.declared import PREFIX, Declared
from pipeline.process import memory

MEMORY_USED = Declared(
    PREFIX + "memory_used_bytes",
    "gauge",
    "Memory in use where it is limited (a container's), as the kernel counts it; no sample without a limit.",
    {},
    "supervisor",
)
MEMORY_LIMIT = Declared(
    PREFIX + "memory_limit_bytes",
    "gauge",
    "Memory that may be used before the kernel ends a process; no sample without a limit.",
    {},
    "supervisor",
)


class MemoryCollector(Collector):
    """Both figures of one instant."""

    def collect(self) -> Iterator[Metric]:
        found = memory.of_this_group()
        if found is not None:
            yield GaugeMetricFamily(MEMORY_USED.name, MEMORY_USED.help, value=found.used_bytes)
            yield GaugeMetricFamily(MEMORY_LIMIT.name, MEMORY_LIMIT.help, value=found.limit_bytes)
