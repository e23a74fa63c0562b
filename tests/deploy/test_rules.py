"""Rules and configuration of Prometheus and Alertmanager, by their own tools; runbook and alerts agree."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from deploy.grafana import links
from pipeline import metrics
from pipeline.core.ledger import Ledger
from tests.deploy import artifacts
from tests.servers import ROOT
from tests.test_metrics import figures

#: Alerts that speak of processes, of Redis or of Prometheus itself, and so of no one migration.
OF_PROCESSES = {
    f"DynamoDBMigration{name}"
    for name in (
        *("TargetDown", "TargetFlapping", "NothingRuns", "WorkerRestarting", "ErrorsLogged", "MemoryHigh"),
        *("RedisMemoryHigh", "Watchdog", "DeliveryFailing", "AlertmanagerUnreachable", "NobodyIsTold"),
        *("RulesFailing", "ConfigurationFailing", "ExporterDown", "PrometheusDisk"),
    )
}
SECTIONS = ("Meaning", "Impact", "Diagnosis", "Mitigation")


def promtool(*arguments: object, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [artifacts.tool("promtool", "prometheus"), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=180)


def test_rules_and_configuration_are_accepted_by_promtool() -> None:
    for arguments in (
        ("check", "rules", "--lint=all", "--lint-fatal", *artifacts.RULES),
        ("check", "config", artifacts.PROMETHEUS / "prometheus.yml"),
    ):
        ended = promtool(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_metrics_page_is_accepted_by_promtool() -> None:
    own = metrics.start(None, "deploy")
    watched = []
    for name in ("orders", "customers"):
        own.of(name)
        watched.append(metrics.Watched(name, lambda: figures(marks={"T0": 1_000})))
    own.registry.register(metrics.StoreCollector(watched))
    ended = promtool("check", "metrics", stdin=generate_latest(own.registry).decode())
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_alertmanager_example_is_accepted_by_amtool_as_shipped_and_with_its_receivers(
    tmp_path: Path,
) -> None:
    shipped = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
    switched_on = tmp_path / "alertmanager.yml"
    route, head, receivers = shipped.read_text(encoding="utf-8").partition("receivers:\n")
    receivers = re.sub(r"(?m)^    # ", "    ", receivers)
    receivers = re.sub(
        r"- url_file: \S+", "- url: http://127.0.0.1:9/", receivers
    )  # new in 0.26; Debian 12: 0.25
    switched_on.write_text(route + head + receivers, encoding="utf-8")
    page = yaml.safe_load(switched_on.read_text(encoding="utf-8"))["receivers"][0]
    assert {"webhook_configs", "slack_configs"} <= set(page)
    amtool = artifacts.tool("amtool", "prometheus-alertmanager")
    for file in (shipped, switched_on):
        ended = subprocess.run(
            [amtool, "check-config", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_case_of_the_alerts_comes_out_as_written() -> None:
    ended = promtool("test", "rules", *artifacts.RULE_TESTS)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_case_that_fires_and_one_near_it_that_does_not() -> None:
    files = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in artifacts.RULE_TESTS]
    fires: dict[bool, set[str]] = {True: set(), False: set()}
    for case in (case for file in files for case in file["tests"]):
        for one in case.get("alert_rule_test", []):
            fires[bool(one.get("exp_alerts"))].add(one["alertname"])
    names = {alert["alert"] for alert in artifacts.alerts()}
    assert fires[True] == names
    assert fires[False] == names - {"DynamoDBMigrationWatchdog"}  # which always fires


@pytest.mark.parametrize("alert", artifacts.alerts(), ids=lambda a: f"{a['alert']} {a['labels']}")
def test_an_alert_says_how_grave_it_is_and_where_to_read_on(alert: dict) -> None:
    name = alert["alert"].removeprefix("DynamoDBMigration")
    assert name != alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    migration = "{{ $labels.migration }}"
    summary = alert["annotations"]["summary"]
    assert "{{" not in summary.replace(migration, ""), "one text for all firings of one migration"
    assert (migration in summary) == (alert["alert"] not in OF_PROCESSES)
    assert alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == "{{ $externalURL }}/user/runbook.html#" + name.lower()
    chosen = "" if alert["alert"] in OF_PROCESSES else f"&var-migration={migration}"
    link = (
        re.escape("{{ $externalLabels.grafana }}/d/ddbmm-cutover?viewPanel=") + r"(\d+)" + re.escape(chosen)
    )
    panel = re.fullmatch(link, alert["annotations"]["dashboard_url"])
    assert panel and int(panel[1]) in {one["id"] for one in artifacts.panels()}


def test_the_links_of_alerts_are_those_that_the_dashboard_gives() -> None:
    for file in links.FILES:
        text = file.read_text(encoding="utf-8")
        assert text == links.linked(text), "run `make docs`"
        assert text.count("dashboard_url: ") == len(re.findall(r"# Panel: .+\n +dashboard_url: ", text))


def test_the_panel_an_alert_links_to_shows_a_metric_of_the_alert() -> None:
    by_id = {panel["id"]: panel for panel in artifacts.panels()}
    # Of the pager itself there is only the table of alerts.
    unrelated = {"DynamoDBMigrationWatchdog"}
    for alert in artifacts.alerts():
        [number] = re.findall(r"viewPanel=(\d+)", alert["annotations"]["dashboard_url"])
        panel = by_id[int(number)]
        asked = set().union(*(_made_of(target["expr"]) for target in panel["targets"]))
        made_of = _made_of(alert["expr"])
        if alert["alert"] not in unrelated and not made_of <= artifacts.FOREIGN.keys() - {"up"}:
            assert asked & made_of, (alert["alert"], panel["title"])


def _made_of(expr: str) -> set[str]:
    """The exported metrics behind a query, through recorded figures; a histogram counts as one."""
    records = {rule["record"]: rule["expr"] for rule in artifacts.rules() if "record" in rule}
    names: set[str] = set()
    for selector in artifacts.selectors(expr):
        inner = records.get(selector.metric)
        names |= _made_of(inner) if inner else {artifacts.family(selector.metric)}
    return names


def test_the_runbook_has_a_full_section_for_every_alert_and_for_nothing_else() -> None:
    text = artifacts.RUNBOOK.read_text(encoding="utf-8")
    sections = dict(re.findall(r"(?ms)^## (\w+)\n(.*?)(?=^## |\Z)", text))
    assert set(sections) == {a["alert"].removeprefix("DynamoDBMigration") for a in artifacts.alerts()}
    for name, section in sections.items():
        found = re.findall(r"(?m)^\*\*(\w+)\.\*\*", section)
        assert tuple(found) == SECTIONS, name


def test_panels_and_links_that_the_runbook_names_exist() -> None:
    text = artifacts.RUNBOOK.read_text(encoding="utf-8")
    titles = {panel["title"] for panel in artifacts.panels()}
    for sentence in re.findall(r"Panels? (\*[^*]+\*(?:(?:,| and) \*[^*]+\*)*)", text):
        for title in re.findall(r"\*([^*]+)\*", sentence):
            assert title in titles, title
    headings = {heading.lower() for heading in re.findall(r"(?m)^## (\w+)", text)}
    assert set(re.findall(r"\(#(\w+)\)", text)) <= headings


@pytest.mark.parametrize(
    ("keys", "wrong", "suspects"),
    [
        (1, 0, 0),
        (1, 1, 0),
        (100, 0, 0),
        (1_000, 7, 0),
        (1_000_000, 3, 0),
        (40, 40, 0),
        (214, 33, 16),
        (9, 0, 5),
    ],
)
def test_the_recorded_ratio_is_the_one_of_the_program(
    tmp_path: Path, keys: int, wrong: int, suspects: int
) -> None:
    """Of the keys that changed: what a comparison found among those that did not, is not theirs."""
    judged = Ledger(keys_judged=keys, suspects_open=suspects, open={"missing": wrong + suspects})
    ratio = figures(ledger=judged).success.ratio
    labels = 'migration="orders",instance="monitor:9464",job="ddbmm"'
    test = {
        "rule_files": [str(artifacts.RULES[0])],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"ddbmm_keys_judged{{{labels}}}", "values": f"{keys}x5"},
                    {
                        "series": f'ddbmm_mismatches_open{{{labels},kind="missing"}}',
                        "values": f"{wrong + suspects}x5",
                    },
                    {"series": f'ddbmm_suspect_keys{{{labels},state="open"}}', "values": f"{suspects}x5"},
                ],
                "promql_expr_test": [
                    {
                        "expr": f"abs(migration:ddbmm_keys_right:ratio - {ratio!r}) < bool 1e-12",
                        "eval_time": "5m",
                        "exp_samples": [{"labels": '{migration="orders"}', "value": 1}],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "ratio.yml"
    file.write_text(yaml.safe_dump(test), encoding="utf-8")
    ended = promtool("test", "rules", file)
    assert ended.returncode == 0, ended.stdout + ended.stderr
