"""Dashboard and alerts on a real Prometheus that watches a real run with planted faults."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pipeline import exit_codes
from pipeline.demo import stage, tables
from tests import servers
from tests.deploy import artifacts
from tests.deploy.live import ROLES, Live, running

TRAFFIC_SECONDS = 15.0
SETTLE_SECONDS = 90.0
#: Queries that a run without such trouble leaves empty; of a tile's states and words, one has a value.
EMPTY = {
    ("Credentials expire in", "{{side}}"): "emulated credentials do not expire",
    ("Oldest change waited for", "oldest"): "empty while nothing is waited for",
    ("Refused and failed requests", "{{side}} {{code}}"): "no request failed",
    ("Memory of the processes", "limit"): "this host has none",
    ("File descriptors, and age of the processes", "young processes"): "they grow old",
    ("Prometheus itself", "notifications failed"): "there is no Alertmanager in this run",
    ("Cost an hour by side and operation", "allowed"): "this run has no budget",
    ("Throttled writes of the target table", "{{name}}"): "no exporter of the account's metrics",
}
#: Rows of what this run does not do.
NOT_DONE = {panel["title"] for panel in artifacts.panels() if "ddbmm_comparison_" in str(panel["targets"])}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The run, when all traffic has arrived and the monitor has found what the replicator planted."""
    with running(tmp_path_factory.mktemp("live"), TRAFFIC_SECONDS, alerts_after="2s") as live:
        command(live, "mark", "T2")
        servers.eventually(live.truth_file.exists, TRAFFIC_SECONDS + SETTLE_SECONDS, "the planted truth")
        servers.eventually(lambda: not differences(live), SETTLE_SECONDS, lambda: unsettled(live))
        compared = command(live, "compare", "--metrics-port", "0")
        assert compared.returncode == exit_codes.FAILED, compared.stderr
        counted = "ddbmm_findings_by_cause"  # every half a minute
        servers.eventually(lambda: live.query(counted), SETTLE_SECONDS, counted)
        priced = "ddbmm_cost_dollars_per_hour > 0"  # once there is a minute to go by
        servers.eventually(lambda: live.query(priced), SETTLE_SECONDS + 60, priced)
        yield live


def command(live: Live, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        env=live.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def truth(live: Live) -> dict[str, str]:
    divergent: dict[str, str] = json.loads(live.truth_file.read_text(encoding="utf-8"))["divergent"]
    return divergent


def findings(live: Live) -> dict[str, str]:
    lines = map(json.loads, command(live, "findings", "--json", "--show-keys").stdout.splitlines())
    return {tables.as_text(line["key"]): line["kind"] for line in lines}


def differences(live: Live) -> dict[str, tuple[str | None, str | None]]:
    """What was found and what was planted, of each key where they are not the same."""
    found, planted = findings(live), truth(live)
    keys = sorted(found.keys() | planted.keys())
    return {key: (found.get(key), planted.get(key)) for key in keys if found.get(key) != planted.get(key)}


def unsettled(live: Live) -> str:
    """All that tells why the findings are not the planted truth: CI keeps nothing else of it."""
    said = command(live, "status")
    logs = (f"--- {role}\n{(live.directory / f'{role}.log').read_text()[-3000:]}" for role in ROLES)
    differ = f"findings = planted truth; (found, planted) differ: {differences(live)}"
    return "\n".join((differ, said.stdout, said.stderr, *logs))


def test_no_panel_is_empty_and_every_label_of_a_legend_is_there(live: Live) -> None:
    empty = set()
    now = time.time()
    told = set()  # tiles with a value
    tiles = {panel["title"] for panel in artifacts.panels() if panel["type"] == "stat"}
    for query in artifacts.queries():
        expr = artifacts.filled(query.expr)
        found = live.query(expr) if query.instant else live.query_range(expr, now - 120, now, 1)
        if found:
            told.add(query.panel)
        elif query.panel not in tiles:
            empty.add((query.panel, query.legend))
        for series in found:
            assert artifacts.legend_labels(query.legend) <= set(series["metric"]), query
    assert {one for one in empty if one[0] not in NOT_DONE} <= set(EMPTY)
    assert tiles - told == set()


def test_a_milestone_is_there_to_be_drawn(live: Live) -> None:
    (marked,) = [expr for expr in artifacts.annotations() if "mark" in expr]
    (series,) = live.query(artifacts.filled(marked))
    assert series["metric"]["mark"] == "T2"
    assert abs(float(series["value"][1]) / 1000 - time.time()) < 300


def test_the_gate_says_the_same_to_prometheus_and_on_the_console(live: Live) -> None:
    reported = json.loads(command(live, "gate", "--json").stdout)
    assert reported["result"] == "failed"
    reported = {check["name"]: check["result"] == "passed" for check in reported["checks"]}
    exported = {
        series["metric"]["check"]: series["value"][1] == "1"
        for series in live.query("ddbmm_cutover_check_passed")
    }
    assert exported.keys() == reported.keys()
    assert exported["mismatches"] is reported["mismatches"] is False


def test_the_alert_on_open_findings_fires_and_resolves_when_the_target_is_mended(live: Live) -> None:
    servers.eventually(lambda: live.firing("OpenMismatches"), what="the alert fires")
    source = tables.client(live.url("source"), stage.SOURCE_REGION)
    target = tables.client(live.url("target"), stage.TARGET_REGION)
    right = tables.contents(source, stage.TABLE)
    for key in truth(live):
        if key in right:
            target.put_item(TableName=stage.TABLE, Item=right[key])
        else:
            target.delete_item(TableName=stage.TABLE, Key=json.loads(key))
    servers.eventually(lambda: not live.firing("OpenMismatches"), SETTLE_SECONDS, "the alert resolves")
    assert findings(live) == {}


def test_a_reader_that_is_gone_fires_an_alert_that_resolves_when_it_is_back(live: Live) -> None:
    assert not live.firing("RoleAbsent", role="reader")
    live.stop_role("reader")
    servers.eventually(lambda: live.firing("RoleAbsent", role="reader"), what="the alert fires")
    assert not live.firing("RoleAbsent", role="validator")
    live.start_role("reader")
    servers.eventually(lambda: not live.firing("RoleAbsent", role="reader"), what="the alert resolves")
