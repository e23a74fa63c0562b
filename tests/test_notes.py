"""What is said of settings that work and do not do what was likely meant: by doctor, the plan, each start."""

import os
import sys
from pathlib import Path

import pytest

from pipeline.commands import doctor, opening, preflight
from pipeline.commands.notes import notes
from pipeline.config import load, receivers
from tests import servers
from tests.fake import Fake
from tests.servers import ROOT

SHIPPED = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


def said(*argv: str) -> dict[str, str]:
    made = load(["doctor", "--target-table", "orders", *argv], {})
    return {note.about: note.says for note in notes(made.process, made.migrations[0])}


def test_the_defaults_need_no_word() -> None:
    assert said() == {}


@pytest.mark.parametrize(
    ("lag", "converge", "is_said"),
    [("30s", "60s", True), ("60s", "60s", False), ("2m", "60s", False), ("60s", "60001ms", True)],
)
def test_a_gate_that_is_less_patient_than_the_verdict(lag: str, converge: str, is_said: bool) -> None:
    found = said("--gate-lag", lag, "--converge-within", converge)
    assert ("gate" in found) is is_said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SHIPPED.read_text(encoding="utf-8"), "the receiver 'page'"),
        ("receivers: [{name: page, slack_configs: []}]", "the receiver 'page'"),
        ("receivers: [{name: page, 1: 2}]", "the receiver 'page'"),
        ("receivers: [{name: page, slack_configs: [{channel: c}]}]", ""),
        ("route: {receiver: ours}\nreceivers: [{name: ours, webhook_configs: [{url: u}]}]", ""),
        ("route: {receiver: ours}\nreceivers: [{name: other, webhook_configs: [{url: u}]}]", "'ours'"),
        ("receivers: [page, {webhook_configs: [{url: u}]}]", "the receiver"),
        ("receivers: {}", "is no configuration"),
        ("", "is no configuration"),
        ("[", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_who_is_told_of_what_is_critical(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "alertmanager.yml"
    file.write_text(text, encoding="utf-8")
    found = receivers.untold(file)
    assert why in found
    assert bool(why) is bool(found)


def test_a_file_that_is_not_there_or_not_text_tells_nobody(tmp_path: Path) -> None:
    assert "cannot be read" in receivers.untold(tmp_path / "none")
    assert "cannot be read" in receivers.untold(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    assert "cannot be read" in receivers.untold(tmp_path / "binary")
    (tmp_path / "large").write_bytes(bytes(receivers.MOST_BYTES + 1))
    assert "too large" in receivers.untold(tmp_path / "large")
    assert "too large" in receivers.untold(Path("/dev/zero"))
    (tmp_path / "odd").write_text("at: 2026-99-99", encoding="utf-8")
    assert "cannot be read" in receivers.untold(tmp_path / "odd")


def test_doctor_and_the_plan_say_it(tmp_path: Path) -> None:
    with Fake() as fake:
        fake.control.create_table("orders", view="NEW_AND_OLD_IMAGES")
        fake.control.create_table("orders-new")
        options = [
            *("--source-table=orders", "--target-table=orders-new", "--region=us-east-1"),
            *(f"--source-endpoint-url={fake.url}", f"--target-endpoint-url={fake.url}"),
        ]
        told = tmp_path / "told.yml"
        told.write_text("receivers: [{name: page, webhook_configs: [{url: u}]}]", encoding="utf-8")
        for more, level in (
            (["--gate-lag=10s", f"--alertmanager-config={SHIPPED}"], "warn"),
            ([f"--alertmanager-config={told}"], "ok"),
        ):
            made = load(["doctor", *options, *more], {})
            lines = {line.check: line for line in doctor.examine(made.process, made.migrations[0])}
            assert lines["alerts"].level == level
            assert ("gate" in lines) is (level == "warn")
        planned = load(["run", *options, "--dry-run", "--gate-lag=10s"], {})
        prepared, tables, stream = preflight.prepare(planned.process, planned.migrations[0])
        assert "\ngate          --gate-lag 10s is less" in opening.plan(
            planned.process, prepared, tables, stream
        )


def test_the_monitor_says_it_when_it_starts(tmp_path: Path, valkey_url: str) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "monitor", "--target-table=orders", "--gate-lag=10s"]
    options = [f"--redis-url={valkey_url}", "--metrics-port=0", f"--alertmanager-config={SHIPPED}"]
    log = tmp_path / "log"
    with servers.process([*command, *options], log=log, env=os.environ | {"PYTHONPATH": str(ROOT)}):
        servers.eventually(lambda: "process started" in log.read_text(), what="the monitor's start")
    text = " ".join(log.read_text().split())
    assert "--gate-lag 10s is less than --converge-within 1m" in text
    assert "nobody is told of them" in text
