"""The causes that the monitor exports, counted from a real store: how often, of how many, and as what."""

import uuid
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from pipeline import counted_causes
from pipeline.commands import findings
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.counted_causes import GOOD_SECONDS, CountedCauses
from pipeline.monitor import store_collector
from tests.test_findings import SETTINGS, put
from tests.whole_store import WholeStore


@pytest.fixture
def store(valkey_url: str) -> Iterator[WholeStore]:
    store = WholeStore.begin(valkey_url, f"causes-{uuid.uuid4().hex}", SETTINGS)
    yield store
    store.close()


def counted(store: WholeStore, causes: CountedCauses) -> list[tuple[str, int]]:
    return [(cause.kind, cause.count) for cause in causes.of(store.figures())]


def test_they_are_counted_at_most_every_half_minute(store: WholeStore) -> None:
    now = [0.0]
    causes = CountedCauses(store, lambda: now[0])
    assert counted(store, causes) == []
    put(store, "c#1")
    assert counted(store, causes) == [("different", 1)]  # the first finding shows at once
    put(store, "c#2", "c#3", kind="missing", attributes=[])
    now[0] = GOOD_SECONDS - 0.1
    assert counted(store, causes) == [("different", 1)]
    now[0] = GOOD_SECONDS
    assert counted(store, causes) == [("missing", 2), ("different", 1)]


def test_causes_of_findings_that_are_closed_do_not_stand_there(store: WholeStore) -> None:
    causes = CountedCauses(store, lambda: 0.0)
    put(store, "c#1")
    assert counted(store, causes) == [("different", 1)]
    store._redis.hset(store._key("ledger"), "open:different", 0)
    assert counted(store, causes) == []


def test_no_more_findings_are_read_than_is_allowed(
    store: WholeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_causes, "MOST_READ", 700)
    put(store, *(f"c#{number}" for number in range(1_500)))
    assert counted(store, CountedCauses(store)) == [("different", 700)]


def test_findings_that_cannot_be_read_have_no_causes_and_are_not_asked_for_at_each_scrape(
    store: WholeStore,
) -> None:
    put(store, "c#1")
    store._redis.hset(store._key("findings"), '"c#1"', "{")
    causes = CountedCauses(store, lambda: 0.0)
    assert counted(store, causes) == []
    put(store, "c#1")
    assert counted(store, causes) == []  # what was read a moment ago still holds


def test_the_monitor_exports_the_id_that_findings_takes(
    store: WholeStore, valkey_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, "c#1", "c#2", operation="MODIFY")
    registry = CollectorRegistry()
    registry.register(
        store_collector(ProcessConfig(redis_url=valkey_url), (MigrationConfig(name=store.migration),))
    )
    [sample] = [
        sample
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "ddbmm_findings_by_cause"
    ]
    assert (sample.labels["rank"], sample.labels["operation"], sample.value) == ("1", "MODIFY", 2)
    asked = ProcessConfig(redis_url=valkey_url, json=True, cause=sample.labels["cause"])
    findings.run(asked, store)
    assert len(capsys.readouterr().out.splitlines()) == 2
