"""A validator that cannot read its tables is none, whether anything changes or not; and it is said once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from pipeline import metrics
from pipeline.backoff import Backoff
from pipeline.config import Loaded, load
from pipeline.validator import role
from tests.fake import Fake
from tests.servers import eventually
from tests.whole_store import watch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role, "PROVE_SECONDS", 0.05)
    monkeypatch.setattr(role, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(role, "ALIVE_MS", 2_500)
    monkeypatch.setattr(role, "MENDED_SECONDS", 3.0)
    monkeypatch.setattr(role, "BACKOFF", Backoff(0.05, 0.1))


@pytest.fixture
def fake() -> Iterator[Fake]:
    with Fake() as one:
        yield one


class Served:
    """The validators of a process, in threads of this one. Nothing reads a stream."""

    def __init__(self, fake: Fake, directory: Path, url: str, *names: str) -> None:
        self.names, self.logged = names, list[Any]()
        for name in names:
            fake.control.create_table(f"{name}-source")
            fake.control.create_table(name)
        entries = "".join(f"  {name}: {{source-table: {name}-source}}\n" for name in names)
        file = directory / "migration.yml"
        file.write_text(f"migrations:\n{entries}" if len(names) > 1 else f"source-table: {names[0]}-source\n")
        options = ["--config", str(file), "--redis-url", url, "--region", "us-east-1"]
        if len(names) == 1:
            options += ["--target-table", names[0]]
        ends = (f"--{side}-endpoint-url={fake.url}" for side in ("source", "target"))
        self._loaded: Loaded = load(["validator", *options, *ends], {})
        self._stores = {name: watch(url, name) for name in names}
        self._metrics = metrics.start(None, "validator-0")

    @contextmanager
    def running(self) -> Iterator[None]:
        stop, loaded = threading.Event(), self._loaded
        arguments = (loaded.process, loaded.migrations, stop, self._metrics, lambda **_: None, "validator-0")
        thread = threading.Thread(target=role.run_validator, args=arguments)
        with structlog.testing.capture_logs() as self.logged:
            thread.start()
            try:
                eventually(lambda: all(map(self.is_served, self.names)))
                yield
            finally:
                stop.set()
                thread.join(30)

    def is_served(self, name: str) -> bool:
        """As Prometheus hears it, and as the gate does."""
        labels = {"migration": name, "expected_role": "validator"}
        exported = self._metrics.registry.get_sample_value("ddbmm_migration_served", labels)
        return exported == 1 and self._stores[name].figures().validators == 1

    def is_unserved(self, name: str) -> bool:
        labels = {"migration": name, "expected_role": "validator"}
        exported = self._metrics.registry.get_sample_value("ddbmm_migration_served", labels)
        return exported == 0 and self._stores[name].figures().validators == 0

    def said(self) -> list[tuple[str, str]]:
        told = ("migration is not served", "migration is served again")
        return [(one["event"], one["migration"]) for one in self.logged if one["event"] in told]


@pytest.mark.parametrize("gone", ["proving-1", "proving-1-source"])
def test_a_table_that_is_gone_while_nothing_changes_leaves_no_validator(
    fake: Fake, valkey_url: str, tmp_path: Path, gone: str
) -> None:
    served = Served(fake, tmp_path, valkey_url, "proving-1", "proving-2")
    with served.running():
        fake.control.delete_table(gone)
        eventually(lambda: served.is_unserved("proving-1"))
        eventually(lambda: served.is_served("proving-2"))
        fake.control.create_table(gone)
        eventually(lambda: served.is_served("proving-1"))
    assert served.said() == [
        ("migration is not served", "proving-1"),
        ("migration is served again", "proving-1"),
    ]


@pytest.mark.parametrize("kind", ["access_denied", "expired_token", "stall"])
def test_one_alone_that_cannot_read_is_no_validator_and_goes_on(
    fake: Fake, valkey_url: str, tmp_path: Path, kind: str
) -> None:
    served = Served(fake, tmp_path, valkey_url, f"proving-{kind}")
    with served.running():
        fake.control.fail(kind, "BatchGetItem", calls=None)
        eventually(lambda: served._stores[f"proving-{kind}"].figures().validators == 0)
        fake.control.clear_faults()
        eventually(lambda: served.is_served(f"proving-{kind}"))


def test_a_table_that_is_only_slowed_down_is_still_watched(
    fake: Fake, valkey_url: str, tmp_path: Path
) -> None:
    served = Served(fake, tmp_path, valkey_url, "proving-slow")
    with served.running():
        fake.control.fail("throttle", "BatchGetItem", calls=None)
        asked = fake.control.calls("BatchGetItem")
        eventually(lambda: fake.control.calls("BatchGetItem") > asked + 5)
        eventually(lambda: served.is_served("proving-slow"))


def test_one_whose_keys_nobody_can_claim_has_no_validator(
    fake: Fake, valkey_url: str, tmp_path: Path
) -> None:
    served = Served(fake, tmp_path, valkey_url, "proving-whole", "proving-damaged")
    with served.running():
        store = served._stores["proving-damaged"]
        store._redis.delete(store._key("entries"))
        store._redis.set(store._key("entries"), b"\x00\xff")
        store._redis.zadd(store._key("due"), {b"key": 1})
        eventually(lambda: served.is_unserved("proving-damaged"))
        eventually(lambda: served.is_served("proving-whole"))
        store._redis.delete(store._key("entries"), store._key("due"))
        eventually(lambda: served.is_served("proving-damaged"))
