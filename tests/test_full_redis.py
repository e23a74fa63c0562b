"""A Redis at maxmemory when the program starts: what it holds is judged, and nothing is begun there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pipeline.commands import preflight, preparing
from pipeline.config import MigrationConfig, ProcessConfig
from pipeline.errors import ConfigurationError, StoreFull
from tests import servers
from tests.fake import FakeProcess
from tests.servers import eventually
from tests.system import FakeTable, System


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with servers.redis_like(servers.valkey_binary(), tmp_path / "redis") as one:
        yield one


@contextlib.contextmanager
def full(url: str) -> Iterator[None]:
    with redis.Redis.from_url(url) as admin:
        admin.config_set("maxmemory", "1mb")
        with pytest.raises(redis.OutOfMemoryError):
            admin.set("no", "room")
        yield
        admin.config_set("maxmemory", "0")


def test_only_what_was_begun_goes_on_and_no_comparison_begins(url: str) -> None:
    old, new = (MigrationConfig(name=name, target_table=name) for name in ("old", "new"))
    run = ProcessConfig(redis_url=url)
    assert preflight.open_store(run, old).new
    with full(url):
        assert not preflight.open_store(run, old).new
        for process, migration in ((run, new), (ProcessConfig(redis_url=url, command="compare"), old)):
            with pytest.raises(ConfigurationError, match="maxmemory"):
                preflight.open_store(process, migration)
        found = {one.migration.name: one.error for one in preparing.await_store(run, [old, new])}
        assert found["old"] is None and "maxmemory" in str(found["new"])
        with pytest.raises(StoreFull):  # `doctor` says so all the same
            preflight.check_store(ProcessConfig(redis_url=url, command="doctor"), old)


def test_a_run_that_starts_then_drains_it(url: str, tmp_path: Path) -> None:
    with FakeProcess() as fake:
        for name, view in (("source", "NEW_AND_OLD_IMAGES"), ("target", None)):
            fake.steer("create_table", name=name, **({"view": view} if view else {}))
        system = System(tmp_path, url, FakeTable(fake, "source"), FakeTable(fake, "target"), "full")
        with system.running():
            fake.steer("fail", kind="throttle", operation="BatchGetItem", calls=None)
            for number in range(40):
                system.write(f"{number}", "a", "b" if number % 10 == 0 else "same")
            eventually(lambda: system.store.ledger().records_read == system.writes, 60)
        fake.steer("clear_faults")
        with full(url), system.running() as supervisor:
            eventually(lambda: not system.store.ledger().outstanding, 60, "drained")
            assert supervisor.poll() is None
        assert system.findings() == system.truth()
        assert system.logged("Redis is full: what it holds is judged")
