"""Write docs/metrics.md from the declarations: `python tools/metrics_doc.py > docs/metrics.md`.

Reads: pipeline.metrics. Writes: stdout. Never: anything by hand; a test compares.
"""

from pipeline.metrics import Declared, declarations, start

HEAD = """# Metrics

<!-- Made by tools/metrics_doc.py; edit the declarations in pipeline/metrics/ instead. -->

Every process serves `/metrics` (and `/healthz`) on one port, `--metrics-port`; `run` serves all its
processes on one. What each process exports is summed over the processes of a `run`; sum it over containers
in Prometheus. What the monitor exports is read from Redis at each scrape. Every metric that speaks of a
migration carries its name in the label `migration`; one that speaks of a process does not. No label carries a
key, a shard or free text. Known label values are there from the start, at 0; a figure that was not measured
has no sample. `cause` is the name of a cause as `findings --by cause` shows it, eight hexadecimal digits; at
most ten are there at a time.

| Metric | Type | Labels | Meaning | Exported by |
|---|---|---|---|---|
"""
#: More values than this are summed up by their number: operations and error codes say enough by name.
SHOWN_VALUES = 6


def labels(one: Declared) -> str:
    """The labels and their values; not the build's, which differ from one machine to the next."""
    if one.name.endswith("build_info"):
        return ", ".join(f"`{label}`" for label in one.labels)
    return "; ".join(f"`{label}`{_values(values)}" for label, values in one.labels.items()) or "-"


def _values(values: tuple[str, ...]) -> str:
    if not values:  # the migration's name
        return ""
    shown = ", ".join(values[:SHOWN_VALUES])
    return f": {shown}" if len(values) <= SHOWN_VALUES else f": {shown}, … ({len(values)} values)"


def document() -> str:
    """The whole page."""
    rows = [
        f"| `{one.name}` | {one.kind} | {labels(one)} | {one.help} | {one.by} |\n"
        for one in declarations(start(None, "docs"))
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(document(), end="")
