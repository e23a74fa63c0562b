"""What the processes of one port use, read at each scrape: `process_*`, by the names that Prometheus' own
clients give these figures, with the label `process` for which one it is.

Reads: /proc, through process/usage.py. Writes: nothing. Never: the store.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.metrics.declared import PREFIX, Declared
from pipeline.process.usage import Usage, memory_limit_bytes, usage

PROCESS = "process"


def _declared(name: str, kind: str, text: str) -> Declared:
    return Declared(f"process_{name}", kind, text, {PROCESS: ()}, "supervisor")


PROCESS_METRICS: tuple[tuple[Declared, Callable[[Usage], float]], ...] = (
    (
        _declared("resident_memory_bytes", "gauge", "Memory that the process holds."),
        lambda used: used.resident_bytes,
    ),
    (
        _declared("cpu_seconds_total", "counter", "CPU time that the process has used."),
        lambda used: used.cpu_seconds,
    ),
    (
        _declared("open_fds", "gauge", "File descriptors that the process holds."),
        lambda used: used.open_files,
    ),
    (
        _declared("start_time_seconds", "gauge", "When the process was started, UNIX time."),
        lambda used: used.started_seconds,
    ),
)
MEMORY_LIMIT = Declared(
    PREFIX + "memory_limit_bytes",
    "gauge",
    "Memory that the processes of this container may hold together; no sample without a limit.",
    {},
    "supervisor",
)


class ProcessCollector(Collector):
    """pids: name of each process → its number, asked at each scrape."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        used = {name: found for name, pid in self._pids().items() if (found := usage(pid)) is not None}
        for declared, number in PROCESS_METRICS:
            make = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
            family = make(declared.name, declared.help, labels=[PROCESS])
            for name, one in used.items():
                family.add_metric([name], number(one))
            yield family
        if (limit := memory_limit_bytes()) is not None:
            yield GaugeMetricFamily(MEMORY_LIMIT.name, MEMORY_LIMIT.help, value=limit)
