"""One reader of two migrations, against real stores and streams over HTTP: each has its own fate."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import structlog

from pipeline import metrics
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.core.model import SideConfig
from pipeline.reader.role import run_reader
from pipeline.store import FiguresView
from tests.fake import Fake
from tests.servers import eventually
from tests.whole_store import watch


class Two:
    """Two migrations, each of a table "orders" at a service of its own, and the reader of both."""

    def __init__(self, fakes: list[Fake], store_url: str) -> None:
        self.fakes, self._url = fakes, store_url
        self.names = [f"{name}-{uuid.uuid4().hex}" for name in ("one", "two")]
        self.metrics = metrics.start(None, "reader")
        self.ended: list[BaseException | None] = []
        for fake in fakes:
            fake.control.create_table("orders", view="NEW_AND_OLD_IMAGES")
            fake.control.create_table("copy")

    def store(self, number: int) -> FiguresView:
        return watch(self._url, self.names[number])

    def read(self, number: int) -> int:
        return self.store(number).ledger().records_read

    def served(self, number: int) -> float | None:
        labels = {"migration": self.names[number], "expected_role": "reader"}
        return self.metrics.registry.get_sample_value("ddbmm_migration_served", labels)

    def _migration(self, number: int, max_backlog: int) -> MigrationConfig:
        sides = {
            side: SideConfig(side, region="us-east-1", endpoint_url=self.fakes[number].url)
            for side in ("source", "target", "stream")
        }
        return MigrationConfig(
            name=self.names[number],
            **sides,  # type: ignore[arg-type]
            source_table="orders",
            target_table="copy",
            iterator_type="TRIM_HORIZON",
            max_backlog=max_backlog,
        )

    @contextmanager
    def reading(self, *, max_backlog: int = 100_000) -> Iterator[None]:
        """max_backlog: of the first."""
        stop = threading.Event()
        both = (self._migration(0, max_backlog), self._migration(1, 100_000))
        process = ProcessConfig(redis_url=self._url, reader_threads=2)

        def run() -> None:
            try:
                run_reader(process, both, stop, self.metrics, lambda **_: None)
            except BaseException as error:  # noqa: BLE001  # whatever it is fails the test
                self.ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
            assert thread.is_alive() and not self.ended
        finally:
            stop.set()
            thread.join(120)
        assert not thread.is_alive() and not self.ended


@pytest.fixture
def two(valkey_url: str) -> Iterator[Two]:
    with ExitStack() as stack:
        yield Two([stack.enter_context(Fake()) for _ in range(2)], valkey_url)


def test_one_that_may_not_be_read_is_said_exported_and_read_once_it_may(two: Two) -> None:
    two.fakes[0].control.fail("access_denied", "GetRecords", calls=None)
    for fake in two.fakes:
        fake.control.fill("orders", 50)
    with structlog.testing.capture_logs() as lines, two.reading():
        eventually(lambda: two.read(1) == 50, 60)
        eventually(lambda: two.served(1) == 1)
        eventually(lambda: two.fakes[0].control.calls("GetRecords") > 2, 60, "it is tried again")
        assert two.served(0) == 0 and two.read(0) == 0
        two.fakes[0].control.clear_faults()
        eventually(lambda: two.read(0) == 50, 60)
        eventually(lambda: two.served(0) == 1)
    said = [line for line in lines if line["event"] == "migration is not served"]
    assert {line["migration"] for line in said} == {two.names[0]} and len(said) == 1
    assert "IAM" in said[0]["remedy"]


def test_one_whose_table_is_absent_is_read_once_it_is_there(two: Two) -> None:
    two.fakes[0].control.delete_table("copy")
    for fake in two.fakes:
        fake.control.fill("orders", 50)
    with two.reading():
        eventually(lambda: two.read(1) == 50, 60)
        assert two.served(0) == 0
        two.fakes[0].control.create_table("copy")
        eventually(lambda: two.read(0) == 50, 60)
        eventually(lambda: two.served(0) == 1)


def test_one_whose_validators_are_behind_pauses_alone(two: Two) -> None:
    for fake in two.fakes:
        fake.control.fill("orders", 3_000)
    with structlog.testing.capture_logs() as lines, two.reading(max_backlog=500):
        eventually(lambda: [one for one in lines if "reading pauses" in one["event"]], 60)
        two.fakes[1].control.fill("orders", 500, start=3_000)
        eventually(lambda: two.read(1) == 3_500, 60)
        assert 500 < two.read(0) < 3_000
    assert sum("reading pauses" in one["event"] for one in lines) == 1


def test_one_whose_state_is_lost_is_begun_again_and_the_other_goes_on(two: Two) -> None:
    for fake in two.fakes:
        fake.control.fill("orders", 20)
    with two.reading():
        eventually(lambda: (two.read(0), two.read(1)) == (20, 20), 60)
        lost = two.store(0)
        lost._redis.delete(*lost._redis.scan_iter(match=lost._key("*")))
        for fake in two.fakes:
            fake.control.fill("orders", 20, start=20)
        eventually(lambda: (two.read(0), two.read(1)) == (40, 40), 60)
        assert [gap.reason for gap in lost.gaps()] == ["state lost"] and two.store(1).gaps() == []
        eventually(lambda: two.served(0) == 1, 60)
    assert two.store(1).ledger().records_repeated == 0
