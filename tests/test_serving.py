"""Several migrations in one process: what befalls one is said, exported and tried again, and is its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from pipeline import metrics, serving
from pipeline.backoff import Backoff
from pipeline.errors import (
    AccessDenied,
    AwsUnavailable,
    CredentialsExpired,
    SettingsChanged,
    StateDamaged,
    StateLost,
    StoreUnavailable,
)
from pipeline.serving import Begin, Lane, Service, Work
from tests.servers import eventually


class Job:
    """A migration's work that a test has a hand in."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.has_worked = True
        self.kept = 0
        self.raises: BaseException | None = None
        self.ended: list[BaseException | None] = []
        self.ends_at = 1  # which call of `end` is the last

    def keep(self) -> None:
        self.kept += 1
        if self.raises is not None:
            raise self.raises

    def end(self, error: BaseException | None) -> bool:
        self.ended.append(error)
        return len(self.ended) >= self.ends_at


class Office:
    """Migrations that a service serves: what each was given, and what is exported."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.refused: dict[str, Exception] = {}
        self.tries = dict.fromkeys(names, 0)
        self.jobs: dict[str, list[Job]] = {name: [] for name in names}
        self.metrics = metrics.start(None, "test")
        self.beats: list[bool] = []
        self.failed: list[BaseException] = []
        self.logged: list[Any] = []

    def _begin(self, name: str) -> Begin:
        def begin(lane: Lane) -> Work:
            self.tries[name] += 1
            if name in self.refused:
                raise self.refused[name]
            self.jobs[name].append(Job(lane))
            return self.jobs[name][-1]

        return begin

    def run(self, stop: threading.Event) -> None:
        service = Service("reader", [(name, self._begin(name)) for name in self.names], self.metrics)
        service.run(stop, lambda *, worked=True: self.beats.append(worked))

    @contextmanager
    def open(self) -> Iterator[threading.Event]:
        stop = threading.Event()

        def run() -> None:
            try:
                self.run(stop)
            except BaseException as error:  # noqa: BLE001  # the test looks at it
                self.failed.append(error)

        with structlog.testing.capture_logs() as self.logged:
            thread = threading.Thread(target=run)
            thread.start()
            try:
                yield stop
            finally:
                stop.set()
                thread.join(120)
        assert not thread.is_alive()

    def served(self, name: str) -> float | None:
        labels = {"migration": name, "expected_role": "reader"}
        return self.metrics.registry.get_sample_value("ddbmm_migration_served", labels)

    def said(self, event: str) -> list[tuple[str, str]]:
        return [(one["migration"], one.get("reason", "")) for one in self.logged if one["event"] == event]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BACKOFF", Backoff(0.01, 0.02))
    monkeypatch.setattr(serving, "KEEP_SECONDS", 0.01)
    monkeypatch.setattr(serving, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(serving, "ENDING_SECONDS", 0.01)


REFUSED = "migration is not served"
AGAIN = "migration is served again"


# --- one alone ---------------------------------------------------------------------------------------------


def test_one_alone_ends_with_what_it_cannot_begin_with() -> None:
    office = Office("orders")
    office.refused["orders"] = AccessDenied("no")
    with office.open() as stop:
        eventually(lambda: office.failed)
        assert not stop.is_set()
    assert isinstance(office.failed[0], AccessDenied) and office.said(REFUSED) == []
    assert office.served("orders") == 0


def test_one_alone_waits_for_redis() -> None:
    office = Office("orders")
    office.refused["orders"] = StoreUnavailable("away")
    with office.open():
        eventually(lambda: office.tries["orders"] > 3)
        eventually(lambda: office.beats)
        del office.refused["orders"]
        eventually(lambda: office.served("orders") == 1)
    assert office.failed == [] and office.beats[0] is False


def test_one_alone_begins_a_lost_state_again_and_ends_with_that() -> None:
    office = Office("orders")
    with office.open():
        [job] = eventually(lambda: office.jobs["orders"])
        job.ends_at, job.raises = 3, StateLost("gone")
        eventually(lambda: office.failed)
    assert isinstance(office.failed[0], StateLost)
    assert [type(error) for error in job.ended] == [StateLost] * 3


# --- one of several ----------------------------------------------------------------------------------------


def test_one_that_is_refused_is_said_once_exported_and_tried_until_it_is_served() -> None:
    office = Office("orders", "customers")
    office.refused["orders"] = SettingsChanged("other settings", "go back to them")
    with office.open():
        eventually(lambda: office.tries["orders"] > 5)
        eventually(lambda: office.served("customers") == 1)
        assert office.served("orders") == 0
        assert office.said(REFUSED) == [("orders", "other settings")]
        del office.refused["orders"]
        eventually(lambda: office.served("orders") == 1)
    assert office.said(AGAIN) == [("orders", "")] and office.failed == []


def test_another_reason_is_news_and_other_seconds_are_not() -> None:
    office = Office("orders", "customers")

    def other_seconds() -> bool:
        office.refused["orders"] = CredentialsExpired(f"new session in {office.tries['orders']} s")
        return office.tries["orders"] > 5

    other_seconds()
    with office.open():
        eventually(other_seconds)
        office.refused["orders"] = AwsUnavailable("no answer")
        eventually(lambda: len(office.said(REFUSED)) == 2)
    assert [reason.split()[0] for _, reason in office.said(REFUSED)] == ["new", "no"]


def test_two_reasons_that_take_turns_are_said_once_each_until_it_is_served() -> None:
    """Credentials that expired are refused by AWS, and then by us for some seconds."""
    office = Office("orders", "customers")

    def in_turns() -> bool:
        by_aws = office.tries["orders"] % 2
        office.refused["orders"] = CredentialsExpired(
            "by AWS" if by_aws else f"{office.tries['orders']} s left"
        )
        return office.tries["orders"] > 7

    in_turns()
    with office.open():
        eventually(in_turns)
        office.refused.clear()
        eventually(lambda: office.served("orders") == 1)
        [job] = office.jobs["orders"]
        job.raises = CredentialsExpired("by AWS")
        eventually(lambda: len(office.said(REFUSED)) == 3)
    assert sorted(reason.split()[-1] for _, reason in office.said(REFUSED)) == ["AWS", "AWS", "left"]


def test_a_defect_concerns_its_migration_alone_and_is_told_as_one() -> None:
    office = Office("orders", "customers")
    with office.open():
        [job] = eventually(lambda: office.jobs["orders"])
        job.raises = ZeroDivisionError("what must not be shown")
        eventually(lambda: len(office.jobs["orders"]) == 2)
        eventually(lambda: office.served("orders") == 1)
        kept = office.jobs["customers"][0].kept
        eventually(lambda: office.jobs["customers"][0].kept > kept)
    [line] = [one for one in office.logged if one["event"] == REFUSED]
    assert line["reason"] == "ZeroDivisionError" and "report" in line["remedy"]
    assert len(office.jobs["customers"]) == 1 and office.failed == []


def test_work_that_fails_is_ended_before_it_is_begun_again() -> None:
    office = Office("orders", "customers")
    with office.open():
        [job] = eventually(lambda: office.jobs["orders"])
        job.ends_at = 4
        lost = StateLost("gone")
        job.lane.guarded(_raising(lost))()
        eventually(lambda: len(office.jobs["orders"]) == 2)
        assert job.ended == [lost] * 4
    assert office.jobs["orders"][1].ended == [None]


def _raising(error: Exception) -> Callable[[], float | None]:
    def chore() -> float | None:
        raise error

    return chore


def test_a_damaged_state_is_exported_and_kept_on_trying() -> None:
    office = Office("orders", "customers")
    with office.open():
        [job] = eventually(lambda: office.jobs["orders"])
        eventually(lambda: office.served("orders") == 1)
        job.raises = StateDamaged("no number", "put it right")
        eventually(lambda: office.served("orders") == 0)
        job.raises = None
        eventually(lambda: office.served("orders") == 1)
    assert len(office.jobs["orders"]) == 1 and office.said(REFUSED) == [("orders", "no number")]


def test_redis_that_is_away_is_no_reason_of_a_migration() -> None:
    office = Office("orders", "customers")
    with office.open():
        [job] = eventually(lambda: office.jobs["orders"])
        eventually(lambda: office.served("orders") == 1)
        job.raises = StoreUnavailable("away")
        kept = job.kept
        eventually(lambda: job.kept > kept + 3)
        assert office.served("orders") == 1
    assert office.said(REFUSED) == []


def test_at_the_end_everything_is_given_back() -> None:
    office = Office("orders", "customers", "items")
    with office.open():
        eventually(lambda: all(office.jobs.values()))
        eventually(lambda: all(jobs[0].kept for jobs in office.jobs.values()))
    assert [job.ended for jobs in office.jobs.values() for job in jobs] == [[None]] * 3
