"""A real Alertmanager with the shipped file: who is told of what, and what follows from what."""

import contextlib
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests import servers
from tests.deploy import artifacts
from tests.deploy.receivers import Labels, Receivers
from tests.servers import ROOT

FILE = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
SHIPPED: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
RECEIVERS = {"critical": "page", "warning": "warnings", "info": "information"}
ALERTS = {(alert["alert"], alert["labels"]["severity"]) for alert in artifacts.alerts()}


class Alertmanager:
    """Runs for the tests of this module."""

    def __init__(self, url: str, receivers: Receivers) -> None:
        self.url, self.receivers = url, receivers

    def told(self, receiver: str) -> list[Labels]:
        return [told.labels for told in self.receivers.told if told.receiver == receiver]

    def post(self, *alerts: Labels) -> None:
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts", body, {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()

    def groups(self, receiver: str) -> list[list[Labels]]:
        """What is told together."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts/groups", timeout=10) as answer:
            return [
                [alert["labels"] for alert in group["alerts"]]
                for group in json.load(answer)
                if group["receiver"]["name"] == receiver
            ]

    def state(self, labels: Labels) -> str:
        """As Alertmanager has it, active or suppressed; "" while it is not there or not judged yet."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            for alert in json.load(answer):
                if alert["labels"] == labels and alert["status"]["state"] != "unprocessed":
                    return str(alert["status"]["state"])
        return ""

    def becomes(self, state: str, labels: Labels) -> None:
        servers.eventually(lambda: self.state(labels) == state, what=f"{state}: {labels}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """The shipped file with a webhook for each receiver, and without its waits."""
    directory, port = tmp_path_factory.mktemp("alertmanager"), servers.free_port()
    manager = Alertmanager(f"http://127.0.0.1:{port}", Receivers())
    made = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    made["route"] |= {"group_wait": "100ms", "group_interval": "200ms"}
    manager.receivers.switched_on(made)
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(made), encoding="utf-8")
    command = [
        artifacts.tool("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (
        contextlib.closing(manager.receivers),
        servers.process(command, log=directory / "log"),
    ):
        servers.eventually(lambda: _ready(manager.url), what="Alertmanager")
        yield manager


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def labels_of(name: str, migration: str = "", **more: str) -> Labels:
    """An alert as Prometheus sends it. The severity is that of the rule."""
    full = f"DynamoDBMigration{name}"
    role = more.get("role")
    severity = next(
        alert["labels"]["severity"]
        for alert in artifacts.alerts()
        if alert["alert"] == full and alert["labels"].get("role", role) == role
    )
    of = {"migration": migration} if migration else {}
    return {"alertname": full, "severity": severity, **of, **more}


@pytest.mark.parametrize(("alert", "severity"), sorted(ALERTS))
def test_who_is_told_depends_on_how_grave_it_is(alert: str, severity: str) -> None:
    amtool = artifacts.tool("amtool", "prometheus-alertmanager")
    command = [amtool, "config", "routes", "test", f"--config.file={FILE}"]
    ended = subprocess.run(
        [*command, f"alertname={alert}", f"severity={severity}", "migration=orders"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    expected = "watchdog" if alert.endswith("Watchdog") else RECEIVERS[severity]
    assert ended.stdout.strip() == expected, ended.stderr


def test_each_receiver_gets_its_own(running: Alertmanager) -> None:
    sent = {
        "page": labels_of("StreamDataLost", "told"),
        "warnings": labels_of("OpenMismatches", "told"),
        "information": labels_of("CutoverReady", "told"),
        "watchdog": labels_of("Watchdog"),
    }
    running.post(*sent.values())
    servers.eventually(
        lambda: all(labels in running.told(receiver) for receiver, labels in sent.items()), what="all told"
    )
    for receiver in sent:
        told = running.told(receiver)
        assert all(labels not in told for other, labels in sent.items() if other != receiver)


#: What fires, what follows from it and is not told, and what is told all the same.
FOLLOWING = [
    (
        labels_of("RedisDown", "a"),
        [
            *(labels_of(name, "a") for name in ("NoValidations", "ReaderLagHigh", "ReaderNotPolling")),
            *(labels_of("ProcessUnknown", "a", role="reader"), labels_of("ExporterDown", job="redis")),
            *(labels_of(name, job="ddbmm", role="reader") for name in ("WorkerRestarting", "ErrorsLogged")),
        ],
        [labels_of("NoValidations", "b"), labels_of("RetentionRisk", "a"), labels_of("OpenMismatches", "a")],
    ),
    (
        labels_of("RoleAbsent", "c", role="monitor"),
        [labels_of(name, "c") for name in ("SampleTooSmall", "CutoverReady", "QueueBacklogGrowing")],
        [labels_of("CutoverReady", "d"), labels_of("OpenMismatches", "c")],
    ),
    (
        labels_of("RoleAbsent", "e", role="reader"),
        [labels_of("ReaderLagHigh", "e"), labels_of("ReaderNotPolling", "e")],
        [labels_of("RetentionRisk", "e"), labels_of("ReaderLagHigh", "f"), labels_of("NoValidations", "e")],
    ),
    (
        labels_of("RoleFlapping", "g", role="validator"),
        [labels_of("NoValidations", "g"), labels_of("ReplicationLagHigh", "g")],
        [labels_of("OpenMismatches", "g"), labels_of("ReaderLagHigh", "g")],
    ),
    (
        labels_of("ReplicationStalled", "h"),
        [labels_of("ReplicationLagHigh", "h")],
        [labels_of("MismatchRatioHigh", "h"), labels_of("ReplicationLagHigh", "i")],
    ),
    (
        labels_of("RoleAbsent", "j", role="comparer"),
        [labels_of("ComparisonStalled", "j")],
        [labels_of("NoValidations", "j")],
    ),
]


@pytest.mark.parametrize(("source", "following", "beside"), FOLLOWING, ids=lambda one: str(one)[:60])
def test_what_follows_from_an_alert_is_not_told(
    running: Alertmanager, source: Labels, following: list[Labels], beside: list[Labels]
) -> None:
    running.post(source)
    servers.eventually(lambda: running.state(source), what="the source")
    running.post(*following, *beside)
    for labels in following:
        running.becomes("suppressed", labels)
    for labels in beside:
        running.becomes("active", labels)


def test_what_takes_a_process_away_is_one_page_for_all_migrations_and_the_rest_one_each(
    running: Alertmanager,
) -> None:
    names = [f"table-{number:02}" for number in range(30)]
    gone = [labels_of("RoleAbsent", name, role="reader") for name in names]
    lost = [labels_of("StreamDataLost", name) for name in names[:3]]
    running.post(*gone, *lost)
    for labels in (*gone, *lost):
        running.becomes("active", labels)
    groups = running.groups("page")
    [together] = [group for group in groups if gone[0] in group]
    assert all(labels in together for labels in gone)
    assert all([labels] in groups for labels in lost)


def test_when_nothing_runs_that_alone_is_told(running: Alertmanager) -> None:
    gone = [labels_of("RoleAbsent", "k", role=role) for role in ("reader", "validator", "monitor")]
    gone.append(labels_of("TargetDown", job="ddbmm", role="reader", instance="r"))
    running.post(labels_of("NothingRuns"), *gone, labels_of("RetentionRisk", "k"))
    for labels in gone:
        running.becomes("suppressed", labels)
    running.becomes("active", labels_of("NothingRuns"))
    running.becomes("active", labels_of("RetentionRisk", "k"))


def test_every_name_that_the_file_matches_is_one_of_an_alert() -> None:
    names = {alert for alert, _ in ALERTS}
    matchers = [
        matcher
        for rule in SHIPPED["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
    ] + [matcher for route in SHIPPED["route"]["routes"] for matcher in route["matchers"]]
    assert matchers
    for matcher in matchers:
        name, asked = re.fullmatch(r'(\w+) =~? "?([^"]+)"?', matcher).groups()  # type: ignore[union-attr]
        if name == "alertname":
            for each in re.sub(r"^(\w+)\((.+)\)$", r"\2", asked).split("|"):
                prefix = asked.split("(")[0] if "(" in asked else ""
                assert any(re.fullmatch(prefix + each, known) for known in names), matcher
