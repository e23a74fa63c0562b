"""What `run` says first, what `status` says, in 80 columns and with the longest names that are legal."""

import dataclasses
import re
import uuid
from typing import Any

import msgspec
import pytest
import structlog

from pipeline.aws import StreamInfo, TableInfo
from pipeline.both_tables import Tables
from pipeline.commands import opening, preflight
from pipeline.commands.preflight import Opened, StreamSeen
from pipeline.commands.preparing import Looked
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.canonical import KeySchema
from pipeline.core.model import Side, StreamView
from pipeline.errors import NotFound
from pipeline.report.text import Heading, statistics_text, status_text
from tests.test_report import running, troubled

NOON_MS = 1_795_435_200_000
NAME = "T" * 255
ARN = f"arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/{NAME}"
ENDPOINT = "https://vpce-0123456789abcdef0-01234567.streams.dynamodb.us-gov-west-1.vpce.amazonaws.com:443"


def table() -> TableInfo:
    return TableInfo(
        asked=NAME,
        name=NAME,
        arn=ARN,
        account="123456789012",
        region="us-gov-west-1",
        schema=KeySchema("p" * 255, "S", "s" * 255, "N"),
        status="ACTIVE",
        stream_arn=f"{ARN}/stream/2026-01-01T00:00:00.000",
        stream_enabled=True,
        view=StreamView.NEW_AND_OLD_IMAGES,
        ttl_attribute="t" * 255,
        item_count=10**12,
        size_bytes=10**15,
    )


def seen() -> tuple[Tables, StreamSeen]:
    arn = f"{ARN}/stream/2026-01-01T00:00:00.000"
    info = StreamInfo(arn, NAME, enabled=True, view=StreamView.NEW_AND_OLD_IMAGES)
    return Tables(table(), table(), ENDPOINT, ENDPOINT), StreamSeen(info, 99_999, "shardId-1", ENDPOINT)


def migration() -> MigrationConfig:
    return MigrationConfig(name=NAME, target_table=NAME, source_table=NAME)


def fits(text: str) -> bool:
    return all(len(line) <= 80 for line in text.split("\n"))


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("state", [".ddbmm", "/" + "d" * 250 + "/" + "e" * 250])
def test_the_block_fits_80_columns_and_says_what_begins(
    new: bool, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    opening.announce(ProcessConfig(state_dir=state), migration(), Opened(new, NOON_MS, []), seen())
    said = capsys.readouterr().out
    assert fits(said)
    flat = "".join(said.split())
    assert ("anew" in flat) is new and ("2026-11-23T12:00:00.000Z;resumed" in flat) is not new
    assert "embeddedserverin/" in flat  # in full: a relative one depends on where one stands
    assert NAME in flat and ARN in flat


def test_the_plan_is_the_same_block_before_anything_is_begun() -> None:
    said = opening.plan(ProcessConfig(dry_run=True), migration(), *seen())
    assert fits(said)
    assert "unless the migration was begun before" in " ".join(said.split())


@pytest.mark.parametrize("form", ["json", "console"])
def test_roles_and_json_logs_say_it_in_one_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    process = ProcessConfig(command="reader", log_format=form, redis_url="redis://:SECRET@h:1")
    with structlog.testing.capture_logs() as lines:
        opening.announce(process, migration(), Opened(False, NOON_MS, []), None)
    (line,) = lines
    assert (line["event"], line["since"]) == ("migration resumed", "2026-11-23T12:00:00.000Z")
    assert "SECRET" not in str(line)
    assert capsys.readouterr().out == ""


def test_times_that_changed_since_the_last_start_are_said() -> None:
    with structlog.testing.capture_logs() as lines:
        opened = Opened(False, NOON_MS, ["--converge-within 1m → 30s"])
        opening.announce(ProcessConfig(log_format="json"), migration(), opened, seen())
    assert lines[-1]["log_level"] == "warning"
    assert lines[-1]["changed"] == "--converge-within 1m → 30s"


def test_a_comparison_keeps_its_times_to_itself(valkey_url: str) -> None:
    """They are said to differ from the run's, and the run's next start finds its own."""
    mine = MigrationConfig(name=f"times-{uuid.uuid4().hex}", target_table="t", converge_within_ms=30_000)
    run = ProcessConfig(redis_url=valkey_url)
    first = preflight.open_store(run, mine)
    assert (first.new, first.changed) == (True, [])
    other = dataclasses.replace(mine, converge_within_ms=60_000)
    compared = preflight.open_store(dataclasses.replace(run, command="compare"), other)
    assert compared.changed == ["--converge-within 30s → 1m"]
    again = preflight.open_store(run, mine)
    assert (again.new, again.changed) == (False, [])


def huge() -> Any:
    """Figures of a migration of years."""
    ledger = msgspec.structs.replace(
        running().ledger,
        records_read=10**15,
        not_sampled=10**14,
        versions_published=10**15 - 10**14,
        reached=10**15 - 10**14 - 60,
        records={"INSERT": 10**15, "MODIFY": 10**15, "REMOVE": 10**15},
        keys_judged=10**12,
        excused=10**9,
    )
    return msgspec.structs.replace(troubled(), ledger=ledger)


@pytest.mark.parametrize("figures", [running(), troubled(), huge()], ids=["running", "troubled", "huge"])
@pytest.mark.parametrize("side", list(Side))
def test_status_and_statistics_fit_80_columns(figures: Any, side: Side) -> None:
    assert fits(status_text(Heading(NAME, side), figures))
    assert fits(statistics_text(figures, None))


def test_each_block_of_statistics_has_its_clock_time() -> None:
    first = statistics_text(running(), None).splitlines()[0]
    assert re.fullmatch(r"statistics after 5 min 30 s, at 2026-11-23T12:05:30\.000Z", first)


# --- several ------------------------------------------------------------------------------------------------


def looked() -> list[Looked]:
    """One begun, one resumed with other times, one refused; with the longest names."""
    refused = NotFound("target: there is no table " + "g" * 200, "check the name, the region and the account")
    names = ("n" * 255, "o" * 255, "p" * 255)
    begun, resumed, gone = (dataclasses.replace(migration(), name=name) for name in names)
    return [
        Looked(begun, seen=seen(), opened=Opened(True, NOON_MS, [])),
        Looked(resumed, seen=seen(), opened=Opened(False, NOON_MS, ["--stable-for 30s → 1m"])),
        Looked(gone, error=refused),
    ]


def test_a_start_of_several_says_of_each_what_begins_in_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with structlog.testing.capture_logs() as logged:
        opening.announce_all(ProcessConfig(), looked())
    said = capsys.readouterr().out
    assert fits(said)
    flat = "".join(said.split())
    assert flat.startswith("migrations3;1cannotbeservednow,andwillbetriedagain")
    assert flat.count("begunnow,anew") == flat.count("resumednow") == flat.count("notserved:target:") == 1
    events = [(one["event"].split(":")[0], one.get("migration", "")[:1]) for one in logged]
    assert events == [("times changed since the last start", "o"), ("migration is not served", "p")]


@pytest.mark.parametrize(
    "process", [ProcessConfig(log_format="json"), ProcessConfig(command="validator")], ids=["json", "role"]
)
def test_roles_and_json_logs_say_each_of_several_in_one_line(
    process: ProcessConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    with structlog.testing.capture_logs() as logged:
        opening.announce_all(process, looked())
    assert capsys.readouterr().out == ""
    assert [one["event"].split(":")[0] for one in logged] == [
        *("migration begun", "migration resumed"),
        *("times changed since the last start", "migration is not served"),
    ]


def test_what_was_likely_not_meant_is_said_once_with_those_it_is_true_of() -> None:
    hasty = [dataclasses.replace(migration(), name=name, gate_lag_ms=1_000) for name in ("a", "b")]
    with structlog.testing.capture_logs() as logged:
        opening.say_notes(ProcessConfig(), [*hasty, dataclasses.replace(migration(), name="c")])
    (note,) = logged
    assert note["migrations"] == "a, b"
