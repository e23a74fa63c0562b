"""`report`, `gate`, `mark` and samples against a real store; the live page in a real browser."""

import json
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry

from pipeline import gathering, live_page, metrics, monitor
from pipeline.cli import main
from pipeline.commands import inspect, report
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.gate import DEFAULT_LIMITS
from pipeline.core.judging.history import History
from pipeline.core.model import ABSENT
from pipeline.core.samples import TIERS_MS, Sample
from pipeline.errors import ConfigurationError
from pipeline.report import html
from pipeline.report.facts import fingerprint
from pipeline.store import RedisConnection, SampleStore, codec
from tests.browser import Page, chromium
from tests.servers import eventually
from tests.test_findings import put
from tests.whole_store import WholeStore

SETTINGS = {"verify_on": "target", "partition_key": "pk", "partition_type": "S", "target_table": "orders"}


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    store = WholeStore.begin(valkey_url, f"report-{uuid.uuid4().hex}", SETTINGS)
    yield store
    store.close()


@pytest.fixture
def process(valkey_url: str) -> ProcessConfig:
    return ProcessConfig(redis_url=valkey_url)


# --- samples -----------------------------------------------------------------------------------------------


def test_samples_thin_out_with_age_and_keep_the_worst(store: WholeStore) -> None:
    now_ms = store.now_ms()
    begin_ms = now_ms - 3 * 86_400_000
    for at_ms in range(begin_ms, now_ms, 600_000):
        bad = 50 if at_ms == begin_ms + 1_200_000 else 0
        store.keep(Sample(at_ms, open=bad, lag_p99=1.5, keys=(at_ms - begin_ms) // 1_000))
    kept = store._redis.hlen(store._key("samples"))
    assert kept <= sum(kept_ms // width_ms + 2 for width_ms, kept_ms in TIERS_MS)
    row = store.samples()
    assert [one.at_ms for one in row] == sorted({one.at_ms for one in row})
    assert max(one.open for one in row if one.at_ms < begin_ms + 2 * 3_600_000) == 50
    assert {one.lag_p99 for one in row} == {1.5} and row[-1].keys > row[0].keys


def test_a_sample_before_the_migration_has_begun_is_not_kept(valkey_url: str, process: ProcessConfig) -> None:
    """Else the keys of a migration that never was would stand in Redis."""
    name = f"never-{uuid.uuid4().hex}"
    stop = threading.Event()
    monitor.run_monitor(process, (MigrationConfig(name=name),), stop, stop.set)
    view = SampleStore(RedisConnection(valkey_url, name))
    assert view.samples() == []
    view.close()


def test_the_monitor_keeps_a_sample_and_a_full_redis_stops_no_statistics(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    with structlog.testing.capture_logs() as lines:
        monitor.run_monitor(process, (MigrationConfig(name=store.migration),), stop, stop.set)
        assert len(store.samples()) == 1
        store._redis.config_set("maxmemory", 1)
        try:
            stop = threading.Event()
            monitor.run_monitor(process, (MigrationConfig(name=store.migration),), stop, stop.set)
        finally:
            store._redis.config_set("maxmemory", 0)
    assert capsys.readouterr().out.count("statistics after") == 2
    assert "no sample for the timeline" in [line["event"] for line in lines]


# --- what is settled ---------------------------------------------------------------------------------------


def test_the_oldest_version_without_an_answer_is_found_among_all_keys(store: WholeStore) -> None:
    histories: dict[Any, Any] = {
        f"k{n}": codec.encode(History(((ABSENT, 0), (b"a" * 16, 10_000 + n)), 1)) for n in range(3_000)
    }
    histories["poison"] = b"\1\1"
    store._redis.hset(store._key("history"), mapping=dict(histories))
    found = store.unsettled(10_000)
    assert (found.oldest_ms, found.complete) == (10_000, True)
    assert not store.unsettled(100).complete


# --- gate and mark -----------------------------------------------------------------------------------------


def test_gate_json_holds_what_a_change_record_needs(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "c#1")
    store.mark("T1")
    assert inspect.gate(replace(process, json=True), DEFAULT_LIMITS, store) == 1
    told = json.loads(capsys.readouterr().out)
    needed = {"source", "target", "settings", "begun_ms", "maker", "marks_ms", "gaps", "comparison", "ledger"}
    assert needed | {"outlook", "unknowns", "strata", "limits", "checks", "result", "at"} <= told.keys()
    assert told["target"]["name"] == "orders" and told["marks_ms"].keys() == {"T1"}
    assert told["findings"]["causes"][0]["count"] == 1 and "listed" not in told["findings"]


def test_json_that_a_terminal_shows_holds_nothing_that_it_obeys(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of attributes stand among the causes."""
    put(store, "a", attributes=["x\u202e\x9b2J\u2028"])
    inspect.gate(replace(process, json=True), DEFAULT_LIMITS, store)
    inspect.status(replace(process, json=True), store)
    gate, status = capsys.readouterr().out.splitlines()
    assert gate.isprintable() and status.isprintable()
    assert "x\u202e\x9b2J\u2028" in json.dumps(json.loads(gate), ensure_ascii=False)


def test_facts_without_end_are_refused(process: ProcessConfig) -> None:
    with pytest.raises(ConfigurationError, match="larger than any facts"):
        report.of_file(process, "/dev/zero")


def test_gate_says_beside_the_answer_what_it_does_not_cover(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.gate(process, DEFAULT_LIMITS, store)
    said = " ".join(capsys.readouterr().out.split())
    assert "what this does not cover:" in said and "what was written to the target alone" in said
    assert "verified up to not known: the readers have not said how far they are" in said


def test_marking_explains_and_marking_again_warns(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.mark(replace(process, milestone="T1"), store)
    first = capsys.readouterr()
    assert "the S3 export begins" in first.out and not first.err
    inspect.mark(replace(process, milestone="T1"), store)
    assert "warning: T1 had been marked at" in capsys.readouterr().err


# --- report ------------------------------------------------------------------------------------------------


def made(process: ProcessConfig, store: WholeStore, file: Path, form: str) -> str:
    report.of_state(replace(process, format=form, output=str(file)), DEFAULT_LIMITS, store)
    return file.read_text(encoding="utf-8")


def test_the_page_of_kept_facts_bears_their_fingerprint(
    process: ProcessConfig, store: WholeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "secret#1", attributes=["contact.name"], types={"contact.name": "N → S"})
    store.keep(Sample(store.now_ms(), wrong=0.25, lag_p50=1.0))
    kept = json.loads(made(process, store, tmp_path / "facts.json", "json"))
    assert kept["sha256"] == fingerprint(kept["facts"])
    page = tmp_path / "page.html"
    assert main(["report", "--facts", str(tmp_path / "facts.json"), "--output", str(page)]) == 1
    text = page.read_text(encoding="utf-8")
    assert kept["sha256"] in text and "contact.name" in text
    assert main(["report", "--facts", str(tmp_path / "facts.json"), "--format", "text"]) == 1
    assert kept["sha256"] in capsys.readouterr().out
    assert "secret" not in text + json.dumps(kept)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda kept: {**kept, "facts": {**kept["facts"], "begun_ms": 1}}, "was changed"),
        (lambda kept: {"sha256": kept["sha256"]}, "holds no facts"),
        (lambda kept: {**kept, "facts": {"form": 1}}, "holds no facts"),
    ],
)
def test_facts_that_were_changed_are_refused(process, store, tmp_path, changed, said) -> None:
    file = tmp_path / "facts.json"
    kept = json.loads(made(process, store, file, "json"))
    file.write_text(json.dumps(changed(kept)))
    with pytest.raises(ConfigurationError, match=said):
        report.read_facts(file)


def test_a_report_that_cannot_be_written_leaves_nothing_behind(process, store, tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="--output"):
        made(process, store, tmp_path / "no" / "report.html", "html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigurationError, match="--output"):
        made(process, store, tmp_path / "taken", "html")
    assert [one.name for one in tmp_path.iterdir()] == ["taken"]


def test_a_report_hides_the_password_of_the_store(process, store, tmp_path) -> None:
    secret = replace(process, redis_url=process.redis_url.replace("://", "://ann:hunter2@"))
    for form in ("html", "text", "json"):
        assert "hunter2" not in made(secret, store, tmp_path / "report", form)


def test_keys_are_shown_when_they_are_asked_for(process, store, tmp_path) -> None:
    put(store, "secret#1")
    shown = made(replace(process, show_keys=True), store, tmp_path / "report", "html")
    assert "secret#1" in shown


# --- the live page -----------------------------------------------------------------------------------------


@pytest.fixture
def served(process: ProcessConfig, store: WholeStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the live page."""
    monkeypatch.setattr(live_page, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "REST_FACTOR", 0.0)
    pages = live_page.pages(process, (MigrationConfig(name=store.migration),))
    server = metrics.serve("127.0.0.1", 0, CollectorRegistry(), lambda: (True, "fine"), pages)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def asked(url: str) -> tuple[int, Message, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_the_live_page_is_the_report_and_its_headers_lock_it_in(served: str, store: WholeStore) -> None:
    put(store, "c#1")
    status, headers, text = asked(f"{served}/")
    assert status == 200 and "NO-GO" in text and headers["Refresh"] == str(html.REFRESH_SECONDS)
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "script-src" not in policy and "unsafe" not in policy
    assert asked(f"{served}/?still")[1]["Refresh"] is None
    status, headers, text = asked(f"{served}/report.json")
    kept = json.loads(text)
    assert headers["Content-Type"] == "application/json" and kept["sha256"] == fingerprint(kept["facts"])
    assert asked(f"{served}/metrics")[1]["X-Content-Type-Options"] == "nosniff"
    assert asked(f"{served}/else")[0] == 404


def test_before_the_migration_has_begun_and_without_redis_the_live_page_says_so(
    process: ProcessConfig,
) -> None:
    never = live_page.LivePage(process, MigrationConfig(name=f"never-{uuid.uuid4().hex}"))
    assert (never.html("").status, never.json("").status) == (503, 503)
    assert b"not begun" in never.html("").body and never.html("").headers["Refresh"]
    away = live_page.LivePage(replace(process, redis_url="redis://127.0.0.1:1"), MigrationConfig(name="x"))
    assert away.html("").status == 503


def test_the_live_page_renews_itself_and_keeps_the_readers_place(
    served: str, store: WholeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "REFRESH_SECONDS", 1)
    with chromium() as browser:
        page = Page(browser, 800, 600)
        page.open(f"{served}/")
        page.evaluate("window.scrollTo(0, 1500)")
        put(store, "c#1")
        eventually(lambda: "1 finding open" in page.text_after_load(), 60, "the new finding is shown")
        # What stands above has grown or shrunk by a line: Chromium keeps what is read in its place.
        assert abs(page.evaluate("window.scrollY") - 1500) < 100
        assert page.said == [] and set(page.requests) == {f"{served}/"}
        page.close()


def test_the_live_page_is_accessible(served: str, store: WholeStore) -> None:
    put(store, "c#1")
    store.keep(Sample(store.now_ms(), wrong=0.0))
    with chromium() as browser:
        for path in ("/", "/?still"):
            page = Page(browser, 800, 600)
            page.open(f"{served}{path}")
            assert page.accessibility() == []
            page.close()


def test_the_facts_are_a_closed_form() -> None:
    """What `report --facts` reads back is what was written, to the last number."""
    from pipeline.report.facts import Facts, facts_object
    from tests.report_states import STATES, hostile

    for facts in (*(make() for make in STATES.values()), hostile()):
        again = msgspec.json.decode(msgspec.json.encode(facts_object(facts)), type=Facts)
        assert again == facts and fingerprint(facts_object(again)) == fingerprint(facts_object(facts))


def test_many_findings_are_counted_all_and_listed_in_part(process, store, tmp_path) -> None:
    put(store, *(f"c#{number}" for number in range(600)))
    kept = json.loads(made(process, store, tmp_path / "facts.json", "json"))["facts"]["findings"]
    assert kept["total"] == 600 and len(kept["listed"]) == 500


def test_a_user_without_a_name_makes_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert gathering.maker("x").by.startswith("uid ")


def test_facts_that_are_not_there_are_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        report.read_facts(tmp_path / "none.json")


def test_whoever_asks_often_is_shown_what_was_gathered_a_moment_ago(process, store) -> None:
    page = live_page.LivePage(process, MigrationConfig(name=store.migration))
    first = page.json("").body
    put(store, "c#1")
    assert page.json("").body == first


def test_the_text_says_what_is_left_out_and_what_was_not_compared() -> None:
    from pipeline.report.report_text import as_text
    from tests.report_states import facts_of, finding, healthy, nothing_compared

    said = as_text(nothing_compared())
    assert "not compared here" in said and "findings by cause:\n  none" in said
    many = [
        finding(f"c#{number}", attributes=[f"a{number}-{part}" for part in range(7)]) for number in range(25)
    ]
    said = as_text(facts_of(healthy(), many))
    assert "keys c#…" in said
    spread = [finding(f"{n}#1", attributes=["a"]) for n in range(20)] + [finding("plain", attributes=["b"])]
    shown = as_text(facts_of(healthy(), spread))
    assert "keys of many prefixes" in shown and "keys without a prefix" in shown
    assert "and 5 findings of other causes" in said and "and 2 more paths" in said
    alike = healthy()
    settings = msgspec.structs.replace(alike.comparison.settings, definitions=())  # type: ignore[union-attr]
    comparison = msgspec.structs.replace(alike.comparison, settings=settings)  # type: ignore[type-var]
    said = as_text(facts_of(msgspec.structs.replace(alike, comparison=comparison)))
    assert "definitions that differ:\n  none" in said


def test_a_chart_shows_a_single_value_as_a_dot_and_nothing_for_a_line_without_any() -> None:
    from pipeline.report.charts import Line, over_time

    lone = [None, 5.0, None, None]
    chart = over_time(
        "x", [1, 2, 3, 4], [Line("a", lone), Line("b", [None] * 4), Line("c", lone)], "s", {}, (0, 0)
    )
    assert chart.count("<circle") == 1 and "<polyline" not in chart and "b:" not in chart
    second = over_time("x", [1, 2], [Line("a", [1.0, None]), Line("b", [2.0, None])], "s", {}, (0, 0))
    assert "dot1" in second and "dot2" in second
