"""`findings` against a real store: filters, causes, closed ones, lines of any number in constant memory."""

import csv
import io
import json
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.commands import findings
from pipeline.config import ProcessConfig, load
from pipeline.core.ledger import Closing
from pipeline.errors import UsageError
from pipeline.store import figures_view
from pipeline.store.messages import Commit
from tests import places
from tests.whole_store import WholeStore

SETTINGS = {"verify_on": "target", "partition_key": "pk", "partition_type": "S"}
FIELDS = {"kind": "different", "versions_behind": 1, "attributes": ["contact.name"], "last_looked_ms": 5}


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    store = WholeStore.begin(valkey_url, f"findings-{uuid.uuid4().hex}", SETTINGS)
    yield store
    store.close()


@pytest.fixture
def process(valkey_url: str) -> ProcessConfig:
    return ProcessConfig(redis_url=valkey_url, json=True, show_keys=True)


def put(store: WholeStore, *keys: str, at_ms: int | None = None, **changes: object) -> None:
    """Open findings, as commits would have left them."""
    at_ms = store.now_ms() if at_ms is None else at_ms
    encoded = msgspec.json.encode({**FIELDS, **changes})
    names = [msgspec.json.encode(key) for key in keys]
    store._redis.hset(store._key("findings"), mapping=dict.fromkeys(names, encoded))
    store._redis.zadd(store._key("findings-since"), dict.fromkeys(names, at_ms))
    store._redis.hincrby(store._key("ledger"), f"open:{changes.get('kind', 'different')}", len(keys))


def close(store: WholeStore, key: str, why: Closing) -> None:
    """Commit the end of a finding that `put` opened."""
    name = msgspec.json.encode(key)
    places.queue(store, name)
    [entry] = store.claim("v", 10, 0).entries
    store.commit([Commit(entry, b"", 0, "open:different=-1", None, why)], store.now_ms())


def lines(
    process: ProcessConfig, store: WholeStore, capsys: pytest.CaptureFixture[str], **options: Any
) -> list[dict]:
    findings.run(replace(process, **options), store)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def keys_of(told: list[dict]) -> list[str]:
    return [one["key"]["pk"]["S"] for one in told]


# --- what is asked for -------------------------------------------------------------------------------------


def test_filters_by_kind_time_cause_and_number(process, store, capsys) -> None:
    now_ms = store.now_ms()
    put(store, "c#1", at_ms=now_ms - 7_200_000)
    put(store, "c#2", "c#3", at_ms=now_ms - 600_000, kind="missing", attributes=[])
    put(store, "o#4", at_ms=now_ms - 1_000)

    def keys(**options: object) -> list[str]:
        return keys_of(lines(process, store, capsys, **options))

    assert keys() == ["c#1", "c#2", "c#3", "o#4"]
    assert keys(kind="missing") == ["c#2", "c#3"]
    assert keys(limit=2) == ["c#1", "c#2"]
    asked = load(["findings", "--migration", "x", "--since", "1h", "--longer-than", "5m"], {}).process
    assert keys(since=asked.since) == ["c#2", "c#3", "o#4"]
    assert keys(longer_than_ms=asked.longer_than_ms) == ["c#1", "c#2", "c#3"]
    assert keys(since=asked.since, longer_than_ms=asked.longer_than_ms) == ["c#2", "c#3"]
    [cause] = {one["cause"] for one in lines(process, store, capsys, kind="missing")}
    assert keys(cause=cause) == ["c#2", "c#3"]


@pytest.mark.parametrize("text", ["yesterday", "-5m", "2026-13-01", ""])
def test_an_instant_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="write how long ago"):
        load(["findings", "--migration", "x", f"--since={text}"], {})


def test_an_instant_without_a_zone_is_utc() -> None:
    for text in ("2026-11-23T12:00", "2026-11-23T12:00:00Z", "2026-11-23T14:00+02:00"):
        since = load(["findings", "--migration", "x", "--since", text], {}).process.since
        assert since is not None and since.ms(0) == 1_795_435_200_000


# --- causes ------------------------------------------------------------------------------------------------


def test_findings_by_cause_tell_the_many_keys_in_few_lines(process, store, capsys) -> None:
    put(store, *(f"c#{n}" for n in range(29)), at_ms=1_795_435_200_000)
    put(
        store,
        "o#1",
        "o#2",
        kind="missing",
        attributes=[],
        operation="INSERT",
        oldest_change_ms=1_795_000_000_000,
    )
    first, second = lines(process, store, capsys, by="cause")
    assert (first["findings"], first["attributes"], first["prefixes"]) == (29, ["contact.name"], {"c#": 29})
    assert (second["kind"], second["operation"], second["findings"]) == ("missing", "INSERT", 2)
    assert second["oldest_change"] == "2026-11-18T11:06:40.000Z"
    findings.run(replace(process, json=False, summary=True), store)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "29 × different at contact.name, keys c#…, since 2026-11-23 12:00 UTC"
    findings.run(replace(process, json=False, summary=True, limit=1), store)
    assert capsys.readouterr().out.splitlines()[1:] == ["and 2 findings of other causes"]
    findings.run(replace(process, json=False, by="cause"), store)
    assert first["cause"] in capsys.readouterr().out


def test_prefixes_of_keys_are_hidden_as_keys_are(process, store, capsys) -> None:
    put(store, "secret#1")
    for options in ({}, {"summary": True}, {"by": "cause"}, {"by": "cause", "csv": True, "json": False}):
        findings.run(replace(process, **{"json": False, "show_keys": False, **options}), store)
        assert "secret" not in capsys.readouterr().out
    [cause] = lines(replace(process, show_keys=False), store, capsys, by="cause")
    assert cause["prefixes"] == {store.key_hash(b"secret#"): 1}


# --- closed ones -------------------------------------------------------------------------------------------


def test_closed_findings_say_when_and_why_newest_first(process, store, capsys) -> None:
    put(store, "a", "b", "c", at_ms=store.now_ms() - 60_000)
    close(store, "a", Closing.RECOVERED)
    close(store, "b", Closing.EXCUSED)
    told = lines(process, store, capsys, closed=True)
    assert [(one["key"]["pk"]["S"], one["why"]) for one in told] == [("b", "excused"), ("a", "recovered")]
    assert all(one["closed"] > one["first_seen"] for one in told)
    assert keys_of(lines(process, store, capsys)) == ["c"]
    assert lines(process, store, capsys, closed=True, longer_than_ms=3_600_000) == []
    findings.run(replace(process, json=False, closed=True), store)
    assert "1 min 0 s" in capsys.readouterr().out


# --- any number --------------------------------------------------------------------------------------------


def test_pages_lose_nothing_however_many_were_opened_at_one_instant(store, monkeypatch) -> None:
    monkeypatch.setattr(figures_view, "FINDINGS_PAGE", 3)
    put(store, *(f"a{n}" for n in range(10)), at_ms=1_000)
    put(store, *(f"b{n}" for n in range(7)), at_ms=2_000)
    put(store, "c", at_ms=3_000)
    found = [one.key for one in store.findings()]
    assert len(found) == len(set(found)) == 18
    assert [one.first_seen_ms for one in store.findings()] == sorted([1_000] * 10 + [2_000] * 7 + [3_000])


def test_findings_of_one_instant_are_each_asked_for_once(store, monkeypatch) -> None:
    """Each page began with all before it: 100,000 of one instant took 24 s."""
    monkeypatch.setattr(figures_view, "FINDINGS_PAGE", 5)
    put(store, *(f"a{n}" for n in range(500)), at_ms=1_000)
    answered = []
    ask = store._redis.zrange

    def asked(*words: object, **options: object) -> object:
        answered.append(ask(*words, **options))
        return answered[-1]

    monkeypatch.setattr(store._redis, "zrange", asked)
    assert len({one.key for one in store.findings()}) == 500
    assert len(answered) <= 500 / 5 + 2
    assert sum(map(len, answered)) <= 500 + 2 * len(answered)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=40),
    st.lists(st.integers(0, 39), max_size=40),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_closed_meanwhile_no_other_is_lost_or_told_twice(store, opened, closed, size) -> None:
    """The last one of a page is closed as well, and all of a page, and those that come later."""
    store._redis.delete(store._key("findings"), store._key("findings-since"))
    for number, at_ms in enumerate(opened):
        put(store, f"{number:02}", at_ms=at_ms)
    names = [msgspec.json.encode(f"{number:02}") for number in range(len(opened))]
    to_close, gone, seen = iter(closed), set(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures_view, "FINDINGS_PAGE", size)
        for one in store.findings():
            seen.append(one.key)
            for name in (names[number] for number in islice(to_close, 2) if number < len(names)):
                gone.add(name)
                store._redis.zrem(store._key("findings-since"), name)
    assert len(seen) == len(set(seen))
    assert set(names) - gone <= set(seen) <= set(names)


def test_findings_closed_while_they_are_listed_are_left_out(store, monkeypatch) -> None:
    monkeypatch.setattr(figures_view, "FINDINGS_PAGE", 2)
    put(store, "a", "b", "c", "d")
    listed = store.findings()
    first = next(listed).key
    close(store, "d", Closing.RECOVERED)
    assert [first, *(one.key for one in listed)] == [b'"a"', b'"b"', b'"c"']


@pytest.mark.parametrize("form", ["json", "csv"])
def test_lines_of_any_number_take_constant_memory(process, store, monkeypatch, form) -> None:
    """Memory does not grow between 2,000 and 20,000 findings."""

    def peak() -> int:
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(open("/dev/null", "wb")))  # noqa: SIM115, PTH123
        tracemalloc.start()
        findings.run(replace(process, json=form == "json", csv=form == "csv"), store)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    put(store, *(f"c#{n}" for n in range(2_000)), at_ms=1_000)
    few = peak()
    for part in range(9):
        put(store, *(f"d{part}#{n}" for n in range(2_000)), at_ms=2_000 + part)
    assert peak() < few + 1_000_000


def test_csv_keeps_commas_quotes_and_formulas_in_their_cells(process, store, capsys) -> None:
    hostile = '=HYPERLINK("http://x","y"),\n"'
    put(store, '=1+1,"', attributes=[hostile], types={hostile: "N → S"})
    findings.run(replace(process, json=False, csv=True), store)
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert json.loads(row["key"]) == {"pk": {"S": '=1+1,"'}}
    assert json.loads(row["attributes"]) == [hostile]
    findings.run(replace(process, json=False, csv=True, by="cause"), store)
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())
