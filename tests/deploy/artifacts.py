"""What stands in deploy/, taken apart for the tests: panels, queries, rules, the names they use.

Reads: files of deploy/, the declared metrics. Writes: nothing.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from pipeline import metrics
from tests import servers
from tests.servers import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "cutover.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = tuple(PROMETHEUS / "rules" / f"{name}.yml" for name in ("recording", "alerts", "pager"))
RULE_TESTS = tuple(PROMETHEUS / "tests" / f"{name}.yml" for name in ("alerts", "pager"))
RUNBOOK = ROOT / "docs" / "runbook.md"

#: What Grafana puts into a query before it is sent.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$migration": "demo",
    "$job": ".+",
    "$instance": ".+",
}
#: The row that shows all migrations; every other one shows the one that is chosen.
OVERVIEW = "All migrations"
#: Labels that every target has by deploy/prometheus/prometheus.yml, and those of a histogram's bucket.
TARGET_LABELS = {"job", "instance", "role"}
#: Metrics that are not ours, with the labels that we use.
FOREIGN = {
    "up": TARGET_LABELS,
    "ALERTS": {"alertname", "alertstate", "severity", "migration"},
    "redis_memory_used_bytes": {"job", "instance"},
    "redis_memory_max_bytes": {"job", "instance"},
    "redis_up": {"job", "instance"},
    "alertmanager_config_last_reload_successful": {"job", "instance"},
    "alertmanager_integrations": {"job", "instance"},
    "alertmanager_notifications_failed_total": {"job", "instance", "integration"},
    "prometheus_config_last_reload_successful": {"job", "instance"},
    "prometheus_notifications_alertmanagers_discovered": {"job", "instance"},
    "prometheus_notifications_dropped_total": {"job", "instance"},
    "prometheus_notifications_errors_total": {"job", "instance", "alertmanager"},
    "prometheus_rule_evaluation_failures_total": {"job", "instance", "rule_group"},
    "prometheus_rule_group_iterations_missed_total": {"job", "instance", "rule_group"},
    "prometheus_tsdb_checkpoint_creations_failed_total": {"job", "instance"},
    "prometheus_tsdb_compactions_failed_total": {"job", "instance"},
    "prometheus_tsdb_head_truncations_failed_total": {"job", "instance"},
    "prometheus_tsdb_retention_limit_bytes": {"job", "instance"},
    "prometheus_tsdb_storage_blocks_bytes": {"job", "instance"},
    "prometheus_tsdb_wal_writes_failed_total": {"job", "instance"},
    "redis_connected_clients": {"job", "instance"},
    "redis_rdb_last_bgsave_status": {"job", "instance"},
    "redis_aof_last_write_status": {"job", "instance"},
    "prometheus_rule_group_interval_seconds": {"job", "instance", "rule_group"},
    "prometheus_rule_group_last_evaluation_timestamp_seconds": {"job", "instance", "rule_group"},
    "prometheus_tsdb_head_series": {"job", "instance"},
    "aws_dynamodb_write_throttle_events_sum": {"job", "instance", "name"},
}


#: A colour that says neither good nor bad.
GREY = "#808080"


class Query(NamedTuple):
    """One query of one panel."""

    panel: str
    expr: str
    legend: str
    instant: bool


class Selector(NamedTuple):
    """One metric as a query selects it."""

    metric: str
    labels: frozenset[str]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    """Every panel but rows, those of folded rows too."""
    tops = dashboard()["panels"]
    all_of_them = [each for top in tops for each in (top, *top.get("panels", []))]
    return [panel for panel in all_of_them if panel["type"] != "row"]


def overview() -> set[str]:
    """The titles of the panels that show all migrations."""
    found: set[str] = set()
    row = ""
    for panel in dashboard()["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if row == OVERVIEW and panel["type"] != "row":
            found.add(panel["title"])
    return found


def queries() -> list[Query]:
    return [
        Query(panel["title"], target["expr"], target.get("legendFormat", ""), target.get("instant", False))
        for panel in panels()
        for target in panel["targets"]
    ]


def annotations() -> list[str]:
    return [one["expr"] for one in dashboard()["annotations"]["list"]]


def rules() -> Iterator[dict[str, Any]]:
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def filled(expr: str) -> str:
    """The query as Prometheus gets it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def selectors(expr: str) -> list[Selector]:
    """Every metric that the query selects. Raises ValueError when it is no PromQL."""
    found: list[Selector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(Selector(node.name or "", frozenset(m.name for m in node.matchers.matchers)))

    promql_parser.walk(promql_parser.parse(filled(expr)), visit)
    return found


def grouped_by(expr: str) -> set[str]:
    """Every label that the query names in by, without, on, ignoring or group_left."""
    clauses = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", expr)
    return {label.strip() for clause in clauses for label in clause.split(",") if label.strip()}


def legend_labels(legend: str) -> set[str]:
    return set(re.findall(r"\{\{(\w+)\}\}", legend))


def declared() -> dict[str, set[str]]:
    """Every series name that the program exports, with its labels (those of the target included)."""
    names: dict[str, set[str]] = {}
    for one in metrics.declarations(metrics.start(None, "deploy")):
        labels = set(one.labels) | TARGET_LABELS
        if one.kind == "histogram":
            names |= {
                f"{one.name}_bucket": labels | {"le"},
                f"{one.name}_sum": labels,
                f"{one.name}_count": labels,
            }
        else:
            names[one.name] = labels
    return names


def of_the_monitor() -> set[str]:
    """Every metric that the monitor reads from Redis: two monitors export the same figure twice."""
    return {one.name for one in metrics.declarations(metrics.start(None, "deploy")) if one.by == "monitor"}


def added_up(expr: str) -> set[str]:
    """The metrics whose series the query adds up over processes: no max or min comes before sum or count."""
    found: set[str] = set()

    def visit(node: Any, by: str) -> None:
        if isinstance(node, promql_parser.VectorSelector) and by:
            found.add(node.name or "")
        elif isinstance(node, promql_parser.AggregateExpr):
            adds = str(node.op) in ("sum", "count", "avg")
            visit(node.expr, str(node.op) if adds else "")
        else:
            for child in _children(node):
                visit(child, by)

    visit(promql_parser.parse(filled(expr)), "")
    return found


def _children(node: Any) -> list[Any]:
    if isinstance(node, promql_parser.BinaryExpr):
        return [node.lhs, node.rhs]
    if isinstance(node, promql_parser.Call):
        return list(node.args)
    if isinstance(node, promql_parser.MatrixSelector):
        return [node.vector_selector]
    return [node.expr] if hasattr(node, "expr") else []


def family(series: str) -> str:
    """The declared name behind a series of a histogram."""
    return re.sub(r"_(bucket|sum|count)$", "", series)


def check_queries(
    directory: Path, series: list[dict[str, Any]], expected: Iterable[tuple[str, list[dict[str, Any]]]]
) -> None:
    """Asks promtool what each query gives after five minutes of these series."""
    cases = [{"expr": expr, "eval_time": "5m", "exp_samples": samples} for expr, samples in expected]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": cases}
    file = directory / "queries.yml"
    file.write_text(yaml.safe_dump({"tests": [test]}), encoding="utf-8")
    command = [tool("promtool", "prometheus"), "test", "rules", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def tool(name: str, package: str) -> str:
    """A program of Debian's `package`; without it, skip here and fail in CI."""
    return servers.needed(name, shutil.which(name), f"apt-get install {package}")
